//! A provider that answers, but says nothing about the user: its secret is being rotated, an ingress answers instead of
//! it, its settings are wrong. Who has logged in before goes on, others hear whose fault it is.

use std::num::NonZeroU32;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use spark_session_operator::authn::FailureLimits;

use super::oidc_server::{Answer, DISCOVERY, KEYS, TOKEN, USERINFO};
use super::world::World;

/// Shorter than a test.
const TTL: Duration = Duration::from_millis(50);

const MISFIT: &str = "Nobody can log in: the identity provider and the operator's settings do not fit. ";
const UNAVAILABLE: &str = "The identity provider does not answer at the moment; ";
const CLIENT: &str = "The identity provider does not accept the operator's own client ";
const SCOPE: &str = "The identity provider does not give the operator's client the scope \"openid\" ";
const UNUSABLE: &str = "The password was right, but the access token that the identity provider gave ";

fn html(status: u16) -> Answer {
    Answer::Text(status, "text/html", "<html><title>nginx</title></html>".into())
}

fn json(status: u16, body: &Value) -> Answer {
    Answer::Text(status, "application/json", body.to_string())
}

fn error(status: u16, code: &str) -> Answer {
    json(
        status,
        &json!({ "error": code, "error_description": "Invalid client or Invalid client credentials" }),
    )
}

/// Whether the login of anna, which is due to be shown to the provider again, still counts.
async fn goes_on(world: &World) -> Result<String, String> {
    tokio::time::sleep(TTL * 2).await;
    match world.password("anna").await {
        Ok(identity) => Ok(identity.user.clone()),
        Err(error) => Err(error.to_string()),
    }
}

#[rstest]
#[case::secret_rotated(error(401, "invalid_client"), CLIENT)]
#[case::secret_rotated_at_microsoft(error(400, "invalid_client"), CLIENT)]
#[case::grant_switched_off(error(400, "unauthorized_client"), CLIENT)]
#[case::grant_gone(error(400, "unsupported_grant_type"), CLIENT)]
#[case::scope_gone(error(400, "invalid_scope"), SCOPE)]
#[case::realm_gone(json(404, &json!({ "error": "Realm does not exist" })), MISFIT)]
#[case::a_code_of_nobody(error(400, "something_new"), MISFIT)]
#[case::an_ingress_without_it(html(404), MISFIT)]
#[case::an_ingress_that_wants_a_login(html(200), MISFIT)]
#[case::a_firewall(html(403), MISFIT)]
#[case::redirected(Answer::Redirect("http://idp.test/login".into()), MISFIT)]
#[case::empty(Answer::Text(200, "application/json", String::new()), MISFIT)]
#[case::empty_refusal(Answer::Text(401, "application/json", String::new()), MISFIT)]
#[case::no_code(json(400, &json!({ "message": "no Route matched" })), MISFIT)]
#[case::a_grant_that_is_none_of_its_status(error(404, "invalid_grant"), MISFIT)]
#[case::huge(Answer::Huge(64 << 20), MISFIT)]
#[case::no_token(json(200, &json!({ "token_type": "Bearer" })), UNUSABLE)]
#[case::opaque_token(json(200, &json!({ "access_token": "opaque" })), UNUSABLE)]
#[case::down(html(503), UNAVAILABLE)]
#[case::broken(Answer::Broken, UNAVAILABLE)]
#[case::says_it_is_down(error(400, "temporarily_unavailable"), UNAVAILABLE)]
#[tokio::test]
async fn says_nothing_about_who_has_logged_in(#[case] answer: Answer, #[case] told: &str) {
    let world = World::with(|settings| settings.cache_ttl = TTL).await;
    world.password("anna").await.unwrap();
    world.provider.set(TOKEN, answer);
    assert_eq!(goes_on(&world).await, Ok("anna".to_owned()));
    let others = world.password("ben").await.unwrap_err().to_string();
    assert!(others.starts_with(told), "{others}");
    assert_eq!(goes_on(&world).await, Ok("anna".to_owned()), "a moment later, too");
}

