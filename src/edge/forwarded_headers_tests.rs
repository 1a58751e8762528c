use rstest::rstest;

use super::*;
use crate::edge::headers::set;
use crate::xds::{CLUSTER_HEADER, OPEN_SESSION_HEADER};

fn of(headers: &[(&str, &str)]) -> HashMap<String, String> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn withheld(protocol: Protocol, headers: &HashMap<String, String>) -> Vec<String> {
    ForwardedHeaders::of(protocol, headers).unwrap().withheld().to_vec()
}

fn check_length(
    protocol: Protocol,
    headers: &HashMap<String, String>,
    set: &[HeaderValueOption],
) -> Result<(), Denial> {
    ForwardedHeaders::of(protocol, headers).unwrap().check_length(set)
}

/// What the real ones send, and Envoy adds.
const PYSPARK: [(&str, &str); 12] = [
    (":authority", "spark.example.com"),
    (":method", "POST"),
    (":path", "/spark.connect.SparkConnectService/Config"),
    (":scheme", "http"),
    ("accept-encoding", "identity, deflate, gzip"),
    ("authorization", "Bearer YWxpY2U6cGFzc3dvcmQ"),
    ("content-type", "application/grpc"),
    ("grpc-accept-encoding", "identity, deflate, gzip"),
    ("te", "trailers"),
    (
        "user-agent",
        "_SPARK_CONNECT_PYTHON spark/4.1.4 os/linux python/3.11 grpc-python/1.85.0 grpc-c/52.0.0 (linux)",
    ),
    ("x-forwarded-proto", "http"),
    ("x-request-id", "b6f2ec7b-9dd2-4fd0-8f6b-0d5d5e1b3f63"),
];

#[test]
fn what_grpc_needs_passes_and_what_it_does_not_need_is_withheld() {
    // Without `x-forwarded-proto` Envoy finds no route.
    assert_eq!(withheld(Protocol::Connect, &of(&PYSPARK)), ["authorization", "te", "x-request-id"]);
    assert_eq!(check_length(Protocol::Connect, &of(&PYSPARK), &[]), Ok(()));
}

#[rstest]
#[case::login("x-spark-password")]
#[case::cookie("cookie")]
#[case::tracing("traceparent")]
#[case::address("x-forwarded-for")]
#[case::body_of_thrift("content-length")]
#[case::metadata_of_grpc("grpc-trace-bin")]
#[case::almost_one_that_passes("user-agent-x")]
fn anything_else_is_withheld_from_connect(#[case] name: &str) {
    assert_eq!(withheld(Protocol::Connect, &of(&[(name, "x"), ("user-agent", "x")])), [name]);
}

#[rstest]
#[case::cookie("cookie")]
#[case::do_as("doas")]
#[case::compression("content-encoding")]
#[case::delegation("x-hive-delegation-token")]
fn anything_else_is_withheld_from_thrift(#[case] name: &str) {
    assert_eq!(withheld(Protocol::Thrift, &of(&[(name, "x"), ("accept", "*/*")])), [name]);
}

#[test]
fn what_is_withheld_may_be_long() {
    let long = "x".repeat(90_000);
    assert_eq!(check_length(Protocol::Connect, &of(&[("baggage", &long)]), &[]), Ok(()));
    // Spark gets the instance's token in its place, and the Thrift path is the operator's.
    let (token, path) = ([set("authorization", "Bearer t")], [set(":path", "/cliservice")]);
    assert_eq!(check_length(Protocol::Connect, &of(&[("authorization", &long)]), &token), Ok(()));
    assert_eq!(check_length(Protocol::Thrift, &of(&[(":path", &long)]), &path), Ok(()));
}

#[test]
fn what_only_envoy_reads_does_not_count() {
    let marks = [set(CLUSTER_HEADER, "x".repeat(9000)), set(OPEN_SESSION_HEADER, "1")];
    assert_eq!(check_length(Protocol::Thrift, &HashMap::new(), &marks), Ok(()));
}

#[rstest]
#[case::a_header("user-agent", "The header user-agent is the longest part")]
#[case::the_path(":path", "The path of the URL is the longest part")]
fn what_passes_may_not_be_long(#[case] name: &str, #[case] culprit: &str) {
    let long = "x".repeat(20_000);
    let refused =
        check_length(Protocol::Connect, &of(&[(name, &long), ("grpc-timeout", "60S")]), &[]).unwrap_err();
    assert_eq!(refused.kind, DenialKind::BadRequest);
    let total = 20_000 + name.len() + 32 + "grpc-timeout".len() + "60S".len() + 32;
    let words = format!(
        "This request was not passed on to Spark, because its headers are too long: Spark would get {total} bytes, and at \
         most 4096 are allowed. {culprit}, with 20000 bytes. Make it shorter and try again."
    );
    assert_eq!(refused.message, words);
}

#[test]
fn a_long_user_name_is_refused_in_words_that_do_not_repeat_it() {
    let told = [set(USER_HEADER, "x".repeat(5000))];
    let refused = check_length(Protocol::Connect, &HashMap::new(), &told).unwrap_err();
    assert!(
        refused.message.contains("Your user name is the longest part, with 5000 bytes."),
        "{}",
        refused.message
    );
}

#[test]
fn a_request_of_exactly_the_limit_passes() {
    let with = |length: usize| of(&[("user-agent", &"x".repeat(length))]);
    let room = MOST_BYTES - BYTES_OF_EACH - "user-agent".len();
    assert_eq!(check_length(Protocol::Thrift, &with(room), &[]), Ok(()));
    assert!(check_length(Protocol::Thrift, &with(room + 1), &[]).is_err());
}

#[test]
fn so_many_names_of_headers_are_kept_and_no_more() {
    let with = |bytes: usize| of(&[(&*"x".repeat(bytes), "")]);
    assert!(ForwardedHeaders::of(Protocol::Connect, &with(MOST_BYTES_OF_NAMES)).is_ok());
    let refused = ForwardedHeaders::of(Protocol::Connect, &with(90_000)).unwrap_err();
    let words = "This request was not passed on to Spark, because the names of its headers are too long: they have 90000 \
                 bytes together, and at most 8192 are allowed. Send fewer headers, or shorter names.";
    assert_eq!(refused, Denial::new(DenialKind::BadRequest, words));
}
