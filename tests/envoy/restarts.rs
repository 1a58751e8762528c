//! One side comes back, and the other has lost nothing.

use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};

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
        let waits = client.clone().asking(UNTIL_RELEASED, 1);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_whose_secret_was_deleted_is_kept_again() {
    let pools = vec![pools::connect("connect", HOST)];
    World::run("lost-secret", pools, &[], async move |world| {
        let client = world.connect(HOST, "ana").await;
        let before = client.config().await.unwrap();
        let secrets: Api<Secret> = Api::namespaced(world.cluster.client.clone(), &world.cluster.namespace);
        let name = "connect-0-token";
        let deleted = secrets.get(name).await.unwrap();
        secrets.delete(name, &DeleteParams::default()).await.unwrap();
        let made_again = |secret: Option<&Secret>| secret.is_some_and(|secret| secret.uid() != deleted.uid());
        await_condition(secrets.clone(), name, made_again).await.unwrap();

        let kept = secrets.get(name).await.unwrap();
        assert_eq!(
            (kept.data, kept.metadata.owner_references),
            (deleted.data, deleted.metadata.owner_references)
        );
        let after = client.config().await.unwrap();
        assert_eq!(
            (after.pod(), after.header("authorization")),
            (before.pod(), before.header("authorization"))
        );
    })
    .await;
}
