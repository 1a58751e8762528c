//! Handles of Thrift sessions: they belong to the user whose session lists them.

use rstest::rstest;

use super::*;

const HANDLE: Uuid = Uuid::from_u128(5);

fn with_handle(method: &str) -> Call {
    let head = ThriftHead { method: method.to_owned(), sequence_id: 1, session_handle: Some(HANDLE) };
    Call::Thrift { session_name: "default".to_owned(), head: Some(head) }
}

fn of_bob() -> Session {
    session("bobs").of("bob").on("p-0").connected(HANDLE, "p-0")
}

#[rstest]
fn another_users_handle_is_refused(
    #[values("ExecuteStatement", "CloseSession", "GetInfo", "GetTables")] method: &str,
    #[values(true, false)] alice_has_a_session: bool,
) {
    let own = session("own").on("p-0").connected(Uuid::from_u128(6), "p-0");
    let sessions = [of_bob()].into_iter().chain(alice_has_a_session.then_some(own));
    let decision = asked(&thrift_world(sessions), &alice(), &with_handle(method));
    let Decision::Refuse { denial, session } = decision else { panic!("{decision:?}") };
    let words = "The Thrift session that this request names belongs to another user. Connect again to open one of your own.";
    assert_eq!((denial.kind, &*denial.message), (DenialKind::PermissionDenied, words));
    assert_eq!(session.as_deref(), Some("bobs"), "for the audit log");
}

/// One that has ended may still be open on Spark.
#[test]
fn it_stays_theirs_when_their_session_has_ended() {
    let ended = of_bob().in_state(Terminated);
    let decision = asked(&thrift_world([ended]), &alice(), &with_handle("ExecuteStatement"));
    assert!(matches!(decision, Decision::Refuse { .. }), "{decision:?}");
}

#[test]
fn the_users_own_is_taken_whatever_the_session_is_called_in_the_url() {
    let etl = session("etl").on("p-0").connected(HANDLE, "p-0");
    let decision = asked(&thrift_world([etl]), &alice(), &with_handle("ExecuteStatement"));
    assert!(matches!(decision, Decision::Route(_)), "{decision:?}");
}

/// Such as one whose entry into the status has failed.
#[test]
fn one_that_nobody_lists_is_left_to_spark() {
    let own = session("own").on("p-0").connected(Uuid::from_u128(6), "p-0");
    let decision = asked(&thrift_world([own]), &alice(), &with_handle("ExecuteStatement"));
    assert!(matches!(decision, Decision::Route(_)), "{decision:?}");
}

#[test]
fn it_is_free_when_the_connection_is_closed() {
    let mut inventory = thrift_world([of_bob(), session("own").on("p-0")]);
    inventory.put(Object::Session(session("bobs").of("bob").on("p-0")));
    let decision = asked(&inventory, &alice(), &with_handle("ExecuteStatement"));
    assert!(matches!(decision, Decision::Route(_)), "{decision:?}");
}
