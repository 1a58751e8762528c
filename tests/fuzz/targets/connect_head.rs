//! The first bytes of a Spark Connect request, after one byte that chooses the method.
//!
//! When an id is accepted, whoever reads the same bytes later sees the same letters: prost, where the message is complete,
//! and Java's protobuf, which is more lenient, however much of it is visible.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message;
use spark_session_operator::model::ConnectMethod;
use spark_session_operator::spark::connect_head;

const METHODS: [ConnectMethod; 12] = [
    ConnectMethod::ExecutePlan,
    ConnectMethod::AnalyzePlan,
    ConnectMethod::Config,
    ConnectMethod::AddArtifacts,
    ConnectMethod::ArtifactStatus,
    ConnectMethod::Interrupt,
    ConnectMethod::ReattachExecute,
    ConnectMethod::ReleaseExecute,
    ConnectMethod::ReleaseSession,
    ConnectMethod::FetchErrorDetails,
    ConnectMethod::CloneSession,
    ConnectMethod::Unknown,
];

#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(string, tag = "1")]
    session_id: String,
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else { return };
    let Some(method) = METHODS.get(usize::from(*choice)) else { return };
    let Ok(head) = connect_head::read(*method, body) else { return };
    let accepted = head.session_id.to_string();
    let length = u32::from_be_bytes([body[1], body[2], body[3], body[4]]) as usize;
    let visible = &body[5..body.len().min(length.saturating_add(5))];
    if visible.len() == length
        && let Ok(head) = Head::decode(visible)
    {
        assert_eq!(head.session_id, accepted, "prost reads another");
    }
    for session in java::sessions(visible) {
        assert_eq!(session, accepted.as_bytes(), "Java reads {}", session.escape_ascii());
    }
});

/// `CodedInputStream` of protobuf-java, which keeps the lower 32 bits of tags and lengths and drops the rest.
mod java {
    /// Each value of field 1 up to where the bytes end or are refused.
    pub fn sessions(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut sessions = Vec::new();
        while let Some((number, value)) = field(&mut bytes, 0) {
            if let (1, Some(value)) = (number, value) {
                sessions.push(value);
            }
        }
        sessions
    }

    fn field<'a>(bytes: &mut &'a [u8], depth: u8) -> Option<(u32, Option<&'a [u8]>)> {
        let tag = varint(bytes)? as u32;
        let number = tag >> 3;
        if number == 0 {
            return None;
        }
        let value = match tag & 7 {
            0 => varint(bytes).map(|_| None)?,
            1 => take(bytes, 8).map(|_| None)?,
            2 => {
                let length = varint(bytes)? as u32 as i32;
                Some(take(bytes, usize::try_from(length).ok()?)?)
            }
            3 if depth < 100 => {
                // Ends with a tag of kind 4 and the same number.
                while let Some((inner, _)) = group_field(bytes, depth + 1)? {
                    if inner == 0 {
                        return None;
                    }
                }
                None
            }
            5 => take(bytes, 4).map(|_| None)?,
            _ => return None,
        };
        Some((number, value))
    }

    /// `Some(None)` at the end of the group.
    #[allow(clippy::type_complexity)]
    fn group_field<'a>(bytes: &mut &'a [u8], depth: u8) -> Option<Option<(u32, Option<&'a [u8]>)>> {
        let mut after = *bytes;
        if varint(&mut after)? as u32 & 7 == 4 {
            *bytes = after;
            return Some(None);
        }
        field(bytes, depth).map(Some)
    }

    fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(taken)
    }

    fn varint(bytes: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for index in 0..10 {
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
