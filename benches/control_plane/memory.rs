//! What many pools and sessions cost the operator: memory, and CPU time for each session that changes.
//!
//! Each pool has an instance that answers, and its sessions are active on it. A change is an annotation, which the plan
//! of its pool looks at and finds nothing to do about: what is measured is the way from the watch to that finding.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
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
    println!("  sessions   resident [MiB]   CPU [µs] per changed session");
    let mut sessions = Vec::new();
    let mut costs = Vec::new();
    for per_pool in [1, 10] {
        let more = (per_pool * pools - sessions.len()) / pools;
        sessions.extend(create_sessions(&client, (0..pools * more).map(|n| n % pools)).await);
        until_selected::<SparkInteractiveSession>(&client, "status.state=Active", sessions.len()).await;
        tokio::time::sleep(REST).await;
        let cost = cpu_per_change(&client, &operator, &sessions, size.of(2_000, 100)).await;
        costs.push(cost);
        println!("  {:>8} {:>16.1} {:>30.0}", sessions.len(), operator.resident(), micros(cost));
    }
    let growth = costs[1].as_secs_f64() / costs[0].as_secs_f64();
    println!(
        "  goals: < 150 MiB {}, CPU not growing with the sessions {} ({growth:.2} times with 10 times the sessions)",
        verdict(operator.resident() < 150.0),
        verdict(growth < 1.25),
    );
}

/// Less what the operator uses in the same time when nothing happens.
async fn cpu_per_change(
    client: &kube::Client,
    operator: &Operator,
    sessions: &[String],
    changes: usize,
) -> Duration {
    let api: Api<SparkInteractiveSession> = api(client);
    let (begin, cpu) = (std::time::Instant::now(), operator.cpu());
    let step = sessions.len().div_ceil(changes).max(1);
    stream::iter((0..changes).map(|n| (n, &sessions[n * step % sessions.len()])))
        .map(|(n, session)| {
            let patch = json!({ "metadata": { "annotations": { "example.com/changed": n.to_string() } } });
            let api = api.clone();
            async move { api.patch_metadata(session, &PatchParams::default(), &Patch::Merge(patch)).await }
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
