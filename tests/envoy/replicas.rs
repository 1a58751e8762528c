//! Envoy's configuration comes from one replica of the operator, and its checks are answered by another.

use futures::future::join_all;

use super::connect_client::ConnectClient;
use super::operator::Operator;
use super::pools::{self, HOST};
use super::process::free_port;
use super::proxy::Envoy;
use super::stand_in::StandIn;
use super::world::{Cluster, in_a_namespace};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_the_envoys_stream_fails_no_cold_start() {
    in_a_namespace(async move |cluster: Cluster| {
        let listens = free_port();
        let replica = |part| Operator::new("replicas", part, &cluster.namespace, listens, &[]);
        let (mut serves_xds, mut answers_checks) = (replica("ads"), replica("checks"));
        let mut envoy = Envoy::between_replicas("replicas", listens, serves_xds.grpc, answers_checks.grpc);
        let _spark = StandIn::start(cluster.client.clone(), &cluster.namespace);
        cluster.create(&pools::one_session_each(pools::connect("connect", HOST))).await;
        serves_xds.start();
        answers_checks.start();
        envoy.start();
        serves_xds.until_ready().await;
        answers_checks.until_ready().await;
        envoy.until_it_listens().await;

        let cold_start = async |number: usize| {
            let client = ConnectClient::new(listens, HOST, &format!("user-{number}")).await;
            client.config().await.map(|answer| answer.pod().to_owned())
        };
        let mut answers = Vec::new();
        for number in 0..10 {
            answers.push(cold_start(number).await);
        }
        answers.extend(join_all((10..30).map(cold_start)).await);
        let failures: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(failures.is_empty(), "{} of 30 failed: {:?}", failures.len(), failures[0]);
        assert_eq!(envoy.cluster_versions().await.len(), 30, "each was a cold start");
    })
    .await;
}
