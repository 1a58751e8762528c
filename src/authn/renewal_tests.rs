//! What becomes of logins after they worked, against a provider on a local port: refreshed, taken back, outlasting an
//! outage, limited.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};

use super::test_support::{FakeProvider, Signer, http};
use super::*;

fn wrong_password() -> Value {
    json!({"error": "invalid_grant", "error_description": "Invalid user credentials"})
}

fn disabled() -> Value {
    json!({"error": "invalid_grant", "error_description": "Account disabled"})
}

fn password(user: &str, password: &str) -> Credentials {
    Credentials::password(user, password)
}

fn anna() -> Credentials {
    password("anna", "hunter2")
}

/// A provider that lets everybody in as anna.
struct World {
    provider: FakeProvider,
    signer: Signer,
}

impl World {
    async fn new() -> Self {
        let world = Self { provider: FakeProvider::start().await, signer: Signer::new("ES256", "k1") };
        world.provider.serves_discovery().await;
        world.provider.serves_keys(&[&world.signer]).await;
        world
    }

    /// Tokens of `user` that count for `life` more seconds.
    fn tokens(&self, user: &str, life: i64, refresh_token: Option<&str>) -> Value {
        let mut claims = self.provider.claims(user);
        claims["exp"] = json!(jiff::Timestamp::now().as_second() + life);
        let mut answer = json!({"access_token": self.signer.token(&claims)});
        if let Some(token) = refresh_token {
            answer["refresh_token"] = json!(token);
        }
        answer
    }

    fn authenticator(&self) -> Authenticator {
        self.authenticator_with(|_| {})
    }

    fn authenticator_with(&self, change: impl FnOnce(&mut AuthnSettings)) -> Authenticator {
        let mut settings = AuthnSettings {
            issuer_url: Some(self.provider.issuer()),
            client_id: Some("operator".into()),
            client_secret: Some("cl13nt".into()),
            ..AuthnSettings::default()
        };
        change(&mut settings);
        Authenticator::new(settings, http())
    }
}

#[tokio::test]
async fn an_expired_access_token_is_refreshed_and_the_password_not_shown_again() {
    let world = World::new().await;
    world.provider.answers_logins(200, world.tokens("anna", 0, Some("r1"))).await;
    world.provider.answers_refreshes(200, world.tokens("anna", 0, Some("r2"))).await;
    let authenticator = world.authenticator();
    for _ in 0..3 {
        assert_eq!(authenticator.authenticate(&anna()).await.unwrap().user, "anna");
    }
    assert_eq!(world.provider.grants().await, ["password", "r1", "r2"]);
    let mut claims = world.provider.claims("anna");
    claims["groups"] = json!(["ops"]);
    let access_token = world.signer.token(&claims);
    world.provider.answers_refreshes(200, json!({"access_token": access_token})).await;
    let credentials = anna();
    let calls = (0..20).map(|_| authenticator.authenticate(&credentials));
    for outcome in join_all(calls).await {
        assert_eq!(outcome.unwrap().groups, ["ops"], "changed groups are seen");
    }
    assert_eq!(world.provider.grants().await.len(), 4, "one renewal is under way");
}

#[tokio::test]
async fn after_its_time_the_password_is_shown_again_whatever_the_refresh_token_is_good_for() {
    let world = World::new().await;
    world.provider.answers_logins(200, world.tokens("anna", 300, Some("r1"))).await;
    world.provider.answers_refreshes(200, world.tokens("anna", 300, Some("r2"))).await;
    let authenticator = world.authenticator_with(|settings| settings.cache_ttl = Duration::from_millis(100));
    authenticator.authenticate(&anna()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    world.provider.answers_logins(401, wrong_password()).await;
    assert_eq!(authenticator.authenticate(&anna()).await, Err(AuthnError::WrongPassword));
    assert_eq!(world.provider.grants().await, ["password", "password"]);
}

#[rstest]
#[case::disabled(
    400,
    disabled(),
    400,
    disabled(),
    "The identity provider refuses this login: Account disabled."
)]
#[case::password_changed(400, disabled(), 401, wrong_password(), "Wrong user name or password.")]
#[case::down_after_taking_it_back(400, disabled(), 503, json!({}), "The identity provider does not answer")]
#[tokio::test]
async fn a_login_that_the_provider_takes_back_ends(
    #[case] refresh: u16,
    #[case] refreshed: Value,
    #[case] login: u16,
    #[case] logged_in: Value,
    #[case] words: &str,
) {
    let world = World::new().await;
    world.provider.answers_logins(200, world.tokens("anna", 0, Some("r1"))).await;
    let authenticator = world.authenticator();
    authenticator.authenticate(&anna()).await.unwrap();
    world.provider.answers_logins(login, logged_in).await;
    world.provider.answers_refreshes(refresh, refreshed).await;
    let error = authenticator.authenticate(&anna()).await.unwrap_err().to_string();
    assert!(error.starts_with(words), "{error}");
    authenticator.authenticate(&anna()).await.unwrap_err();
    assert_eq!(world.provider.grants().await[..3], ["password", "r1", "password"]);
}

