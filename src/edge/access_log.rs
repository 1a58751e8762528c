//! The gRPC service to which Envoy streams its access log (ALS): it says which sessions have requests that are open for
//! long, and which connections of clients have ended. `xds::access_log` says what gets into that log.
//!
//! Which session an entry is about comes from the check of its request, as the metadata that `allow` gave it, never from
//! the client. An entry that cannot be understood is left out: the stream ends for none of them, since all others of this
//! Envoy would be lost with it.

use std::sync::Arc;

use envoy_types::pb::envoy::data::accesslog::v3::{AccessLogCommon, AccessLogType};
use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_server::{
    AccessLogService, AccessLogServiceServer,
};
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use envoy_types::pb::envoy::service::accesslog::v3::{StreamAccessLogsMessage, StreamAccessLogsResponse};
use envoy_types::pb::google::protobuf;
use envoy_types::pb::google::protobuf::value::Kind;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::metrics::counter::Counter;
use tonic::{Request, Response, Status, Streaming};

use super::address::socket;
use crate::api::DisconnectCause;
use crate::control_channel::Streams;
use crate::model::{ClientConnection, EndedConnection, Protocol, UsedConnection};
use crate::xds::{ACTIVITY, CLOSE_TYPE, COUNTS, EXT_AUTHZ, LOCAL_CLOSE_REASON};

/// Of one message, in bytes. Envoy sends what it has as soon as that is 16 KiB.
const MAX_MESSAGE: usize = 1 << 20;

/// Whoever wants to know what the access log says.
pub trait AccessLogSink: Send + Sync + 'static {
    /// The session was in use at this time.
    fn used(&self, session: &str, at: Timestamp);
    /// A request of this Connect session is open on this connection.
    fn open(&self, session: &str, connection: UsedConnection);
    fn ended(&self, connection: EndedConnection);
}

/// `envoy.service.accesslog.v3.AccessLogService`. `entries` counts what Envoys send. Envoy never ends a stream: `streams`
/// does.
pub fn access_log_service<S: AccessLogSink>(
    sink: S,
    entries: Counter,
    streams: impl Into<Streams>,
) -> AccessLogServiceServer<AccessLogs<S>> {
    let service = AccessLogs { sink, entries, streams: streams.into() };
    AccessLogServiceServer::from_arc(Arc::new(service)).max_decoding_message_size(MAX_MESSAGE)
}

#[derive(Debug)]
pub struct AccessLogs<S> {
    sink: S,
    entries: Counter,
    streams: Streams,
}

#[tonic::async_trait]
impl<S: AccessLogSink> AccessLogService for AccessLogs<S> {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        let mut messages = request.into_inner();
        let (mut envoy, end) = (None, self.streams.end());
        loop {
            let message = tokio::select! {
                message = messages.message() => message?,
                () = end.cancelled() => None,
            };
            let Some(message) = message else { return Ok(Response::new(StreamAccessLogsResponse {})) };
            // Only the first message of a stream says which Envoy it is.
            envoy = envoy_of(&message).or(envoy);
            let now = Timestamp::now();
            for entry in entries(&message) {
                self.entries.inc();
                if let Some((session, at)) = read(entry, now) {
                    self.sink.used(session, at);
                }
                let open = envoy.as_deref().and_then(|envoy| open_connection(envoy, entry));
                if let Some((session, connection)) = open {
                    self.sink.open(session, connection);
                }
            }
            for entry in connection_entries(&message) {
                self.entries.inc();
                if let Some(ended) = envoy.as_deref().and_then(|envoy| ended_connection(envoy, entry)) {
                    self.sink.ended(ended);
                }
            }
        }
    }
}

fn envoy_of(message: &StreamAccessLogsMessage) -> Option<String> {
    let node = message.identifier.as_ref()?.node.as_ref()?;
    Some(node.id.clone()).filter(|id| !id.is_empty())
}

