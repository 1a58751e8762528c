//! What Envoy's memory and its connections come to at most, and that there is room again.

use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pools::{self, HOST};
use super::raw_h2_streams::Unfinished;
use super::stand_in::{MEGABYTES, PAUSE};
use super::wait::until;
use super::world::World;

const MIB: u64 = 1 << 20;
const CLIENTS: u64 = 16;
/// What each client may have in Envoy, in both directions (`src/xds/http2.rs`).
const OF_EACH: u64 = 4 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_pass_in_little_memory() {
    World::run("memory", vec![pools::connect("connect", HOST)], &[], async move |world| {
        world.connect(HOST, "ana").await.config().await.unwrap();
        let before = world.envoy.memory_of_the_machine().await;
        let calls = join_all((0..CLIENTS).map(async |_| {
            let client = world.connect(HOST, "ana").await.asking(MEGABYTES, 64);
            let mut answer = client.execute_plan().await.unwrap().1;
            while answer.message().await.unwrap().is_some() {}
            world.connect(HOST, "ana").await.analyze_plan(&vec![7; 64 << 20]).await.unwrap();
        }));
        let mut most = 0;
        let watching = async {
            loop {
                most = world.envoy.memory_of_the_machine().await.max(most);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            _ = calls => {}
            () = watching => {}
        }
        let used = |now: u64| now.saturating_sub(before) / MIB;
        println!(
            "before {} MiB, at most {} MiB more, afterwards {} MiB more",
            before / MIB,
            used(most),
            used(world.envoy.memory_of_the_machine().await)
        );
        assert!(most - before < CLIENTS * OF_EACH, "{} MiB", used(most));
    })
    .await;
}

const HEAP: u64 = 128 * MIB;
/// What they would hold without a bound: 600 MiB.
const CONNECTIONS: u32 = 24;
const STREAMS: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn near_its_limit_envoy_takes_nothing_new_in_words_and_what_runs_goes_on() {
    let flags = &["--envoy-rate-limit", "0", "--envoy-rate-limit-per-address", "0"];
    World::run("memory-limit", vec![pools::connect("connect", HOST)], flags, async move |mut world| {
        world.envoy.kill();
        world.envoy.limit_heap(HEAP);
        world.envoy.start();
        world.envoy.until_it_listens().await;
        let bob = world.connect(HOST, "bob").await;
        bob.config().await.unwrap();
        let runs = bob.clone().asking(PAUSE, 8000).execute_plan().await.unwrap();
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS {
            // Envoy looks at its memory four times a second. What comes in between, only the rate of requests bounds.
            tokio::time::sleep(Duration::from_millis(200)).await;
            all.push(Unfinished::send(&world, "/spark.connect.SparkConnectService/Config", STREAMS).await);
        }
        let refused = until("Envoy takes nothing new", async || bob.config().await.err()).await;
        let words = "The gateway is short of memory. Nothing was done; try again in a few seconds.";
        assert_eq!((refused.code(), refused.message()), (tonic::Code::Unavailable, words));
        let most = world.envoy.memory_allocated().await;
        println!("Envoy holds {} MiB under the attack, of {} MiB", most / MIB, HEAP / MIB);
        assert!(most < HEAP * 2, "{} MiB", most / MIB);
        timeout(Duration::from_secs(20), join_all(all.iter_mut().map(Unfinished::until_ended)))
            .await
            .expect("they end");
        until("another user is served again", async || bob.config().await.ok()).await;
        let mut running = runs.1;
        while running.message().await.expect("what ran goes on").is_some() {}
        println!("Envoy holds {} MiB afterwards", world.envoy.memory_allocated().await / MIB);
    })
    .await;
}

const MOST_CONNECTIONS: usize = 20;

/// The bootstrap says 10,000.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_its_limit_envoy_closes_new_connections_and_keeps_the_others() {
    World::run("connections", vec![pools::connect("connect", HOST)], &[], async move |mut world| {
        world.envoy.kill();
        world.envoy.limit_connections(MOST_CONNECTIONS as u64);
        world.envoy.start();
        world.envoy.until_it_listens().await;
        let bob = world.connect(HOST, "bob").await;
        bob.config().await.unwrap();
        let mut held = Vec::new();
        for _ in 1..MOST_CONNECTIONS {
            held.push(idle_connection(&world).await.expect("there is room"));
        }
        assert!(idle_connection(&world).await.is_none(), "one too many");
        bob.config().await.expect("who is connected is served");
        held.pop();
        until("there is room again", async || idle_connection(&world).await).await;
    })
    .await;
}

/// A connection that Envoy has greeted. `None`: it has closed it.
async fn idle_connection(world: &World) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(world.envoy.listens).await.unwrap();
    // Envoy's settings follow the client's preface.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.ok()?;
    let mut greeting = [0; 9];
    stream.read_exact(&mut greeting).await.ok()?;
    Some(stream)
}
