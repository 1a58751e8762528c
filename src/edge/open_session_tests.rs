use std::collections::HashMap;
use std::sync::Mutex;

use envoy_types::pb::envoy::service::ext_proc::v3::HttpHeaders;
use uuid::Uuid;

use super::*;
use crate::edge::allow::{self, Allowed};
use crate::model::{ProtectedConf, Route};

/// Knows one session, whose pool protects `secret`, and what was opened of it.
#[derive(Default)]
struct One {
    opened: Mutex<Vec<(Opening, SessionHandle)>>,
    on_their_way: Arc<()>,
}

impl Openings for One {
    type OnItsWay = Arc<()>;

    async fn opens(&self, opening: &Opening) -> Result<(SessionConf, Arc<()>), Denial> {
        let conf = match opening.session.as_str() {
            "s" => SessionConf {
                set: [("team".to_owned(), "all".to_owned())].into(),
                protected: ProtectedConf(vec!["secret".to_owned()]),
                refused: Vec::new(),
            },
            "defect" => panic!("defect"),
            "later" => std::future::pending().await,
            _ => return Err(Denial::new(DenialKind::SessionClosed, "It has ended.")),
        };
        Ok((conf, Arc::clone(&self.on_their_way)))
    }

    async fn opened(&self, opening: &Opening, _: Arc<()>, handle: SessionHandle) {
        assert_ne!(handle.id, Uuid::nil(), "defect");
        self.opened.lock().unwrap().push((opening.clone(), handle));
    }
}

impl One {
    fn on_their_way(&self) -> usize {
        Arc::strong_count(&self.on_their_way) - 1
    }
}

fn exchange() -> Exchange<One> {
    exchange_among(&FairShares::new(Limits { most: MOST_BYTES_WAITING, shares_of_one: usize::MAX }))
}

fn exchange_among(waiting: &Arc<FairShares<String>>) -> Exchange<One> {
    Exchange { openings: Arc::default(), waiting: Arc::clone(waiting), opening: None }
}

/// An OpenSession call of hive-jdbc with these entries.
fn call(entries: &[(&str, &str)]) -> Vec<u8> {
    let message = b"\x80\x01\0\x01\0\0\0\x0bOpenSession\0\0\0\x07\x0c\0\x01\x08\0\x01\0\0\0\x09\0\0";
    let entries: Vec<_> = entries.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())).collect();
    thrift_open_session::read(message).unwrap().with_configuration(&entries).unwrap()
}

/// A message of Envoy's, with the metadata that the check of the same request left.
fn message(session: &str, body: Vec<u8>) -> ProcessingRequest {
    let [cluster, pool, user] = ["c", "p", "ana"].map(str::to_owned);
    let route = Route { cluster, session: session.to_owned(), pool, user, token: None };
    let checked = allow::response(&route, Allowed::ThriftOpenSession, true, &Default::default()).unwrap();
    let filter_metadata = HashMap::from([(EXT_AUTHZ.to_owned(), checked.dynamic_metadata.unwrap())]);
    ProcessingRequest {
        metadata_context: Some(Metadata { filter_metadata, ..Metadata::default() }),
        request: Some(Part::RequestBody(HttpBody { body, end_of_stream: true, ..HttpBody::default() })),
        ..ProcessingRequest::default()
    }
}

#[tokio::test]
async fn a_clone_gets_the_id_that_has_a_place() {
    let (parent, id) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let [cluster, pool, user, session] = ["c", "p", "ana", "s"].map(str::to_owned);
    let route = Route { cluster, session, pool, user, token: None };
    let checked = allow::response(
        &route,
        Allowed::Connect { session_id: parent, clone: Some(id) },
        true,
        &Default::default(),
    );
    let filter_metadata = HashMap::from([(EXT_AUTHZ.to_owned(), checked.unwrap().dynamic_metadata.unwrap())]);
    let field = [&[10, 36][..], parent.to_string().as_bytes()].concat();
    let body = [&[0, 0, 0, 0, 38][..], &field].concat();
    let of = |body: &[u8], end_of_stream| ProcessingRequest {
        metadata_context: Some(Metadata { filter_metadata: filter_metadata.clone(), ..Metadata::default() }),
        request: Some(Part::RequestBody(HttpBody {
            body: body.to_vec(),
            end_of_stream,
            ..HttpBody::default()
        })),
        ..ProcessingRequest::default()
    };
    let expected = [&[0, 0, 0, 0, 76][..], &field, &[34, 36], id.to_string().as_bytes()].concat();
    assert_eq!(replaced(answered(of(&body, true)).await), Some(expected.clone()));
    for (body, end_of_stream) in [(&body[..], false), (&expected, true), (&body[..20], true), (&[], true)] {
        assert!(exchange().answer(of(body, end_of_stream)).await.is_err(), "it never passes without the id");
    }
}

