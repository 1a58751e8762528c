//! Clients whose requests wait cannot use up the operator's memory, nor the places of others.

use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::asking::{Asking, message};
use super::connect_client::ConnectClient;
use super::pools::{self, HOST};
use super::wait::until;
use super::world::World;

const OTHER_HOST: &str = "other.test";
const HEADER_BYTES: usize = 90 << 10;
/// Of one user.
const MOST_HELD: usize = 64;
const MIB: u64 = 1 << 20;

/// A pool none of whose instances starts, and another one in which bob works.
async fn world(scenario: &str, test: impl AsyncFnOnce(World, ConnectClient)) {
    let pools = vec![pools::connect("connect", HOST), pools::connect("other", OTHER_HOST)];
    World::run(scenario, pools, &["--connect-max-hold", "120"], async move |world| {
        let bob = world.connect(OTHER_HOST, "bob").await;
        bob.config().await.expect("the other pool has an instance");
        world.spark.hold_starts();
        test(world, bob).await;
    })
    .await;
}

/// So many checks at once, of the user and the session with this number. Returns the answers, and the operator's resident
/// set when all other checks are held.
async fn besiege(
    world: &World,
    checks: usize,
    whose: impl Fn(usize) -> (String, u128),
) -> (Vec<CheckResponse>, u64) {
    let header = "x".repeat(HEADER_BYTES);
    let mut asked = JoinSet::new();
    for n in 0..8 {
        let asking = Asking::new(world.operator.grpc).await.with_header("x-large", header.clone());
        for number in (n..checks).step_by(8) {
            let (mut asking, (user, session)) = (asking.clone(), whose(number));
            asked.spawn(async move {
                asking.check(HOST, &user, "Config", message(Uuid::from_u128(session))).await.0
            });
        }
    }
    let mut answers = Vec::new();
    until("every check is answered or held", async || {
        while let Some(answer) = asked.try_join_next() {
            answers.push(answer.unwrap());
        }
        let held = usize::try_from(world.operator.checks_in_flight().await).unwrap();
        (answers.len() + held == checks).then_some(())
    })
    .await;
    let resident = world.operator.resident();
    asked.shutdown().await;
    (answers, resident)
}

fn words(answer: &CheckResponse) -> &str {
    match &answer.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => &denied.body,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_requests_of_one_user_wait_at_most_sixty_four_at_a_time() {
    world("one-users-memory", async |world, bob| {
        let before = world.operator.resident();
        let (answers, resident) = besiege(&world, 5000, |_| ("greedy".to_owned(), 7)).await;
        let grown = resident.saturating_sub(before);
        println!("5000 checks of one user: {} MiB more than {}", grown / MIB, before / MIB);
        assert_eq!(5000 - answers.len(), MOST_HELD);
        let expected = "User greedy has 64 requests waiting already, and no more may wait at the same time. Try again when \
                        some of them have been answered.";
        for answer in &answers {
            assert_eq!(words(answer), expected);
        }
        assert!(grown < 128 * MIB, "{} MiB more", grown / MIB);
        let served = tokio::time::timeout(Duration::from_secs(5), bob.another_session().config()).await;
        served.expect("in time").expect("bob is served meanwhile");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_of_a_request_is_small() {
    world("many-users-memory", async |world, bob| {
        let before = world.operator.resident();
        let (answers, resident) =
            besiege(&world, 2000, |number| (format!("user-{}", number / 2), number as u128 / 2)).await;
        let grown = resident.saturating_sub(before);
        assert!(answers.is_empty(), "{answers:?}");
        println!("2000 held checks: {} MiB more than {}", grown / MIB, before / MIB);
        assert!(grown < 128 * MIB, "{} MiB more", grown / MIB);
        let served = tokio::time::timeout(Duration::from_secs(5), bob.another_session().config()).await;
        served.expect("in time").expect("bob is served meanwhile");
    })
    .await;
}
