//! Envoy's configuration comes from one replica of the operator, and its checks are answered by another.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::connect_client::ConnectClient;
use super::operator::Operator;
use super::pools::{self, HOST};
use super::process::free_port;
use super::proxy::Envoy;
use super::stand_in::StandIn;
use super::world::{Cluster, in_a_namespace};

struct Replicas {
    serves_xds: Operator,
    answers_checks: Operator,
    envoy: Envoy,
    spark: StandIn,
}

impl Replicas {
    async fn start(scenario: &str, cluster: &Cluster) -> Self {
        let listens = free_port();
        let replica = |part| Operator::new(scenario, part, &cluster.namespace, listens, &["--leader-elect"]);
        let (mut serves_xds, mut answers_checks) = (replica("ads"), replica("checks"));
        let mut envoy = Envoy::between_replicas(scenario, listens, serves_xds.grpc, answers_checks.grpc);
        let spark = StandIn::start(cluster.client.clone(), &cluster.namespace);
        cluster.create(&pools::one_session_each(pools::connect("connect", HOST))).await;
        // First, so that the one that plans is not the one that a scenario pauses.
        answers_checks.start();
        answers_checks.until_it_leads().await;
        serves_xds.start();
        envoy.start();
        serves_xds.until_ready().await;
        envoy.until_it_listens().await;
        Self { serves_xds, answers_checks, envoy, spark }
    }

    async fn client(&self, user: &str) -> ConnectClient {
        ConnectClient::new(self.envoy.listens, HOST, user).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_the_envoys_stream_fails_no_cold_start() {
    in_a_namespace(async move |cluster: Cluster| {
        let replicas = Replicas::start("replicas", &cluster).await;
        let cold_start = async |number: usize| {
            let answer = replicas.client(&format!("user-{number}")).await.config().await;
            answer.map(|answer| answer.pod().to_owned())
        };
        let mut answers = Vec::new();
        for number in 0..10 {
            answers.push(cold_start(number).await);
        }
        answers.extend(join_all((10..30).map(cold_start)).await);
        let failures: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(failures.is_empty(), "{} of 30 failed: {:?}", failures.len(), failures[0]);
        let pods: BTreeSet<_> = answers.iter().flatten().collect();
        assert_eq!(pods.len(), 30, "each was a cold start");
        let clusters = replicas.envoy.cluster_versions().await;
        assert_eq!(clusters.len(), 30, "one of the two plans, and makes no instance twice: {clusters:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_waits_for_a_cluster_that_its_envoy_has_not_heard_of() {
    in_a_namespace(async move |cluster: Cluster| {
        let replicas = Replicas::start("late-replica", &cluster).await;
        replicas.spark.hold_starts();
        let client = replicas.client("ana").await;
        let call = tokio::spawn(async move { client.config().await });
        replicas.answers_checks.until_checks_in_flight(1).await;

        replicas.serves_xds.pause();
        replicas.spark.let_start();
        // Released by the replica that knows of the instance, into an Envoy that does not.
        replicas.answers_checks.until_checks_in_flight(0).await;
        assert_eq!(replicas.envoy.cluster_versions().await.len(), 0);
        replicas.serves_xds.go_on();

        let answer = call.await.unwrap().expect("on_demand has Envoy wait for the cluster");
        assert_eq!(answer.pod(), "connect-0-driver");
    })
    .await;
}