async fn answered(request: ProcessingRequest) -> Answer {
    exchange().answer(request).await.unwrap().response.unwrap()
}

fn replaced(answer: Answer) -> Option<Vec<u8>> {
    let Answer::RequestBody(body) = answer else { panic!("not let through: {answer:?}") };
    match body.response.unwrap().body_mutation?.mutation.unwrap() {
        body_mutation::Mutation::Body(body) => Some(body),
        other => panic!("{other:?}"),
    }
}

fn words(answer: Answer) -> String {
    let Answer::ImmediateResponse(refusal) = answer else { panic!("let through: {answer:?}") };
    assert_eq!(refusal.status.unwrap().code, 200, "clients drop the body of any other");
    String::from_utf8(refusal.body).unwrap()
}

#[tokio::test]
async fn the_session_s_configuration_is_put_into_the_call() {
    let answer = answered(message("s", call(&[("use:database", "sales")]))).await;
    let expected = call(&[("use:database", "sales"), ("set:hiveconf:team", "all")]);
    assert_eq!(replaced(answer), Some(expected));
}

#[tokio::test]
async fn a_protected_key_of_the_client_is_taken_out() {
    let answer = answered(message("s", call(&[("set:hiveconf:secret", "1")]))).await;
    assert_eq!(replaced(answer), Some(call(&[("set:hiveconf:team", "all")])));
}

#[tokio::test]
async fn a_call_that_is_right_already_passes_as_it_is() {
    assert_eq!(replaced(answered(message("s", call(&[("set:hiveconf:team", "mine")]))).await), None);
}

#[tokio::test]
async fn a_session_that_is_gone_is_refused_in_a_reply_to_the_call() {
    let words = words(answered(message("gone", call(&[]))).await);
    assert!(
        words.starts_with("\0\0\0\x0bOpenSession\x02\0\0\0\x07") && words.contains("It has ended."),
        "{words:?}"
    );
}

#[tokio::test]
async fn a_call_that_cannot_be_read_is_refused_in_words() {
    let mut cut = call(&[]);
    cut.pop();
    assert!(
        words(answered(message("s", cut)).await).contains("The OpenSession call ends before it is complete.")
    );
    assert!(words(answered(message("s", b"?".to_vec())).await).contains("ends within the head"));
}

#[tokio::test]
async fn a_call_that_is_too_long_is_refused_in_words() {
    let long = call(&[("set:hiveconf:x", &"x".repeat(MAX_BODY))]);
    assert!(words(answered(message("s", long)).await).contains("longer than 1024 KiB"));
    let mut cut_by_envoy = message("s", call(&[]));
    if let Some(Part::RequestBody(body)) = &mut cut_by_envoy.request {
        body.end_of_stream = false;
    }
    assert!(words(answered(cut_by_envoy).await).contains("longer than 1024 KiB"));
}

#[tokio::test]
async fn without_the_check_s_word_nothing_passes() {
    let mut unknown = message("s", call(&[]));
    unknown.metadata_context = None;
    assert!(words(answered(unknown).await).contains("The gateway failed"));
}

#[tokio::test]
async fn a_panic_is_a_no_in_words() {
    assert!(words(answered(message("defect", call(&[]))).await).contains("The gateway failed"));
}

#[tokio::test]
async fn what_was_not_asked_for_ends_in_an_error_which_envoy_takes_for_a_no() {
    let part = Some(Part::RequestHeaders(HttpHeaders::default()));
    assert!(
        exchange().answer(ProcessingRequest { request: part, ..message("s", Vec::new()) }).await.is_err()
    );
}

/// Spark's answer to an OpenSession, with this handle.
fn opened(id: Uuid) -> ProcessingRequest {
    let head = b"\x80\x01\0\x02\0\0\0\x0bOpenSession\0\0\0\x07\x0c\0\0\x0c\0\x01\x08\0\x01\0\0\0\0\0";
    let handle = b"\x0c\0\x03\x0c\0\x01\x0b\0\x01\0\0\0\x10";
    let secret = b"\x0b\0\x02\0\0\0\x10secret secret 16\0\0\0\0";
    answer_of([head.as_slice(), handle, id.as_bytes(), secret].concat())
}

