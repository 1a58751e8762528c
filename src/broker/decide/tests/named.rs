//! Connect sessions that their clients name: `sc://host/;x-spark-session=etl`.

use rstest::rstest;

use super::*;
use crate::api::SetupFailure;
use crate::model::fixtures::time;

fn asks(inventory: &Inventory, method: ConnectMethod, id: Uuid) -> Decision {
    let head = ConnectHead { session_id: id, observed_server_session_id: None, clone: None };
    let call = Call::Connect { method, head, session_name: Some("etl".to_owned()) };
    asked(inventory, &alice(), &call)
}

fn etl() -> Session {
    session(&thrift_name("etl")).named("etl")
}

fn joins(id: Uuid, cloned: bool) -> Decision {
    Decision::Join { session: thrift_name("etl"), joining: Joining { id, cloned } }
}

fn first(inventory: &Inventory) -> Decision {
    asks(inventory, ConnectMethod::ExecutePlan, ID)
}

#[test]
fn the_first_client_creates_it_and_its_id_is_not_the_session_s() {
    let draft = created(first(&connect_world([session("made-by-kubectl")])));
    assert_eq!(draft.name, thrift_name("etl"));
    assert_eq!((draft.spec.name.as_deref(), draft.spec.session_id), (Some("etl"), None));
}

#[test]
fn it_may_be_called_default() {
    let head = ConnectHead { session_id: ID, observed_server_session_id: None, clone: None };
    let call =
        Call::Connect { method: ConnectMethod::Config, head, session_name: Some("default".to_owned()) };
    let draft = created(asked(&connect_world([session("made-by-kubectl")]), &alice(), &call));
    assert_eq!(draft.spec.name.as_deref(), Some("default"));
}

#[test]
fn a_further_client_joins_and_waits_until_its_own_session_is_prepared() {
    let joined = joins(ID, false);
    assert_eq!(first(&connect_world([etl().on("p-0")])), joined);
    let with_another = etl().shared_by_clients(&[OTHER_ID]).on("p-0");
    assert_eq!(first(&connect_world([with_another.clone()])), joined);
    let unprepared = with_another.shared_by_clients(&[OTHER_ID, ID]);
    assert!(matches!(first(&connect_world([unprepared])), Decision::Wait { .. }));
    let prepared = etl().shared_by_clients(&[OTHER_ID, ID]).on("p-0");
    assert!(matches!(first(&connect_world([prepared])), Decision::Route(_)));
}

/// The session works for the other client: its own words say nothing of this one.
#[test]
fn a_further_client_that_cannot_be_prepared_hears_why_and_in_the_end_a_refusal() {
    let mut joined = etl().shared_by_clients(&[OTHER_ID]).on("p-0").shared_by_clients(&[OTHER_ID, ID]);
    let explanation = |joined: &Session| match first(&connect_world([joined.clone()])) {
        Decision::Wait { explanation, .. } => explanation,
        other => panic!("does not wait: {other:?}"),
    };
    assert_eq!(explanation(&joined), "Its configuration is being set.");
    joined.status.setup_failures = vec![SetupFailure {
        session_id: ID.to_string(),
        since: time(900),
        message: "Spark hangs.".to_owned(),
        gave_up: false,
    }];
    assert_eq!(explanation(&joined), "Spark hangs.");
    joined.status.setup_failures[0].gave_up = true;
    let inventory = connect_world([joined]);
    assert_eq!(denial(first(&inventory)), (DenialKind::StartFailed, "Spark hangs.".to_owned()));
    let other = asks(&inventory, ConnectMethod::ExecutePlan, OTHER_ID);
    assert!(matches!(other, Decision::Route(_)), "{other:?}");
}

#[test]
fn a_client_without_the_name_is_found_by_its_id() {
    let inventory = connect_world([etl().shared_by_clients(&[ID]).on("p-0")]);
    assert!(matches!(first_call(&inventory), Decision::Route(_)));
    let by_its_own_id = connect_world([etl().claimed_by(ID).on("p-0")]);
    assert_eq!(first_call(&by_its_own_id), joins(ID, false));
}

#[test]
fn a_client_that_stops_leaves_the_others_theirs() {
    let inventory = connect_world([etl().shared_by_clients(&[ID, OTHER_ID]).on("p-0")]);
    let Decision::Leave { session_id, route, .. } = asks(&inventory, ConnectMethod::ReleaseSession, ID)
    else {
        panic!("not left")
    };
    assert_eq!((session_id, route.is_some()), (ID, true));
}

