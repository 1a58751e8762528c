//! An error in the words of TCLIService (HiveServer2), as text.
//!
//! hive-jdbc, beeline, PyHive and impyla drop the reason of an HTTP error, but show that of a reply with HTTP 200 in
//! ERROR_STATUS. Envoy carries the body of a denial as a protobuf *string*, so it has to be UTF-8. Thrift's strict form
//! begins with `80 01` and is not, the older form can be kept below 0x80 throughout:
//! - the message is ASCII, padded with spaces until no byte of its length is above 0x7f;
//! - sequence ids with a byte above 0x7f (the 128th call on a connection of hive-jdbc) cannot be echoed. Java clients
//!   then refuse a reply, but read an *exception* before they compare the ids: such calls get that.

use super::thrift_type::{I32, STOP, STRING, STRUCT};
use crate::model::ThriftHead;

/// The longest message that is carried; longer ones are cut.
pub const MAX_MESSAGE: usize = 4096;

const REPLY: u8 = 2;
const EXCEPTION: u8 = 3;
/// `TStatusCode.ERROR_STATUS`
const ERROR_STATUS: i32 = 3;
/// `TProtocolVersion.HIVE_CLI_SERVICE_PROTOCOL_V8`
const PROTOCOL_V8: i32 = 7;
/// `TApplicationException.INTERNAL_ERROR`
const INTERNAL_ERROR: i32 = 6;

/// Answers the call `head` with an error. All bytes of the result are below 0x80.
pub fn error(head: &ThriftHead, sql_state: &str, message: &str) -> String {
    let message = padded(&ascii(message, MAX_MESSAGE));
    let echoes = head.sequence_id.to_be_bytes().iter().all(u8::is_ascii);
    let writer = Writer::default();
    let writer = match required_rest(&head.method) {
        Some(rest) if echoes => writer
            .string(&head.method)
            .byte(REPLY)
            .i32(head.sequence_id)
            .field(STRUCT, 0)
            .field(STRUCT, 1)
            .field(I32, 1)
            .i32(ERROR_STATUS)
            .field(STRING, 3)
            .string(&padded(&ascii(sql_state, 5)))
            .field(STRING, 5)
            .string(&message)
            .byte(STOP)
            .rest(rest)
            .byte(STOP)
            .byte(STOP),
        _ => writer
            .string(&ascii(&head.method, 64))
            .byte(EXCEPTION)
            .i32(if echoes { head.sequence_id } else { 0 })
            .field(STRING, 1)
            .string(&message)
            .field(I32, 2)
            .i32(INTERNAL_ERROR)
            .byte(STOP),
    };
    writer.0
}

/// What a response must have besides its status (field 1), or its reader fails with "Required field … is unset".
#[derive(Clone, Copy)]
enum Rest {
    Nothing,
    /// `TOpenSessionResp.serverProtocolVersion`
    ProtocolVersion,
    /// `TGetInfoResp.infoValue`
    InfoValue,
}

/// `None` for methods that TCLIService does not have, or (GetQueryId) whose response has no status.
fn required_rest(method: &str) -> Option<Rest> {
    match method {
        "OpenSession" => Some(Rest::ProtocolVersion),
        "GetInfo" => Some(Rest::InfoValue),
        "CloseSession"
        | "ExecuteStatement"
        | "GetTypeInfo"
        | "GetCatalogs"
        | "GetSchemas"
        | "GetTables"
        | "GetTableTypes"
        | "GetColumns"
        | "GetFunctions"
        | "GetPrimaryKeys"
        | "GetCrossReference"
        | "GetOperationStatus"
        | "CancelOperation"
        | "CloseOperation"
        | "GetResultSetMetadata"
        | "FetchResults"
        | "GetDelegationToken"
        | "CancelDelegationToken"
        | "RenewDelegationToken"
        | "SetClientInfo"
        | "UploadData"
        | "DownloadData" => Some(Rest::Nothing),
        _ => None,
    }
}

