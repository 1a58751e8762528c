use proptest::collection::vec;
use proptest::prelude::*;
use rstest::rstest;

use super::OpenSessionError::{NegativeLength, TooDeep, UnknownType};
use super::*;
use crate::spark::thrift_type::STOP;

/// An OpenSession call, put together as hive-jdbc does it.
#[derive(Clone, Debug)]
struct Call {
    strict: bool,
    sequence_id: i32,
    /// Fields of TOpenSessionReq before and after the configuration, as they are on the wire.
    before: Vec<u8>,
    entries: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    after: Vec<u8>,
    trailing: Vec<u8>,
}

impl Call {
    fn message(&self) -> Vec<u8> {
        let name = [0, 0, 0, 11].iter().chain(b"OpenSession");
        let mut message = if self.strict { vec![0x80, 1, 0, 1] } else { Vec::new() };
        message.extend(name);
        if !self.strict {
            message.push(1);
        }
        message.extend(self.sequence_id.to_be_bytes());
        message.extend([STRUCT, 0, 1]);
        message.extend(&self.before);
        if let Some(entries) = &self.entries {
            message.extend([MAP, 0, 4, STRING, STRING]);
            message.extend((entries.len() as i32).to_be_bytes());
            for text in entries.iter().flat_map(|(key, value)| [key, value]) {
                message.extend((text.len() as i32).to_be_bytes());
                message.extend(text);
            }
        }
        message.extend(&self.after);
        message.extend([STOP, STOP]);
        message.extend(&self.trailing);
        message
    }
}

fn hive_jdbc() -> Call {
    Call {
        strict: true,
        sequence_id: 1,
        // client_protocol = V10, username "ana", password "x"
        before: b"\x08\0\x01\0\0\0\x09\x0b\0\x02\0\0\0\x03ana\x0b\0\x03\0\0\0\x01x".to_vec(),
        entries: Some(vec![
            (b"use:database".to_vec(), b"default".to_vec()),
            (b"set:hiveconf:a".to_vec(), b"1".to_vec()),
        ]),
        after: Vec::new(),
        trailing: Vec::new(),
    }
}

#[test]
fn the_configuration_of_hive_jdbc_is_read() {
    let message = hive_jdbc().message();
    let read = read(&message).unwrap();
    assert_eq!(
        read.configuration(),
        [(b"use:database".as_slice(), b"default".as_slice()), (b"set:hiveconf:a", b"1")]
    );
}

#[test]
fn a_call_without_configuration_gets_one() {
    let without = Call { entries: None, ..hive_jdbc() };
    let with = Call { entries: Some(vec![(b"k".to_vec(), b"v".to_vec())]), ..hive_jdbc() };
    let message = without.message();
    let read = read(&message).unwrap();
    assert_eq!(read.configuration(), []);
    assert_eq!(read.with_configuration(&[(b"k", b"v")]).unwrap(), with.message());
}

#[test]
fn the_empty_map_of_a_writer_that_leaves_the_types_out_is_read() {
    let mut message = Call { entries: Some(Vec::new()), ..hive_jdbc() }.message();
    let end = message.len() - 2;
    message[end - 6..end - 4].fill(0);
    assert_eq!(read(&message).unwrap().configuration(), []);
}

fn with(before: &[u8]) -> Vec<u8> {
    Call { before: before.to_vec(), ..hive_jdbc() }.message()
}

fn deep(levels: usize) -> Vec<u8> {
    let mut field = [STRUCT, 0, 9].repeat(levels);
    field.extend(vec![STOP; levels]);
    field
}

#[rstest]
#[case::nothing(Vec::new(), OpenSessionError::Head(HeadError::Cut))]
#[case::another_call(b"\x80\x01\0\x01\0\0\0\x07GetInfo\0\0\0\x01\0".to_vec(), OtherMethod)]
#[case::no_arguments(b"\x80\x01\0\x01\0\0\0\x0bOpenSession\0\0\0\x01\0".to_vec(), NoRequest)]
#[case::only_the_head(b"\x80\x01\0\x01\0\0\0\x0bOpenSession\0\0\0\x01".to_vec(), Cut)]
#[case::a_second_map(with(&[MAP, 0, 4, STRING, STRING, 0, 0, 0, 0]), Twice)]
#[case::a_map_of_structs(with(&[MAP, 0, 4, STRING, STRUCT, 0, 0, 0, 1, 0, 0, 0, 0, STOP]), NotTexts)]
#[case::a_negative_count(with(&[MAP, 0, 4, STRING, STRING, 0xff, 0, 0, 0]), NegativeLength)]
#[case::a_count_of_two_billion(with(&[MAP, 0, 4, STRING, STRING, 0x7f, 0xff, 0xff, 0xff]), Cut)]
#[case::a_text_of_two_gigabytes(with(&[STRING, 0, 9, 0x7f, 0xff, 0xff, 0xff]), Cut)]
#[case::a_negative_text(with(&[STRING, 0, 9, 0x80, 0, 0, 0]), NegativeLength)]
#[case::no_such_type(with(&[7, 0, 9]), UnknownType)]
#[case::two_billion_times_nothing(with(&[15, 0, 9, 0, 0x7f, 0xff, 0xff, 0xff]), UnknownType)]
#[case::nested_too_deeply(with(&deep(17)), TooDeep)]
fn what_cannot_be_read_is_refused(#[case] message: Vec<u8>, #[case] expected: OpenSessionError) {
    assert_eq!(read(&message).unwrap_err(), expected);
}

