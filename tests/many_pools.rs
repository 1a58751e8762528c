//! A thousand pools on one replica: nothing is asked of the API server when nothing happens, nothing is written when every
//! watch lists its objects anew, and an instance is asked for at once. `tests/run integration` starts the API server; the
//! figures of a release build are `benches/run --only planner`'s.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in helpers, which clippy does not take for tests.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use spark_session_operator::api::{SparkApplication, SparkInteractiveSession, SparkSessionPool};
use uuid::Uuid;

#[path = "support/namespace.rs"]
mod namespace;
#[path = "envoy/operator.rs"]
#[allow(dead_code, reason = "other tests make it do more")]
mod operator;
#[path = "envoy/process.rs"]
#[allow(dead_code, reason = "other tests make it do more")]
mod process;
#[path = "chaos/proxy.rs"]
#[allow(dead_code, reason = "other tests have it do harm")]
mod proxy;
#[path = "envoy/wait.rs"]
mod wait;

use namespace::in_a_namespace;
use operator::Operator;
use process::free_port;
use proxy::Proxy;
use wait::until;

const POOLS: usize = 1_000;
/// Of them, those that get a session.
const ASKED: usize = 100;
/// In which nothing happens.
const CALM: Duration = Duration::from_secs(20);
/// The holder of the Lease renews it every two seconds.
const RENEWALS: std::ops::RangeInclusive<usize> = 8..=12;
const GOAL: Duration = Duration::from_millis(50);
/// What no machine may exceed with a debug build.
const LIMIT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_pools_cost_nothing_when_nothing_happens_and_are_planned_at_once() {
    in_a_namespace("many", async |client, namespace| in_namespace(&client, &namespace).await).await;
}

async fn in_namespace(client: &Client, namespace: &str) {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(client.clone()).await;
    create::<SparkSessionPool>(client, namespace, (0..POOLS).map(pool)).await;
    let mut operator =
        Operator::new("many-pools", "operator", namespace, free_port(), &["--leader-elect=true"]);
    operator.start_with_kubeconfig(&proxy.kubeconfig(folder.path()));
    operator.until_it_leads().await;
    let begin = Instant::now();
    until("every pool has a status", async || (proxy.writes() >= POOLS).then_some(())).await;
    println!("{POOLS} pools have their first status after {:.1} s", begin.elapsed().as_secs_f64());
    let writes = until_it_rests(&proxy).await;
    assert_eq!(writes, POOLS, "one for each pool");

    proxy.count_anew();
    tokio::time::sleep(CALM).await;
    let asked = proxy.asked();
    println!("in {CALM:?} in which nothing happens: {asked:?}; goal: renewals of the Lease and nothing else");
    let [(what, renewals)] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(
        what.starts_with("PUT ") && what.contains("/leases/") && RENEWALS.contains(renewals),
        "{asked:?}"
    );

    proxy.count_anew();
    proxy.forget(true);
    until("every watch is told 410 and has listed anew", async || {
        let asked = proxy.asked();
        let lists = |of: &str| asked.iter().any(|(what, _)| what.starts_with("GET ") && what.ends_with(of));
        ["/sparksessionpools", "/sparkapplications", "/pods"].into_iter().all(lists).then_some(())
    })
    .await;
    proxy.forget(false);
    assert_eq!(until_it_rests(&proxy).await, writes, "a relist writes nothing");

    let mut times = until_asked_for(client, namespace).await;
    times.sort_unstable();
    let (p50, p99) = (times[ASKED / 2], times[ASKED * 99 / 100]);
    let verdict = if p99 < GOAL { "reached" } else { "MISSED by this build" };
    println!(
        "a session waits → its pool's SparkApplication: p50 {p50:?}, p99 {p99:?} of {ASKED}; goal < {GOAL:?} {verdict}"
    );
    assert!(p99 < LIMIT, "p99 {p99:?}");
}

/// Until nothing was written for three seconds. Returns how many writes there were since the beginning.
async fn until_it_rests(proxy: &Proxy) -> usize {
    loop {
        let before = proxy.writes();
        tokio::time::sleep(Duration::from_secs(3)).await;
        if proxy.writes() == before {
            return before;
        }
    }
}

/// One after the other, each in a pool of its own.
async fn until_asked_for(client: &Client, namespace: &str) -> Vec<Duration> {
    let api: Api<SparkApplication> = Api::namespaced(client.clone(), namespace);
    let mut made = std::pin::pin!(watcher(api, watcher::Config::default()).applied_objects());
    let mut times = Vec::new();
    for n in (0..POOLS).step_by(POOLS / ASKED) {
        create::<SparkInteractiveSession>(client, namespace, [session(n)]).await;
        let created = Instant::now();
        let instance = format!("pool-{n}-0");
        while made.try_next().await.unwrap().expect("the watch goes on").name_any() != instance {}
        times.push(created.elapsed());
    }
    times
}

async fn create<K>(client: &Client, namespace: &str, objects: impl IntoIterator<Item = Value>)
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let creations = stream::iter(objects).for_each_concurrent(16, |object| {
        let (api, object) = (api.clone(), serde_json::from_value(object).unwrap());
        async move { drop(api.create(&PostParams::default(), &object).await.unwrap()) }
    });
    creations.await;
}

fn pool(n: usize) -> Value {
    json!({
        "apiVersion": "sparkinteractive.io/v1alpha1",
        "kind": "SparkSessionPool",
        "metadata": { "name": format!("pool-{n}") },
        "spec": {
            "type": "connect",
            "host": format!("pool-{n}.example.com"),
            "replicas": { "min": 0, "max": 1 },
            "sparkApplicationTemplate": { "spec": {
                "type": "Scala",
                "mode": "cluster",
                "sparkVersion": "4.1.4",
                "mainClass": "org.apache.spark.sql.connect.service.SparkConnectServer",
                "mainApplicationFile": "local:///opt/spark/spark-internal",
                "driver": {},
                "executor": {},
            } },
        },
    })
}

fn session(n: usize) -> Value {
    json!({
        "apiVersion": "sparkinteractive.io/v1alpha1",
        "kind": "SparkInteractiveSession",
        "metadata": { "name": format!("session-{n}") },
        "spec": { "user": "alice", "pool": format!("pool-{n}"), "sessionId": Uuid::new_v4().to_string() },
    })
}
