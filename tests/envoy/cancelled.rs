//! A client that goes away while it is held.

use kube::api::ListParams;

use super::pools::{self, HOST};
use super::wait::until;
use super::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_check_is_forgotten_and_its_session_waits_for_its_next_call() {
    World::run("cancelled", vec![pools::connect("connect", HOST)], &[], async move |world| {
        world.spark.hold_starts();
        let client = world.connect(HOST, "ana").await;
        let impatient = client.clone();
        let call = tokio::spawn(async move { impatient.config().await });
        world.operator.until_checks_in_flight(1).await;
        until("the session is written", async || {
            let sessions = world.cluster.sessions.list(&ListParams::default()).await.unwrap();
            (sessions.items.len() == 1).then_some(())
        })
        .await;
        call.abort();
        world.operator.until_checks_in_flight(0).await;

        world.spark.let_start();
        let answer = client.config().await.expect("the session is there");
        assert_eq!(answer.pod(), "connect-0-driver");
        let sessions = world.cluster.sessions.list(&ListParams::default()).await.unwrap();
        assert_eq!(sessions.items.len(), 1, "it is the one that the first call asked for");
    })
    .await;
}
