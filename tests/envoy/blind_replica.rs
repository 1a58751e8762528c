//! A replica that serves Envoy and has lost the API server: what it sees of sessions' uses, nobody else would know.

use std::time::Duration;

use super::api_proxy::Proxy;
use super::connect_client::ConnectClient;
use super::operator::Operator;
use super::pools::{self, HOST};
use super::process::free_port;
use super::proxy::Envoy;
use super::stand_in::StandIn;
use super::wait::until;
use super::world::{Cluster, in_a_namespace};

const FLAGS: [&str; 3] = ["--leader-elect", "--activity-interval", "4"];

/// Nobody sees anything: then it is the API server that is away, and what is there is served on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_are_all_blind_serve_on() {
    in_a_namespace(async move |cluster: Cluster| {
        let (scenario, listens) = ("all-blind", free_port());
        let replica = |part| Operator::new(scenario, part, &cluster.namespace, listens, &FLAGS);
        let mut replicas = [replica("one"), replica("two")];
        let folder = tempfile::tempdir().unwrap();
        let way = Proxy::start(cluster.client.clone()).await;
        let kubeconfig = way.kubeconfig(folder.path());
        let _spark = StandIn::start(cluster.client.clone(), &cluster.namespace);
        cluster.create(&pools::connect("connect", HOST)).await;
        for replica in &mut replicas {
            replica.start_with_kubeconfig(&kubeconfig);
            replica.until_ready().await;
        }
        let mut envoy = Envoy::with_replicas(scenario, listens, &replicas.each_ref().map(|it| it.grpc));
        envoy.start();
        envoy.until_it_listens().await;
        let client = ConnectClient::new(listens, HOST, "ana").await;
        client.config().await.unwrap();

        way.start_up(true);
        for replica in &replicas {
            until("it says so", async || replica.says(BLIND).then_some(())).await;
        }
        // Twice as long as Envoy takes to hear of it.
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            client.config().await.expect("its session is known");
        }
        way.start_up(false);
        for replica in &replicas {
            until("it sees again", async || replica.says("the API server is reached again").then_some(()))
                .await;
        }
        client.another_session().config().await.expect("new sessions start");
    })
    .await;
}

const BLIND: &str = "other replicas are to serve Envoy";