#[rstest]
#[case::refresh_tokens_expire_early(400, json!({"error": "invalid_grant", "error_description": "Token is not active"}))]
#[case::client_may_not_refresh(400, json!({"error": "unauthorized_client"}))]
#[case::opaque_access_token(200, json!({"access_token": "opaque"}))]
#[tokio::test]
async fn without_a_usable_refresh_the_password_is_shown_at_once(#[case] status: u16, #[case] answer: Value) {
    let world = World::new().await;
    world.provider.answers_logins(200, world.tokens("anna", 0, Some("r1"))).await;
    world.provider.answers_refreshes(status, answer).await;
    let authenticator = world.authenticator();
    for _ in 0..2 {
        authenticator.authenticate(&anna()).await.unwrap();
    }
    assert_eq!(world.provider.grants().await, ["password", "r1", "password"]);
}

#[tokio::test]
async fn a_refresh_into_another_user_is_not_used() {
    let world = World::new().await;
    world.provider.answers_logins(200, world.tokens("anna", 0, Some("r1"))).await;
    world.provider.answers_refreshes(200, world.tokens("root", 300, None)).await;
    let authenticator = world.authenticator();
    for _ in 0..2 {
        assert_eq!(authenticator.authenticate(&anna()).await.unwrap().user, "anna");
    }
}

#[tokio::test]
async fn an_outage_does_not_stop_who_is_logged_in_and_is_told_to_others() {
    let world = World::new().await;
    world.provider.answers_logins(200, world.tokens("anna", 0, None)).await;
    let authenticator = world.authenticator();
    authenticator.authenticate(&anna()).await.unwrap();
    world.provider.answers_logins(503, json!({})).await;
    for _ in 0..20 {
        assert_eq!(authenticator.authenticate(&anna()).await.unwrap().user, "anna");
    }
    assert_eq!(world.provider.grants().await.len(), 2, "it is asked every few seconds");
    let error = authenticator.authenticate(&password("ben", "pw")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "The identity provider does not answer at the moment; try again in a minute. \
         Who logged in before can go on working for a while."
    );
    let wrong = authenticator.authenticate(&password("anna", "guessed")).await.unwrap_err();
    assert_eq!(wrong, AuthnError::Unavailable, "the grace is that of one password");
}