#[rstest]
#[case::wrong_password(error(401, "invalid_grant"))]
#[case::locked(json(400, &json!({ "error": "invalid_grant", "error_description": "Account disabled" })))]
#[case::second_factor(error(403, "mfa_required"))]
#[tokio::test]
async fn a_provider_that_refuses_the_user_is_believed(#[case] answer: Answer) {
    let world = World::with(|settings| settings.cache_ttl = TTL).await;
    world.password("anna").await.unwrap();
    world.provider.set(TOKEN, answer);
    goes_on(&world).await.unwrap_err();
}

#[tokio::test]
async fn is_not_counted_as_failed_logins() {
    let world = World::with(|settings| {
        settings.failure_limits =
            FailureLimits { per_user: NonZeroU32::new(2), per_address: NonZeroU32::new(2) };
    })
    .await;
    for (number, answer) in [error(401, "invalid_client"), html(404), html(200), html(503)].iter().enumerate()
    {
        world.provider.set(TOKEN, answer.clone());
        world.log_in("ben", &format!("password{number}"), [10, 0, 0, 1]).await.unwrap_err();
    }
    world.provider.set(TOKEN, Answer::LogIn);
    world.log_in("ben", "password", [10, 0, 0, 1]).await.unwrap();
}

/// All documents are fetched anew after an hour.
async fn an_hour_later() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3601)).await;
    tokio::time::resume();
}

#[rstest]
#[case::html(html(200))]
#[case::not_found(html(404))]
#[case::no_keys(json(200, &json!({ "keys": [] })))]
#[case::no_document(json(200, &json!({})))]
#[case::down(html(502))]
#[tokio::test]
async fn does_not_take_its_keys_and_addresses_away(#[case] answer: Answer) {
    let world = World::with_ec().await;
    world.token(&world.signer().token(&world.claims())).await.unwrap();
    world.provider.set(DISCOVERY, answer.clone());
    world.provider.set(KEYS, answer);
    an_hour_later().await;
    world.token(&world.signer().token(&world.provider.claims("ben"))).await.expect("its key is known");
    world.password("cleo").await.expect("the token endpoint is known");
    assert!(world.provider.hits(KEYS) > 1 && world.provider.hits(DISCOVERY) > 1);
}

#[tokio::test]
async fn a_document_that_has_lost_its_token_endpoint_ends_no_login() {
    let world = World::with(|settings| settings.cache_ttl = Duration::from_secs(3600)).await;
    world.password("anna").await.unwrap();
    let mut document = world.provider.document();
    document["token_endpoint"] = Value::Null;
    world.provider.set(DISCOVERY, Answer::Json(document));
    an_hour_later().await;
    world.password("anna").await.expect("the grace holds");
    let told = "Logging in with a password is not set up here; log in with a token of the identity provider.";
    assert_eq!(world.password("ben").await.unwrap_err().to_string(), told);
}

#[rstest]
#[case::not_found(html(404))]
#[case::a_page(html(200))]
#[case::a_firewall(html(403))]
#[case::a_login_page(html(401))]
#[case::down(html(502))]
#[tokio::test]
async fn does_not_take_groups_away(#[case] answer: Answer) {
    let world = World::with(|settings| {
        settings.cache_ttl = TTL;
        settings.groups_from_userinfo = true;
    })
    .await;
    world.provider.discovers(&json!({ "userinfo_endpoint": world.provider.url(USERINFO) }));
    world.provider.set(USERINFO, Answer::Json(json!({ "sub": "anna", "groups": ["ops"] })));
    let token = world.signer().token(&world.claims_with("groups", Value::Null));
    assert_eq!(world.token(&token).await.unwrap().groups, ["ops"]);
    world.provider.set(USERINFO, answer);
    tokio::time::sleep(TTL * 2).await;
    assert_eq!(world.token(&token).await.expect("the grace holds").groups, ["ops"]);
}
