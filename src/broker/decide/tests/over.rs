//! Sessions that are over, moved or not known here: what their clients hear.

use rstest::rstest;

use super::*;

fn observed(method: ConnectMethod) -> Call {
    let head =
        ConnectHead { session_id: ID, observed_server_session_id: Some("server".to_owned()), clone: None };
    Call::Connect { method, head, session_name: None }
}

fn thrift_about(method: &str, connection: u128) -> Call {
    let session_handle = Some(Uuid::from_u128(connection));
    let head = ThriftHead { method: method.to_owned(), sequence_id: 1, session_handle };
    Call::Thrift { session_name: "default".to_owned(), head: Some(head) }
}

fn asked_first(inventory: &Inventory, call: &Call) -> Decision {
    let wait = Wait { since: at(900), session: None, refreshed: false };
    decide(inventory, inventory.pool("p").unwrap(), &alice(), call, &wait, at(1000))
}

/// The watch of this replica may be behind the one that answered the first call.
#[rstest]
#[case::a_call_of_a_session_that_runs(connect_world([]), observed(ConnectMethod::ExecutePlan))]
#[case::a_clean_up(connect_world([]), connect(ConnectMethod::ReleaseExecute))]
#[case::a_call_on_a_connection(thrift_world([]), thrift("ExecuteStatement", "default"))]
fn the_api_server_is_asked_before_a_session_is_called_unknown(
    #[case] inventory: Inventory,
    #[case] call: Call,
) {
    assert_eq!(asked_first(&inventory, &call), Decision::Refresh);
}

/// Who stops a session and starts the next may come to a replica that has not seen the end yet.
#[test]
fn the_api_server_is_asked_before_a_quota_is_called_used_up() {
    let pool = connect_pool("p").allowing_each_user(1);
    let other = session("s").with_spark_id(Uuid::from_u128(99)).on("p-0");
    let call = connect(ConnectMethod::ExecutePlan);
    assert_eq!(asked_first(&world(pool.clone(), [other]), &call), Decision::Refresh);
    // Who has none has no end that could be unknown here.
    let full = world(pool.allowing_in_total(1), [session("s").of("bob").on("p-0")]);
    assert_eq!(denial(asked_first(&full, &call)).0, DenialKind::QuotaExceeded);
}

#[test]
fn a_client_that_has_talked_to_a_server_gets_no_new_session_under_its_old_id() {
    let decision = asked(&connect_world([]), &alice(), &observed(ConnectMethod::ExecutePlan));
    let expected = "Spark session 00000000-0000-0000-0000-000000000007 is not known in pool p any more. Start a new \
                    session.";
    assert_eq!(denial(decision), (DenialKind::SessionClosed, expected.to_owned()));
}

#[test]
fn a_session_that_is_being_deleted_is_over_for_its_client() {
    let inventory = connect_world([session("s").with_spark_id(ID).on("p-0").being_deleted()]);
    let expected = "The session was deleted (kubectl delete). Start a new session.";
    assert_eq!(denial(first_call(&inventory)), (DenialKind::SessionClosed, expected.to_owned()));
}

#[test]
fn what_ended_it_is_known_for_an_hour_after_its_object_is_gone() {
    let ended = session("s").with_spark_id(ID).ended(Terminated, "Deleted", "It was deleted.", 900);
    let mut inventory = connect_world([ended]);
    inventory.remove(Kind::Session, "s");
    for call in [connect(ConnectMethod::ExecutePlan), observed(ConnectMethod::ExecutePlan)] {
        let told = denial(asked_first(&inventory, &call));
        assert_eq!(told, (DenialKind::SessionClosed, "It was deleted.".to_owned()));
    }
    let wait = waited(900 + 3600, None);
    let pool = inventory.pool("p").unwrap();
    let late = decide(&inventory, pool, &alice(), &connect(ConnectMethod::Config), &wait, at(900 + 3600));
    created(late);
}

#[test]
fn a_session_that_could_not_start_leaves_its_id_free() {
    let failed = session("s").with_spark_id(ID).ended(Failed, "StartTimeout", "No instance.", 900);
    let mut inventory = connect_world([failed]);
    inventory.remove(Kind::Session, "s");
    created(first_call(&inventory));
}

#[test]
fn somebody_else_s_departed_session_is_not_told_of() {
    let ended = session("s").of("bob").with_spark_id(ID).ended(Terminated, "Deleted", "It was bob's.", 900);
    let mut inventory = connect_world([ended]);
    inventory.remove(Kind::Session, "s");
    created(first_call(&inventory));
}

