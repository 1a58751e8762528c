//! First requests on pools that have no instance: every one has to be answered by Spark, however late.
//!
//! Everything is real but Spark: the operator's binary with the rights of production, the API server, Envoy. With two
//! replicas, Envoy is configured by one and asks the other, which so cannot know what Envoy has acknowledged.

use std::net::SocketAddr;

use futures::{StreamExt, stream};
use spark_session_operator::api::{SparkApplication, SparkInteractiveSession};
use uuid::Uuid;

use crate::Size;
use crate::domain::{self, free_port, loopback};
use crate::envoy::Envoy;
use crate::figures::{Times, millis, verdict};
use crate::kubernetes::{self, admin, clear, create_pools, delete_all, until_count};
use crate::operator::Operator;
use crate::spark::Client;
use crate::spark_operator::SparkOperator;

/// First requests at the same time.
const AT_ONCE: usize = 8;

pub async fn measure(size: Size) {
    println!("\ncold starts (stand-in for Spark), {AT_ONCE} at a time");
    println!("                requests   failed   goal: 0     held p50    p99    max [ms]");
    let (pools, rounds) = size.of((100, 10), (8, 2));
    for replicas in [1, 2] {
        starts(replicas, pools, rounds).await;
    }
}

async fn starts(replicas: usize, pools: usize, rounds: usize) {
    let client = admin().await;
    clear(&client).await;
    create_pools(&client, pools, free_port()).await;
    let _spark = SparkOperator::start(client.clone());
    let listen = loopback(free_port());
    let mut operators = Vec::new();
    for _ in 0..replicas {
        operators.push(Operator::start(listen).await);
    }
    let (ads, checks) = (&operators[0], &operators[replicas - 1]);
    let envoy = Envoy::start("cold", ads.address, checks.address);
    envoy.listens(listen).await;

    let (mut times, mut failures) = (Times::default(), Vec::new());
    for _ in 0..rounds {
        let requests = (0..pools).map(|pool| first_request(listen, pool));
        let mut answers = stream::iter(requests).buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(time) => times.add(time),
                Err(problem) => failures.push(problem),
            }
        }
        // With its last session a pool loses its instance.
        delete_all::<SparkInteractiveSession>(&client).await;
        until_count::<SparkApplication>(&client, 0).await;
    }
    println!(
        "  {replicas} replica{} {:>12} {:>8}   {:<8} {:>11.0} {:>6.0} {:>6.0}",
        if replicas == 1 { " " } else { "s" },
        times.count() + failures.len(),
        failures.len(),
        verdict(failures.is_empty()),
        millis(times.p50()),
        millis(times.p99()),
        millis(times.at(1.0)),
    );
    for problem in failures.iter().take(5) {
        println!("    {problem}");
    }
    if !failures.is_empty() {
        for operator in &operators {
            let log = operator.log();
            let last: Vec<&str> = log.lines().rev().take(10).collect();
            println!("    log: {}", last.join("\n         "));
        }
    }
}

async fn first_request(envoy: SocketAddr, pool: usize) -> Result<std::time::Duration, String> {
    let name = kubernetes::name(pool);
    let user = format!("user-{pool}");
    let mut client = Client::connect(envoy, &domain::host(&name), &user, Uuid::new_v4()).await?;
    client.call().await.map_err(|problem| format!("{name}: {problem}"))
}
