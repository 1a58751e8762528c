use rstest::rstest;

use super::*;
use crate::edge::testing::{Asked, SESSION};
use crate::model::{ConnectMethod, ThriftHead};

fn call_of(asked: Asked) -> Call {
    read(&asked.by_envoy()).call
}

fn problem_of(asked: Asked) -> (Protocol, String) {
    match call_of(asked) {
        Call::Malformed { protocol, problem } => (protocol, problem),
        call => panic!("{call:?} was understood"),
    }
}

#[rstest]
#[case("Spark.Example.COM", "spark.example.com")]
#[case("spark.example.com:", "spark.example.com:")]
#[case("spark.example.com:443", "spark.example.com:443")]
#[case("spark.example.com.", "spark.example.com.")]
#[case("[2001:DB8::1]", "[2001:db8::1]")]
#[case("", "")]
fn the_host_is_what_envoy_finds_the_route_by(#[case] authority: &str, #[case] host: &str) {
    assert_eq!(read(&Asked::path("/").host(authority).by_envoy()).host, host);
}

#[test]
fn the_asking_envoy_the_client_s_address_and_the_time_are_known() {
    let check = read(&Asked::connect().by_envoy());
    assert_eq!(check.since, Some(jiff::Timestamp::new(1_000, 500).unwrap()));
    assert_eq!(check.node.as_deref(), Some("envoy-0"));
    assert_eq!(check.peer, Some("10.0.0.7".parse().unwrap()));
}

#[test]
fn the_connection_is_known_as_the_access_log_will_name_it() {
    let used = read(&Asked::connect().by_envoy()).connection.unwrap();
    let client = "10.0.0.7:4711".parse().unwrap();
    let connection = ClientConnection { envoy: "envoy-0".to_owned(), client, listener_port: 10_000 };
    let since = jiff::Timestamp::new(1_000, 500).unwrap();
    assert_eq!(used, UsedConnection { connection, since, proxied: false });
}

#[rstest]
#[case("x-spark-session-proxied")]
#[case("forwarded")]
#[case("via")]
fn a_proxy_is_known_by_a_header(#[case] header: &str) {
    let check = read(&Asked::connect().header(header, "10.9.9.9").by_envoy());
    assert!(check.connection.unwrap().proxied);
}

#[test]
fn a_connect_call_is_read_from_path_and_body() {
    let Call::Connect { method, head, .. } = call_of(Asked::connect()) else { panic!("not Connect") };
    assert_eq!((method, head.session_id.to_string().as_str()), (ConnectMethod::Config, SESSION));
}

/// A Config call whose user context has this user id.
fn as_user(user_id: &str) -> Asked {
    let context = [&[0x0a, user_id.len() as u8], user_id.as_bytes()].concat();
    let message =
        [b"\x0a\x24".as_slice(), SESSION.as_bytes(), &[0x12, context.len() as u8], &context].concat();
    Asked::connect().body(&[&[0, 0, 0, 0, message.len() as u8], message.as_slice()].concat())
}

#[test]
fn a_login_in_the_user_id_is_found_where_there_is_no_other_and_does_not_show() {
    let check = read(&as_user("YWxpY2U6aHVudGVyMg==").by_envoy());
    assert_eq!(check.credentials.as_ref().unwrap_err(), &CredentialsError::Missing);
    let Some(Credentials::Password { user, .. }) = &check.user_id_credentials else { panic!("not found") };
    assert_eq!(user, "alice");
    let shown = format!("{check:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("YWxpY2U6"), "{shown}");

    assert!(read(&as_user("alice").by_envoy()).user_id_credentials.is_none());
    let with_header = as_user("YWxpY2U6aHVudGVyMg==").header("authorization", "Bearer Ym9iOnB3");
    let check = read(&with_header.by_envoy());
    assert!(check.user_id_credentials.is_none() && check.credentials.is_ok());
}

#[test]
fn a_connect_call_whose_first_message_is_missing_is_told_so() {
    let (protocol, problem) = problem_of(Asked::connect().body(b""));
    assert_eq!(protocol, Protocol::Connect);
    assert!(problem.starts_with("The request came without its first message"), "{problem}");
}

#[test]
fn a_browser_on_spark_connect_s_path_is_told_to_use_another_client() {
    let (protocol, problem) = problem_of(Asked::path("/spark.connect.SparkConnectService/Config"));
    assert_eq!(protocol, Protocol::Connect);
    assert!(problem.starts_with("Spark Connect speaks gRPC"), "{problem}");
}

#[rstest]
#[case("/cliservice", "default")]
#[case("/cliservice/", "default")]
#[case("/cliservice?doAs=eve", "default")]
#[case("/cliservice/etl-2.nightly", "etl-2.nightly")]
fn a_thrift_session_is_named_by_its_path(#[case] path: &str, #[case] name: &str) {
    let head = Some(ThriftHead { method: "OpenSession".into(), sequence_id: 1, session_handle: None });
    assert_eq!(call_of(Asked::thrift(path)), Call::Thrift { session_name: name.into(), head });
}

#[rstest]
#[case("/cliservice/a/b")]
#[case("/cliservice/a%20b")]
#[case("/cliservice/0123456789012345678901234567890123456789012345678901234567890123")]
fn a_session_name_that_cannot_be_one_is_refused(#[case] path: &str) {
    let (protocol, problem) = problem_of(Asked::thrift(path));
    assert_eq!(protocol, Protocol::Thrift);
    assert!(problem.contains("1 to 63"), "{problem}");
}

/// As Envoy joins headers of one name.
#[rstest]
#[case("etl")]
#[case("etl,etl")]
#[case("etl, etl,etl")]
fn a_session_name_that_is_sent_again_is_the_same_name(#[case] sent: &str) {
    let call = call_of(Asked::connect().header("x-spark-session", sent));
    let Call::Connect { session_name, .. } = call else { panic!("not Connect") };
    assert_eq!(session_name.as_deref(), Some("etl"));
}

#[rstest]
#[case("etl,dev", "Different names of a session, x-spark-session, were sent with one request; send one.")]
#[case(
    "a b",
    "The session's name, x-spark-session, must have 1 to 63 letters, digits, dots, dashes or underscores."
)]
fn a_session_name_of_connect_that_cannot_be_one_is_refused(#[case] sent: &str, #[case] words: &str) {
    let problem = problem_of(Asked::connect().header("x-spark-session", sent));
    assert_eq!(problem, (Protocol::Connect, words.to_owned()));
}

