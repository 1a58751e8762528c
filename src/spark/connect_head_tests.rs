use proptest::prelude::*;
use rstest::rstest;

use super::*;

const SESSION: &str = "00112233-4455-6677-8899-aabbccddeeff";

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn text(number: u64, value: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn frame(fields: &[Vec<u8>]) -> Vec<u8> {
    let message = fields.concat();
    [vec![0], (message.len() as u32).to_be_bytes().to_vec(), message].concat()
}

fn user() -> Vec<u8> {
    text(2, &text(1, b"ana"))
}

#[test]
fn the_session_is_read_from_a_whole_request() {
    let head = read(ConnectMethod::Config, &frame(&[text(1, SESSION.as_bytes()), user()])).unwrap();
    assert_eq!(head.session_id.to_string(), SESSION);
    assert_eq!(head.observed_server_session_id, None);
}

#[rstest]
#[case::usual(frame(&[text(1, SESSION.as_bytes()), user()]), Some("ana"))]
#[case::nobody(frame(&[text(1, SESSION.as_bytes())]), None)]
#[case::name_only(frame(&[text(2, &text(2, b"ana"))]), None)]
#[case::not_utf8(frame(&[text(2, &text(1, b"\xff"))]), None)]
#[case::not_a_message(frame(&[text(2, b"\xff\xff")]), None)]
#[case::compressed(vec![1, 0, 0, 0, 0], None)]
#[case::empty(vec![], None)]
fn the_user_id_is_read_where_there_is_one(#[case] body: Vec<u8>, #[case] expected: Option<&str>) {
    assert_eq!(user_id(&body), expected);
}

#[rstest]
#[case(ConnectMethod::ExecutePlan, 8)]
#[case(ConnectMethod::Config, 8)]
#[case(ConnectMethod::AnalyzePlan, 17)]
#[case(ConnectMethod::AddArtifacts, 7)]
#[case(ConnectMethod::Interrupt, 7)]
#[case(ConnectMethod::ReleaseExecute, 7)]
#[case(ConnectMethod::ReattachExecute, 6)]
#[case(ConnectMethod::FetchErrorDetails, 5)]
#[case(ConnectMethod::CloneSession, 5)]
#[case(ConnectMethod::ArtifactStatus, 5)]
fn the_observed_server_session_stands_where_the_method_has_it(
    #[case] method: ConnectMethod,
    #[case] number: u64,
) {
    let body = frame(&[text(number, b"seen"), user(), text(1, SESSION.as_bytes())]);
    assert_eq!(read(method, &body).unwrap().observed_server_session_id.as_deref(), Some("seen"));
    assert_eq!(read(ConnectMethod::ReleaseSession, &body).unwrap().observed_server_session_id, None);
}

#[test]
fn a_plan_longer_than_the_visible_bytes_does_not_matter() {
    let mut body = frame(&[text(1, SESSION.as_bytes()), user(), text(3, &[7; 20_000]), text(8, b"seen")]);
    body.truncate(8192);
    let head = read(ConnectMethod::ExecutePlan, &body).unwrap();
    assert_eq!((head.session_id.to_string().as_str(), head.observed_server_session_id), (SESSION, None));
}

#[rstest]
#[case::session(vec![text(1, SESSION.as_bytes()), user(), text(1, SESSION.as_bytes())])]
#[case::user(vec![text(1, SESSION.as_bytes()), user(), user()])]
fn a_message_that_names_session_or_user_twice_is_refused(#[case] fields: Vec<Vec<u8>>) {
    assert_eq!(read(ConnectMethod::Config, &frame(&fields)), Err(HeadError::Duplicate));
}

#[test]
fn a_second_session_that_is_cut_off_is_refused_too() {
    let mut body = frame(&[text(1, SESSION.as_bytes()), text(1, &[b'a'; 9000])]);
    body.truncate(8192);
    assert_eq!(read(ConnectMethod::ExecutePlan, &body), Err(HeadError::Duplicate));
}

/// Java's protobuf takes this length for 1, and would read on to the other session.
#[test]
fn a_length_that_hides_a_second_session_is_refused() {
    let hiding = [vec![0x1a, 0x81, 0x80, 0x80, 0x80, 0x10, b'x'], text(1, &[b'a'; 36])].concat();
    let mut body = frame(&[text(1, SESSION.as_bytes()), hiding, text(3, &[7; 9000])]);
    body.truncate(8192);
    assert_eq!(read(ConnectMethod::ExecutePlan, &body), Err(HeadError::NotGrpc));
}

#[rstest]
#[case::nothing(vec![], HeadError::Empty)]
#[case::compressed(vec![1, 0, 0, 0, 0], HeadError::Compressed)]
#[case::http(b"hello".to_vec(), HeadError::NotGrpc)]
#[case::half_a_frame_header(vec![0, 0, 0], HeadError::Cut)]
#[case::empty_message(vec![0, 0, 0, 0, 0], HeadError::NotUuid(String::new()))]
#[case::not_yet(vec![0, 0, 0, 0, 40, 0x0a, 36, b'0'], HeadError::NoSession(8))]
#[case::truncated_inside_its_frame(vec![0, 0, 0, 0, 3, 0x0a, 36, b'0'], HeadError::NotGrpc)]
#[case::number_as_session(vec![0, 0, 0, 0, 2, 0x08, 1], HeadError::NotGrpc)]
fn what_is_no_head_is_told_in_words(#[case] body: Vec<u8>, #[case] expected: HeadError) {
    assert_eq!(read(ConnectMethod::Config, &body), Err(expected));
}

#[rstest]
#[case("abc")]
// Java's `UUID.fromString` takes these.
#[case("1-1-1-1-1")]
#[case("00112233-4455-6677-8899-0aabbccddeeff")]
#[case("00112233445566778899aabbccddeeff")]
#[case("urn:uuid:00112233-4455-6677-8899-aabbccddeeff")]
#[case("{00112233-4455-6677-8899-aabbccddeeff}")]
fn a_session_id_in_another_form_gets_spark_s_own_words(#[case] id: &str) {
    let error = read(ConnectMethod::Config, &frame(&[text(1, id.as_bytes())])).unwrap_err();
    assert!(error.to_string().starts_with(&format!("[INVALID_HANDLE.FORMAT] The handle {id} is invalid.")));
}

#[rstest]
#[case::all("00112233-4455-6677-8899-AABBCCDDEEFF")]
#[case::one("00112233-4455-6677-8899-aabbccddeefF")]
fn a_session_id_in_upper_case_is_refused_with_the_one_to_send(
    #[case] sent: &str,
    #[values(
        ConnectMethod::ExecutePlan,
        ConnectMethod::ReattachExecute,
        ConnectMethod::Interrupt,
        ConnectMethod::ReleaseSession,
        ConnectMethod::CloneSession
    )]
    method: ConnectMethod,
) {
    let words = format!(
        "The session id {sent} has upper-case letters. Spark takes an id in another spelling for another session, so send \
         it as {SESSION}."
    );
    let told = |fields: &[Vec<u8>]| read(method, &frame(fields)).unwrap_err().to_string();
    assert_eq!(told(&[text(1, sent.as_bytes()), user()]), words);
    // It may be what a clone is to be called.
    if method == ConnectMethod::CloneSession {
        assert_eq!(told(&[text(1, SESSION.as_bytes()), text(4, sent.as_bytes())]), words);
    }
}

