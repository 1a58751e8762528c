//! What the operator's answer adds to a request of a session that is being served.
//!
//! Two Envoys with the same listener, routes, clusters, workers and server behind them, each configured by an ADS
//! server of this process. They differ in who answers their checks: the broker, or a service that knows no users and no
//! sessions and says the same yes at once. The rounds take turns.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use spark_session_operator::edge::allow::{self, Allowed};
use spark_session_operator::model::Route;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::Size;
use crate::control_plane::ControlPlane;
use crate::domain::{self, free_port};
use crate::envoy::Envoy;
use crate::figures::{Times, micros, ratio, verdict};
use crate::spark::{self, Client};

const POOLS: usize = 100;
const SESSIONS: usize = 100;
const USER: &str = "alice";

pub async fn measure(size: Size) {
    let port = free_port();
    tokio::spawn(spark::serve(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.unwrap()));
    let (world, clusters) = domain::filled(port, POOLS, 1);
    for (n, pool) in clusters.keys().enumerate() {
        for m in 0..SESSIONS {
            world.session(pool, &format!("{pool}-{n}"), &format!("user-{m}"));
        }
    }
    let (pool, cluster) = ("pool-0", clusters["pool-0"][0].clone());
    let session = world.session(pool, "pool-0-0", USER);
    let route = Route {
        cluster,
        session: format!("{pool}-{session}"),
        pool: pool.to_owned(),
        user: USER.to_owned(),
        token: None,
    };
    let mut ours = ControlPlane::with_broker(&world.stores);
    let mut no_op = ControlPlane::with_no_op(
        allow::response(
            &route,
            Allowed::Connect { session_id: session, clone: None },
            true,
            &Default::default(),
        )
        .unwrap(),
    );
    let mut envoys = Vec::new();
    for (node, plane) in [("ours", &mut ours), ("no-op", &mut no_op)] {
        let snapshot = plane.translated(&world.stores);
        plane.publisher.publish(snapshot);
        let envoy = Envoy::start(node, plane.address, plane.address);
        envoy.listens(plane.listen).await;
        plane.publisher.programmed(Some(node), &route.cluster).await;
        envoys.push(envoy);
    }

    println!(
        "\nwarm check through Envoy, end to end [µs]      operator         no-op ext_authz     ratio       goal"
    );
    println!("{:>53} {:>17}", "p50     p99", "p50     p99");
    let (rounds, length) = size.of((12, Duration::from_secs(2)), (2, Duration::from_millis(300)));
    for connections in [1, 64] {
        let mut times = [Times::default(), Times::default()];
        for round in 0..rounds {
            for turn in 0..2 {
                let side = (round + turn) % 2;
                let address = [ours.listen, no_op.listen][side];
                // The first tenth of each round warms up what the other side has pushed out of the caches.
                load(address, pool, session, connections, length / 10).await;
                times[side].extend(load(address, pool, session, connections, length).await);
            }
        }
        let [ours, theirs] = &times;
        let (p50, p99) = (ratio(ours.p50(), theirs.p50()), ratio(ours.p99(), theirs.p99()));
        println!(
            "  {connections:>2} connections, {:>7} requests{:>16.0} {:>7.0} {:>9.0} {:>7.0}   {p50:.2} {p99:.2}   ≤1.2 {}, ≤1.5 {}",
            ours.count(),
            micros(ours.p50()),
            micros(ours.p99()),
            micros(theirs.p50()),
            micros(theirs.p99()),
            verdict(p50 <= 1.2),
            verdict(p99 <= 1.5),
        );
    }
}

/// Each connection sends its next request when the last one is answered.
pub async fn load(
    envoy: SocketAddr,
    pool: &str,
    session: uuid::Uuid,
    connections: usize,
    length: Duration,
) -> Times {
    let mut clients = JoinSet::new();
    let host = domain::host(pool);
    for _ in 0..connections {
        let mut client = Client::connect(envoy, &host, USER, session).await.unwrap();
        clients.spawn(async move {
            let mut times = Times::default();
            let end = Instant::now() + length;
            while Instant::now() < end {
                times.add(client.call().await.expect("a warm request failed"));
            }
            times
        });
    }
    let mut times = Times::default();
    while let Some(of_one) = clients.join_next().await {
        times.extend(of_one.unwrap());
    }
    times
}