#[tokio::test]
async fn while_the_provider_hangs_nobody_who_is_logged_in_waits_for_it_twice() {
    let world = World::new().await;
    world.provider.answers_logins(200, world.tokens("anna", 0, None)).await;
    let authenticator = world.authenticator();
    for user in ["anna", "ben"] {
        authenticator.authenticate(&password(user, "pw")).await.unwrap();
    }
    let hangs = wiremock::ResponseTemplate::new(200).set_delay(Duration::from_secs(60));
    world.provider.answers("POST", "/t/1", hangs).await;
    authenticator.authenticate(&password("anna", "pw")).await.unwrap();
    let began = std::time::Instant::now();
    for user in ["anna", "ben"] {
        authenticator.authenticate(&password(user, "pw")).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn who_finds_out_whether_the_provider_is_back_does_not_wait_for_that() {
    let world = World::new().await;
    world.provider.answers_logins(200, world.tokens("anna", 0, None)).await;
    let authenticator = world.authenticator();
    authenticator.authenticate(&anna()).await.unwrap();
    world.provider.answers_logins(503, json!({})).await;
    authenticator.authenticate(&anna()).await.unwrap();
    let hangs = wiremock::ResponseTemplate::new(200).set_delay(Duration::from_secs(60));
    world.provider.answers("POST", "/t/1", hangs).await;
    tokio::time::sleep(Duration::from_millis(5100)).await;
    for _ in 0..20 {
        let began = std::time::Instant::now();
        authenticator.authenticate(&anna()).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(world.provider.grants().await.len(), 3, "one of them asks");
}

#[tokio::test]
async fn made_up_logins_on_which_the_provider_stumbles_are_no_outage() {
    let world = World::new().await;
    world.provider.answers_logins(200, world.tokens("anna", 0, None)).await;
    let authenticator = world.authenticator();
    authenticator.authenticate(&anna()).await.unwrap();
    world.provider.answers_logins(500, json!({})).await;
    let made_up = authenticator.authenticate(&password("anna", "\u{1f980}")).await;
    assert_eq!(made_up, Err(AuthnError::Unavailable));
    world.provider.answers_logins(400, disabled()).await;
    let error = authenticator.authenticate(&anna()).await.unwrap_err();
    assert!(matches!(error, AuthnError::AccountRefused { .. }), "{error:?}");
}

#[tokio::test]
async fn without_a_grace_an_outage_stops_everybody_at_the_end_of_their_time() {
    let world = World::new().await;
    world.provider.answers_logins(200, world.tokens("anna", 0, Some("r1"))).await;
    let authenticator = world.authenticator_with(|settings| settings.outage_grace = Duration::ZERO);
    authenticator.authenticate(&anna()).await.unwrap();
    world.provider.answers_logins(503, json!({})).await;
    assert_eq!(authenticator.authenticate(&anna()).await, Err(AuthnError::Unavailable));
}

#[tokio::test]
async fn guessing_ends_before_the_provider_and_leaves_the_logged_in_alone() {
    let world = World::new().await;
    world.provider.answers_logins(200, world.tokens("anna", 300, None)).await;
    let authenticator = world.authenticator_with(|settings| {
        settings.failure_limits = FailureLimits { per_user: NonZeroU32::new(3), per_address: None };
    });
    let home = Origin { address: Some(IpAddr::from([10, 0, 0, 1])), pool: None };
    let elsewhere = Origin { address: Some(IpAddr::from([192, 0, 2, 1])), pool: None };
    authenticator.log_in(&anna(), home).await.unwrap();
    world.provider.answers_logins(401, wrong_password()).await;
    let guesses: Vec<_> = (0..20).map(|guess| password("anna", &format!("guess-{guess}"))).collect();
    let outcomes = join_all(guesses.iter().map(|guess| authenticator.log_in(guess, elsewhere))).await;
    let limited = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    let limited: Vec<_> = limited.filter(|error| **error != AuthnError::WrongPassword).collect();
    assert_eq!(limited.len(), 17);
    assert_eq!(limited[0].kind(), AuthnErrorKind::Limited);
    assert_eq!(limited[0].to_string(), "Too many failed logins for user anna. Try again in 60 s.");
    assert_eq!(world.provider.grants().await.len(), 4, "the others were not asked for");
    authenticator.log_in(&anna(), elsewhere).await.unwrap();
    let mistyped = authenticator.log_in(&password("anna", "hunter3"), home).await.unwrap_err();
    assert_eq!(mistyped, AuthnError::WrongPassword, "where anna works, others do not lock her out");
}

#[tokio::test]
async fn five_hundred_requests_with_a_new_password_are_one_login_even_if_the_first_leaves() {
    let world = World::new().await;
    let slow = wiremock::ResponseTemplate::new(200).set_body_json(world.tokens("anna", 300, None));
    world.provider.answers("POST", "/t/1", slow.set_delay(Duration::from_millis(100))).await;
    let (authenticator, credentials) = (world.authenticator(), anna());
    let first = tokio::time::timeout(Duration::from_millis(20), authenticator.authenticate(&credentials));
    let others = join_all((0..500).map(|_| authenticator.authenticate(&credentials)));
    let (left, others) = tokio::join!(first, others);
    assert!(left.is_err());
    others.into_iter().for_each(|outcome| drop(outcome.unwrap()));
    assert_eq!(world.provider.grants().await.len(), 1);
}

#[rstest]
#[case::wrong_password(401, wrong_password(), 1)]
#[case::misconfigured(401, json!({"error": "invalid_client"}), 1)]
#[case::outage(503, json!({}), 2)]
#[tokio::test]
async fn refusals_are_remembered_and_outages_are_not(
    #[case] status: u16,
    #[case] answer: Value,
    #[case] logins: usize,
) {
    let world = World::new().await;
    world.provider.answers_logins(status, answer).await;
    let authenticator = world.authenticator();
    for _ in 0..2 {
        authenticator.authenticate(&anna()).await.unwrap_err();
    }
    assert_eq!(world.provider.grants().await.len(), logins);
}