#[test]
fn nesting_up_to_the_bound_is_kept() {
    let message = with(&deep(16));
    assert_eq!(read(&message).unwrap().configuration().len(), 2);
}

#[test]
fn a_second_request_is_refused() {
    let mut message = hive_jdbc().message();
    let request = message[23..message.len() - 1].to_vec();
    message.pop();
    message.extend(request);
    message.push(STOP);
    assert_eq!(read(&message).unwrap_err(), Twice);
}

/// A value with its type, of every type that Thrift has.
fn value(depth: u32) -> BoxedStrategy<(u8, Vec<u8>)> {
    let plain = prop_oneof![
        any::<[u8; 1]>().prop_map(|it| (2, it.to_vec())),
        any::<[u8; 1]>().prop_map(|it| (3, it.to_vec())),
        any::<[u8; 8]>().prop_map(|it| (4, it.to_vec())),
        any::<[u8; 2]>().prop_map(|it| (6, it.to_vec())),
        any::<[u8; 4]>().prop_map(|it| (8, it.to_vec())),
        any::<[u8; 8]>().prop_map(|it| (10, it.to_vec())),
        any::<[u8; 16]>().prop_map(|it| (16, it.to_vec())),
        vec(any::<u8>(), 0..9)
            .prop_map(|it| (STRING, [(it.len() as i32).to_be_bytes().as_slice(), &it].concat())),
    ];
    plain
        .prop_recursive(depth, 24, 3, |inner| {
            prop_oneof![
                fields(inner.clone()).prop_map(|it| (STRUCT, [it, vec![STOP]].concat())),
                (inner.clone(), 0..4_u8, 14..=15_u8).prop_map(|((kind, item), count, list)| {
                    (list, [&[kind, 0, 0, 0, count], item.repeat(count.into()).as_slice()].concat())
                }),
                (inner.clone(), inner, 0..4_u8).prop_map(|((key, k), (value, v), count)| {
                    (
                        MAP,
                        [&[key, value, 0, 0, 0, count], [k, v].concat().repeat(count.into()).as_slice()]
                            .concat(),
                    )
                }),
            ]
        })
        .boxed()
}

/// Fields whose numbers a later version might give.
fn fields(value: impl Strategy<Value = (u8, Vec<u8>)>) -> impl Strategy<Value = Vec<u8>> {
    vec((5..i16::MAX, value), 0..4).prop_map(|fields| {
        let field = |(id, (kind, bytes)): (i16, (u8, Vec<u8>))| {
            [&[kind], id.to_be_bytes().as_slice(), &bytes].concat()
        };
        fields.into_iter().flat_map(field).collect()
    })
}

fn entries() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    vec((vec(any::<u8>(), 0..12), vec(any::<u8>(), 0..12)), 0..5)
}

prop_compose! {
    fn call()(
        strict: bool,
        sequence_id: i32,
        before in fields(value(4)),
        entries in proptest::option::of(entries()),
        after in fields(value(4)),
        trailing in vec(any::<u8>(), 0..4),
    ) -> Call {
        Call { strict, sequence_id, before, entries, after, trailing }
    }
}

fn borrowed(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<Entry<'_>> {
    entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_the_call_with_another_map_and_nothing_else(call in call(), other in entries()) {
        let message = call.message();
        let read = read(&message).unwrap();
        let entries = call.entries.clone().unwrap_or_default();
        prop_assert_eq!(read.configuration(), borrowed(&entries));
        let written = read.with_configuration(&borrowed(&other)).unwrap();
        // Without a map of its own a call gets one at the end.
        let fields = if call.entries.is_some() { (call.before, call.after) } else {
            ([call.before, call.after].concat(), Vec::new())
        };
        let expected = Call { before: fields.0, after: fields.1, entries: Some(other), ..call };
        prop_assert_eq!(written, expected.message());
    }

    #[test]
    fn a_call_that_is_cut_anywhere_is_refused(call in call(), at in any::<prop::sample::Index>()) {
        let message = Call { trailing: Vec::new(), ..call }.message();
        prop_assert!(read(&message[..at.index(message.len())]).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let _ = read(&[b"\x80\x01\0\x01\0\0\0\x0bOpenSession\0\0\0\x01\x0c\0\x01", bytes.as_slice()].concat());
    }

    #[test]
    fn a_changed_byte_makes_it_neither_panic_nor_lose_bytes(
        call in call(), at in any::<prop::sample::Index>(), byte: u8,
    ) {
        let mut message = call.message();
        let at = at.index(message.len());
        message[at] = byte;
        if let Ok(read) = read(&message) {
            let written = read.with_configuration(read.configuration()).unwrap();
            let again = super::read(&written).unwrap();
            prop_assert_eq!(again.configuration(), read.configuration());
            // Not even a map that was not there adds more than its head.
            prop_assert!(message.len() <= written.len() && written.len() <= message.len() + 9);
        }
    }
}
