//! Requests whose headers come, and whose body does not: nobody has logged in with them, and Envoy has to keep them. They
//! end, their memory comes back, and everybody else is served.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pools::{self, HOST};
use super::raw_client::Raw;
use super::raw_h2::analyze_plan_in_pieces;
use super::raw_h2_streams::Unfinished;
use super::stand_in::POD;
use super::wait::until;
use super::world::World;

const CONNECT: &str = "/spark.connect.SparkConnectService/Config";
const THRIFT: &str = "/cliservice";
const CONNECTIONS: usize = 5;
const STREAMS: u32 = 200;
/// What Envoy waits for the beginning of a request, and as much again for a slow machine.
const ENDED_WITHIN: Duration = Duration::from_secs(20);
const LATE: &str = "The request was given up: its beginning did not come within 10 seconds. Nothing was done; try again, \
                    over a better connection if this lasts.";
const MIB: u64 = 1 << 20;

fn both() -> Vec<spark_session_operator::api::SparkSessionPool> {
    vec![pools::connect("connect", HOST), pools::thrift("thrift", HOST)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_a_body_end_and_their_memory_comes_back() {
    World::run("unfinished", both(), &[], async move |world| {
        let bob = world.connect(HOST, "bob").await;
        bob.config().await.unwrap();
        let before = world.envoy.memory_allocated().await;
        for path in [CONNECT, THRIFT] {
            let began = Instant::now();
            let mut all = join_all((0..CONNECTIONS).map(|_| Unfinished::send(&world, path, STREAMS))).await;
            until("they have come", async || {
                (world.envoy.stat("http.spark.downstream_rq_active").await >= 1000).then_some(())
            })
            .await;
            let held = world.envoy.memory_allocated().await.saturating_sub(before);
            println!("{path}: Envoy holds {} MiB of 1000 requests", held / MIB);
            let served = Instant::now();
            bob.config().await.expect("another user is served");
            println!("another user was served in {:?}", served.elapsed());
            let ended = timeout(ENDED_WITHIN, join_all(all.iter_mut().map(Unfinished::until_ended))).await;
            let open: usize = all.iter().map(Unfinished::open).sum();
            assert!(ended.is_ok(), "{open} of 1000 requests to {path} are open after {ENDED_WITHIN:?}");
            println!("all had ended after {:?}", began.elapsed());
            drop(all);
            until("the memory is free", async || {
                (world.envoy.memory_allocated().await < before + 8 * MIB).then_some(())
            })
            .await;
        }
    })
    .await;
}

/// HTTP/2 says how many requests a connection may have at a time; one that has more is ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_with_a_thousand_requests_at_a_time_is_ended() {
    World::run("too-many-streams", both(), &[], async move |world| {
        let mut too_many = Unfinished::send(&world, CONNECT, 1000).await;
        timeout(Duration::from_secs(5), too_many.until_ended()).await.expect("it ends at once");
        world.connect(HOST, "bob").await.config().await.expect("another connection is served");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_begins_too_slowly_hears_so_and_a_slow_upload_goes_on() {
    World::run("late", both(), &[], async move |world| {
        let ana = world.connect(HOST, "ana").await;
        ana.config().await.unwrap();
        let message = ana.message(&vec![7; 1 << 20]);
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = [&[0], length.as_slice(), &message].concat();
        let (slowly, pieces) = (Duration::from_secs(12), [&body[..16 << 10], &body[16 << 10..]]);

        let mut thrift = Raw::open_session().user("ana");
        thrift.body.pop();
        let small: Vec<&[u8]> = body[..6].chunks(1).collect();
        let drip = Duration::from_secs(3);
        let (late, dripping, upload) = tokio::join!(
            thrift.send(world.envoy.listens),
            timeout(ENDED_WITHIN, analyze_plan_in_pieces(&world, &small[..3], drip, false)),
            analyze_plan_in_pieces(&world, &pieces, slowly, true),
        );
        assert!(late.says(LATE), "{late:?}");
        let dripping = dripping.expect("it ends");
        let text = |name: &str| dripping.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(text("grpc-status").as_deref(), Some("14"));
        assert_eq!(text("grpc-message").as_deref(), Some(LATE));
        assert!(upload.contains_key(POD), "{upload:?}");
    })
    .await;
}

/// An OpenSession call with the user's name, which is as long as a question whether an operation has finished.
fn as_jdbc_clients_send_it() -> Raw {
    let call = b"\x80\x01\0\x01\0\0\0\x0bOpenSession\0\0\0\x01\x0c\0\x01";
    let user = b"\x0b\0\x02\0\0\0\x13nineteen-characters\0\0";
    let body = [&call[..], user].concat();
    let length = body.len().to_string();
    let raw = Raw::open_session().without("Content-Length").header("Content-Length", &length);
    Raw { body, ..raw }
}

/// Envoy has no words of ours for what it cannot read yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_headers_do_not_end_is_given_up() {
    World::run("headers", both(), &[], async move |world| {
        let mut stream = TcpStream::connect(world.envoy.listens).await.unwrap();
        let began = Instant::now();
        stream.write_all(format!("POST {THRIFT} HTTP/1.1\r\nHost: {HOST}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(ENDED_WITHIN, stream.read_to_string(&mut answer)).await.expect("it ends").unwrap();
        println!("it had ended after {:?}", began.elapsed());
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.ends_with("request header timeout"), "{answer}");
    })
    .await;
}

/// Over HTTP/1.1, too, where a small call comes in one piece with its headers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_has_begun_may_wait_for_longer_than_its_beginning() {
    World::run("begun", both(), &[], async move |world| {
        world.spark.hold_starts();
        let ana = world.connect(HOST, "ana").await;
        let connect = tokio::spawn(async move { ana.config().await });
        let listens = world.envoy.listens;
        let thrift = tokio::spawn(async move { as_jdbc_clients_send_it().user("ana").send(listens).await });
        world.operator.until_checks_in_flight(2).await;
        tokio::time::sleep(Duration::from_secs(12)).await;
        world.spark.let_start();
        connect.await.unwrap().expect("it is answered when its instance is there");
        let thrift = thrift.await.unwrap();
        assert!(thrift.has_arrived(), "{thrift:?}");
    })
    .await;
}
