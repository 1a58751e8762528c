//! One side comes back, and the other has lost nothing.

use super::pools::{self, HOST};
use super::proxy::Updates;
use super::stand_in::UNTIL_RELEASED;
use super::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_operator_cuts_nothing_and_costs_envoy_nothing() {
    let pools = vec![pools::connect("connect", HOST), pools::connect("late", "late.test")];
    World::run("operator-restart", pools, &[], async move |mut world| {
        let client = world.connect(HOST, "ana").await;
        let pod = client.config().await.unwrap().pod().to_owned();
        let waits = client.clone().with_header(UNTIL_RELEASED, "yes");
        let (_, mut query) = waits.execute_plan().await.unwrap();
        query.message().await.unwrap().expect("the query has begun");
        world.spark.hold_starts();
        let late = world.connect("late.test", "bob").await;
        let held = tokio::spawn(async move { late.config().await });
        world.operator.until_checks_in_flight(1).await;
        let (before, versions) = (world.envoy.updates().await, world.envoy.cluster_versions().await);

        world.operator.kill();
        world.envoy.until_connected(false).await;
        world.operator.start();
        world.operator.until_ready().await;
        world.envoy.until_connected(true).await;
        world.spark.let_start();

        let answer = held.await.unwrap().expect("the check that the dead operator held is answered");
        // The crash may have used up ordinals: one is reserved before its instance is made.
        assert!(answer.pod().starts_with("late-"), "{}", answer.pod());
        // The new cluster came last on a stream that keeps its order, so whatever was sent again came before.
        let after = world.envoy.updates().await;
        assert_eq!(after, Updates { clusters: before.clusters + 1, ..before });
        let mut now = world.envoy.cluster_versions().await;
        now.retain(|name, _| versions.contains_key(name));
        assert_eq!(now, versions);

        assert_eq!(client.config().await.unwrap().pod(), pod);
        world.spark.release_streams();
        query.message().await.unwrap().expect("the query ends as it would have");
        assert!(query.message().await.unwrap().is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_envoy_gets_everything_and_sessions_live_on() {
    let pools = vec![pools::connect("connect", HOST), pools::thrift("thrift", HOST)];
    World::run("envoy-restart", pools, &[], async move |mut world| {
        let client = world.connect(HOST, "ana").await;
        let connect_pod = client.config().await.unwrap().pod().to_owned();
        let thrift = world.thrift(HOST, "ana");
        let thrift_pod = thrift.call("OpenSession").await.unwrap().pod().to_owned();
        let versions = world.envoy.cluster_versions().await;
        assert_eq!(versions.len(), 2, "{versions:?}");

        world.envoy.kill();
        world.envoy.start();
        world.envoy.until_it_listens().await;

        assert_eq!(world.envoy.cluster_versions().await, versions);
        let mut again = world.connect(HOST, "ana").await;
        again.session = client.session;
        assert_eq!(again.config().await.unwrap().pod(), connect_pod);
        assert_eq!(again.another_session().config().await.unwrap().pod(), connect_pod);
        assert_eq!(thrift.call("GetOperationStatus").await.unwrap().pod(), thrift_pod);
    })
    .await;
}
