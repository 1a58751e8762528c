use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use envoy_types::pb::envoy::config::core::v3::address::Address as Inner;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, Metadata, Node, SocketAddress};
use envoy_types::pb::envoy::data::accesslog::v3::{HttpAccessLogEntry, TcpAccessLogEntry};
use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_client::AccessLogServiceClient;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::{
    HttpAccessLogEntries, Identifier, TcpAccessLogEntries,
};
use envoy_types::pb::google::protobuf::{Struct, Value};
use futures::stream;
use rstest::rstest;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::*;
use crate::model::fixtures::at;

const PERIODIC: AccessLogType = AccessLogType::DownstreamPeriodic;
const END: AccessLogType = AccessLogType::DownstreamEnd;

fn metadata(filter: &str, fields: &[(&str, &str)]) -> Metadata {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
    let filter_metadata = HashMap::from([(filter.to_owned(), Struct { fields })]);
    Metadata { filter_metadata, ..Metadata::default() }
}

/// About session `s`, which the check of the request has found.
fn entry(kind: AccessLogType) -> AccessLogCommon {
    AccessLogCommon {
        metadata: Some(metadata(EXT_AUTHZ, &[("session", "s"), ("activity", "1"), ("user", "ana")])),
        access_log_type: kind.into(),
        ..AccessLogCommon::default()
    }
}

fn ended(start: i64, seconds: i64, nanos: i32) -> AccessLogCommon {
    AccessLogCommon {
        start_time: Some(protobuf::Timestamp { seconds: at(start).as_second(), nanos: 500_000_000 }),
        duration: Some(protobuf::Duration { seconds, nanos }),
        ..entry(END)
    }
}

#[test]
fn an_open_request_is_in_use_now_whatever_envoys_clock_says() {
    let entry = AccessLogCommon { access_log_type: PERIODIC.into(), ..ended(-9999, 0, 0) };
    assert_eq!(read(&entry, at(100)), Some(("s", at(100))));
}

#[rstest]
#[case::then(ended(10, 20, 500_000_000), Some(31))]
#[case::but_not_later_than_now(ended(90, 20, 0), Some(100))]
#[case::of_a_clock_far_ahead(ended(1_000_000_000, 20, 0), Some(100))]
#[case::of_no_time_at_all(entry(END), None)]
#[case::after_an_endless_time(ended(0, i64::MAX, 999_999_999), None)]
#[case::before_all_times(ended(0, i64::MIN, -999_999_999), None)]
#[case::with_too_many_nanoseconds(ended(10, 20, i32::MAX), Some(32))]
#[case::out_of_range(
    AccessLogCommon { start_time: Some(protobuf::Timestamp { seconds: i64::MAX, nanos: -1 }), ..ended(0, 0, 0) },
    None
)]
fn a_long_request_was_in_use_when_it_ended(#[case] entry: AccessLogCommon, #[case] used: Option<i64>) {
    let second = |(session, used): (&str, Timestamp)| {
        assert_eq!(session, "s");
        used.duration_since(at(0)).as_secs()
    };
    assert_eq!(read(&entry, at(100)).map(second), used);
}

#[rstest]
#[case::without_metadata(AccessLogCommon { metadata: None, ..entry(PERIODIC) })]
#[case::of_another_filter(with(metadata("envoy.lb", &[("session", "s"), ("activity", "1")])))]
#[case::that_does_not_count(with(metadata(EXT_AUTHZ, &[("session", "s")])))]
#[case::that_says_it_does_not_count(with(metadata(EXT_AUTHZ, &[("session", "s"), ("activity", "0")])))]
#[case::without_a_session(with(metadata(EXT_AUTHZ, &[("activity", "1")])))]
#[case::of_an_unnamed_session(with(metadata(EXT_AUTHZ, &[("session", ""), ("activity", "1")])))]
#[case::of_the_beginning(entry(AccessLogType::DownstreamStart))]
#[case::of_an_unknown_kind(AccessLogCommon { access_log_type: 9999, ..entry(PERIODIC) })]
fn an_entry_says_nothing(#[case] entry: AccessLogCommon) {
    assert_eq!(read(&entry, at(100)), None);
}