#[rstest]
fn clean_up_of_a_client_that_is_not_there_does_nothing(
    #[values(ConnectMethod::ReleaseSession, ConnectMethod::ReleaseExecute)] method: ConnectMethod,
) {
    let (kind, message) = denial(asks(&connect_world([etl().on("p-0")]), method, ID));
    assert_eq!(kind, DenialKind::SessionClosed);
    assert!(message.ends_with("is not open in session etl: there is nothing to release."), "{message}");
}

#[test]
fn when_it_has_ended_its_clients_hear_why_and_new_ones_get_a_new_one() {
    let ended = etl().shared_by_clients(&[ID]).ended(Terminated, "IdleTimeout", "It was idle.", 0);
    let inventory = connect_world([ended]);
    assert_eq!(denial(first(&inventory)), (DenialKind::SessionClosed, "It was idle.".to_owned()));
    let new = asks(&inventory, ConnectMethod::ExecutePlan, OTHER_ID);
    assert!(matches!(new, Decision::Replace { .. }), "{new:?}");
}

#[rstest]
#[case(etl().on("p-0").in_state(Terminating))]
#[case(etl().on("p-0").being_deleted())]
fn while_it_is_being_released_a_new_client_waits(#[case] going: Session) {
    let decision = first(&connect_world([going]));
    let Decision::Wait { uid: None, explanation, .. } = decision else { panic!("{decision:?}") };
    assert_eq!(explanation, "The last session of this name is being released.");
}

#[test]
fn another_user_s_session_of_the_same_name_is_another_session() {
    created(first(&connect_world([session("hers").of("bob").named("etl").on("p-0")])));
}

#[test]
fn an_id_of_another_user_is_refused_under_any_name() {
    let inventory = connect_world([session("hers").of("bob").with_spark_id(ID).on("p-0")]);
    assert_eq!(denial(first(&inventory)).0, DenialKind::PermissionDenied);
}

/// Its id is no secret once it is there: whoever reads it may open a session of their own under it.
#[rstest]
#[case::opened_before(-10)]
#[case::opened_after(10)]
fn the_session_s_own_id_leads_its_user_there_whoever_took_it(
    #[case] second: i64,
    #[values(true, false)] named: bool,
) {
    let mine = etl().claimed_by(ID).shared_by_clients(&[ID]).on("p-0");
    let taken = session("hers").of("bob").with_spark_id(ID).on("p-0").created(second);
    let inventory = connect_world([mine, taken]);
    let decision = if named { first(&inventory) } else { first_call(&inventory) };
    assert!(
        matches!(&decision, Decision::Route(route) if route.session == thrift_name("etl")),
        "{decision:?}"
    );
    let of_bob = Identity { user: "bob".to_owned(), ..alice() };
    let hers = asked(&inventory, &of_bob, &connect(ConnectMethod::Config));
    assert!(matches!(&hers, Decision::Route(route) if route.session == "hers"), "{hers:?}");
}

fn clones(inventory: &Inventory) -> Decision {
    let clone = Some(CloneId { session_id: OTHER_ID, chosen_by_client: false });
    let head = ConnectHead { session_id: ID, observed_server_session_id: None, clone };
    let call =
        Call::Connect { method: ConnectMethod::CloneSession, head, session_name: Some("etl".to_owned()) };
    asked(inventory, &alice(), &call)
}

#[test]
fn a_clone_is_one_of_its_clients_before_spark_makes_it() {
    let alone = etl().shared_by_clients(&[ID]).on("p-0");
    assert_eq!(clones(&connect_world([alone.clone()])), joins(OTHER_ID, true));
    assert_eq!(cloned(&connect_world([alone.clone()])), joins(OTHER_ID, true), "without the name, too");
    let listed = alone.shared_by_clients(&[ID, OTHER_ID]).with_cloned_clients(&[OTHER_ID]);
    let inventory = connect_world([listed]);
    assert!(matches!(clones(&inventory), Decision::Route(_)));
    let used = asks(&inventory, ConnectMethod::ExecutePlan, OTHER_ID);
    assert!(matches!(used, Decision::Route(_)), "it has the configuration of its original: {used:?}");
}

#[test]
fn a_clone_under_an_id_that_is_taken_is_its_owner_s_or_spark_s_to_refuse() {
    let mine = || etl().shared_by_clients(&[ID]).on("p-0");
    let other = session("other").with_spark_id(OTHER_ID).on("p-0");
    assert!(matches!(clones(&connect_world([mine(), other.clone()])), Decision::Route(_)));
    let hers = clones(&connect_world([mine(), other.of("bob")]));
    assert_eq!(denial(hers).0, DenialKind::PermissionDenied);
}
