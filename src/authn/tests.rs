//! The whole way from credentials to identity, against a provider on a local port.

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use secrecy::SecretString;
use serde_json::json;
use wiremock::ResponseTemplate;

use super::fetched::Pace;
use super::jwks::Verifier;
use super::test_support::{FakeProvider, Signer, http};
use super::*;
use crate::model::Charset;

fn settings(provider: &FakeProvider) -> AuthnSettings {
    AuthnSettings {
        issuer_url: Some(provider.issuer()),
        client_id: Some("operator".into()),
        client_secret: Some("cl13nt".into()),
        ..AuthnSettings::default()
    }
}

fn authenticator(provider: &FakeProvider) -> Authenticator {
    Authenticator::new(settings(provider), http())
}

fn anna() -> Credentials {
    Credentials::password("anna", "hunter2")
}

fn token(text: String) -> Credentials {
    Credentials::Token(text.into())
}

/// A provider that is up and lets everybody in as anna.
async fn provider(signer: &Signer) -> FakeProvider {
    let provider = FakeProvider::start().await;
    provider.serves_discovery().await;
    provider.serves_keys(&[signer]).await;
    let answer = json!({"access_token": signer.token(&provider.claims("anna")), "expires_in": 300});
    provider.answers_logins(200, answer).await;
    provider
}

#[tokio::test]
async fn a_password_login_asks_the_provider_once_and_is_remembered() {
    let provider = provider(&Signer::new("RS256", "k1")).await;
    let authenticator = authenticator(&provider);
    let credentials = anna();
    let calls = (0..20).map(|_| authenticator.authenticate(&credentials));
    for outcome in futures::future::join_all(calls).await {
        assert_eq!(*outcome.unwrap(), Identity::new("anna").in_group("dev"));
    }
    authenticator.authenticate(&anna()).await.unwrap();
    assert_eq!(provider.requests("/t/1").await, 1);
    assert_eq!(provider.requests("/k/1").await, 1);
    assert_eq!(provider.last_form().await, "grant_type=password&scope=openid&username=anna&password=hunter2");
}

#[rstest]
#[case::confidential(Some("cl13nt"), "&client_id=operator&client_secret=cl13nt")]
#[case::public(None, "&client_id=operator")]
#[tokio::test]
async fn the_client_is_named_in_the_body_where_the_provider_supports_it(
    #[case] secret: Option<&str>,
    #[case] end: &str,
) {
    let provider = provider(&Signer::new("ES256", "k1")).await;
    let methods =
        json!({"token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"]});
    provider.serves_discovery_with(methods).await;
    let settings = AuthnSettings { client_secret: secret.map(SecretString::from), ..settings(&provider) };
    Authenticator::new(settings, http()).authenticate(&anna()).await.unwrap();
    let form = provider.last_form().await;
    assert!(form.ends_with(end), "{form}");
}

#[tokio::test]
async fn a_wrong_password_is_not_asked_twice() {
    let provider = provider(&Signer::new("ES256", "k1")).await;
    provider.server.reset().await;
    provider.serves_discovery().await;
    provider
        .answers_logins(
            401,
            json!({"error": "invalid_grant", "error_description": "Invalid user credentials"}),
        )
        .await;
    let authenticator = authenticator(&provider);
    for _ in 0..5 {
        assert_eq!(authenticator.authenticate(&anna()).await, Err(AuthnError::WrongPassword));
    }
    assert_eq!(provider.requests("/t/1").await, 1);
}

#[tokio::test]
async fn who_is_refused_after_a_guess_at_the_encoding_reads_so() {
    let provider = provider(&Signer::new("ES256", "k1")).await;
    let authenticator = authenticator(&provider);
    let credentials =
        Credentials::Password { user: "jürgen".into(), password: "ä".into(), charset: Charset::Latin1 };
    authenticator.authenticate(&credentials).await.unwrap();
    let form = provider.last_form().await;
    assert!(form.contains("&username=j%C3%BCrgen&password=%C3%A4"), "{form}");
    let wrong =
        Credentials::Password { user: "jürgen".into(), password: "ö".into(), charset: Charset::Latin1 };
    provider.answers_logins(401, json!({"error": "invalid_grant"})).await;
    let error = authenticator.authenticate(&wrong).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Wrong user name or password. They were not sent as UTF-8 and were read as Latin-1, which is a guess: let the \
         client send UTF-8, or log in with a token."
    );
    let error = authenticator.authenticate(&Credentials::password("jürgen", "ö")).await.unwrap_err();
    assert_eq!(error, AuthnError::WrongPassword);
    assert_eq!(provider.requests("/t/1").await, 2, "it is the same login");
}

