//! A replica that serves Envoy and has lost the API server: what it sees of sessions' uses, nobody else would know.

use std::time::Duration;

use jiff::Timestamp;
use spark_session_operator::api::SessionState;

use super::api_proxy::Proxy;
use super::connect_client::ConnectClient;
use super::operator::Operator;
use super::pools::{self, HOST};
use super::process::free_port;
use super::proxy::Envoy;
use super::stand_in::{StandIn, UNTIL_RELEASED};
use super::wait::until;
use super::world::{Cluster, in_a_namespace};

const FLAGS: [&str; 3] = ["--leader-elect", "--activity-interval", "4"];
/// Later than an unused session would have ended: a minute, and until another replica plans and may know of every use.
const LONG_ENOUGH: Duration = Duration::from_secs(110);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_in_use_outlives_the_blindness_of_the_replica_that_sees_it() {
    in_a_namespace(async move |cluster: Cluster| {
        let (scenario, listens) = ("blind-replica", free_port());
        let replica = |part| Operator::new(scenario, part, &cluster.namespace, listens, &FLAGS);
        let (mut sees, mut goes_blind) = (replica("sees"), replica("goes-blind"));
        let folder = tempfile::tempdir().unwrap();
        let way = Proxy::start(cluster.client.clone()).await;
        let spark = StandIn::start(cluster.client.clone(), &cluster.namespace);
        let mut pool = pools::connect("connect", HOST);
        pool.spec.session_policy.idle_timeout_minutes = 1;
        // Else Spark would be asked, and the query would keep the session by itself.
        pool.spec.session_policy.running_queries_keep_sessions = false;
        cluster.create(&pool).await;
        // The other one does not run yet: Envoy has all its streams from this one.
        goes_blind.start_with_kubeconfig(&way.kubeconfig(folder.path()));
        goes_blind.until_it_leads().await;
        let mut envoy = Envoy::with_replicas(scenario, listens, &[sees.grpc, goes_blind.grpc]);
        envoy.start();
        envoy.until_it_listens().await;
        let client = ConnectClient::new(listens, HOST, "ana").await;
        let (_, mut query) = client.clone().asking(UNTIL_RELEASED, 1).execute_plan().await.unwrap();
        query.message().await.unwrap().expect("the query has begun");
        until("it hears of the query by Envoy's access log", async || {
            (goes_blind.access_log_entries().await > 0).then_some(())
        })
        .await;
        sees.start();
        sees.until_ready().await;

        way.start_up(true);
        let blind_since = Timestamp::now();
        until("the other replica leads", async || sees.leads().await.then_some(())).await;
        tokio::time::sleep(LONG_ENOUGH).await;
        let session = cluster.sessions.list(&Default::default()).await.unwrap().items.remove(0);
        let status = session.status.unwrap();
        assert_eq!(status.state, SessionState::Active, "{:?}", status.conditions);
        let last = status.last_activity_at.as_ref().expect("it is used").0;
        assert!(last > blind_since, "used until {last}, blind since {blind_since}");
        spark.release_streams();
        query.message().await.unwrap().expect("the query ends");
    })
    .await;
}

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