#[test]
fn the_client_of_a_deleted_pool_hears_that_and_not_that_the_host_is_unknown() {
    let ended = session("s").with_spark_id(ID).in_pool("gone");
    let ended =
        ended.ended(Terminated, "PoolDeleted", "Pool gone was deleted, and the session with it.", 900);
    let inventory = connect_world([ended]);
    let call = connect(ConnectMethod::Config);
    let told = unknown_host(&inventory, "gone.example.com", Protocol::Connect, &call);
    assert_eq!(told.kind, DenialKind::SessionClosed);
    assert_eq!(told.message, "Pool gone was deleted, and the session with it.");
}

/// Whatever it calls: those on an operation name no session.
#[rstest]
#[case::on_its_session(thrift_about("ExecuteStatement", 5), true)]
#[case::on_an_operation(thrift("GetOperationStatus", "default"), true)]
#[case::to_open_another(thrift("OpenSession", "default"), false)]
fn a_jdbc_client_of_a_deleted_pool_hears_that_too(#[case] call: Call, #[case] had_a_session: bool) {
    let mut inventory = Inventory::default();
    inventory.put(Object::Pool(thrift_pool("gone").with_host("gone.example.com")));
    inventory.remove(Kind::Pool, "gone");
    let told = unknown_host(&inventory, "gone.example.com", Protocol::Thrift, &call);
    if had_a_session {
        assert_eq!(told.kind, DenialKind::SessionClosed);
        assert_eq!(told.message, "Pool gone was deleted, and the session with it.");
    } else {
        assert_eq!(told.kind, DenialKind::UnknownHost);
        assert!(told.message.starts_with("No pool has host gone.example.com. "), "{}", told.message);
    }
    let elsewhere = unknown_host(&inventory, "other.example.com", Protocol::Thrift, &call);
    assert_eq!(elsewhere.kind, DenialKind::UnknownHost);
}

#[test]
fn a_pool_that_is_being_deleted_starts_nothing() {
    let inventory = world(connect_pool("p").being_deleted(), []);
    let expected = "Pool p is being deleted and takes no new sessions.";
    assert_eq!(denial(first_call(&inventory)), (DenialKind::UnknownHost, expected.to_owned()));
}

#[test]
fn a_thrift_client_hears_why_its_session_ended() {
    let ended = session(&thrift_name("default")).ended(Terminated, "IdleTimeout", "It was idle.", 900);
    let mut inventory = thrift_world([ended]);
    let expected = (DenialKind::SessionClosed, "It was idle.".to_owned());
    assert_eq!(denial(asked(&inventory, &alice(), &thrift("ExecuteStatement", "default"))), expected);
    inventory.remove(Kind::Session, &thrift_name("default"));
    assert_eq!(denial(asked(&inventory, &alice(), &thrift("ExecuteStatement", "default"))), expected);
    created(opened(&inventory, "default"));
}

#[test]
fn a_thrift_session_that_is_being_released_is_waited_for_by_open_session_alone() {
    let going = session("s").on("p-0").in_state(Terminating).explained("IdleTimeout", "It was idle.", 0);
    let inventory = thrift_world([going]);
    assert!(matches!(opened(&inventory, "default"), Decision::Wait { uid: None, .. }));
    let told = denial(asked(&inventory, &alice(), &thrift("ExecuteStatement", "default")));
    assert_eq!(told, (DenialKind::SessionClosed, "It was idle.".to_owned()));
}

/// Its last connection is closed, and the planner has yet to see it: whoever was let in would be thrown out at once.
#[test]
fn nobody_gets_into_a_session_that_its_last_client_has_left() {
    let left = session("s").on("p-0").released(900);
    assert!(matches!(opened(&thrift_world([left]), "default"), Decision::Wait { uid: None, .. }));
    let left = session("s").shared_by_clients(&[OTHER_ID]).named("etl").on("p-0").released(900);
    let head = ConnectHead { session_id: ID, observed_server_session_id: None, clone: None };
    let joins = Call::Connect { method: ConnectMethod::Config, head, session_name: Some("etl".to_owned()) };
    let decision = asked(&connect_world([left]), &alice(), &joins);
    assert!(matches!(decision, Decision::Wait { uid: None, .. }), "{decision:?}");
}

#[test]
fn a_thrift_session_that_ended_while_its_client_waited_is_not_made_again() {
    let ended = session(&thrift_name("default")).ended(Terminated, "Deleted", "It was deleted.", 900);
    let inventory = thrift_world([ended.clone()]);
    let wait = waited(800, Some(&ended.meta.uid));
    let call = thrift("OpenSession", "default");
    let told = decide(&inventory, inventory.pool("p").unwrap(), &alice(), &call, &wait, at(1000));
    assert_eq!(denial(told), (DenialKind::SessionClosed, "It was deleted.".to_owned()));
}

