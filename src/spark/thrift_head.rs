//! The head of a Thrift binary-protocol message, as the body of an HTTP request: which method is called, and with which
//! session's handle.
//!
//! Nothing is routed by the handle, and Spark's Thrift Server does not check who owns one: `broker::decide` refuses that of
//! another user's session. Calls on an operation do not carry their session's.

use super::thrift_session;
use crate::model::ThriftHead;

/// Why a body is no Thrift call, in words for the person who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("The request's body is not a call in Thrift's binary protocol.")]
    NotThrift,
    #[error("The request's body ends within the head of a Thrift call.")]
    Cut,
}

/// TCLIService's longest method name has 21 bytes; a length far above it is not Thrift.
const LONGEST_NAME: usize = 64;
const STRICT_VERSION: u32 = 0x8001_0000;
const VERSION_MASK: u32 = 0xffff_0000;
const CALL: u32 = 1;
const REPLY: u32 = 2;
const EXCEPTION: u32 = 3;
const ONEWAY: u32 = 4;

/// Reads the strict form, `80 01 00 01 | length | name | sequence id`, which today's clients send, and the old one,
/// `length | name | type | sequence id`.
pub fn read(body: &[u8]) -> Result<ThriftHead, HeadError> {
    let (head, arguments) = split(body)?;
    let session_handle = thrift_session::of_call(&head.method, arguments);
    Ok(ThriftHead { session_handle, ..head })
}

/// The head, and the call's arguments behind it, in which no handle was looked for.
pub(super) fn split(body: &[u8]) -> Result<(ThriftHead, &[u8]), HeadError> {
    match message(body)? {
        (CALL | ONEWAY, method, sequence_id, arguments) => {
            Ok((ThriftHead { method: method.to_owned(), sequence_id, session_handle: None }, arguments))
        }
        _ => Err(HeadError::NotThrift),
    }
}

/// The method that is answered, and its result; `None` where the answer is an exception.
pub(super) fn split_reply(body: &[u8]) -> Result<(&str, Option<&[u8]>), HeadError> {
    match message(body)? {
        (REPLY, method, _, result) => Ok((method, Some(result))),
        (EXCEPTION, method, _, _) => Ok((method, None)),
        _ => Err(HeadError::NotThrift),
    }
}

/// Type, method, sequence id, and what comes behind.
fn message(body: &[u8]) -> Result<(u32, &str, i32, &[u8]), HeadError> {
    let (first, rest) = take_u32(body)?;
    let (kind, name, rest) = if first & 0x8000_0000 != 0 {
        if first & VERSION_MASK != STRICT_VERSION {
            return Err(HeadError::NotThrift);
        }
        let (length, rest) = take_u32(rest)?;
        let (name, rest) = take_name(length, rest)?;
        (first & 0xff, name, rest)
    } else {
        let (name, rest) = take_name(first, rest)?;
        let (kind, rest) = rest.split_first().ok_or(HeadError::Cut)?;
        (u32::from(*kind), name, rest)
    };
    if !(CALL..=ONEWAY).contains(&kind) {
        return Err(HeadError::NotThrift);
    }
    let (sequence_id, rest) = take_u32(rest)?;
    Ok((kind, name, sequence_id.cast_signed(), rest))
}

fn take_u32(bytes: &[u8]) -> Result<(u32, &[u8]), HeadError> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or(HeadError::Cut)?;
    Ok((u32::from_be_bytes(*number), rest))
}

fn take_name(length: u32, bytes: &[u8]) -> Result<(&str, &[u8]), HeadError> {
    let length = length as usize;
    if length == 0 || length > LONGEST_NAME {
        return Err(HeadError::NotThrift);
    }
    let (name, rest) = bytes.split_at_checked(length).ok_or(HeadError::Cut)?;
    let name = std::str::from_utf8(name).map_err(|_| HeadError::NotThrift)?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(HeadError::NotThrift);
    }
    Ok((name, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn strict(name: &str, sequence_id: i32) -> Vec<u8> {
        let length = (name.len() as u32).to_be_bytes();
        [&[0x80, 1, 0, 1], length.as_slice(), name.as_bytes(), &sequence_id.to_be_bytes(), b"arguments"]
            .concat()
    }

    #[test]
    fn a_call_of_hive_jdbc_is_read() {
        let head = read(&strict("OpenSession", 1)).unwrap();
        assert_eq!(head, ThriftHead { method: "OpenSession".into(), sequence_id: 1, session_handle: None });
    }

    #[test]
    fn the_old_form_is_read_too() {
        let body = [&[0, 0, 0, 7], b"GetInfo".as_slice(), &[1, 0, 0, 0, 9]].concat();
        assert_eq!(
            read(&body),
            Ok(ThriftHead { method: "GetInfo".into(), sequence_id: 9, session_handle: None })
        );
    }

    #[rstest]
    #[case::empty(b"".as_slice(), HeadError::Cut)]
    #[case::form(b"user=ana&password=x", HeadError::NotThrift)]
    #[case::compact_protocol(&[0x82, 0x21, 1, 11], HeadError::NotThrift)]
    #[case::a_reply(&[0x80, 1, 0, 2, 0, 0, 0, 1, b'A', 0, 0, 0, 1], HeadError::NotThrift)]
    #[case::cut_in_the_name(&[0x80, 1, 0, 1, 0, 0, 0, 11, b'O'], HeadError::Cut)]
    #[case::cut_before_the_sequence_id(&[0x80, 1, 0, 1, 0, 0, 0, 1, b'A', 0], HeadError::Cut)]
    #[case::name_with_markup(&[0x80, 1, 0, 1, 0, 0, 0, 1, b'<', 0, 0, 0, 1], HeadError::NotThrift)]
    fn anything_else_is_refused(#[case] body: &[u8], #[case] expected: HeadError) {
        assert_eq!(read(body), Err(expected));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
        }

        #[test]
        fn every_name_and_sequence_id_comes_back(name in "[A-Za-z]{1,30}", sequence_id in any::<i32>()) {
            prop_assert_eq!(read(&strict(&name, sequence_id)), Ok(ThriftHead { method: name, sequence_id, session_handle: None }));
        }
    }
}
