//! What the operator adds to the beginning of a session: on an instance that is there, and on one that has to be started.
//! What it writes for sessions that are in use is counted by [`crate::session_writes`].
//!
//! With the operator's binary and the API server, as in `cold`. The stand-in of the tests remembers configuration; for
//! cold starts, that of `cold` tells how long it took itself.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::Api;
use kube::api::PostParams;
use spark_session_operator::api::{SparkApplication, SparkInteractiveSession, SparkSessionPool};
use uuid::Uuid;

use crate::Size;
use crate::asking::Asking;
use crate::domain::{self, free_port, loopback};
use crate::envoy::Envoy;
use crate::figures::{Times, millis, verdict};
use crate::kubernetes::{
    self, NAMESPACE, admin, api, clear, create_pools, delete_all, until_count, until_selected,
};
use crate::operator::Operator;
use crate::session_writes;
use crate::spark::Client;
use crate::spark_operator::SparkOperator;
use crate::stand_in::StandIn;

const POOL: &str = "warm";
/// Sessions that are open at the same time.
const BATCH: usize = 10;
/// Cold starts at the same time.
const AT_ONCE: usize = 4;

pub async fn measure(size: Size) {
    println!(
        "\nbeginning of a session (stand-in for Spark)                   p50    p99    max [ms]   goal of the p50"
    );
    for keys in [0, 3] {
        let times = on_a_warm_instance(size.of(200, 20), keys).await;
        let name = format!("warm instance, {keys} keys of conf: check received to released");
        show(&name, &times, 50.0);
    }
    let times = cold_starts(size.of(10, 1)).await;
    show("cold start: first byte answered, less Spark's own start", &times, 300.0);
    println!("  the p99 of cold starts has the same goal: < 300 ms {}", verdict(millis(times.p99()) < 300.0));
    session_writes::measure(size).await;
}

fn show(name: &str, times: &Times, goal: f64) {
    println!(
        "  {name:<55}{:>7.1} {:>6.1} {:>6.1}        < {goal} {}   ({} sessions)",
        millis(times.p50()),
        millis(times.p99()),
        millis(times.at(1.0)),
        verdict(millis(times.p50()) < goal),
        times.count(),
    );
}

/// A pool with one instance that is always there.
pub async fn create_warm_pool(client: &kube::Client, name: &str, keys: usize) {
    let mut pool = kubernetes::pool(name, free_port());
    pool.spec.replicas.min = 1;
    let conf = &mut pool.spec.session_policy.default_session_conf;
    conf.extend((0..keys).map(|n| (format!("spark.example.key-{n}"), format!("value {n}"))));
    let pools: Api<SparkSessionPool> = api(client);
    pools.create(&PostParams::default(), &pool).await.unwrap();
}

async fn on_a_warm_instance(count: usize, keys: usize) -> Times {
    let client = admin().await;
    clear(&client).await;
    let spark = StandIn::start(client.clone(), NAMESPACE);
    create_warm_pool(&client, POOL, keys).await;
    let operator = Operator::start(loopback(free_port())).await;
    let mut asking = Asking::new(operator.address).await;
    let host = domain::host(POOL);
    // Held until the instance is there.
    let first = Uuid::new_v4();
    asking.call(&host, "first", "Config", first).await;
    asking.call(&host, "first", "ReleaseSession", first).await;

    let mut times = Times::default();
    for batch in 0..count / BATCH {
        let users: Vec<_> =
            (0..BATCH).map(|n| (format!("user-{}", batch * BATCH + n), Uuid::new_v4())).collect();
        for (user, session) in &users {
            times.add(asking.call(&host, user, "Config", *session).await);
        }
        for (user, session) in &users {
            asking.call(&host, user, "ReleaseSession", *session).await;
        }
        until_selected::<SparkInteractiveSession>(&client, "status.state=Active", 0).await;
    }
    let configured = spark.seen().conf.len();
    assert_eq!(
        configured,
        if keys == 0 { 0 } else { count + 1 },
        "sessions were not given their configuration"
    );
    delete_all::<SparkInteractiveSession>(&client).await;
    times
}

/// Each with the start of the stand-in itself taken off.
async fn cold_starts(rounds: usize) -> Times {
    let pools = 10;
    let client = admin().await;
    clear(&client).await;
    create_pools(&client, pools, free_port()).await;
    let spark = SparkOperator::start_slowly(client.clone());
    let listen = loopback(free_port());
    let operator = Operator::start(listen).await;
    let envoy = Envoy::start("sessions", operator.address, operator.address);
    envoy.listens(listen).await;

    let mut times = Times::default();
    for _ in 0..rounds {
        let requests = (0..pools).map(|pool| first_answer(listen, pool));
        let answers: Vec<_> = stream::iter(requests).buffer_unordered(AT_ONCE).collect().await;
        for (pool, took) in answers {
            times.add(took.saturating_sub(spark.own_start(&pool)));
        }
        // With its last session a pool loses its instance.
        delete_all::<SparkInteractiveSession>(&client).await;
        until_count::<SparkApplication>(&client, 0).await;
    }
    times
}

async fn first_answer(envoy: SocketAddr, pool: usize) -> (String, Duration) {
    let name = kubernetes::name(pool);
    let host = domain::host(&name);
    let mut client = Client::connect(envoy, &host, &format!("user-{pool}"), Uuid::new_v4()).await.unwrap();
    let took = client.call().await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
    (name, took)
}
