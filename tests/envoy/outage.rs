//! An operator that is away for a while, and for longer than Envoy's first pauses before it asks again.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::pools::{self, HOST};
use super::world::World;

const AWAY: Duration = Duration::from_secs(11);
/// They come one by one while it is away.
const WAITING: u32 = 200;
/// Of what waits, after the operator answers again.
const BACK_WITHIN: Duration = Duration::from_secs(2);
const RETRIES: &str = "cluster.spark-session-operator.upstream_rq_retry";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_for_the_operator_is_back_as_soon_as_it_answers() {
    World::run("outage", vec![pools::connect("connect", HOST)], &[], async move |mut world| {
        let client = world.connect(HOST, "ana").await;
        client.config().await.unwrap();
        world.operator.kill();
        let mut waiting = JoinSet::new();
        for _ in 0..WAITING {
            let client = client.clone();
            waiting.spawn(async move { (client.config().await, Instant::now()) });
            tokio::time::sleep(AWAY / WAITING).await;
        }
        world.operator.start();
        world.operator.until_ready().await;
        let ready = Instant::now();
        let answers = waiting.join_all().await;
        let failures: Vec<_> = answers.iter().filter_map(|(answer, _)| answer.as_ref().err()).collect();
        assert!(failures.is_empty(), "{} of {WAITING} failed: {:?}", failures.len(), failures[0]);
        let mut late: Vec<_> = answers.iter().map(|(_, at)| at.saturating_duration_since(ready)).collect();
        late.sort_unstable();
        let [p50, p90, last] = [late.len() / 2, late.len() * 9 / 10, late.len() - 1].map(|n| late[n]);
        println!("after the operator was back: p50 {p50:?}, p90 {p90:?}, last {last:?}");
        assert!(last < BACK_WITHIN, "p50 {p50:?}, p90 {p90:?}, last {last:?}");
    })
    .await;
}

/// Longer than the longest pause between two tries.
const HELD: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_is_held_is_asked_once() {
    World::run("held-once", vec![pools::connect("connect", HOST)], &[], async move |world| {
        world.spark.hold_starts();
        let client = world.connect(HOST, "ana").await;
        let before = world.envoy.stat(RETRIES).await;
        let held = tokio::spawn(async move { client.config().await });
        world.operator.until_checks_in_flight(1).await;
        tokio::time::sleep(HELD).await;
        assert_eq!(world.envoy.stat(RETRIES).await, before);
        world.spark.let_start();
        held.await.unwrap().expect("it is answered when its instance is there");
    })
    .await;
}
