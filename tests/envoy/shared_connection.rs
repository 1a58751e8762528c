//! All users of an instance share Envoy's HTTP/2 connections to it, and Spark ends such a connection for one request with
//! more than 10,240 bytes of headers. So what a client sends reaches Spark only as far as Spark reads it, and briefly.
//!
//! The stand-in has no such limit: what a real Spark makes of long headers is in `tests/e2e/test_shared_connection.py`.

use std::collections::BTreeSet;

use tonic::Code;

use super::pools::{self, HOST};
use super::raw_client::Raw;
use super::raw_h2;
use super::stand_in::{POD, RECEIVED_TRAILER, UNTIL_RELEASED};
use super::world::World;

/// What Spark Connect may be told, in the order of the alphabet. `path` and `authority` are pseudo-headers.
const TOLD_TO_CONNECT: [&str; 10] = [
    "accept-encoding",
    "authority",
    "authorization",
    "content-type",
    "grpc-timeout",
    "path",
    "te",
    "user-agent",
    "x-spark-session-id",
    "x-spark-session-user-bin",
];
const TOLD_TO_THRIFT: [&str; 8] =
    ["accept", "accept-encoding", "authority", "authorization", "content-type", "host", "path", "user-agent"];
/// What a browser, a mesh, a tracing proxy, another client or an attacker may add.
const ADDED: [(&str, &str); 14] = [
    ("accept-language", "de"),
    ("baggage", "tenant=7"),
    ("cookie", "a=b"),
    ("forwarded", "for=192.0.2.1"),
    ("grpc-previous-rpc-attempts", "1"),
    ("proxy-authorization", "Basic eDp5"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
    ("x-envoy-max-retries", "3"),
    ("x-envoy-decorator-operation", "x"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-client-cert", "By=x"),
    ("x-request-id", "7"),
    ("x-spark-session-idx", "7"),
];

fn pools() -> Vec<spark_session_operator::api::SparkSessionPool> {
    vec![pools::connect("connect", HOST), pools::thrift("thrift", HOST)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spark_is_told_what_it_reads_and_nothing_else() {
    World::run("told", pools(), &[], async move |world| {
        let client = world.connect(HOST, "ana").await.with_header("grpc-timeout", "60S");
        let client = client.with_header("accept-encoding", "identity");
        let client = ADDED.iter().fold(client, |client, (name, value)| client.with_header(name, value));
        let arrived = client.with_binary_header("trace-bin", b"x").config().await.unwrap();
        assert_eq!(arrived.names(), BTreeSet::from(TOLD_TO_CONNECT));
        assert!(arrived.header("user-agent").unwrap().starts_with("tonic/"), "{arrived:?}");
        assert_eq!(arrived.header("grpc-timeout"), Some("60S"));

        let client = world.thrift(HOST, "ana").with_header("accept-encoding", "identity");
        let client = client.with_header("user-agent", "Java/THttpClient");
        let client = ADDED.iter().fold(client, |client, (name, value)| client.with_header(name, value));
        // A body that went through the processor comes in chunks.
        for (method, framing) in
            [("OpenSession", "transfer-encoding"), ("ExecuteStatement", "content-length")]
        {
            let mut told = BTreeSet::from(TOLD_TO_THRIFT);
            told.insert(framing);
            assert_eq!(client.call(method).await.unwrap().names(), told);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_headers_that_spark_does_not_read_do_no_harm_and_those_that_it_reads_are_refused_in_words() {
    World::run("long-headers", pools(), &[], async move |world| {
        let long = "x".repeat(20_000);
        let running = world.connect(HOST, "bob").await.asking(UNTIL_RELEASED, 1);
        let (_, mut query) = running.execute_plan().await.unwrap();
        query.message().await.unwrap().expect("it has begun");

        let ana = world.connect(HOST, "ana").await;
        let traced = ana.clone().with_header("baggage", &long).config().await.expect("a long trace");
        assert_eq!(traced.header("baggage"), None);

        let refused = ana.clone().with_header("user-agent", &long).config().await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        // Its end is what the client's library adds.
        let words = refused.message();
        assert!(
            words.starts_with("This request was not passed on to Spark, because its headers are too long"),
            "{words}"
        );
        assert!(words.contains("The header user-agent is the longest part, with 200"), "{words}");

        let jdbc = world.thrift(HOST, "ana").with_header("user-agent", &long);
        let words = jdbc.call("OpenSession").await.unwrap_err();
        assert!(words.contains("The header user-agent is the longest part, with 20000 bytes."), "{words}");

        world.spark.release_streams();
        query.message().await.expect("the query of another user goes on").expect("to its end");
    })
    .await;
}

/// A header that came several times is one to the operator, and several to Spark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_headers_of_one_name_stay_below_sparks_limit() {
    World::run("many-headers", pools(), &[], async move |world| {
        let many = |raw: Raw| (0..80).fold(raw, |raw, _| raw.header("accept-encoding", &"x".repeat(20)));
        let raw = many(Raw::open_session().user("ana"));
        let answer = raw.send(world.envoy.listens).await;
        assert!(answer.has_arrived(), "{answer:?}");
        let longer = |raw: Raw| (0..80).fold(raw, |raw, _| raw.header("accept-encoding", &"x".repeat(60)));
        let answer = longer(Raw::open_session().user("ana")).send(world.envoy.listens).await;
        assert!(answer.says("The header accept-encoding is the longest part"), "{answer:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_of_a_request_do_not_reach_spark() {
    World::run("trailers", pools(), &[], async move |world| {
        let ana = world.connect(HOST, "ana").await;
        ana.config().await.unwrap();
        let answer = raw_h2::config_with_trailer(&world, &ana, "x-trailer", &"x".repeat(20_000)).await;
        assert_eq!(answer.get(POD).unwrap(), "connect-0-driver");
        let arrived: Vec<_> =
            answer.keys().filter(|name| name.as_str().starts_with(RECEIVED_TRAILER)).collect();
        assert!(arrived.is_empty(), "{arrived:?}");
    })
    .await;
}

/// Envoy may end the client's own connection for it, but none that others use: not those to the instance, and not those by
/// which it asks the operator, where another user's request is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_cancelled_in_a_flood_end_no_connection_of_others() {
    let pool = pools::one_session_each(pools::connect("connect", HOST));
    World::run("resets", vec![pool], &[], async move |world| {
        let (ana, bob) = (world.connect(HOST, "ana").await, world.connect(HOST, "bob").await);
        ana.config().await.unwrap();
        let (_, mut query) = bob.clone().asking(UNTIL_RELEASED, 1).execute_plan().await.unwrap();
        query.message().await.unwrap().expect("it has begun");
        world.spark.hold_starts();
        let held = world.connect(HOST, "eve").await;
        let held = tokio::spawn(async move { held.config().await });
        world.operator.until_checks_in_flight(1).await;
        let before = ended_connections(&world).await;

        for _ in 0..10 {
            raw_h2::cancelled_calls(&world, &ana, 300).await;
        }
        world.operator.until_checks_in_flight(1).await;
        assert_eq!(
            ended_connections(&world).await,
            before,
            "a connection to an instance, or to the operator, has ended"
        );
        world.spark.release_streams();
        query.message().await.expect("the query of another user goes on").expect("to its end");
        world.spark.let_start();
        held.await.unwrap().expect("so does the request that was held");
    })
    .await;
}

/// How many connections servers have ended while requests were open on them.
async fn ended_connections(world: &World) -> u64 {
    let stats = world.envoy.stats().await;
    let ended = stats.iter().filter(|(name, _)| name.ends_with("upstream_cx_destroy_remote_with_active_rq"));
    ended.map(|(_, count)| count).sum()
}
