//! How soon an instance is asked for, what one event costs, and what is asked of the API server when nothing happens.
//!
//! Nothing plays Spark here: no instance starts, and none is needed.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use jiff::Timestamp;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use spark_session_operator::api::SparkApplication;
use spark_session_operator::plan::{self, Observations};

use crate::Size;
use crate::domain::{World, free_port, loopback};
use crate::figures::{Times, micros, millis, verdict};
use crate::kubernetes::{admin, api, clear, create_pools, create_sessions, name};
use crate::operator::Operator;

const SESSIONS_OF_A_POOL: usize = 10;
/// For what follows from the last thing that was done.
const REST: Duration = Duration::from_secs(10);

pub async fn measure(size: Size) {
    let times = until_asked_for(size.of(200, 20)).await;
    let (p50, p99) = (millis(times.p50()), millis(times.p99()));
    println!("\nfrom a session that was created to its pool's SparkApplication, {} times", times.count());
    println!("  p50 {p50:.1} ms, p99 {p99:.1} ms; goal of both < 50 ms {}", verdict(p99 < 50.0));
    cost_of_an_event(size);
    when_nothing_happens(size).await;
}

/// Each in a pool of its own, one after the other: from the answer to its creation to the event of the SparkApplication.
async fn until_asked_for(count: usize) -> Times {
    let client = admin().await;
    clear(&client).await;
    create_pools(&client, count, free_port()).await;
    let _operator = Operator::start(loopback(free_port())).await;
    tokio::time::sleep(REST / 2).await;
    let applications = watcher(api::<SparkApplication>(&client), watcher::Config::default());
    let mut made = std::pin::pin!(applications.applied_objects());
    let mut times = Times::default();
    for pool in 0..count {
        create_sessions(&client, std::iter::once(pool)).await;
        let (created, prefix) = (Instant::now(), format!("{}-", name(pool)));
        while !made.try_next().await.unwrap().expect("the watch ended").name_any().starts_with(&prefix) {}
        times.add(created.elapsed());
    }
    times
}

/// The pool's view and its plan, in this process.
fn cost_of_an_event(size: Size) {
    println!(
        "\none event: view and plan of a pool with {SESSIONS_OF_A_POOL} sessions   p50 [µs]   to the first"
    );
    let mut first = None;
    // The last: whether the number of pools costs anything, or that one which was not looked at for long is not in the
    // processor's cache.
    for (pools, with_events) in [(10, 10), (100, 100), (1_000, 1_000), (1_000, 10)] {
        let mut world = World::new(15002);
        for pool in 0..pools {
            world.pool(&name(pool));
            let (instance, _) = world.instance(&name(pool));
            for session in 0..SESSIONS_OF_A_POOL {
                world.session(&name(pool), &instance, &format!("user-{session}"));
            }
        }
        let (observed, mut times) = (Observations::default(), Times::default());
        for event in 0..size.of(20_000, 1_000) {
            // In an order in which no cache helps.
            let pool = name(event * 7919 % with_events);
            let (now, begin) = (Timestamp::now(), Instant::now());
            let view = world.stores.read(|inventory| inventory.pool_view(&pool)).unwrap();
            black_box(plan::plan(&view, &observed, now));
            times.add(begin.elapsed());
        }
        let p50 = micros(times.p50());
        let ratio = p50 / *first.get_or_insert(p50);
        let what =
            if with_events == pools { String::new() } else { format!(", events of {with_events} of them") };
        println!(
            "  {:<62} {p50:>10.1} {ratio:>12.2}   goal < 1.5 {}",
            format!("{pools} pools{what}"),
            verdict(ratio < 1.5)
        );
    }
}

type Requests = BTreeMap<String, f64>;

/// Counted by the API server, less what others ask of it in the same time.
async fn when_nothing_happens(size: Size) {
    let (pools, length) = (size.of(1_000, 20), Duration::from_secs(size.of(120, 10)));
    let client = admin().await;
    clear(&client).await;
    create_pools(&client, pools, free_port()).await;
    tokio::time::sleep(REST).await;
    let others = requests_within(&client, length).await;
    // As in a Pod.
    let flags = ["--oidc-skip-validation", "--leader-elect=true"];
    let _operator = Operator::start_with(loopback(free_port()), &flags).await;
    tokio::time::sleep(REST * if size.quick { 1 } else { 6 }).await;
    let all = requests_within(&client, length).await;

    println!("\nrequests to the API server per minute, {pools} pools, nothing happens");
    let (mut for_the_lease, mut more) = (0.0, 0.0);
    for (what, count) in all {
        let minutely = (count - others.get(&what).unwrap_or(&0.0)) * 60.0 / length.as_secs_f64();
        if minutely < 0.01 {
            continue;
        }
        println!("  {what:<50} {minutely:>8.1}");
        match what.split_once(' ') {
            Some((_, "leases")) => for_the_lease += minutely,
            // A watch is ended by the API server after some minutes, and counted then.
            Some(("WATCH", _)) => {}
            // Fewer than without the operator is chance, and makes up for nothing.
            _ => more += minutely.max(0.0),
        }
    }
    assert!(for_the_lease > 0.0, "nobody keeps the Lease: what was counted is not the operator's");
    println!("  {for_the_lease:.1} for the Lease, and {more:.1} others; goal: none {}", verdict(more < 0.5));
}

async fn requests_within(client: &Client, length: Duration) -> Requests {
    let before = requests(client).await;
    tokio::time::sleep(length).await;
    let mut after = requests(client).await;
    for (what, count) in before {
        *after.entry(what).or_default() -= count;
    }
    after
}

/// By verb and resource.
async fn requests(client: &Client) -> Requests {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = client.request_text(request).await.unwrap();
    let mut requests = Requests::new();
    for line in text.lines() {
        let Some((labels, count)) =
            line.strip_prefix("apiserver_request_total{").and_then(|rest| rest.split_once("} "))
        else {
            continue;
        };
        let label = |name: &str| {
            let labels = labels.split(',').filter_map(|label| label.split_once('='));
            labels.into_iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value.trim_matches('"'))
        };
        let subresource = Some(label("subresource")).filter(|subresource| !subresource.is_empty());
        let what = format!("{} {}", label("verb"), label("resource"));
        let what = subresource.map_or(what.clone(), |subresource| format!("{what}/{subresource}"));
        *requests.entry(what).or_default() += count.parse::<f64>().unwrap();
    }
    requests
}
