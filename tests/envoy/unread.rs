//! Clients that ask for much and do not read it, such as paused notebooks, and requests that cannot be passed on yet: they
//! hold up nobody else, although Envoy shares its connections to an instance, and a proxy in front of Envoy its own.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connect_client::ConnectClient;
use super::pools::{self, HOST};
use super::raw_client::{Raw, basic};
use super::stand_in::MEGABYTES;
use super::world::World;

/// More than the windows of a connection hold, by Envoy's defaults (16 MiB a stream, 24 MiB a connection).
const UNREAD: usize = 16;
/// What Envoy may hold of an answer that nobody reads, in bytes: the stream's window, its buffer, and what is on its way.
const HELD_OF_EACH: u64 = 5 << 19;
const OTHERS: usize = 8;
/// Of a request that takes milliseconds when nothing is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_hold_up_no_other_connect_client() {
    World::run("unread", vec![pools::connect("connect", HOST)], &[], async move |world| {
        world.connect(HOST, "ana").await.config().await.unwrap();
        let before = world.envoy.memory_allocated().await;
        let mut unread = Vec::new();
        for _ in 0..UNREAD {
            let paused = world.connect(HOST, "ana").await.asking(MEGABYTES, 64);
            unread.push(paused.execute_plan().await.expect("its answer begins").1);
        }
        for n in 0..OTHERS {
            let other = world.connect(HOST, "bob").await.asking(MEGABYTES, 4);
            assert_eq!(read_all(&other).await, Ok(4), "bob's query {n}");
        }
        let held = world.envoy.memory_allocated().await.saturating_sub(before);
        assert!(held < UNREAD as u64 * HELD_OF_EACH, "Envoy holds {} KiB of {UNREAD} answers", held >> 10);
        println!("Envoy holds {} KiB of {UNREAD} answers that nobody reads", held >> 10);
        // They can go on at any time.
        for mut paused in unread {
            assert_eq!(timeout(PATIENCE, count(&mut paused)).await, Ok(64));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_hold_up_no_other_jdbc_client() {
    World::run("unread-thrift", vec![pools::thrift("thrift", HOST)], &[], async move |world| {
        let bob = world.thrift(HOST, "bob");
        bob.call("OpenSession").await.unwrap();
        let mut unread = Vec::new();
        for _ in 0..UNREAD {
            let mut paused = TcpStream::connect(world.envoy.listens).await.unwrap();
            let request = Raw::open_session().header("Authorization", &basic("ana"));
            let request = request.header("User-Agent", &format!("{MEGABYTES}/64"));
            paused.write_all(&request.bytes()).await.unwrap();
            paused.readable().await.unwrap();
            unread.push(paused);
        }
        for n in 0..OTHERS {
            let fetched = timeout(PATIENCE, bob.clone().asking(MEGABYTES, 4).call("FetchResults")).await;
            fetched.unwrap_or_else(|_| panic!("bob's call {n} is held up")).unwrap();
        }
    })
    .await;
}

/// As of a load balancer that sends the requests of all users through one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_wait_for_an_instance_hold_up_no_other_request_of_their_connection() {
    let pool = pools::one_session_each(pools::connect("connect", HOST));
    World::run("unread-uploads", vec![pool], &[], async move |world| {
        let bob = world.connect(HOST, "bob").await;
        bob.config().await.unwrap();
        world.spark.hold_starts();
        let mut uploads = Vec::new();
        for _ in 0..4 {
            let ana = bob.beside("ana");
            uploads.push(tokio::spawn(async move { ana.analyze_plan(&vec![7; 32 << 20]).await }));
        }
        world.operator.until_checks_in_flight(4).await;
        for n in 0..OTHERS {
            let answer = timeout(PATIENCE, bob.analyze_plan(&vec![7; 2 << 20])).await;
            answer.unwrap_or_else(|_| panic!("bob's request {n} is held up")).unwrap();
        }
        world.spark.let_start();
        for upload in uploads {
            assert!(upload.await.unwrap().unwrap().bytes() > 32 << 20);
        }
    })
    .await;
}

/// How many megabytes came; `Err` if that took too long.
async fn read_all(client: &ConnectClient) -> Result<usize, tokio::time::error::Elapsed> {
    timeout(PATIENCE, async { count(&mut client.execute_plan().await.expect("it is answered").1).await })
        .await
}

async fn count(answer: &mut tonic::Streaming<prost::bytes::Bytes>) -> usize {
    let mut megabytes = 0;
    while let Some(message) = answer.message().await.expect("the stream goes on") {
        megabytes += message.len() >> 20;
    }
    megabytes
}
