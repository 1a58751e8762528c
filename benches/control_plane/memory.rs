//! What many pools and sessions cost the operator: memory, and CPU time for each session that changes.
//!
//! Each pool has an instance that answers, and its sessions are active on it. Of two changes the cost is measured: one of
//! an annotation, by which nobody decides, and one of the session's `sparkConf`, for which its pool is planned and its
//! status is written (`observedGeneration`).

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use spark_session_operator::api::SparkInteractiveSession;
use uuid::Uuid;

use crate::Size;
use crate::domain::{free_port, loopback};
use crate::envoy::Envoy;
use crate::figures::{Times, micros, verdict};
use crate::kubernetes::{
    WIDTH, admin, api, clear, create_pools, create_sessions, until_observed, until_selected,
};
use crate::operator::Operator;
use crate::spark_operator::SparkOperator;

/// How long the operator is left alone before something is measured.
const REST: Duration = Duration::from_secs(5);

pub async fn measure(size: Size) {
    let pools = size.of(1_000, 20);
    let client = admin().await;
    clear(&client).await;
    let _spark = SparkOperator::start(client.clone());
    create_pools(&client, pools, free_port()).await;
    let listen = loopback(free_port());
    let operator = Operator::start(listen).await;
    let envoy = Envoy::start("memory", operator.address, operator.address);
    envoy.listens(listen).await;

    println!("\noperator with {pools} pools, each with an instance, and one Envoy");
    println!("                              CPU [µs] per session with a changed");
    println!("  sessions   resident [MiB]   annotation   sparkConf");
    let mut sessions = Vec::new();
    let mut costs = Vec::new();
    for per_pool in [1, 10] {
        let more = (per_pool * pools - sessions.len()) / pools;
        sessions.extend(create_sessions(&client, (0..pools * more).map(|n| n % pools)).await);
        until_selected::<SparkInteractiveSession>(&client, "status.state=Active", sessions.len()).await;
        connect(&client, &sessions).await;
        tokio::time::sleep(REST).await;
        // One session of each pool, so that as many plans are made whatever a pool holds.
        let changed: Vec<&String> = (0..pools).map(|n| &sessions[n + pools * (n % per_pool)]).collect();
        let (mut seen, mut planned) = (Times::default(), Times::default());
        for _ in 0..size.of(7, 1) {
            seen.add(cpu_per_change(&client, &operator, &changed, annotation).await);
            planned.add(cpu_per_change(&client, &operator, &changed, spark_conf).await);
        }
        let (seen, planned, resident) = (seen.p50(), planned.p50(), operator.resident());
        costs.push((seen, planned));
        println!("  {:>8} {resident:>16.1} {:>12.0} {:>11.0}", sessions.len(), micros(seen), micros(planned));
    }
    let growth = |few: Duration, many: Duration| many.as_secs_f64() / few.as_secs_f64();
    let (seen, planned) = (growth(costs[0].0, costs[1].0), growth(costs[0].1, costs[1].1));
    println!(
        "  goals: < 150 MiB {}, CPU not growing with the sessions {} ({seen:.2} and {planned:.2} times with 10 times the \
         sessions)",
        verdict(operator.resident() < 150.0),
        verdict(seen.max(planned) < 1.1),
    );
}

/// The client of each session has a connection of its own.
async fn connect(client: &kube::Client, sessions: &[String]) {
    let api: Api<SparkInteractiveSession> = api(client);
    stream::iter(sessions.iter().enumerate())
        .map(|(n, session)| {
            let connection = json!({
                "envoy": "envoy-0",
                "client": format!("10.0.{}.{}:50000", n / 256, n % 256),
                "listenerPort": 10_000,
                "since": "2027-01-15T08:00:00.000000Z",
            });
            let patch = json!({ "status": { "clientConnections": [connection] } });
            let api = api.clone();
            async move { api.patch_status(session, &PatchParams::default(), &Patch::Merge(patch)).await }
        })
        .buffer_unordered(WIDTH)
        .try_for_each(async |_| Ok(()))
        .await
        .unwrap();
}

fn annotation(value: Uuid) -> Value {
    json!({ "metadata": { "annotations": { "example.com/changed": value.to_string() } } })
}

fn spark_conf(value: Uuid) -> Value {
    json!({ "spec": { "sparkConf": { "spark.example.changed": value.to_string() } } })
}

/// Less what the operator uses in the same time when nothing happens.
async fn cpu_per_change(
    client: &kube::Client,
    operator: &Operator,
    sessions: &[&String],
    change: fn(Uuid) -> Value,
) -> Duration {
    let api: Api<SparkInteractiveSession> = api(client);
    let (begin, cpu) = (Instant::now(), operator.cpu());
    stream::iter(sessions)
        .map(|session| {
            let (api, patch) = (api.clone(), change(Uuid::new_v4()));
            async move { api.patch(session, &PatchParams::default(), &Patch::Merge(patch)).await }
        })
        .buffer_unordered(WIDTH)
        .try_for_each(async |_| Ok(()))
        .await
        .unwrap();
    until_observed(client).await;
    // The watch shows the operator what it has written.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (took, used) = (begin.elapsed(), operator.cpu() - cpu);

    let (begin, cpu) = (Instant::now(), operator.cpu());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = (operator.cpu() - cpu).mul_f64(took.as_secs_f64() / begin.elapsed().as_secs_f64());
    used.saturating_sub(idle) / u32::try_from(sessions.len()).unwrap()
}