#[rstest]
fn what_is_not_posted_does_not_get_to_spark(
    #[values(Asked::connect(), Asked::thrift("/cliservice"))] asked: Asked,
    #[values("HEAD", "GET", "PUT", "post", "")] method: &str,
) {
    assert_eq!(problem_of(asked.method(method)).1, NOT_POSTED);
}

#[test]
fn a_get_of_the_thrift_path_has_no_head() {
    assert_eq!(
        call_of(Asked::path("/cliservice").method("GET")),
        Call::Thrift { session_name: "default".into(), head: None }
    );
}

#[test]
fn a_body_that_is_not_thrift_is_malformed() {
    assert_eq!(problem_of(Asked::path("/cliservice").body(b"user=ana")).0, Protocol::Thrift);
    let (_, problem) = problem_of(Asked::thrift("/cliservice").header("content-encoding", "gzip"));
    assert!(problem.contains("compressed"), "{problem}");
}

/// An ExecuteStatement whose statement has 100,000 bytes, and its first 8 KiB.
fn long_statement() -> (usize, Vec<u8>) {
    let mut body = b"\x80\x01\0\x01\0\0\0\x10ExecuteStatement\0\0\0\x01\x0c\0\x01".to_vec();
    body.extend(
        b"\x0c\0\x01\x0c\0\x01\x0b\0\x01\0\0\0\x100123456789abcdef\x0b\0\x02\0\0\0\x10fedcba9876543210\0\0",
    );
    body.extend([11, 0, 2]);
    body.extend(100_000_u32.to_be_bytes());
    let length = body.len() + 100_000 + 2;
    body.resize(8192, b'x');
    (length, body)
}

#[test]
fn a_long_statement_is_taken_where_its_length_shows_that_nothing_is_hidden_behind_it() {
    let (length, body) = long_statement();
    let asked = |length: usize| {
        let length = length.to_string();
        Asked::thrift("/cliservice").body(&body).header("content-length", &length)
    };
    let Call::Thrift { head: Some(head), .. } = call_of(asked(length)) else { panic!("not taken") };
    assert_eq!(head.session_handle, Some(uuid::Uuid::from_bytes(*b"0123456789abcdef")));
    let (protocol, problem) = problem_of(asked(length + 100));
    assert_eq!(protocol, Protocol::Thrift);
    assert!(
        problem.starts_with("The request is so long that the gateway does not see all of it"),
        "{problem}"
    );
    // In chunks.
    let chunked = Asked::thrift("/cliservice").body(&body).header(PARTIAL_BODY, "true");
    assert!(problem_of(chunked).1.starts_with("The request is so long"));
}

#[rstest]
#[case(Asked::path("/favicon.ico"), false)]
#[case(Asked::path("/cliservices"), false)]
#[case(Asked::path("/grpc.health.v1.Health/Check").header("content-type", "application/grpc+proto"), true)]
fn any_other_path_is_other(#[case] asked: Asked, #[case] grpc: bool) {
    assert_eq!(call_of(asked), Call::Other { grpc });
}

#[test]
fn the_path_is_kept_without_its_query() {
    let request = Asked::path("/cliservice?a=b?c#d").by_envoy();
    assert_eq!(read(&request).path, "/cliservice");
}

#[test]
fn an_empty_request_is_read_as_something_unknown() {
    let check = read(&CheckRequest::default());
    assert_eq!((check.host.as_str(), check.path.as_str(), check.node), ("", "", None));
    assert_eq!(check.call, Call::Other { grpc: false });
}

#[test]
fn a_clone_whose_client_leaves_its_id_to_the_server_has_one_id_however_often_envoy_asks() {
    let clone = |request_id: &str| {
        let path = "/spark.connect.SparkConnectService/CloneSession";
        match call_of(Asked::connect().to(path).request_id(request_id)) {
            Call::Connect { head, .. } => head.clone.unwrap(),
            call => panic!("{call:?}"),
        }
    };
    assert!(!clone("a").chosen_by_client);
    assert_eq!(clone("a"), clone("a"));
    assert_ne!(clone("a"), clone("b"));
}