/// As Envoy sends it: the metadata need not come again.
fn answer_of(body: Vec<u8>) -> ProcessingRequest {
    let body = HttpBody { body, end_of_stream: true, ..HttpBody::default() };
    ProcessingRequest { request: Some(Part::ResponseBody(body)), ..ProcessingRequest::default() }
}

async fn passes(exchange: &mut Exchange<One>, answer: ProcessingRequest) {
    let passed = exchange.answer(answer).await.unwrap().response.unwrap();
    assert_eq!(passed, Answer::ResponseBody(pass(None)));
}

#[tokio::test]
async fn the_handle_in_the_answer_is_noted_and_the_answer_passes_as_it_is() {
    let mut exchange = exchange();
    exchange.answer(message("s", call(&[]))).await.unwrap();
    let id = Uuid::from_u128(7);
    passes(&mut exchange, opened(id)).await;
    let [session, pool, user] = ["s", "p", "ana"].map(str::to_owned);
    let opening = Opening { session, pool, user, cluster: Some("c".to_owned()) };
    let handle = SessionHandle::new(id, *b"secret secret 16");
    assert_eq!(*exchange.openings.opened.lock().unwrap(), [(opening, handle)]);
}

#[tokio::test]
async fn an_answer_that_tells_no_handle_passes_too() {
    let empty = b"\x80\x01\0\x02\0\0\0\x0bOpenSession\0\0\0\x07\0".to_vec();
    for body in [Vec::new(), b"<html>".to_vec(), empty] {
        let mut exchange = exchange();
        exchange.answer(message("s", call(&[]))).await.unwrap();
        passes(&mut exchange, answer_of(body)).await;
        assert!(exchange.openings.opened.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_panic_over_an_answer_does_not_keep_it_from_its_client() {
    let mut exchange = exchange();
    exchange.answer(message("s", call(&[]))).await.unwrap();
    passes(&mut exchange, opened(Uuid::nil())).await;
}

#[tokio::test]
async fn an_answer_to_nothing_that_has_passed_is_not_looked_at() {
    let mut exchange = exchange();
    exchange.answer(message("gone", call(&[]))).await.unwrap();
    passes(&mut exchange, opened(Uuid::from_u128(7))).await;
    assert!(exchange.openings.opened.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_call_is_on_its_way_until_it_is_answered_or_its_stream_ends() {
    let empty = b"\x80\x01\0\x02\0\0\0\x0bOpenSession\0\0\0\x07\0".to_vec();
    for answer in [opened(Uuid::from_u128(7)), answer_of(empty)] {
        let mut exchange = exchange();
        exchange.answer(message("s", call(&[]))).await.unwrap();
        assert_eq!(exchange.openings.on_their_way(), 1);
        passes(&mut exchange, answer).await;
        assert_eq!(exchange.openings.on_their_way(), 0);
    }
    let mut given_up = exchange();
    given_up.answer(message("s", call(&[]))).await.unwrap();
    let openings = Arc::clone(&given_up.openings);
    drop(given_up);
    assert_eq!(openings.on_their_way(), 0);
}

#[tokio::test]
async fn calls_that_wait_do_not_use_up_the_memory() {
    let waiting = FairShares::new(Limits { most: 4 << 20, shares_of_one: usize::MAX });
    let body = call(&[("spark.sql.a", &"x".repeat(900 << 10))]);
    let mut held = Vec::new();
    for _ in 0..10 {
        let (mut exchange, request) = (exchange_among(&waiting), message("later", body.clone()));
        let mut answer = Box::pin(async move { exchange.answer(request).await });
        match futures::poll!(answer.as_mut()) {
            std::task::Poll::Pending => held.push(answer),
            std::task::Poll::Ready(refused) => {
                let Some(Answer::ImmediateResponse(refused)) = refused.unwrap().response else {
                    panic!("passes")
                };
                let words = String::from_utf8_lossy(&refused.body).into_owned();
                assert!(words.contains("Too many connections are being opened at the moment"), "{words}");
            }
        }
    }
    assert_eq!(held.len(), 2, "half of what there is");
}
