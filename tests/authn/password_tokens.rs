//! Which token a provider gives for a password, by which scope, and what becomes of one that nobody here can use.

use rstest::rstest;
use serde_json::{Value, json};
use spark_session_operator::authn::PasswordToken;

use super::oidc_server::{Answer, TOKEN};
use super::signer::Signer;
use super::world::{PASSWORD, World};

const OTHER_WAY: &str =
    " The provider has sent an ID token, too: --oidc-password-token=id_token takes the user from that.";

fn unusable(token: &str, problem: &str) -> String {
    format!(
        "The password was right, but the {token} that the identity provider gave to the operator cannot be used: \
         {problem} Tell the operator's administrator. A token may work meanwhile."
    )
}

async fn believing_id_tokens() -> World {
    World::with(|settings| settings.password_token = PasswordToken::IdToken).await
}

/// As Microsoft's answer for the scope `openid`: an access token for somebody else, beside an ID token.
fn answer(world: &World, access_token: &str, id_claims: &Value) -> Answer {
    let id_token = world.signer().token(id_claims);
    Answer::Json(json!({"access_token": access_token, "id_token": id_token, "token_type": "Bearer"}))
}

#[tokio::test]
async fn the_scope_is_asked_for_with_the_password_and_with_the_refresh() {
    let world = World::with(|settings| settings.scope = "openid groups".into()).await;
    let expired = world.claims_with("exp", json!(jiff::Timestamp::now().as_second()));
    let tokens = json!({"access_token": world.signer().token(&expired), "refresh_token": "r1"});
    world.provider.set(TOKEN, Answer::Json(tokens));
    for _ in 0..2 {
        world.password("anna").await.unwrap();
    }
    let forms = world.provider.requests(TOKEN).into_iter().map(|asked| asked.body).collect::<Vec<_>>();
    let expected = [
        format!(
            "grant_type=password&scope=openid+groups&username=anna&password={PASSWORD}&client_id=operator"
        ),
        "grant_type=refresh_token&scope=openid+groups&refresh_token=r1&client_id=operator".to_owned(),
    ];
    assert_eq!(forms, expected);
}

#[tokio::test]
async fn a_scope_that_the_provider_does_not_give_is_named() {
    let world = World::with(|settings| settings.scope = "openid groups".into()).await;
    let refusal = json!({"error": "invalid_scope", "error_description": "Invalid scopes: openid groups"});
    world.provider.set(TOKEN, Answer::Text(400, "application/json", refusal.to_string()));
    assert_eq!(
        world.refused_password().await,
        "The identity provider does not give the operator's client the scope \"openid groups\" (invalid_scope), so \
         nobody can log in with a password. Tell the operator's administrator: the provider must know each of these \
         scopes and allow them to the client. A token may work meanwhile."
    );
}

#[derive(Clone, Copy)]
enum AccessToken {
    Opaque,
    OfAnotherKey,
    OfAnotherIssuer,
    ForAnotherAudience,
}

#[rstest]
#[case::opaque(AccessToken::Opaque, "it is not a JWT.")]
#[case::of_another_key(
    AccessToken::OfAnotherKey,
    "its signature is not by a key that the provider publishes, so it is meant for another service. The operator must \
     ask for a scope of an API of its own (--oidc-scope)."
)]
#[case::of_another_issuer(
    AccessToken::OfAnotherIssuer,
    "it was issued by \"https://sts.windows.net/7/\" and not by \"http://idp.test/acme\", so it is meant for another \
     service. The operator must ask for a scope of an API of its own (--oidc-scope)."
)]
#[case::for_another_audience(
    AccessToken::ForAnotherAudience,
    "its audience does not name \"spark\". The provider must add this audience to the tokens of the operator's client \
     (Keycloak: an audience mapper)."
)]
#[tokio::test]
async fn an_access_token_that_only_others_can_verify(#[case] kind: AccessToken, #[case] problem: &str) {
    let world = World::with_ec().await;
    let access_token = match kind {
        AccessToken::Opaque => "EwBwA8l6BAAU".to_owned(),
        AccessToken::OfAnotherKey => Signer::ec("graph").token(&world.claims()),
        AccessToken::OfAnotherIssuer => {
            world.signer().token(&world.claims_with("iss", json!("https://sts.windows.net/7/")))
        }
        AccessToken::ForAnotherAudience => world.signer().token(&world.claims_with("aud", json!("graph"))),
    };
    world.provider.set(TOKEN, Answer::Json(json!({"access_token": access_token})));
    assert_eq!(world.refused_password().await, unusable("access token", problem));

    let world = World::with_ec().await;
    let access_token = match kind {
        AccessToken::OfAnotherKey => Signer::ec("graph").token(&world.claims()),
        AccessToken::OfAnotherIssuer => {
            world.signer().token(&world.claims_with("iss", json!("https://sts.windows.net/7/")))
        }
        AccessToken::ForAnotherAudience => world.signer().token(&world.claims_with("aud", json!("graph"))),
        AccessToken::Opaque => access_token,
    };
    world.provider.set(TOKEN, answer(&world, &access_token, &world.claims_with("aud", json!("operator"))));
    assert_eq!(world.refused_password().await, unusable("access token", &format!("{problem}{OTHER_WAY}")));

    let world = believing_id_tokens().await;
    world.provider.set(TOKEN, answer(&world, "opaque", &world.claims_with("aud", json!("operator"))));
    assert_eq!(world.password("anna").await.unwrap().groups, ["dev"]);
}