fn with(metadata: Metadata) -> AccessLogCommon {
    AccessLogCommon { metadata: Some(metadata), ..entry(PERIODIC) }
}

#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Vec<String>>>);

impl AccessLogSink for Noted {
    fn used(&self, session: &str, _: Timestamp) {
        self.0.lock().unwrap().push(session.to_owned());
    }

    fn open(&self, session: &str, used: UsedConnection) {
        let ClientConnection { envoy, client, .. } = used.connection;
        self.0.lock().unwrap().push(format!("{session} is open on {envoy} {client}"));
    }

    fn ended(&self, connection: EndedConnection) {
        let ClientConnection { envoy, client, listener_port } = connection.connection;
        self.0.lock().unwrap().push(format!("{envoy} {client} {listener_port}"));
    }
}

async fn serve(noted: &Noted, entries: &Counter, stop: &CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server =
        Server::builder().add_service(access_log_service(noted.clone(), entries.clone(), stop.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn http(common: Option<AccessLogCommon>) -> StreamAccessLogsMessage {
    let entry = HttpAccessLogEntry { common_properties: common, ..HttpAccessLogEntry::default() };
    let entries = LogEntries::HttpLogs(HttpAccessLogEntries { log_entry: vec![entry] });
    StreamAccessLogsMessage { log_entries: Some(entries), ..StreamAccessLogsMessage::default() }
}

#[tokio::test]
async fn a_stream_goes_on_after_entries_that_say_nothing() {
    let (noted, counter, stop) = (Noted::default(), Counter::default(), CancellationToken::new());
    let address = serve(&noted, &counter, &stop).await;
    let tcp = LogEntries::TcpLogs(TcpAccessLogEntries::default());
    let messages = [
        StreamAccessLogsMessage::default(),
        http(None),
        StreamAccessLogsMessage { log_entries: Some(tcp), ..StreamAccessLogsMessage::default() },
        http(Some(entry(AccessLogType::NotSet))),
        http(Some(entry(PERIODIC))),
    ];
    let mut envoy = AccessLogServiceClient::connect(format!("http://{address}")).await.unwrap();
    envoy.stream_access_logs(stream::iter(messages)).await.unwrap();
    assert_eq!((noted.0.lock().unwrap().as_slice(), counter.get()), (&["s".to_owned()][..], 2));
}

fn address(ip: &str, port: u32) -> Option<Address> {
    let port_specifier = Some(PortSpecifier::PortValue(port));
    let socket = SocketAddress { address: ip.to_owned(), port_specifier, ..SocketAddress::default() };
    Some(Address { address: Some(Inner::SocketAddress(socket)) })
}

/// A connection of 10.0.0.7:4711 that was open from second 10 to 30.
fn closed(close_type: &str, local_reason: &str) -> AccessLogCommon {
    let tags = [(CLOSE_TYPE, close_type), (LOCAL_CLOSE_REASON, local_reason)];
    AccessLogCommon {
        downstream_remote_address: address("::ffff:10.0.0.7", 4711),
        downstream_local_address: address("10.0.0.1", 10_000),
        custom_tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..ended(10, 20, 0)
    }
}

#[rstest]
#[case::the_client("Normal", "", DisconnectCause::ClosedByClient)]
#[case::the_client_that_had_not_read_all("RemoteReset", "", DisconnectCause::ClosedByClient)]
#[case::envoy("Normal", "http2_ping_timeout", DisconnectCause::ConnectionLost)]
#[case::an_envoy_that_does_not_say_how("", "", DisconnectCause::ConnectionLost)]
fn a_connection_is_closed_by(#[case] close_type: &str, #[case] reason: &str, #[case] cause: DisconnectCause) {
    let ended = ended_connection("envoy-0", &closed(close_type, reason)).unwrap();
    assert_eq!((ended.cause, ended.at.as_second()), (cause, at(30).as_second()));
    let client = "10.0.0.7:4711".parse().unwrap();
    let connection = ClientConnection { envoy: "envoy-0".to_owned(), client, listener_port: 10_000 };
    assert_eq!(ended.connection, connection);
}

#[rstest]
#[case::without_the_client(AccessLogCommon { downstream_remote_address: None, ..closed("Normal", "") })]
#[case::of_no_address(AccessLogCommon { downstream_remote_address: address("pipe", 1), ..closed("Normal", "") })]
#[case::of_no_port(AccessLogCommon { downstream_remote_address: address("10.0.0.7", 70_000), ..closed("Normal", "") })]
#[case::without_the_listener(AccessLogCommon { downstream_local_address: None, ..closed("Normal", "") })]
#[case::without_a_time(AccessLogCommon { start_time: None, ..closed("Normal", "") })]
fn an_entry_names_no_connection(#[case] entry: AccessLogCommon) {
    assert_eq!(ended_connection("envoy-0", &entry), None);
}

/// A request of this protocol that is open on the connection of 10.0.0.7:4711.
fn open(protocol: &str) -> AccessLogCommon {
    let check = [("session", "s"), ("activity", "1"), ("protocol", protocol)];
    AccessLogCommon {
        metadata: Some(metadata(EXT_AUTHZ, &check)),
        access_log_type: PERIODIC.into(),
        ..closed("", "")
    }
}

#[test]
fn an_open_request_says_over_which_connection_its_client_is_there() {
    let entry = open("connect");
    let (session, used) = open_connection("envoy-0", &entry).unwrap();
    let client = "10.0.0.7:4711".parse().unwrap();
    let connection = ClientConnection { envoy: "envoy-0".to_owned(), client, listener_port: 10_000 };
    assert_eq!((session, used.connection, used.proxied), ("s", connection, false));
    assert_eq!(used.since.as_second(), at(10).as_second());
}

#[rstest]
#[case::of_thrift(open("thrift"))]
#[case::that_has_ended(AccessLogCommon { access_log_type: END.into(), ..open("connect") })]
#[case::without_a_connection(AccessLogCommon { downstream_remote_address: None, ..open("connect") })]
fn no_connection_is_known_by_an_entry(#[case] entry: AccessLogCommon) {
    assert_eq!(open_connection("envoy-0", &entry), None);
}

fn tcp(envoy: Option<&str>) -> StreamAccessLogsMessage {
    let entry =
        TcpAccessLogEntry { common_properties: Some(closed("Normal", "")), ..TcpAccessLogEntry::default() };
    let node = envoy.map(|id| Node { id: id.to_owned(), ..Node::default() });
    StreamAccessLogsMessage {
        identifier: node.map(|node| Identifier { node: Some(node), log_name: "connections".to_owned() }),
        log_entries: Some(LogEntries::TcpLogs(TcpAccessLogEntries { log_entry: vec![entry] })),
    }
}

#[tokio::test]
async fn the_envoy_of_a_stream_is_known_by_its_first_message() {
    let (noted, counter, stop) = (Noted::default(), Counter::default(), CancellationToken::new());
    let address = serve(&noted, &counter, &stop).await;
    let mut envoy = AccessLogServiceClient::connect(format!("http://{address}")).await.unwrap();
    envoy.stream_access_logs(stream::iter([tcp(Some("envoy-7")), tcp(None)])).await.unwrap();
    assert_eq!(*noted.0.lock().unwrap(), ["envoy-7 10.0.0.7:4711 10000"; 2]);
    envoy.stream_access_logs(stream::iter([tcp(None)])).await.unwrap();
    assert_eq!(
        (noted.0.lock().unwrap().len(), counter.get()),
        (2, 3),
        "nobody knows whose connection that is"
    );
}

#[tokio::test]
async fn a_stream_ends_with_the_operator() {
    let (noted, counter, stop) = (Noted::default(), Counter::default(), CancellationToken::new());
    let address = serve(&noted, &counter, &stop).await;
    let mut envoy = AccessLogServiceClient::connect(format!("http://{address}")).await.unwrap();
    stop.cancel();
    // Envoy's own end of it never comes.
    envoy.stream_access_logs(stream::pending()).await.unwrap();
}
