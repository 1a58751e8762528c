//! Many requests at once.

use std::time::Duration;

use futures::future::join_all;
use rstest::rstest;
use serde_json::json;

use super::oidc_server::{Answer, DISCOVERY, KEYS, TOKEN};
use super::world::World;

/// Until all have asked.
const SLOW: Duration = Duration::from_millis(500);

fn wrong_password() -> Answer {
    let refusal = json!({ "error": "invalid_grant", "error_description": "Invalid user credentials" });
    Answer::Text(401, "application/json", refusal.to_string())
}

#[rstest]
#[case::right(Answer::LogIn, Ok("anna"))]
#[case::wrong(wrong_password(), Err("Wrong user name or password."))]
#[tokio::test]
async fn with_one_password_are_one_login(#[case] answer: Answer, #[case] expected: Result<&str, &str>) {
    let world = World::with_ec().await;
    world.provider.set(TOKEN, Answer::Slow(SLOW, Box::new(answer)));
    for outcome in join_all((0..500).map(|_| world.password("anna"))).await {
        let outcome = outcome.map(|identity| identity.user.clone()).map_err(|error| error.to_string());
        assert_eq!(outcome, expected.map(str::to_owned).map_err(str::to_owned));
    }
    assert_eq!(world.provider.hits(TOKEN), 1);
}

#[tokio::test]
async fn of_many_users_take_turns_at_the_provider() {
    let world = World::with_ec().await;
    world.provider.set(TOKEN, Answer::Slow(SLOW, Box::new(Answer::LogIn)));
    let users: Vec<String> = (0..100).map(|n| format!("user{n}")).collect();
    let logins = join_all(users.iter().map(|user| world.password(user)));
    let at_once = async {
        // Before the first has its answer.
        tokio::time::sleep(SLOW * 4 / 5).await;
        world.provider.hits(TOKEN)
    };
    let (outcomes, at_once) = tokio::join!(logins, at_once);
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!((at_once, world.provider.hits(TOKEN)), (32, 100));
}

#[tokio::test]
async fn of_many_users_discover_once() {
    let world = World::with_ec().await;
    for path in [DISCOVERY, KEYS] {
        let answer =
            if path == KEYS { json!({ "keys": [world.signer().jwk()] }) } else { world.provider.document() };
        world.provider.set(path, Answer::Slow(SLOW, Box::new(Answer::Json(answer))));
    }
    let users: Vec<String> = (0..100).map(|n| format!("user{n}")).collect();
    for (user, outcome) in users.iter().zip(join_all(users.iter().map(|user| world.password(user))).await) {
        assert_eq!(outcome.unwrap().user, *user);
    }
    let hits = [DISCOVERY, KEYS, TOKEN].map(|path| world.provider.hits(path));
    assert_eq!(hits, [1, 1, 100]);
}