#[tokio::test]
async fn a_login_works_as_soon_as_the_provider_is_back() {
    let signer = Signer::new("ES256", "k1");
    let provider = FakeProvider::start().await;
    provider.answers("GET", "/acme/.well-known/openid-configuration", ResponseTemplate::new(503)).await;
    let authenticator = authenticator(&provider);
    let error = authenticator.authenticate(&anna()).await.unwrap_err();
    assert_eq!(error.kind(), AuthnErrorKind::Unavailable);
    provider.serves_discovery().await;
    provider.serves_keys(&[&signer]).await;
    provider.answers_logins(200, json!({"access_token": signer.token(&provider.claims("anna"))})).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    authenticator.authenticate(&anna()).await.unwrap();
}

#[tokio::test]
async fn nobody_listening_is_an_outage_and_an_unusable_token_is_refused_all_the_same() {
    let settings = AuthnSettings {
        issuer_url: Some("http://127.0.0.1:9".into()),
        client_id: Some("operator".into()),
        ..AuthnSettings::default()
    };
    let authenticator = Authenticator::new(settings, http());
    assert_eq!(authenticator.authenticate(&anna()).await, Err(AuthnError::Unavailable));
    let signer = Signer::new("ES256", "k1");
    let foreign = signer.token(&json!({"iss": "https://other", "sub": "anna", "exp": 4_000_000_000_i64}));
    let error = authenticator.authenticate(&token(foreign)).await.unwrap_err();
    assert!(matches!(error, AuthnError::Token(TokenError::WrongIssuer { .. })), "{error:?}");
}

#[rstest]
#[case::client_refused(401, json!({"error": "invalid_client"}), AuthnErrorKind::Misconfigured, "operator's own client (invalid_client)")]
#[case::disabled(400, json!({"error": "invalid_grant", "error_description": "Account disabled"}), AuthnErrorKind::Rejected, "Account disabled")]
#[case::opaque_token(200, json!({"access_token": "opaque"}), AuthnErrorKind::Misconfigured, "it is not a JWT")]
#[case::down(502, json!({}), AuthnErrorKind::Unavailable, "try again")]
#[tokio::test]
async fn the_user_hears_whose_fault_it_is(
    #[case] status: u16,
    #[case] answer: serde_json::Value,
    #[case] kind: AuthnErrorKind,
    #[case] text: &str,
) {
    let provider = FakeProvider::start().await;
    provider.serves_discovery().await;
    provider.serves_keys(&[&Signer::new("ES256", "k1")]).await;
    provider.answers_logins(status, answer).await;
    let error = authenticator(&provider).authenticate(&anna()).await.unwrap_err();
    assert_eq!(error.kind(), kind);
    assert!(error.to_string().contains(text), "{error}");
    for secret in ["hunter2", "cl13nt"] {
        assert!(!format!("{error} {error:?}").contains(secret));
    }
}

#[tokio::test]
async fn an_access_token_without_the_audience_is_the_administrators_business() {
    let provider = provider(&Signer::new("ES256", "k1")).await;
    let settings = AuthnSettings { audience: Some("spark".into()), ..settings(&provider) };
    let error = Authenticator::new(settings, http()).authenticate(&anna()).await.unwrap_err();
    assert_eq!(error.kind(), AuthnErrorKind::Misconfigured);
    assert!(error.to_string().contains("its audience does not name \"spark\""), "{error}");
}

#[tokio::test]
async fn a_document_of_another_issuer_is_refused() {
    let provider = FakeProvider::start().await;
    provider.serves_discovery_with(json!({"issuer": "https://evil"})).await;
    let error = authenticator(&provider).authenticate(&anna()).await.unwrap_err();
    assert_eq!(error, AuthnError::Provider);
}

#[tokio::test]
async fn a_login_is_not_redirected() {
    let provider = FakeProvider::start().await;
    provider.serves_discovery().await;
    let elsewhere = format!("{}/elsewhere", provider.server.uri());
    provider.answers("POST", "/t/1", ResponseTemplate::new(307).insert_header("location", elsewhere)).await;
    assert_eq!(authenticator(&provider).authenticate(&anna()).await, Err(AuthnError::Provider));
    assert_eq!(provider.requests("/elsewhere").await, 0);
}

