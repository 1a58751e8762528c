//! Groups that a token does not tell, and the userinfo endpoint that may tell them.

use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::{Value, json};
use spark_session_operator::model::UntoldReason;

use super::oidc_server::{Answer, TOKEN, USERINFO};
use super::world::World;

const UNAVAILABLE: &str = "The identity provider does not answer at the moment; try again in a minute. \
     Who logged in before can go on working for a while.";

fn unusable(problem: &str) -> String {
    format!(
        "The login is right, but its token tells no groups, and the identity provider's userinfo endpoint, which is \
         asked for them (--oidc-groups-from-userinfo), cannot be used: {problem}. Tell the operator's administrator."
    )
}

/// A provider whose userinfo endpoint tells the groups, which its tokens do not.
async fn world() -> World {
    let world = World::with(|settings| settings.groups_from_userinfo = true).await;
    world.provider.discovers(&json!({"userinfo_endpoint": world.provider.url(USERINFO)}));
    world.provider.set(USERINFO, Answer::Json(json!({"sub": "anna", "groups": ["etl", "ops"]})));
    world.provider.set(TOKEN, Answer::Json(json!({"access_token": token_of(&world)})));
    world
}

fn token_of(world: &World) -> String {
    world.signer().token(&world.claims_with("groups", Value::Null))
}

#[rstest]
#[case::no_claim(json!({}), Some(UntoldReason::NotInToken))]
#[case::too_many(json!({"_claim_names": {"groups": "src1"}}), Some(UntoldReason::LeftOut))]
#[case::of_no_group(json!({"groups": []}), None)]
#[tokio::test]
async fn it_is_known_why_a_login_has_no_groups(#[case] more: Value, #[case] expected: Option<UntoldReason>) {
    let world = World::with_ec().await;
    let mut claims = world.claims_with("groups", Value::Null);
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let identity = world.token(&world.signer().token(&claims)).await.unwrap();
    assert!(identity.groups.is_empty());
    assert_eq!(identity.untold.as_ref().map(|untold| untold.reason), expected);
    world.assert_asked_nowhere_else();
}

#[tokio::test]
async fn userinfo_is_asked_once_for_a_password_and_once_for_a_token() {
    let world = world().await;
    for outcome in join_all((0..50).map(|_| world.password("anna"))).await {
        let identity = outcome.unwrap();
        assert_eq!((&*identity.groups, &identity.untold), (&["etl".to_owned(), "ops".to_owned()][..], &None));
    }
    let token = token_of(&world);
    for outcome in join_all((0..50).map(|_| world.token(&token))).await {
        assert_eq!(outcome.unwrap().groups, ["etl", "ops"]);
    }
    let asked = world.provider.requests(USERINFO);
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].authorization, Some(format!("Bearer {token}")));
}

#[tokio::test]
async fn userinfo_is_not_asked_where_the_token_tells_the_groups() {
    let world = world().await;
    assert_eq!(world.token(&world.signer().token(&world.claims())).await.unwrap().groups, ["dev"]);
    let of_none = world.signer().token(&world.claims_with("groups", json!([])));
    assert!(world.token(&of_none).await.unwrap().groups.is_empty());
    assert_eq!(world.provider.hits(USERINFO), 0);
}

#[tokio::test]
async fn userinfo_that_does_not_tell_them_either() {
    let world = world().await;
    world.provider.set(USERINFO, Answer::Json(json!({"sub": "anna"})));
    let identity = world.password("anna").await.unwrap();
    assert_eq!(identity.untold.as_ref().unwrap().reason, UntoldReason::NotInUserinfo);
}

#[rstest]
#[case::of_another_user(
    Answer::Json(json!({"sub": "ben", "groups": ["root"]})),
    "its answer is not about the user of the token (\"sub\" is another)"
)]
#[case::signed(
    Answer::Text(200, "application/jwt", "eyJhbGciOiJSUzI1NiJ9.e30.c2ln".into()),
    "it answers with a JWT; the provider must send JSON to the operator's client"
)]
#[case::a_page(Answer::Text(200, "text/html", "<html>".into()), "its answer is not a JSON object")]
#[case::redirected(Answer::Redirect("http://idp.test/evil".into()), "it answers 307 Temporary Redirect")]
#[case::not_there(Answer::Text(404, "text/plain", String::new()), "it answers 404 Not Found")]
#[tokio::test]
async fn userinfo_of_no_use(#[case] answer: Answer, #[case] problem: &str) {
    let world = world().await;
    world.provider.set(USERINFO, answer);
    assert_eq!(world.refused_password().await, unusable(problem));
    assert_eq!(world.refusal(&token_of(&world)).await, unusable(problem));
    assert_eq!(world.provider.hits("/evil"), 0);
}

#[tokio::test]
async fn userinfo_that_does_not_take_the_token() {
    let world = world().await;
    let refusal = json!({"error": "insufficient_scope", "error_description": "Missing openid scope"});
    world.provider.set(USERINFO, Answer::Text(403, "application/json", refusal.to_string()));
    assert_eq!(
        world.refused_password().await,
        unusable("it does not take the access token of a password login, 403 Forbidden")
    );
    assert_eq!(
        world.refusal(&token_of(&world)).await,
        "The token tells no groups (there is no claim \"groups\" with names in it), and the identity provider's \
         userinfo endpoint does not tell them for it: 403 Forbidden. Get an access token with the \
         scope openid."
    );
}

#[tokio::test]
async fn a_provider_without_userinfo() {
    let world = world().await;
    world.provider.discovers(&json!({}));
    assert_eq!(world.refused_password().await, unusable("the provider has none"));
}

#[rstest]
#[case::down(Answer::Text(502, "text/html", "<html>".into()))]
#[case::hangs(Answer::Hang)]
#[case::broken(Answer::Broken)]
#[tokio::test]
async fn userinfo_in_an_outage(#[case] outage: Answer) {
    let world = World::with(|settings| {
        settings.groups_from_userinfo = true;
        settings.cache_ttl = Duration::from_millis(50);
    })
    .await;
    world.provider.discovers(&json!({"userinfo_endpoint": world.provider.url(USERINFO)}));
    world.provider.set(USERINFO, Answer::Json(json!({"sub": "anna", "groups": ["etl"]})));
    world.provider.set(TOKEN, Answer::Json(json!({"access_token": token_of(&world)})));
    let known = token_of(&world);
    world.token(&known).await.unwrap();
    world.password("anna").await.unwrap();
    world.provider.set(USERINFO, outage);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(world.token(&known).await.unwrap().groups, ["etl"], "who is logged in goes on");
    assert_eq!(world.password("anna").await.unwrap().groups, ["etl"]);
    let new = world.signer().token(&{
        let mut claims = world.claims_with("groups", Value::Null);
        claims["jti"] = json!("another");
        claims
    });
    assert_eq!(world.refusal(&new).await, UNAVAILABLE);
}
