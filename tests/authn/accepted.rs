//! What looks odd and is right all the same.

use rstest::rstest;
use serde_json::json;
use spark_session_operator::authn::LEEWAY;

use super::world::World;

#[rstest]
#[case::issued_in_the_future("iat", json!(4_000_000_000_u64))]
#[case::issued_at_a_text("iat", json!("yesterday"))]
#[case::expires_at_a_fraction("exp", json!(4_000_000_000.5))]
#[case::lives_for_ever("exp", json!(1e300))]
#[case::valid_since_ever("nbf", json!(-1))]
#[case::one_of_many_audiences("aud", json!(["account", 7, "spark"]))]
#[case::issuer_with_a_slash("iss", json!("http://idp.test/acme/"))]
#[case::as_large_as_no_header_can_be("padding", json!("x".repeat(200_000)))]
#[tokio::test]
async fn a_token_with(#[case] name: &str, #[case] value: serde_json::Value) {
    let world = World::with_ec().await;
    let token = world.signer().token(&world.claims_with(name, value));
    assert_eq!(world.token(&token).await.unwrap().user, "anna");
}

/// RFC 7519 §4: refused, or the last one counts. It is the provider that has signed both.
#[tokio::test]
async fn the_last_of_two_claims_counts() {
    let world = World::with_ec().await;
    let claims = world.claims().to_string();
    let twice = format!(r#"{{"sub":"ben",{}"#, &claims[1..]);
    let token = world.signer().token_of(&world.signer().header().to_string(), &twice);
    assert_eq!(world.token(&token).await.unwrap().user, "anna");
}

/// In the middle of a session, say. What was remembered of it does not outlive it.
#[tokio::test]
async fn a_token_counts_until_it_expires_and_no_longer() {
    let world = World::with_ec().await;
    let left = jiff::SignedDuration::from_secs(2);
    let expires_at = jiff::Timestamp::now() - LEEWAY + left;
    let token = world.signer().token(&world.claims_with("exp", json!(expires_at.as_second())));
    assert_eq!(world.token(&token).await.unwrap().user, "anna");
    tokio::time::sleep(left.unsigned_abs()).await;
    let expected = format!("The token expired at {}; get a new one.", expires_at.strftime("%FT%TZ"));
    assert_eq!(world.refusal(&token).await, expected);
}