#[test]
fn the_method_is_told_by_the_path() {
    assert_eq!(
        method("/spark.connect.SparkConnectService/ReleaseSession"),
        Some(ConnectMethod::ReleaseSession)
    );
    assert_eq!(method("/spark.connect.SparkConnectService/OfALaterSpark"), Some(ConnectMethod::Unknown));
    assert_eq!(method("/grpc.health.v1.Health/Check"), None);
}

#[test]
fn a_clone_s_id_is_read_where_the_client_chooses_it() {
    let clone = |fields: &[Vec<u8>]| read(ConnectMethod::CloneSession, &frame(fields)).map(|head| head.clone);
    let (parent, id) = (text(1, SESSION.as_bytes()), Uuid::from_u128(9));
    let own = text(4, id.to_string().as_bytes());
    assert_eq!(clone(&[parent.clone(), user()]), Ok(None));
    let expected = CloneId { session_id: id, chosen_by_client: true };
    assert_eq!(clone(&[parent.clone(), own.clone()]), Ok(Some(expected)));
    assert_eq!(clone(&[parent.clone(), own.clone(), own.clone()]), Err(HeadError::Duplicate));
    assert_eq!(clone(&[parent.clone(), text(4, b"")]), Err(HeadError::NotUuid(String::new())));
    let config = read(ConnectMethod::Config, &frame(&[parent.clone(), own]));
    assert_eq!(config.map(|head| head.clone), Ok(None), "a field of that number is something else there");
    // It could stand in what is not seen.
    let long = frame(&[parent, text(3, &[b'x'; 100])]);
    let cut = read(ConnectMethod::CloneSession, &long[..80]);
    assert_eq!(cut, Err(HeadError::LongClone(80)));
}