/// Returns the entries about connections.
pub fn connection_entries(message: &StreamAccessLogsMessage) -> impl Iterator<Item = &AccessLogCommon> {
    let entries = match &message.log_entries {
        Some(LogEntries::TcpLogs(tcp)) => tcp.log_entry.as_slice(),
        _ => &[],
    };
    entries.iter().filter_map(|entry| entry.common_properties.as_ref())
}

/// The connection to this Envoy that has ended. `None` for an entry that does not say which, or when.
pub fn ended_connection(envoy: &str, entry: &AccessLogCommon) -> Option<EndedConnection> {
    let tag = |name: &str| entry.custom_tags.get(name).map(String::as_str);
    // The operating system resets the connection of a program that ends before it has read everything. A proxy or a firewall
    // that forgets a connection could do so, too, but Envoy's PINGs keep the connection in use.
    let by_client = matches!(tag(CLOSE_TYPE), Some("Normal" | "RemoteReset"))
        && tag(LOCAL_CLOSE_REASON).is_none_or(str::is_empty);
    let cause = if by_client { DisconnectCause::ClosedByClient } else { DisconnectCause::ConnectionLost };
    Some(EndedConnection { connection: connection(envoy, entry)?, at: end(entry)?, cause })
}

/// What the message says of HTTP requests.
pub fn entries(message: &StreamAccessLogsMessage) -> impl Iterator<Item = &AccessLogCommon> {
    let entries = match &message.log_entries {
        Some(LogEntries::HttpLogs(http)) => http.log_entry.as_slice(),
        _ => &[],
    };
    entries.iter().filter_map(|entry| entry.common_properties.as_ref())
}

/// The session that this entry is about, and when it was in use: never later than `now`, whatever Envoy's clock says.
/// `None` for an entry that says nothing of the kind.
pub fn read(entry: &AccessLogCommon, now: Timestamp) -> Option<(&str, Timestamp)> {
    if text(entry, ACTIVITY)? != COUNTS {
        return None;
    }
    let at = match AccessLogType::try_from(entry.access_log_type).ok()? {
        AccessLogType::DownstreamPeriodic => now,
        AccessLogType::DownstreamEnd => end(entry)?.min(now),
        _ => return None,
    };
    Some((text(entry, "session")?, at))
}

/// The Connect session whose request is open, and the connection to this Envoy that it is open on. `None` for any other entry.
/// Whether a proxy holds the connection is not in the log: the check has said so.
pub fn open_connection<'a>(envoy: &str, entry: &'a AccessLogCommon) -> Option<(&'a str, UsedConnection)> {
    let is_open = entry.access_log_type == i32::from(AccessLogType::DownstreamPeriodic);
    if !is_open || text(entry, "protocol")? != Protocol::Connect.as_str() {
        return None;
    }
    let used = UsedConnection { connection: connection(envoy, entry)?, since: start(entry)?, proxied: false };
    Some((text(entry, "session")?, used))
}

/// Returns the text that the check of the request has left under this key.
fn text<'a>(entry: &'a AccessLogCommon, key: &str) -> Option<&'a str> {
    let check = &entry.metadata.as_ref()?.filter_metadata.get(EXT_AUTHZ)?.fields;
    match check.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) if !text.is_empty() => Some(text.as_str()),
        _ => None,
    }
}

fn connection(envoy: &str, entry: &AccessLogCommon) -> Option<ClientConnection> {
    let client = socket(entry.downstream_remote_address.as_ref())?;
    let listener_port = socket(entry.downstream_local_address.as_ref())?.port();
    Some(ClientConnection { envoy: envoy.to_owned(), client, listener_port })
}

fn start(entry: &AccessLogCommon) -> Option<Timestamp> {
    let protobuf::Timestamp { seconds, nanos } = entry.start_time?;
    Timestamp::new(seconds, nanos).ok()
}

fn end(entry: &AccessLogCommon) -> Option<Timestamp> {
    let protobuf::Duration { seconds, nanos } = entry.duration?;
    // `SignedDuration::new` panics where the two overflow together.
    let took =
        SignedDuration::from_secs(seconds).checked_add(SignedDuration::from_nanos(i64::from(nanos)))?;
    start(entry)?.checked_add(took).ok()
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