#[rstest]
#[case::for_the_audience_of_access_tokens(
    "aud",
    json!("spark"),
    "its audience does not name the operator's client, \"operator\"."
)]
#[case::for_nobody("aud", json!(null), "its audience does not name the operator's client, \"operator\".")]
#[case::for_several_and_issued_to_another(
    "azp",
    json!("other"),
    "The token was issued to another client than \"operator\" (azp)."
)]
#[case::of_another_issuer(
    "iss",
    json!("http://evil.test"),
    "The token was issued by \"http://evil.test\", but only tokens of \"http://idp.test/acme\" are accepted here."
)]
#[case::expired("exp", json!(1_000_000_000), "The token expired at 2001-09-09T01:46:40Z; get a new one.")]
#[case::of_nobody("sub", json!(null), "The token has no usable claim \"sub\". Ask the identity provider's administrator to add it.")]
#[tokio::test]
async fn an_id_token_that_cannot_be_used(#[case] name: &str, #[case] value: Value, #[case] problem: &str) {
    let world = believing_id_tokens().await;
    let mut claims = world.claims_with("aud", json!(["operator", "spark"]));
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    // The access token, which is good, changes nothing.
    let access_token = world.signer().token(&world.claims());
    world.provider.set(TOKEN, answer(&world, &access_token, &claims));
    assert_eq!(world.refused_password().await, unusable("ID token", problem));
}

#[tokio::test]
async fn an_id_token_with_a_forged_signature_is_not_believed() {
    let world = believing_id_tokens().await;
    let forged = Signer::ec("e1").token(&world.claims_with("aud", json!("operator")));
    world.provider.set(TOKEN, Answer::Json(json!({"access_token": "opaque", "id_token": forged})));
    let problem =
        "The token's signature is wrong: it was changed or cut off. Copy it again, or get a new one.";
    assert_eq!(world.refused_password().await, unusable("ID token", problem));
}

#[tokio::test]
async fn an_answer_without_the_id_token_that_counts() {
    let world = believing_id_tokens().await;
    assert_eq!(world.refused_password().await, unusable("ID token", "the answer has none."));
}

/// OpenID Connect Core §12.2: the answer to a refresh may have none.
#[tokio::test]
async fn a_refresh_without_an_id_token_leads_to_the_password() {
    let world = believing_id_tokens().await;
    let now = jiff::Timestamp::now().as_second();
    let mut claims = world.claims_with("aud", json!("operator"));
    claims["exp"] = json!(now);
    let id_token = world.signer().token(&claims);
    let tokens = json!({"access_token": "opaque", "id_token": id_token, "refresh_token": "r1"});
    world.provider.set(TOKEN, Answer::Json(tokens));
    world.password("anna").await.unwrap();
    world.provider.set(TOKEN, Answer::Json(json!({"access_token": "opaque"})));
    assert_eq!(world.password("anna").await.expect("she has logged in before").user, "anna");
    let told = world.password("ben").await.unwrap_err().to_string();
    assert_eq!(told, unusable("ID token", "the answer has none."));
    let grants: Vec<String> = world.provider.requests(TOKEN).into_iter().map(|asked| asked.body).collect();
    assert!(
        grants[1].starts_with("grant_type=refresh_token") && grants[2].starts_with("grant_type=password")
    );
}

/// What clients bring themselves goes by the audience as ever.
#[tokio::test]
async fn tokens_that_clients_bring_are_not_measured_by_the_rules_of_id_tokens() {
    let world = believing_id_tokens().await;
    world.token(&world.signer().token(&world.claims())).await.unwrap();
    let for_the_client = world.signer().token(&world.claims_with("aud", json!("operator")));
    assert_eq!(
        world.refusal(&for_the_client).await,
        "The token is not meant for \"spark\" (its audience does not name it). Ask the identity provider for a token \
         with this audience."
    );
}