/// Keeps typographic signs readable and shows other characters by their code, so that nothing is lost.
fn ascii(text: &str, limit: usize) -> String {
    let mut result = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        let piece = match character {
            '\u{2018}' | '\u{2019}' => "'".into(),
            '\u{201c}' | '\u{201d}' | '\u{201e}' => "\"".into(),
            '\u{2010}'..='\u{2015}' => "-".into(),
            '\u{2026}' => "...".into(),
            '\u{a0}' => " ".into(),
            character if character.is_ascii() => String::from(character),
            character => {
                character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            }
        };
        if result.len() + piece.len() > limit {
            break;
        }
        result.push_str(&piece);
    }
    result
}

fn padded(text: &str) -> String {
    let mut text = text.to_owned();
    while text.len() & 0x80 != 0 {
        text.push(' ');
    }
    text
}

#[derive(Default)]
struct Writer(String);

impl Writer {
    /// Callers hold every byte below 0x80; should one not, a replaced byte is better than a broken protobuf.
    fn byte(mut self, byte: u8) -> Self {
        self.0.push(if byte.is_ascii() { char::from(byte) } else { '?' });
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |writer, byte| writer.byte(*byte))
    }

    fn i32(self, number: i32) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    fn string(self, text: &str) -> Self {
        self.i32(i32::try_from(text.len()).unwrap_or(0)).bytes(text.as_bytes())
    }

    fn field(self, kind: u8, number: i16) -> Self {
        self.byte(kind).bytes(&number.to_be_bytes())
    }

    fn rest(self, rest: Rest) -> Self {
        match rest {
            Rest::Nothing => self,
            Rest::ProtocolVersion => self.field(I32, 2).i32(PROTOCOL_V8),
            Rest::InfoValue => self.field(STRUCT, 2).field(STRING, 1).string("").byte(STOP),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(method: &str, sequence_id: i32) -> ThriftHead {
        ThriftHead { method: method.into(), sequence_id, session_handle: None }
    }

    #[test]
    fn an_open_session_is_answered_with_its_required_fields() {
        let body = error(&head("OpenSession", 5), "28000", "No.");
        assert_eq!(
            body.as_bytes(),
            [
                b"\0\0\0\x0bOpenSession\x02\0\0\0\x05".as_slice(),
                b"\x0c\0\0\x0c\0\x01\x08\0\x01\0\0\0\x03\x0b\0\x03\0\0\0\x0528000\x0b\0\x05\0\0\0\x03No.\0",
                b"\x08\0\x02\0\0\0\x07\0\0",
            ]
            .concat()
        );
    }

    #[test]
    fn get_info_has_the_value_that_its_reader_insists_on() {
        let body = error(&head("GetInfo", 1), "08003", "Gone.");
        assert!(body.ends_with("Gone.\0\x0c\0\x02\x0b\0\x01\0\0\0\0\0\0\0"), "{body:?}");
    }

    #[test]
    fn a_sequence_id_that_no_string_can_hold_gets_an_exception() {
        let body = error(&head("FetchResults", 128), "08003", "Gone.");
        assert!(body.starts_with("\0\0\0\x0cFetchResults\x03\0\0\0\0\x0b\0\x01\0\0\0\x05Gone."), "{body:?}");
    }

    #[test]
    fn a_method_without_status_gets_an_exception_too() {
        assert_eq!(error(&head("GetQueryId", 3), "08003", "Gone.").as_bytes()[14], EXCEPTION);
    }

    #[test]
    fn a_message_whose_length_would_need_a_high_byte_is_padded() {
        let body = error(&head("CloseSession", 1), "08003", &"x".repeat(200));
        assert!(body.contains(&format!("\x0b\0\x05\0\0\x01\0{}{}", "x".repeat(200), " ".repeat(56))));
    }

    #[test]
    fn other_scripts_are_shown_by_their_codes() {
        assert_eq!(ascii("„Müller“ – ja… 🦀", 99), "\"M\\u00fcller\" - ja... \\ud83e\\udd80");
    }

    proptest! {
        #[test]
        fn every_byte_is_below_0x80(
            method in "[A-Za-z]{1,30}|OpenSession|GetInfo", sequence_id in any::<i32>(), message in ".{0,400}",
        ) {
            prop_assert!(error(&head(&method, sequence_id), "HY000", &message).is_ascii());
        }
    }
}
