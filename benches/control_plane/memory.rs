//! What many pools and sessions cost the operator: memory, and CPU time for each session that changes.
//!
//! Each pool has an instance that answers, and its sessions are active on it. Of two changes the cost is measured: one of
//! an annotation, by which nobody decides, and one of the session's `sparkConf`, for which its pool is planned and its
//! status is written (`observedGeneration`).

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use spark_session_operator::api::SparkInteractiveSession;

use crate::Size;
use crate::domain::{free_port, loopback};
use crate::envoy::Envoy;
use crate::figures::{micros, verdict};
use crate::kubernetes::{WIDTH, admin, api, clear, create_pools, create_sessions, until_selected};
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
        tokio::time::sleep(REST).await;
        let changes = size.of(2_000, 100);
        let cost = async |change: fn(usize) -> Value| {
            cpu_per_change(&client, &operator, &sessions, changes, change).await
        };
        let (seen, planned) = (cost(annotation).await, cost(spark_conf).await);
        costs.push((seen, planned));
        let resident = operator.resident();
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

fn annotation(n: usize) -> Value {
    json!({ "metadata": { "annotations": { "example.com/changed": n.to_string() } } })
}

fn spark_conf(n: usize) -> Value {
    json!({ "spec": { "sparkConf": { "spark.sql.shuffle.partitions": n.to_string() } } })
}

/// Less what the operator uses in the same time when nothing happens.
async fn cpu_per_change(
    client: &kube::Client,
    operator: &Operator,
    sessions: &[String],
    changes: usize,
    change: fn(usize) -> Value,
) -> Duration {
    let api: Api<SparkInteractiveSession> = api(client);
    let (begin, cpu) = (std::time::Instant::now(), operator.cpu());
    let step = sessions.len().div_ceil(changes).max(1);
    stream::iter((0..changes).map(|n| (n, &sessions[n * step % sessions.len()])))
        .map(|(n, session)| {
            let (api, patch) = (api.clone(), change(n));
            async move { api.patch(session, &PatchParams::default(), &Patch::Merge(patch)).await }
        })
        .buffer_unordered(WIDTH)
        .try_for_each(async |_| Ok(()))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (took, used) = (begin.elapsed(), operator.cpu() - cpu);

    let idle = operator.cpu();
    tokio::time::sleep(REST).await;
    let idle = (operator.cpu() - idle).mul_f64(took.as_secs_f64() / REST.as_secs_f64());
    used.saturating_sub(idle) / u32::try_from(changes).unwrap()
}
