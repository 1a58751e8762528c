//! A crowd before a closed door.

use tokio::task::JoinSet;

use super::pools::{self, HOST};
use super::world::World;

/// Envoy's own limit of what may wait for one upstream is 1,024.
const CALLS: u64 = 2000;
/// None of them has more than may wait of one user.
const USERS: u64 = 40;
const SESSIONS_PER_USER: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_checks_are_held_at_once_and_all_succeed() {
    let pools = vec![pools::connect("connect", HOST)];
    // Far above what this takes on a slow machine: how many are held is the question, not for how long.
    World::run("held-checks", pools, &["--connect-max-hold", "120"], async move |world| {
        world.spark.hold_starts();
        let mut calls = JoinSet::new();
        for user in 0..USERS {
            let connection = world.connect(HOST, &format!("user-{user}")).await;
            for _ in 0..SESSIONS_PER_USER {
                let client = connection.another_session();
                for _ in 0..CALLS / USERS / SESSIONS_PER_USER {
                    let client = client.clone();
                    calls.spawn(async move { client.config().await });
                }
            }
        }
        tokio::select! {
            () = world.operator.until_checks_in_flight(CALLS) => {}
            answer = calls.join_next() => panic!("answered instead of held: {answer:?}"),
        }

        world.spark.let_start();
        let answers = calls.join_all().await;
        let failures: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(failures.is_empty(), "{} of {CALLS} failed: {:?}", failures.len(), failures[0]);
        let mut overflows = world.envoy.stats().await;
        overflows.retain(|name, count| name.ends_with("upstream_rq_pending_overflow") && *count > 0);
        assert!(overflows.is_empty(), "{overflows:?}");
    })
    .await;
}
