//! What HTTP/2 has in common on both sides of Envoy: one stream of a connection must not hold up, or end, the others.
//! Envoy shares its connections to an instance among all users, and a load balancer in front of it may do the same.

use envoy_types::pb::envoy::config::core::v3::Http2ProtocolOptions;

use super::proto::{number, yes};

/// How many bytes Envoy takes of one stream whose receiver does not read, before it stops the sender.
const STREAM_WINDOW: u32 = 1 << 20;

/// The same for all streams of a connection together. With Envoy's own settings (16 MiB a stream, 24 MiB a connection) two
/// answers that nobody reads, such as those of two paused notebooks, use the connection up, and everybody else on it
/// waits. So only the window of the stream counts, and this is the most that HTTP/2 allows.
///
/// What bounds Envoy's memory then is the number of streams that are not read: each holds at most its window and Envoy's
/// buffer for it (`per_connection_buffer_limit_bytes`, 1 MiB), so 2 MiB in each direction (16 answers: 30 MiB). Requests that
/// wait in a check count as well. `envoy/README.md` says how Envoy is kept from running out of memory.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

pub fn options() -> Http2ProtocolOptions {
    Http2ProtocolOptions {
        initial_stream_window_size: number(STREAM_WINDOW),
        initial_connection_window_size: number(CONNECTION_WINDOW),
        // A message that is against the rules ends its stream. Without this it ends the connection.
        override_stream_error_on_invalid_http_message: yes(),
        ..Default::default()
    }
}
