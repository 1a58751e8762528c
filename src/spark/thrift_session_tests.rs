use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::spark::thrift_type::{I32, STOP};

const ID: &str = "00112233-4455-6677-8899-aabbccddeeff";

fn handle() -> SessionHandle {
    SessionHandle::new(ID.parse().unwrap(), [7; 16])
}

/// `{1: {1: guid, 2: secret}}`, as a Thrift Server writes a handle.
fn written(handle: &SessionHandle) -> Vec<u8> {
    let halves = [(1, handle.id.as_bytes()), (2, &handle.secret)];
    let halves = halves
        .iter()
        .flat_map(|(number, half)| [&[STRING, 0, *number, 0, 0, 0, 16], half.as_slice()].concat());
    [STRUCT, 0, 1].into_iter().chain(halves).chain([STOP, STOP]).collect()
}

fn head(method: &str, strict: bool, kind: u8) -> Vec<u8> {
    let mut head = if strict { vec![0x80, 1, 0, kind] } else { Vec::new() };
    head.extend((method.len() as u32).to_be_bytes());
    head.extend(method.as_bytes());
    if !strict {
        head.push(kind);
    }
    head.extend([0, 0, 0, 5]);
    head
}

/// Spark's answer: status {1: 0}, 2: V10, 3: the handle, 4: an empty configuration.
fn answer(strict: bool, handle: Option<&[u8]>) -> Vec<u8> {
    let mut answer = head("OpenSession", strict, 2);
    answer.extend([STRUCT, 0, 0, STRUCT, 0, 1, I32, 0, 1, 0, 0, 0, 0, STOP, I32, 0, 2, 0, 0, 0, 9]);
    if let Some(handle) = handle {
        answer.extend([STRUCT, 0, 3]);
        answer.extend(handle);
    }
    answer.extend(b"\x0d\0\x04\x0b\x0b\0\0\0\0\0\0");
    answer
}

#[rstest]
fn the_handle_of_an_answer_is_read(#[values(true, false)] strict: bool) {
    assert_eq!(opened(&answer(strict, Some(&written(&handle())))), Ok(Some(handle())));
}

/// Spark answers in the strict form, whatever form the call has.
#[test]
fn the_answer_of_spark_4_1_is_read() {
    let answer = include_bytes!("../../tests/fuzz/corpus/thrift_session/spark-4.1");
    let id = opened(answer).unwrap().unwrap().id;
    assert_eq!(id.to_string(), "0ec5ea62-4d7a-4753-a65a-7c97f2261b28");
}

#[test]
fn without_a_session_there_is_no_handle() {
    assert_eq!(opened(&answer(true, None)), Ok(None));
    let exception = [head("OpenSession", true, 3), b"\x0b\0\x01\0\0\0\x03No.\0".to_vec()].concat();
    assert_eq!(opened(&exception), Ok(None));
}

#[rstest]
#[case::a_call(head("OpenSession", true, 1), AnswerError::Head(HeadError::NotThrift))]
#[case::another_answer(head("CloseSession", true, 2), AnswerError::OtherMethod)]
#[case::a_page(b"<html>".to_vec(), AnswerError::Head(HeadError::NotThrift))]
#[case::nothing(Vec::new(), AnswerError::Head(HeadError::Cut))]
#[case::cut_in_the_handle(answer(true, Some(&written(&handle())))[..80].to_vec(), AnswerError::Malformed(Malformed::Cut))]
#[case::a_short_half(answer(true, Some(&[STRUCT, 0, 1, STRING, 0, 1, 0, 0, 0, 1, 7, STRING, 0, 2, 0, 0, 0, 1, 7, STOP, STOP])), AnswerError::NoHandle)]
fn what_is_no_answer_is_said_to_be_none(#[case] answer: Vec<u8>, #[case] expected: AnswerError) {
    assert_eq!(opened(&answer), Err(expected));
}

#[rstest]
fn calls_tell_the_public_half(
    #[values("CloseSession", "ExecuteStatement", "GetInfo", "GetTables")] method: &str,
    #[values(true, false)] strict: bool,
) {
    let mut call = head(method, strict, 1);
    call.extend([STRUCT, 0, 1, STRUCT, 0, 1]);
    call.extend(written(&handle()));
    call.extend(b"\x0b\0\x02\0\0\0\x08SELECT 1\0\0");
    assert_eq!(thrift_head::read(&call).unwrap().session_handle, Some(handle().id));
    // Where Envoy cuts a long statement.
    call.truncate(call.len() - 5);
    assert_eq!(thrift_head::read(&call).unwrap().session_handle, Some(handle().id));
}

#[test]
fn the_handle_of_an_operation_is_no_session_s() {
    for method in ["FetchResults", "CloseOperation", "GetOperationStatus", "OpenSession"] {
        let mut call = head(method, true, 1);
        call.extend([STRUCT, 0, 1, STRUCT, 0, 1]);
        call.extend(written(&handle()));
        assert_eq!(thrift_head::read(&call).unwrap().session_handle, None);
    }
}

#[test]
fn a_close_session_carries_both_halves() {
    let call = close_session(&handle());
    assert_eq!(thrift_head::read(&call).unwrap().session_handle, Some(handle().id));
    let expected = [
        head("CloseSession", true, 1)[..20].to_vec(),
        vec![0, 0, 0, 0, STRUCT, 0, 1, STRUCT, 0, 1],
        written(&handle()),
        vec![STOP, STOP],
    ];
    assert_eq!(call, expected.concat());
}

#[test]
fn the_secret_half_is_never_printed() {
    assert_eq!(format!("{:?}", handle()), format!("SessionHandle {{ id: {ID}, .. }}"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = opened(&bytes);
        let _ = of_call("CloseSession", &bytes);
    }

    #[test]
    fn every_handle_comes_back(id in any::<u128>(), secret in any::<[u8; 16]>(), strict in any::<bool>()) {
        let handle = SessionHandle::new(Uuid::from_u128(id), secret);
        prop_assert_eq!(opened(&answer(strict, Some(&written(&handle)))), Ok(Some(handle)));
    }

    /// A cut answer never gives another handle.
    #[test]
    fn an_answer_that_is_cut_gives_the_handle_or_none(length in 0_usize..150) {
        let whole = answer(true, Some(&written(&handle())));
        let cut = &whole[..length.min(whole.len())];
        prop_assert!(matches!(opened(cut), Err(_) | Ok(None)) || opened(cut) == Ok(Some(handle())));
    }
}
