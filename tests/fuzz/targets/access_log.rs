//! A message of Envoy's access log: whatever it holds, what is read from it names a session, at a time that has come.
#![no_main]

use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use spark_session_operator::edge::access_log;

fuzz_target!(|input: &[u8]| {
    let Ok(message) = StreamAccessLogsMessage::decode(input) else { return };
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    for entry in access_log::entries(&message) {
        if let Some((session, at)) = access_log::read(entry, now) {
            assert!(!session.is_empty());
            assert!(at <= now, "{at}");
        }
    }
});