#[tokio::test]
async fn a_rotated_key_is_fetched_and_an_unknown_one_is_refused() {
    let (old, new, foreign) =
        (Signer::new("ES256", "old"), Signer::new("ES256", "new"), Signer::new("ES256", "x"));
    let provider = provider(&old).await;
    let discovery = Arc::new(super::discovery::discovery(provider.issuer(), http()));
    let rules = TokenRules {
        issuer: provider.issuer(),
        user_claim: "sub".into(),
        groups_claim: "groups".into(),
        ..TokenRules::default()
    };
    let short = Duration::from_millis(100);
    let pace =
        Pace { max_age: Duration::from_secs(60), floor: short, retry_stale: short, retry_empty: short };
    let verifier = Verifier::with_pace(discovery, http(), rules, pace);
    let (now, claims) = (jiff::Timestamp::now(), provider.claims("anna"));

    verifier.verify(&old.token(&claims), now).await.unwrap();
    provider.serves_keys(&[&old, &new]).await;
    assert_eq!(
        verifier.verify(&new.token(&claims), now).await,
        Err(TokenError::UnknownKey.into()),
        "too soon"
    );
    tokio::time::sleep(short).await;
    verifier.verify(&new.token(&claims), now).await.unwrap();
    tokio::time::sleep(short).await;
    assert_eq!(verifier.verify(&foreign.token(&claims), now).await, Err(TokenError::UnknownKey.into()));
    assert_eq!(provider.requests("/k/1").await, 3);

    provider.answers("GET", "/k/1", ResponseTemplate::new(503)).await;
    tokio::time::sleep(short).await;
    assert_eq!(verifier.verify(&foreign.token(&claims), now).await, Err(AuthnError::Unavailable));
    verifier.verify(&old.token(&claims), now).await.unwrap();
}

#[tokio::test]
async fn a_bearer_token_needs_no_client_and_a_password_does() {
    let signer = Signer::new("RS256", "k1");
    let provider = provider(&signer).await;
    let authenticator = Authenticator::new(AuthnSettings { client_id: None, ..settings(&provider) }, http());
    let bearer = token(signer.token(&provider.claims("ben")));
    assert_eq!(authenticator.authenticate(&bearer).await.unwrap().user, "ben");
    assert_eq!(authenticator.authenticate(&anna()).await, Err(AuthnError::PasswordLoginOff));
    assert_eq!(provider.requests("/t/1").await, 0);
}

#[tokio::test]
async fn a_login_is_remembered_no_longer_than_its_token_lives() {
    let signer = Signer::new("ES256", "k1");
    let provider = provider(&signer).await;
    let mut claims = provider.claims("anna");
    claims["exp"] = json!(jiff::Timestamp::now().as_second() - 1);
    provider.answers_logins(200, json!({"access_token": signer.token(&claims)})).await;
    let authenticator = authenticator(&provider);
    for _ in 0..2 {
        authenticator.authenticate(&anna()).await.unwrap();
    }
    assert_eq!(provider.requests("/t/1").await, 2, "within the leeway, but not remembered");
}

#[tokio::test]
async fn without_validation_names_and_claims_are_believed() {
    let settings = AuthnSettings { skip_validation: true, ..AuthnSettings::default() };
    let authenticator = Authenticator::new(settings, http());
    assert_eq!(authenticator.authenticate(&anna()).await.unwrap().user, "anna");
    let forged = Signer::new("ES256", "k1").token(&json!({"sub": "ben", "groups": "ops", "exp": 1}));
    let identity = authenticator.authenticate(&token(forged)).await.unwrap();
    assert_eq!(*identity, Identity::new("ben").in_group("ops"));
    let nameless = Credentials::password("a\nb", "");
    assert_eq!(authenticator.authenticate(&nameless).await, Err(UserNameError::ControlCharacter.into()));
}

#[rstest]
#[case::no_provider(AuthnSettings::default(), anna(), AuthnError::NoProvider)]
#[case::no_password(
    AuthnSettings { issuer_url: Some("http://127.0.0.1:9".into()), client_id: Some("c".into()), ..AuthnSettings::default() },
    Credentials::password("anna", ""),
    AuthnError::NoPassword
)]
#[tokio::test]
async fn some_logins_fail_without_asking(
    #[case] settings: AuthnSettings,
    #[case] credentials: Credentials,
    #[case] expected: AuthnError,
) {
    assert_eq!(Authenticator::new(settings, http()).authenticate(&credentials).await, Err(expected));
}

#[test]
fn settings_do_not_show_the_client_secret() {
    let settings = AuthnSettings { client_secret: Some("cl13nt".into()), ..AuthnSettings::default() };
    assert!(!format!("{settings:?}").contains("cl13nt"));
}
