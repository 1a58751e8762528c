use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::spark::thrift_head;
use crate::spark::thrift_type::{I64, MAP, STOP};

/// `{1: {1: guid, 2: secret}}`
fn handle(guid: &[u8]) -> Vec<u8> {
    let half = |number: u8, half: &[u8]| {
        [&[STRING, 0, number], (half.len() as u32).to_be_bytes().as_slice(), half].concat()
    };
    [vec![STRUCT, 0, 1], half(1, guid), half(2, &[9; 16]), vec![STOP, STOP]].concat()
}

fn named(guid: u8) -> Vec<u8> {
    [vec![STRUCT, 0, 1], handle(&[guid; 16])].concat()
}

fn statement(length: usize) -> Vec<u8> {
    [&[STRING, 0, 2], (length as u32).to_be_bytes().as_slice(), &vec![b'x'; length]].concat()
}

/// What hive-jdbc sends behind its statement: an empty `confOverlay`, `runAsync`, `queryTimeout`.
fn settings() -> Vec<u8> {
    [[MAP, 0, 3, STRING, STRING, 0, 0, 0, 0].as_slice(), &[2, 0, 4, 1], &[I64, 0, 5], &[0; 8]].concat()
}

fn call(method: &str, fields: &[Vec<u8>]) -> Vec<u8> {
    let mut call = vec![0x80, 1, 0, 1];
    call.extend((method.len() as u32).to_be_bytes());
    call.extend(method.as_bytes());
    call.extend([0, 0, 0, 1, STRUCT, 0, 1]);
    call.extend(fields.concat());
    call.extend([STOP, STOP]);
    call
}

fn whole(body: &[u8]) -> Result<(), SessionError> {
    check(body, Some(body.len()))
}

#[test]
fn what_clients_send_is_about_one_session() {
    for fields in [vec![named(1)], vec![named(1), statement(20), settings()]] {
        assert_eq!(whole(&call("ExecuteStatement", &fields)), Ok(()));
    }
    assert_eq!(whole(&call("CloseSession", &[named(1)])), Ok(()));
    // Names none.
    assert_eq!(whole(&call("FetchResults", &[])), Ok(()));
}

#[test]
fn a_second_handle_is_refused_on_every_level() {
    let twice = Err(SessionError::Twice);
    assert_eq!(whole(&call("ExecuteStatement", &[named(1), statement(5), named(2)])), twice);
    // {1: {1: …}, 1: {1: …}}: two requests.
    let one = call("ExecuteStatement", &[named(1)]);
    let two = [&one[..one.len() - 1], &[STRUCT, 0, 1], &named(2), &[STOP, STOP]].concat();
    assert_eq!(whole(&two), twice);
    // Two identifiers in a handle, two guids in an identifier.
    let inner = handle(&[1; 16]);
    let identifiers = [&[STRUCT, 0, 1], &inner[..inner.len() - 1], &handle(&[2; 16])].concat();
    assert_eq!(whole(&call("CloseSession", &[identifiers])), twice);
    let guid = [[STRING, 0, 1].as_slice(), &[0, 0, 0, 16], &[1; 16]].concat();
    let guids = [[STRUCT, 0, 1, STRUCT, 0, 1].as_slice(), &guid, &guid, &[STOP, STOP]].concat();
    assert_eq!(whole(&call("CloseSession", &[guids])), twice);
}

/// Spark takes the first 16 bytes of a longer one.
#[rstest]
fn a_guid_of_another_length_is_refused(#[values(0, 15, 17, 32)] length: usize) {
    let body = call("CloseSession", &[[vec![STRUCT, 0, 1], handle(&vec![1; length])].concat()]);
    assert_eq!(whole(&body), Err(SessionError::Unreadable));
}

#[test]
fn a_long_statement_passes_where_nothing_can_be_hidden_behind_it() {
    let body = call("ExecuteStatement", &[named(1), statement(100_000), settings()]);
    assert_eq!(check(&body[..8192], Some(body.len())), Ok(()));
    assert_eq!(check(&body[..8192], None), Err(SessionError::Hidden), "its length is not known");
    for cut in [30, 60, 90] {
        assert_eq!(check(&body[..cut], Some(body.len())), Err(SessionError::Hidden), "cut at {cut}");
    }
}

#[rstest]
#[case::another_handle(named(2))]
#[case::room_for_one(vec![STRING, 0, 9, 0, 0, 0, 60].into_iter().chain([0; 60]).collect())]
fn a_long_statement_with_room_behind_it_is_refused(#[case] behind: Vec<u8>) {
    let body = call("ExecuteStatement", &[named(1), statement(100_000), behind]);
    assert_eq!(check(&body[..8192], Some(body.len())), Err(SessionError::Hidden));
}

#[test]
fn what_ends_too_early_or_has_unknown_types_is_refused() {
    let body = call("ExecuteStatement", &[named(1), statement(5)]);
    for cut in [24, 40, 70, body.len() - 1] {
        assert_eq!(whole(&body[..cut]), Err(SessionError::Unreadable), "cut at {cut}");
    }
    let unknown = call("ExecuteStatement", &[vec![99, 0, 7], named(1)]);
    assert_eq!(whole(&unknown), Err(SessionError::Unreadable));
}

/// As Spark's generated code reads it: the last one counts.
fn as_spark(body: &[u8]) -> Option<Vec<u8>> {
    fn last(bytes: &mut Bytes<'_>, above: u8) -> Result<Option<Vec<u8>>, Malformed> {
        let kind_on_the_way = if above == 0 { STRING } else { STRUCT };
        let mut found = None;
        while let Some((kind, number)) = bytes.field()? {
            match (kind, number) == (kind_on_the_way, 1) {
                true if above == 0 => found = Some(bytes.text()?.to_vec()),
                true => found = last(bytes, above - 1)?,
                false => bytes.skip(kind, MAX_DEPTH)?,
            }
        }
        Ok(found)
    }
    let (_, arguments) = thrift_head::split(body).ok()?;
    last(&mut Bytes(arguments), LEVELS).ok()?
}

proptest! {
    /// Whatever passes is about the same session for Spark as for the gateway, which saw only its beginning.
    #[test]
    fn what_passes_is_about_the_session_that_its_head_shows(
        fields in prop::collection::vec(
            prop_oneof![(1..4_u8).prop_map(named), (0..200_usize).prop_map(statement), Just(settings())],
            0..5,
        ),
        visible in 20..600_usize,
        noise in prop::collection::vec((0..600_usize, any::<u8>()), 0..2),
    ) {
        let mut body = call("ExecuteStatement", &fields);
        for (at, byte) in noise {
            if at >= 28 && at < body.len() {
                body[at] = byte;
            }
        }
        let visible = &body[..visible.min(body.len())];
        if check(visible, Some(body.len())).is_ok()
            && let Some(sparks) = as_spark(&body)
        {
            let shown = thrift_head::read(visible).unwrap().session_handle;
            prop_assert_eq!(shown.map(|id| id.as_bytes().to_vec()), Some(sparks[..16].to_vec()));
        }
    }
}
