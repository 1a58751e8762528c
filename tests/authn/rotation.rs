//! New keys of the provider.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;

use super::oidc_server::{Answer, KEYS};
use super::signer::Signer;
use super::world::World;

const UNKNOWN_KEY: &str =
    "The token is signed with a key that the identity provider does not publish (any more); get a new one.";

/// Longer than between two fetches for a key that is unknown.
async fn later() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_new_key_is_fetched_once_and_not_too_often() {
    let world = World::with_ec().await;
    let (new, foreign) = (Signer::ec("new"), Signer::ec("foreign"));
    let token = |signer: &Signer| signer.token(&world.claims());
    world.token(&token(world.signer())).await.unwrap();
    assert_eq!(world.provider.hits(KEYS), 1);

    world.provider.set(KEYS, Answer::Json(json!({ "keys": [new.jwk()] })));
    assert_eq!(world.refusal(&token(&new)).await, UNKNOWN_KEY);
    assert_eq!(world.provider.hits(KEYS), 1, "too soon after the last time");
    world.token(&token(world.signer())).await.expect("the old key is not forgotten");

    later().await;
    let waiting: Vec<String> = (0..50).map(|_| token(&new)).collect();
    for outcome in join_all(waiting.iter().map(|token| world.token(token))).await {
        outcome.expect("a token of the new key");
    }
    assert_eq!(world.provider.hits(KEYS), 2);
    assert_eq!(world.refusal(&token(world.signer())).await, UNKNOWN_KEY);
    assert_eq!(world.refusal(&token(&foreign)).await, UNKNOWN_KEY);
    assert_eq!(world.provider.hits(KEYS), 2, "nobody's key asks the provider again and again");

    later().await;
    assert_eq!(world.refusal(&token(&foreign)).await, UNKNOWN_KEY);
    assert_eq!(world.provider.hits(KEYS), 3);
}
