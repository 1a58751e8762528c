//! A provider that is slow, gone, or somebody else.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::oidc_server::{Answer, DISCOVERY, KEYS, TOKEN};
use super::world::World;

const MISFIT: &str = "Nobody can log in: the identity provider and the operator's settings do not fit. \
     Tell the operator's administrator; its log has the reason.";
const UNAVAILABLE: &str = "The identity provider does not answer at the moment; try again in a minute. \
     Who logged in before can go on working for a while.";

fn unusable(problem: &str) -> String {
    format!(
        "The password was right, but the access token that the identity provider gave to the operator cannot be \
         used: {problem} Tell the operator's administrator. A token may work meanwhile."
    )
}

fn html(status: u16) -> Answer {
    Answer::Text(status, "text/html", "<html><title>502</title>hunter2-of-anna</html>".into())
}

#[rstest]
#[case::html(html(200), MISFIT)]
#[case::not_found(html(404), MISFIT)]
#[case::starting(html(503), UNAVAILABLE)]
#[case::too_busy(html(429), UNAVAILABLE)]
#[case::broken(Answer::Broken, UNAVAILABLE)]
#[case::huge(Answer::Huge(64 << 20), MISFIT)]
#[case::redirected(Answer::Redirect("http://idp.test/evil".into()), MISFIT)]
#[case::a_list(Answer::Json(json!([])), MISFIT)]
#[case::nothing_in_it(Answer::Json(json!({})), MISFIT)]
#[case::hangs(Answer::Hang, UNAVAILABLE)]
#[case::slower_than_anybody_waits(Answer::Slow(Duration::from_secs(60), Box::new(html(200))), UNAVAILABLE)]
#[tokio::test]
async fn discovery_of_no_use(#[case] answer: Answer, #[case] told: &str) {
    let world = World::with_ec().await;
    world.provider.set(DISCOVERY, answer);
    assert_eq!(world.refused_password().await, told);
    assert_eq!(world.refusal(&world.signer().token(&world.claims())).await, told);
    assert_eq!((world.provider.hits(TOKEN), world.provider.hits(KEYS)), (0, 0));
    world.assert_asked_nowhere_else();
}

#[rstest]
#[case::another_issuer("issuer", json!("http://evil.test/acme"))]
#[case::another_tenant("issuer", json!("http://idp.test/acme2"))]
#[case::issuer_in_capitals("issuer", json!("http://IDP.test/acme"))]
#[case::no_issuer("issuer", json!(null))]
#[case::keys_in_a_file("jwks_uri", json!("file:///etc/passwd"))]
#[case::keys_nowhere("jwks_uri", json!(""))]
#[case::keys_in_a_list("jwks_uri", json!(["http://idp.test/k/1"]))]
#[case::passwords_to_a_file("token_endpoint", json!("file:///dev/null"))]
#[tokio::test]
async fn discovery_that_says_something_else(#[case] name: &str, #[case] value: Value) {
    let world = World::with_ec().await;
    let mut document = world.provider.document();
    document[name] = value;
    world.provider.set(DISCOVERY, Answer::Json(document));
    assert_eq!(world.refused_password().await, MISFIT);
    assert_eq!(world.refusal(&world.signer().token(&world.claims())).await, MISFIT);
    assert_eq!((world.provider.hits(TOKEN), world.provider.hits(KEYS)), (0, 0));
}

#[tokio::test]
async fn a_provider_without_a_token_endpoint_takes_tokens() {
    let world = World::with_ec().await;
    let mut document = world.provider.document();
    document["token_endpoint"] = Value::Null;
    world.provider.set(DISCOVERY, Answer::Json(document));
    let told = "Logging in with a password is not set up here; log in with a token of the identity provider.";
    assert_eq!(world.refused_password().await, told);
    world.token(&world.signer().token(&world.claims())).await.unwrap();
}

#[rstest]
#[case::html(html(200), MISFIT.into())]
#[case::html_of_a_proxy(html(400), MISFIT.into())]
#[case::bad_gateway(html(502), UNAVAILABLE.into())]
#[case::forbidden(html(403), MISFIT.into())]
#[case::a_list(Answer::Json(json!([])), MISFIT.into())]
#[case::a_token_that_is_a_number(Answer::Json(json!({ "access_token": 7 })), unusable("the answer has none."))]
#[case::an_empty_token(Answer::Json(json!({ "access_token": "" })), unusable("it is not a JWT."))]
#[case::an_opaque_token(Answer::Json(json!({ "access_token": "o".repeat(500_000) })), unusable("it is not a JWT."))]
#[case::an_unsigned_token(
    Answer::Json(json!({ "access_token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm5hIn0." })),
    unusable("The token is not signed (alg: none). Get one from the identity provider.")
)]
#[case::no_content(Answer::Text(204, "text/plain", String::new()), MISFIT.into())]
#[case::no_token(Answer::Json(json!({ "token_type": "Bearer" })), unusable("the answer has none."))]
#[case::broken(Answer::Broken, UNAVAILABLE.into())]
#[case::huge(Answer::Huge(64 << 20), MISFIT.into())]
#[case::redirected(Answer::Redirect("http://idp.test/evil".into()), MISFIT.into())]
#[case::hangs(Answer::Hang, UNAVAILABLE.into())]
#[case::a_reason_with_terminal_codes(
    Answer::Text(400, "application/json", json!({ "error": "invalid_grant", "error_description": "\u{1b}[2JAccount locked.\r\n" }).to_string()),
    "The identity provider refuses this login: [2JAccount locked. Fix this at the provider, then try again.".into()
)]
#[tokio::test]
async fn a_token_endpoint_that_answers_oddly(#[case] answer: Answer, #[case] told: String) {
    let world = World::with_ec().await;
    world.provider.set(TOKEN, answer);
    assert_eq!(world.refused_password().await, told);
    assert_eq!(world.provider.hits(TOKEN), 1);
    world.assert_asked_nowhere_else();
}

#[tokio::test]
async fn a_slow_provider_is_waited_for() {
    let world = World::with_ec().await;
    world.provider.set(TOKEN, Answer::Slow(Duration::from_secs(2), Box::new(Answer::LogIn)));
    assert_eq!(world.password("anna").await.unwrap().user, "anna");
}

#[tokio::test]
async fn a_provider_that_is_gone_and_comes_back() {
    let mut world = World::with_ec().await;
    world.password("anna").await.unwrap();
    world.provider.go_down();
    world.password("anna").await.expect("she has logged in before");
    let token = world.signer().token(&world.provider.claims("cleo"));
    assert_eq!(world.token(&token).await.expect("its key is known").user, "cleo");
    let told = world.password("ben").await.unwrap_err().to_string();
    assert_eq!(told, UNAVAILABLE);
    world.provider.come_back().await;
    assert_eq!(world.password("ben").await.expect("an outage is not remembered").user, "ben");
}
