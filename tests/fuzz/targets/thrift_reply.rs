//! An error in TCLIService's words, for any call and any message: text below 0x80 that is one whole Thrift message.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use spark_session_operator::model::ThriftHead;
use spark_session_operator::spark::thrift_reply;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    known: Option<u8>,
    sequence_id: i32,
    method: &'a str,
    sql_state: &'a str,
    message: &'a str,
}

const KNOWN: [&str; 5] = ["OpenSession", "GetInfo", "CloseSession", "ExecuteStatement", "GetQueryId"];

fuzz_target!(|input: Input<'_>| {
    let known = input.known.and_then(|index| KNOWN.get(usize::from(index)));
    let method = known.copied().unwrap_or(input.method);
    let head = ThriftHead { method: method.to_owned(), sequence_id: input.sequence_id, session_handle: None };
    let reply = thrift_reply::error(&head, input.sql_state, input.message);
    assert!(reply.is_ascii());

    let mut bytes = reply.as_bytes();
    let name = text(&mut bytes);
    if known.is_some() {
        assert_eq!(name, method.as_bytes());
    }
    let kind = take(&mut bytes, 1)[0];
    assert!(kind == 2 || kind == 3, "neither a reply nor an exception");
    let sequence_id = i32::from_be_bytes(take(&mut bytes, 4).try_into().unwrap());
    assert!(sequence_id == input.sequence_id || (kind == 3 && sequence_id == 0));
    let texts = structure(&mut bytes);
    assert!(bytes.is_empty(), "{} bytes behind the message", bytes.len());
    if input.message.len() <= thrift_reply::MAX_MESSAGE && input.message.is_ascii() {
        let message = unpadded(input.message.as_bytes());
        assert!(texts.iter().any(|text| unpadded(text) == message), "the message is lost");
    }
});

fn unpadded(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    &text[..end]
}

/// Reads a struct to its end, and returns the texts in it.
fn structure<'a>(bytes: &mut &'a [u8]) -> Vec<&'a [u8]> {
    let mut texts = Vec::new();
    loop {
        let kind = take(bytes, 1)[0];
        if kind == 0 {
            return texts;
        }
        take(bytes, 2);
        match kind {
            8 => drop(take(bytes, 4)),
            11 => texts.push(text(bytes)),
            12 => texts.extend(structure(bytes)),
            other => panic!("a field of type {other}"),
        }
    }
}

fn text<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let length = u32::from_be_bytes(take(bytes, 4).try_into().unwrap());
    take(bytes, length as usize)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at_checked(length).expect("the message ends too early");
    *bytes = rest;
    taken
}