#[test]
fn a_clone_is_given_an_id_unless_it_has_one() {
    let (fields, id) = ([text(1, SESSION.as_bytes()), user()], Uuid::from_u128(9));
    let given = with_clone_id(&frame(&fields), id).unwrap();
    assert_eq!(given, frame(&[fields.concat(), text(4, id.to_string().as_bytes())]));
    assert_eq!(with_clone_id(&given, Uuid::from_u128(10)), Err(HeadError::Duplicate));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(ConnectMethod::ExecutePlan, &bytes);
        let _ = read(ConnectMethod::AnalyzePlan, &[vec![0, 0, 0, 1, 0], bytes].concat());
    }

    #[test]
    fn a_clone_that_is_given_an_id_is_the_same_call_otherwise(
        more in prop::collection::vec((5_u64..100, prop::collection::vec(any::<u8>(), 0..50)), 0..5), id in any::<u128>(),
    ) {
        let more = more.iter().map(|(number, value)| text(*number, value));
        let body = frame(&[vec![text(1, SESSION.as_bytes()), user()], more.collect()].concat());
        let before = read(ConnectMethod::CloneSession, &body).unwrap();
        let id = Uuid::from_u128(id);
        let given = with_clone_id(&body, id).unwrap();
        let clone = Some(CloneId { session_id: id, chosen_by_client: true });
        prop_assert_eq!(read(ConnectMethod::CloneSession, &given), Ok(ConnectHead { clone, ..before }));
    }

    #[test]
    fn every_order_and_every_cut_after_the_session_gives_the_same_session(
        id in any::<u128>(), observed in "[a-z0-9-]{1,36}", plan in prop::collection::vec(any::<u8>(), 0..200),
        order in Just(vec![0_usize, 1, 2, 3]).prop_shuffle(), cut in 0_usize..300,
    ) {
        let id = Uuid::from_u128(id);
        let fields = [text(1, id.to_string().as_bytes()), user(), text(3, &plan), text(8, observed.as_bytes())];
        let ordered: Vec<_> = order.iter().map(|index| fields[*index].clone()).collect();
        let body = frame(&ordered);
        let whole = read(ConnectMethod::ExecutePlan, &body);
        prop_assert_eq!(
            whole,
            Ok(ConnectHead { session_id: id, observed_server_session_id: Some(observed), clone: None })
        );
        let session_end = 5 + ordered.iter().take_while(|field| field[0] != 0x0a).map(Vec::len).sum::<usize>() + 38;
        let part = &body[..body.len().min(session_end + cut)];
        prop_assert_eq!(read(ConnectMethod::ExecutePlan, part).map(|head| head.session_id), Ok(id));
    }
}
