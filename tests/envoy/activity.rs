//! When a session was last used, as its status says: by Envoy's access log for requests that are open for long.

use jiff::{SignedDuration, Timestamp};
use tonic::Streaming;

use super::certificates::Authority;
use super::connect_client::ConnectClient;
use super::pools::{self, HOST};
use super::stand_in::{PAUSE, UNTIL_RELEASED};
use super::tls_client::TlsClients;
use super::wait::until;
use super::world::{Cluster, World};

/// Envoy then tells of open requests every second.
const INTERVAL: i64 = 4;
const FLAGS: [&str; 2] = ["--activity-interval", "4"];

impl Cluster {
    async fn last_use(&self, user: &str) -> Option<Timestamp> {
        let sessions = self.sessions.list(&Default::default()).await.unwrap();
        let session = sessions.items.into_iter().find(|session| session.spec.user == user);
        session.expect("it was created").status?.status.last_activity_at.map(|time| time.0)
    }

    async fn until_used_after(&self, user: &str, then: Timestamp) -> Timestamp {
        let what = format!("the session of {user} is used after {then}");
        until(&what, async || self.last_use(user).await.filter(|at| *at > then)).await
    }
}

/// A query that goes on until the stand-in lets it end.
async fn query(client: &ConnectClient) -> Streaming<prost::bytes::Bytes> {
    let client = client.clone().asking(UNTIL_RELEASED, 1);
    let (_, mut query) = client.execute_plan().await.unwrap();
    query.message().await.unwrap().expect("the query has begun");
    query
}

fn later(then: Timestamp, seconds: i64) -> Timestamp {
    then + SignedDuration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_is_a_use_for_as_long_as_it_runs_also_after_a_crash_of_the_operator() {
    let pools = vec![pools::connect("connect", HOST)];
    World::run("activity-query", pools, &FLAGS, async move |mut world| {
        let client = world.connect(HOST, "ana").await;
        let mut query = query(&client).await;
        let began = Timestamp::now();
        // The check alone would be one write.
        let first = world.cluster.until_used_after("ana", later(began, 1)).await;
        let second = world.cluster.until_used_after("ana", first).await;
        assert!(second >= later(first, INTERVAL), "{first} {second}: more often than asked for");

        world.operator.kill();
        world.envoy.until_connected(false).await;
        let restarted = Timestamp::now();
        world.operator.start();
        world.operator.until_ready().await;
        world.cluster.until_used_after("ana", later(restarted, INTERVAL)).await;

        world.spark.release_streams();
        query.message().await.unwrap().expect("the query ends");
        assert!(query.message().await.unwrap().is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_over_tls_is_told_of_over_a_verified_control_channel() {
    let authority = Authority::new();
    let pools = vec![pools::with_certificate(pools::connect("connect", HOST), "tls")];
    World::run_with_mutual_tls("activity-tls", pools, &FLAGS, async move |world| {
        world.cluster.put_certificate("tls", &authority.host(HOST)).await;
        let clients = TlsClients::new(world.listens_with_tls, &authority);
        until("the certificate is shown", async || clients.certificate_of(HOST).await.ok()).await;
        let _query = query(&clients.connect(HOST, "ana").await).await;
        let began = Timestamp::now();
        world.cluster.until_used_after("ana", later(began, 1)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_cleaning_up_nor_a_forged_name_is_a_use() {
    let pools = vec![pools::connect("connect", HOST)];
    World::run("activity-forged", pools, &FLAGS, async move |world| {
        let ana = world.connect(HOST, "ana").await;
        ana.config().await.unwrap();
        let sessions = world.cluster.sessions.list(&Default::default()).await.unwrap();
        let hers = sessions.items[0].metadata.name.clone().unwrap();
        let used = Timestamp::now();

        // It is open for long, as the log counts, and again and again.
        let cleaning = ana.clone().asking(PAUSE, 2500);
        let cleans_up = tokio::spawn(async move {
            loop {
                cleaning.release_execute().await.unwrap();
            }
        });
        let mut eve = world.connect(HOST, "eve").await;
        for name in ["session", "activity-session", "x-spark-session", "x-envoy-session"] {
            eve = eve.with_header(name, &hers);
        }
        for name in ["x-spark-session-id", "x-envoy-metadata-session"] {
            eve = eve.with_header(name, &ana.session.to_string());
        }
        let eve = eve.with_binary_header("x-spark-session-user-bin", b"ana");
        let _query = query(&eve).await;
        let began = Timestamp::now();
        world.cluster.until_used_after("eve", later(began, 3 * INTERVAL)).await;
        let known = world.cluster.last_use("ana").await;
        assert!(known.is_none_or(|at| at <= used), "{known:?} after {used}");
        assert!(!cleans_up.is_finished(), "it has failed");
        cleans_up.abort();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_short_requests_envoy_logs_nothing() {
    let pools = vec![pools::connect("connect", HOST), pools::thrift("thrift", HOST)];
    // Every three seconds: no warm request takes as long, however busy the machine.
    let flags = ["--activity-interval", "12"];
    World::run("activity-short", pools, &flags, async move |world| {
        let (connect, thrift) = (world.connect(HOST, "ana").await, world.thrift(HOST, "bob"));
        // Cold starts are held, which may take as long: each is one entry then.
        connect.config().await.unwrap();
        thrift.call("OpenSession").await.unwrap();
        for _ in 0..500 {
            connect.config().await.unwrap();
            thrift.call("GetOperationStatus").await.unwrap();
        }
        let short = world.operator.access_log_entries().await;
        assert!(short <= 2, "{short}");
        // Two entries while it is open, and its end.
        let long = thrift.asking(PAUSE, 7500);
        long.call("FetchResults").await.unwrap();
        let entries = until("a long request is logged", async || {
            let entries = world.operator.access_log_entries().await;
            (entries >= 3).then_some(entries)
        })
        .await;
        assert!(entries <= 5, "{entries}");
    })
    .await;
}