#[test]
fn a_connection_is_closed_by_its_handle() {
    let inventory = thrift_world([session("s").connected(Uuid::from_u128(5), "p-0").on("p-0")]);
    let decision = asked(&inventory, &alice(), &thrift_about("CloseSession", 5));
    let Decision::Close { connection, .. } = decision else { panic!("{decision:?}") };
    assert_eq!(connection, Uuid::from_u128(5));
    let other = asked(&inventory, &alice(), &thrift_about("ExecuteStatement", 5));
    assert!(matches!(other, Decision::Route(_)), "{other:?}");
}

/// Otherwise it would be held until the next instance is up, only to hear there that its handle is unknown.
#[rstest]
#[case::while_the_session_waits(
    session("s").connected(Uuid::from_u128(5), "p-9"), thrift_about("ExecuteStatement", 5))]
#[case::about_an_operation(
    session("s").connected(Uuid::from_u128(5), "p-9"), thrift("GetOperationStatus", "default"))]
#[case::when_it_has_moved(
    session("s").connected(Uuid::from_u128(5), "p-9").on("p-0"), thrift_about("FetchResults", 5))]
fn calls_on_a_connection_that_went_with_its_instance_are_told_so_at_once(
    #[case] moved: Session,
    #[case] call: Call,
) {
    let told = denial(asked(&thrift_world([moved]), &alice(), &call));
    assert_eq!(told.0, DenialKind::SessionChanged);
    assert_eq!(
        told.1,
        "Instance p-9, which held this connection, is gone. Connect again: the session goes on with another instance, \
         without its temporary views and cached data."
    );
}

#[test]
fn the_calls_of_a_newer_connection_go_on() {
    let moved = session("s").connected(Uuid::from_u128(5), "p-9").connected(Uuid::from_u128(6), "p-0");
    let inventory = thrift_world([moved.on("p-0")]);
    for call in [thrift_about("ExecuteStatement", 6), thrift("GetOperationStatus", "default")] {
        assert!(matches!(asked(&inventory, &alice(), &call), Decision::Route(_)));
    }
}

/// Envoy asks again when the replica that noted the end has died before it answered.
#[rstest]
fn the_end_that_is_noted_already_is_passed_on_to_spark(#[values(Active, Terminated)] state: SessionState) {
    let stopped = session("s").with_spark_id(ID).on("p-0").in_state(state).released(900);
    let inventory = connect_world([stopped]);
    let again = asked(&inventory, &alice(), &connect(ConnectMethod::ReleaseSession));
    assert!(matches!(again, Decision::Route(_)), "{again:?}");
    let stopped = session("s").shared_by_clients(&[ID]).named("etl").on("p-0").in_state(state).released(900);
    let again = asked(&connect_world([stopped]), &alice(), &connect(ConnectMethod::ReleaseSession));
    assert!(matches!(again, Decision::Route(_)), "{again:?}");
    let closed = session("s").on("p-0").in_state(state).released(900);
    let again = asked(&thrift_world([closed]), &alice(), &thrift_about("CloseSession", 5));
    assert!(matches!(again, Decision::Route(_)), "{again:?}");
}

#[test]
fn a_stopped_session_whose_instance_is_gone_needs_no_release() {
    let stopped = session("s").with_spark_id(ID).on("p-9").released(900);
    let stopped = stopped.ended(Terminated, "Released", "The client ended the session.", 900);
    let told = denial(asked(&connect_world([stopped]), &alice(), &connect(ConnectMethod::ReleaseSession)));
    assert_eq!(told, (DenialKind::SessionClosed, "The client ended the session.".to_owned()));
}

/// Of the replica whose watch is behind: otherwise Spark would never hear of the end.
#[test]
fn the_end_of_a_session_that_seems_to_wait_is_looked_up_first() {
    let inventory = connect_world([session("s").with_spark_id(ID)]);
    let stop = connect(ConnectMethod::ReleaseSession);
    assert_eq!(asked_first(&inventory, &stop), Decision::Refresh);
    let waits = Decision::Release { session: "s".to_owned(), route: None };
    assert_eq!(asked(&inventory, &alice(), &stop), waits);
}

#[test]
fn the_end_of_a_session_waits_until_the_way_to_spark_is_known() {
    let mut inventory = connect_world([session("s").with_spark_id(ID).on("p-0")]);
    inventory.remove(Kind::Pod, "p-0-driver");
    let decision = asked(&inventory, &alice(), &connect(ConnectMethod::ReleaseSession));
    assert!(matches!(decision, Decision::Wait { .. }), "{decision:?}");
}
