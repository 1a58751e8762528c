use rstest::rstest;

use super::*;
use crate::api::DisconnectCause;
use crate::api::SessionState::{self, Active, Failed, Idle, Pending, Terminated, Terminating};
use crate::model::connect_server::TOKEN_SETTING;
use crate::model::fixtures::{
    alice, application, at, connect_pool, driver, session, thrift_pool, token_secret,
};
use crate::model::{
    CloneId, ConnectHead, ConnectMethod, InstanceToken, Kind, Object, ThriftHead, UntoldGroups, UntoldReason,
};

const ID: Uuid = Uuid::from_u128(7);
const OTHER_ID: Uuid = Uuid::from_u128(8);

/// The pool, its running instance `p-0`, and these sessions.
fn world(pool: Pool, sessions: impl IntoIterator<Item = Session>) -> Inventory {
    let mut inventory = Inventory::default();
    inventory.put(Object::Pool(pool));
    inventory.put(Object::Application(application("p-0")));
    inventory.put(Object::Pod(driver("p-0").at_ip("10.0.0.1")));
    inventory.server_answers("uid-of-p-0-driver");
    for session in sessions {
        inventory.put(Object::Session(session));
    }
    inventory
}

fn connect_world(sessions: impl IntoIterator<Item = Session>) -> Inventory {
    world(connect_pool("p"), sessions)
}

fn thrift_world(sessions: impl IntoIterator<Item = Session>) -> Inventory {
    world(thrift_pool("p"), sessions)
}

fn connect(method: ConnectMethod) -> Call {
    Call::Connect {
        method,
        head: ConnectHead { session_id: ID, observed_server_session_id: None, clone: None },
        session_name: None,
    }
}

fn thrift(method: &str, session_name: &str) -> Call {
    let head = ThriftHead { method: method.to_owned(), sequence_id: 1, session_handle: None };
    Call::Thrift { session_name: session_name.to_owned(), head: Some(head) }
}

fn asked(inventory: &Inventory, identity: &Identity, call: &Call) -> Decision {
    decide(inventory, inventory.pool("p").unwrap(), identity, call, &waited(900, None), at(1000))
}

fn waited(since: i64, session: Option<&str>) -> Wait {
    Wait { since: at(since), session: session.map(str::to_owned), refreshed: true }
}

/// A CloneSession call about ID that makes OTHER_ID.
fn cloned(inventory: &Inventory) -> Decision {
    let clone = Some(CloneId { session_id: OTHER_ID, chosen_by_client: false });
    let head = ConnectHead { session_id: ID, observed_server_session_id: None, clone };
    let call = Call::Connect { method: ConnectMethod::CloneSession, head, session_name: None };
    asked(inventory, &alice(), &call)
}

fn first_call(inventory: &Inventory) -> Decision {
    asked(inventory, &alice(), &connect(ConnectMethod::Config))
}

fn opened(inventory: &Inventory, name: &str) -> Decision {
    asked(inventory, &alice(), &thrift("OpenSession", name))
}

fn denial(decision: Decision) -> (DenialKind, String) {
    match decision {
        Decision::Deny(denial) | Decision::Refuse { denial, .. } => (denial.kind, denial.message),
        other => panic!("not denied: {other:?}"),
    }
}

fn created(decision: Decision) -> Draft {
    match decision {
        Decision::Create(draft) => draft,
        other => panic!("not created: {other:?}"),
    }
}

fn connect_name() -> String {
    SessionKey::Connect { pool: "p".into(), session_id: ID }.object_name()
}

fn thrift_name(name: &str) -> String {
    SessionKey::Named { pool: "p".into(), user: "alice".into(), name: name.into() }.object_name()
}

#[test]
fn the_first_request_of_a_connect_client_creates_its_session() {
    let identity = alice().in_group("etl");
    let draft = created(asked(&connect_world([]), &identity, &connect(ConnectMethod::Config)));
    assert_eq!(draft.name, "p-00000000-0000-0000-0000-000000000007");
    assert_eq!((draft.spec.user.as_str(), draft.spec.pool.as_str()), ("alice", "p"));
    assert_eq!(draft.spec.groups, ["etl"]);
    assert_eq!(draft.spec.session_id.as_deref(), Some("00000000-0000-0000-0000-000000000007"));
    assert_eq!(draft.spec.name, None);
}

#[test]
fn nobody_is_sent_to_a_driver_that_has_taken_the_place_of_the_sessions_own() {
    let on = |driver: &str| session("s").with_spark_id(ID).on("p-0").driven_by(driver);
    let own = first_call(&connect_world([on("uid-of-p-0-driver")]));
    assert!(matches!(own, Decision::Route(_)), "{own:?}");
    let other = first_call(&connect_world([on("the last one")]));
    assert!(matches!(other, Decision::Wait { .. }), "{other:?}");
}

#[rstest]
#[case("default", None)]
#[case("etl", Some("etl"))]
fn the_first_open_session_of_a_thrift_client_creates_its_session(
    #[case] name: &str,
    #[case] spec: Option<&str>,
) {
    let draft = created(opened(&thrift_world([]), name));
    assert_eq!(draft.name, thrift_name(name));
    assert!(draft.name.starts_with("p-alice-"), "{}", draft.name);
    assert_eq!((draft.spec.name.as_deref(), draft.spec.session_id), (spec, None));
}

#[test]
fn a_session_with_a_place_is_routed_there() {
    let inventory = connect_world([session("s").with_spark_id(ID).on("p-0")]);
    let route = Route {
        cluster: "p-0/uid-of-p-0-driver".to_owned(),
        session: "s".to_owned(),
        pool: "p".to_owned(),
        user: "alice".to_owned(),
        token: None,
    };
    assert_eq!(first_call(&inventory), Decision::Route(route));
}

#[test]
fn a_route_brings_the_token_that_its_instance_asks_for() {
    let mut inventory = connect_world([session("s").with_spark_id(ID).on("p-0")]);
    let asking = application("p-0").with_conf(TOKEN_SETTING, "p-0-token:token");
    inventory.put(Object::Application(asking));
    assert!(matches!(first_call(&inventory), Decision::Wait { .. }), "it would not be let in");
    inventory.put(Object::Token(token_secret("p-0", "t")));
    let Decision::Route(route) = first_call(&inventory) else { panic!("not routed") };
    assert_eq!(route.token, Some(InstanceToken::new("t")));
}

#[test]
fn an_idle_session_is_routed_like_an_active_one() {
    let inventory = connect_world([session("s").with_spark_id(ID).on("p-0").in_state(Idle)]);
    assert!(matches!(first_call(&inventory), Decision::Route(_)));
}

#[test]
fn a_session_whose_driver_has_no_address_is_waited_for() {
    let mut inventory = connect_world([session("s").with_spark_id(ID).on("p-0")]);
    inventory.remove(Kind::Pod, "p-0-driver");
    assert!(matches!(first_call(&inventory), Decision::Wait { .. }));
}

#[rstest]
#[case::in_its_own_words(session("s").explained("InstanceStarting", "Instance p-0 is starting.", 0), "Instance p-0 is starting.")]
#[case::or_because_it_is_new(session("s"), "It has just been created.")]
fn a_pending_session_is_waited_for(#[case] pending: Session, #[case] explanation: &str) {
    let expected = Decision::Wait {
        session: "s".to_owned(),
        uid: Some("uid-of-s".to_owned()),
        explanation: explanation.to_owned(),
    };
    assert_eq!(first_call(&connect_world([pending.with_spark_id(ID)])), expected);
}

#[rstest]
fn a_session_that_is_being_deleted_is_waited_for_until_it_is_gone(
    #[values(Pending, Active, Terminated, Failed)] state: SessionState,
) {
    let inventory = thrift_world([session("s").on("p-0").in_state(state).being_deleted()]);
    assert!(matches!(opened(&inventory, "default"), Decision::Wait { .. }));
}

#[rstest]
fn another_users_spark_session_is_refused(
    #[values(Pending, Active, Failed, Terminated)] state: SessionState,
) {
    let inventory = connect_world([session("s").of("bob").with_spark_id(ID).in_state(state)]);
    let (kind, message) = denial(first_call(&inventory));
    assert_eq!(kind, DenialKind::PermissionDenied);
    assert_eq!(
        message,
        "Spark session 00000000-0000-0000-0000-000000000007 belongs to another user. Start a session of your own."
    );
}

#[test]
fn a_session_that_its_user_made_with_kubectl_is_claimed() {
    let inventory = connect_world([session("mine").version(42)]);
    let expected = Decision::Claim { session: "mine".to_owned(), resource_version: 42, session_id: ID };
    assert_eq!(first_call(&inventory), expected);
}

#[rstest]
#[case::another_users(session("s").of("bob"))]
#[case::one_with_an_id_in_its_spec(session("s").with_spark_id(OTHER_ID))]
#[case::one_that_is_claimed(session("s").claimed_by(OTHER_ID))]
#[case::one_that_has_ended(session("s").in_state(Terminated))]
#[case::one_that_is_being_deleted(session("s").being_deleted())]
#[case::a_named_one(session("s").named("etl"))]
#[case::one_in_another_pool(session("s").in_pool("q"))]
fn is_not_claimed(#[case] not_mine: Session) {
    created(first_call(&connect_world([not_mine])));
}

#[test]
fn a_claimed_session_is_found_again_by_its_id() {
    let inventory = connect_world([session("mine").claimed_by(ID).on("p-0")]);
    assert!(matches!(first_call(&inventory), Decision::Route(route) if route.session == "mine"));
}

#[test]
fn a_session_that_kubectl_made_serves_thrift_under_its_name() {
    let inventory = thrift_world([session("mine").on("p-0"), session("etl").named("etl").on("p-0")]);
    assert!(matches!(opened(&inventory, "default"), Decision::Route(route) if route.session == "mine"));
    assert!(matches!(opened(&inventory, "etl"), Decision::Route(route) if route.session == "etl"));
    assert_eq!(created(opened(&inventory, "other")).name, thrift_name("other"));
}

#[test]
fn a_session_that_failed_before_is_tried_anew() {
    let inventory = connect_world([session(&connect_name()).with_spark_id(ID).in_state(Failed)]);
    let Decision::Replace { uid, draft } = first_call(&inventory) else { panic!("not replaced") };
    assert_eq!((uid, &draft.name), (format!("uid-of-{}", draft.name), &connect_name()));
    assert_eq!(draft.spec.session_id, Some(ID.to_string()));
}

#[rstest]
#[case("StartTimeout", DenialKind::StartFailed)]
#[case("TemplateRefused", DenialKind::StartFailed)]
#[case("QuotaExceeded", DenialKind::QuotaExceeded)]
fn a_session_that_failed_while_it_was_waited_for_is_heard(#[case] reason: &str, #[case] kind: DenialKind) {
    let inventory = connect_world([session("s").with_spark_id(ID).ended(Failed, reason, "That is why.", 0)]);
    let pool = inventory.pool("p").unwrap();
    let decision = decide(
        &inventory,
        pool,
        &alice(),
        &connect(ConnectMethod::Config),
        &waited(900, Some("uid-of-s")),
        at(1000),
    );
    assert_eq!(denial(decision), (kind, "That is why.".to_owned()));
}

#[rstest]
#[case::at_once("StartTimeout", 1059, false)]
#[case::after_a_minute("StartTimeout", 1060, true)]
#[case::when_a_place_may_be_free("QuotaExceeded", 1001, true)]
fn a_failed_session_is_not_tried_anew_by_the_next_call(
    #[case] reason: &str,
    #[case] now: i64,
    #[case] anew: bool,
) {
    let failed = session(&connect_name()).with_spark_id(ID).ended(Failed, reason, "That is why.", 1000);
    let inventory = connect_world([failed]);
    let pool = inventory.pool("p").unwrap();
    let decision =
        decide(&inventory, pool, &alice(), &connect(ConnectMethod::ExecutePlan), &waited(now, None), at(now));
    assert_eq!(matches!(decision, Decision::Replace { .. }), anew, "{decision:?}");
}

/// Envoy asks again after a while, and after the end of the operator that held the request.
#[rstest]
#[case::came_before(899, Some("That is why."))]
#[case::came_in_the_same_second(900, Some("That is why."))]
#[case::came_afterwards(901, None)]
fn a_failure_is_heard_by_the_requests_that_came_before_it(#[case] since: i64, #[case] heard: Option<&str>) {
    let failed = session(&thrift_name("default")).ended(Failed, "StartTimedOut", "That is why.", 900);
    let inventory = thrift_world([failed]);
    let call = thrift("OpenSession", "default");
    let decision =
        decide(&inventory, inventory.pool("p").unwrap(), &alice(), &call, &waited(since, None), at(1000));
    match heard {
        Some(message) => assert_eq!(denial(decision), (DenialKind::StartFailed, message.to_owned())),
        None => assert!(matches!(decision, Decision::Replace { .. }), "{decision:?}"),
    }
}

#[test]
fn another_session_that_was_waited_for_does_not_keep_a_failed_one_from_a_new_try() {
    let inventory = connect_world([session(&connect_name()).with_spark_id(ID).in_state(Failed)]);
    let pool = inventory.pool("p").unwrap();
    let decision = decide(
        &inventory,
        pool,
        &alice(),
        &connect(ConnectMethod::Config),
        &waited(900, Some("another-uid")),
        at(1000),
    );
    assert!(matches!(decision, Decision::Replace { .. }));
}

#[rstest]
#[case("InstanceLost", DenialKind::SessionChanged)]
#[case("IdleTimeout", DenialKind::SessionClosed)]
#[case("PoolDeleted", DenialKind::SessionClosed)]
fn an_ended_connect_session_is_not_silently_replaced(#[case] reason: &str, #[case] kind: DenialKind) {
    let inventory = connect_world([session("s").with_spark_id(ID).ended(Terminated, reason, "It ended.", 0)]);
    assert_eq!(denial(first_call(&inventory)), (kind, "It ended.".to_owned()));
}

#[test]
fn a_connect_session_that_is_being_released_takes_no_more_requests() {
    let inventory = connect_world([session("s").with_spark_id(ID).on("p-0").in_state(Terminating)]);
    assert_eq!(denial(first_call(&inventory)).0, DenialKind::SessionClosed);
}

#[test]
fn an_ended_thrift_session_is_opened_anew() {
    let name = thrift_name("default");
    let inventory = thrift_world([session(&name).in_state(Terminated)]);
    let Decision::Replace { uid, draft } = opened(&inventory, "default") else { panic!("not replaced") };
    assert_eq!((uid, draft.name), (format!("uid-of-{name}"), name));
}

#[test]
fn the_session_that_lives_counts_where_two_objects_have_one_id() {
    let inventory = connect_world([
        session("dead").with_spark_id(ID).in_state(Terminated).created(9),
        session("alive").with_spark_id(ID).on("p-0"),
    ]);
    assert!(matches!(first_call(&inventory), Decision::Route(route) if route.session == "alive"));
}

#[test]
fn what_is_replaced_is_the_object_that_has_the_name() {
    // Deleting by this name with the UID of `mine` would delete nothing, and creating would find
    // the name taken, again and again until both are removed.
    let name = thrift_name("default");
    let inventory =
        thrift_world([session(&name).in_state(Terminated), session("mine").in_state(Failed).created(9)]);
    let Decision::Replace { uid, draft } = opened(&inventory, "default") else { panic!("not replaced") };
    assert_eq!((uid, &draft.name), (format!("uid-of-{}", draft.name), &name));
}

#[rstest]
fn clean_up_calls_create_nothing(
    #[values(
        ConnectMethod::ReleaseSession,
        ConnectMethod::ReleaseExecute,
        ConnectMethod::Interrupt,
        ConnectMethod::FetchErrorDetails
    )]
    method: ConnectMethod,
) {
    let (kind, message) = denial(asked(&connect_world([]), &alice(), &connect(method)));
    assert_eq!(kind, DenialKind::SessionClosed);
    assert!(message.ends_with("is not open in pool p: there is nothing to release."), "{message}");
    let unclaimed = connect_world([session("mine")]);
    assert_eq!(denial(asked(&unclaimed, &alice(), &connect(method))).0, DenialKind::SessionClosed);
}

#[rstest]
#[case(ConnectMethod::ReleaseSession)]
#[case(ConnectMethod::Interrupt)]
fn clean_up_calls_do_not_bring_a_failed_session_back(#[case] method: ConnectMethod) {
    let inventory = connect_world([session("s").with_spark_id(ID).in_state(Failed)]);
    assert!(!matches!(asked(&inventory, &alice(), &connect(method)), Decision::Replace { .. }));
}

#[rstest]
#[case::none(None)]
#[case::an_ended_one(Some(session("s").in_state(Terminated)))]
#[case::a_failed_one(Some(session("s").in_state(Failed)))]
fn only_open_session_starts_a_thrift_session(#[case] there_is: Option<Session>) {
    let decision = asked(&thrift_world(there_is), &alice(), &thrift("ExecuteStatement", "default"));
    let expected = "Session default of user alice is not open in pool p. Connect again.".to_owned();
    assert_eq!(denial(decision), (DenialKind::SessionClosed, expected));
}

#[test]
fn other_thrift_calls_go_to_the_open_session() {
    let decision =
        asked(&thrift_world([session("s").on("p-0")]), &alice(), &thrift("ExecuteStatement", "default"));
    assert!(matches!(decision, Decision::Route(_)));
}

#[rstest]
#[case::who_is_named(alice(), true)]
#[case::who_is_in_the_group(Identity::new("bob").in_group("etl"), true)]
#[case::nobody_else(Identity::new("bob").in_group("sales"), false)]
#[case::nobody_called_like_the_group(Identity::new("etl"), false)]
fn a_pool_with_a_list_is_open_to(#[case] identity: Identity, #[case] allowed: bool) {
    let inventory = world(connect_pool("p").open_to(&["alice"], &["etl"]), []);
    let decision = asked(&inventory, &identity, &connect(ConnectMethod::Config));
    if allowed {
        created(decision);
    } else {
        let user = &identity.user;
        let message = format!("User {user} may not use pool p. Ask its administrator for access.");
        assert_eq!(denial(decision), (DenialKind::PermissionDenied, message));
    }
}

fn without_groups(reason: UntoldReason) -> Identity {
    Identity { untold: Some(UntoldGroups { claim: "groups".into(), reason }), ..Identity::new("bob") }
}

#[rstest]
#[case::not_in_the_token(
    UntoldReason::NotInToken,
    "User bob may not use pool p. The token of this login carries no groups: it has no claim \"groups\" with names in \
     it. If the identity provider knows groups of this user, the operator's administrator must have them put into the \
     token (--oidc-scope, or a mapper at the provider) or name the right claim (--oidc-groups-claim)."
)]
#[case::too_many(
    UntoldReason::LeftOut,
    "User bob may not use pool p. The identity provider has left the groups out of this login's token because there are \
     too many (claim \"groups\"). The operator's administrator must have it send fewer: only those that are assigned to \
     the application, or roles instead of groups; or it may be that the provider's userinfo endpoint tells them \
     (--oidc-groups-from-userinfo)."
)]
#[case::not_in_userinfo(
    UntoldReason::NotInUserinfo,
    "User bob may not use pool p. Neither the token of this login nor the identity provider's userinfo endpoint tells \
     the user's groups: there is no claim \"groups\" with names in it. If the provider knows groups of this user, the \
     operator's administrator must have them put there (--oidc-scope, or a mapper at the provider) or name the right \
     claim (--oidc-groups-claim)."
)]
fn a_refusal_says_that_the_login_told_no_groups(#[case] reason: UntoldReason, #[case] words: &str) {
    let inventory = world(connect_pool("p").open_to(&["alice"], &["etl"]), []);
    let decision = asked(&inventory, &without_groups(reason), &connect(ConnectMethod::Config));
    assert_eq!(denial(decision), (DenialKind::PermissionDenied, words.to_owned()));
}

#[test]
fn groups_are_not_spoken_of_where_they_make_no_difference() {
    let inventory = world(connect_pool("p").open_to(&["alice"], &[]), []);
    let decision =
        asked(&inventory, &without_groups(UntoldReason::NotInToken), &connect(ConnectMethod::Config));
    let words = "User bob may not use pool p. Ask its administrator for access.".to_owned();
    assert_eq!(denial(decision), (DenialKind::PermissionDenied, words));
}

#[test]
fn access_that_was_withdrawn_ends_the_use_of_an_open_session() {
    let inventory =
        world(connect_pool("p").open_to(&["bob"], &[]), [session("s").with_spark_id(ID).on("p-0")]);
    assert_eq!(denial(first_call(&inventory)).0, DenialKind::PermissionDenied);
}

#[test]
fn who_has_all_sessions_in_use_reads_so_before_an_object_is_made() {
    let pool = connect_pool("p").allowing_each_user(1);
    let inventory = world(pool.clone(), [session("s").with_spark_id(OTHER_ID).on("p-0")]);
    let (kind, message) = denial(first_call(&inventory));
    assert_eq!(kind, DenialKind::QuotaExceeded);
    assert!(message.starts_with("Quota exceeded: user alice may have 1 session(s) in pool p"), "{message}");
    let by_others = world(pool, [session("s").of("bob").on("p-0")]);
    created(first_call(&by_others));
}

#[test]
fn a_full_pool_says_so() {
    let inventory = world(connect_pool("p").allowing_in_total(1), [session("s").of("bob").on("p-0")]);
    let (kind, message) = denial(first_call(&inventory));
    assert_eq!(kind, DenialKind::QuotaExceeded);
    assert!(message.starts_with("Quota exceeded: pool p is full, all of its 1 session(s)"), "{message}");
}

/// As a connection of alice has made it, and left at second 100.
fn left_session() -> Session {
    let id = Uuid::from_u128(99);
    let session = session(&format!("p-{id}")).with_spark_id(id).on("p-0");
    session.disconnected(100, DisconnectCause::ClosedByClient)
}

#[rstest]
#[case::at_the_limit_of_a_user(connect_pool("p").allowing_each_user(1))]
#[case::in_a_full_pool(connect_pool("p").allowing_in_total(1))]
fn a_session_that_was_left_makes_room(#[case] pool: Pool) {
    created(first_call(&world(pool.clone(), [left_session()])));
    let back = world(pool, [left_session().connected_from(1, 110)]);
    assert_eq!(denial(first_call(&back)).0, DenialKind::QuotaExceeded, "its client is there");
}

#[test]
fn a_session_that_is_making_room_does_not_count_any_more() {
    let ending = left_session().in_state(SessionState::Terminating).explained("ReplacedByNewer", "…", 100);
    created(first_call(&world(connect_pool("p").allowing_each_user(1), [ending.clone()])));
    let another = session("s").with_spark_id(Uuid::from_u128(98)).on("p-0");
    let full = world(connect_pool("p").allowing_each_user(1), [ending, another]);
    assert_eq!(denial(first_call(&full)).0, DenialKind::QuotaExceeded);
}

#[test]
fn the_quota_of_a_group_counts_for_a_request() {
    let inventory = world(connect_pool("p").allowing_group("guests", 0), []);
    assert_eq!(
        denial(asked(&inventory, &alice().in_group("guests"), &connect(ConnectMethod::Config))).0,
        DenialKind::QuotaExceeded
    );
    created(first_call(&inventory));
}

#[test]
fn a_quota_is_told_with_the_groups_that_the_login_did_not_tell() {
    let pool = connect_pool("p").allowing_each_user(0).allowing_group("analysts", 2);
    let inventory = world(pool, []);
    let decision =
        asked(&inventory, &without_groups(UntoldReason::NotInToken), &connect(ConnectMethod::Config));
    let words = "Quota exceeded: user bob may have no session in pool p. Ask its administrator. No quota of a group \
        counts here. The token of this login carries no groups: it has no claim \"groups\" with names in it.";
    let (kind, message) = denial(decision);
    assert_eq!(kind, DenialKind::QuotaExceeded);
    assert!(message.starts_with(words), "{message}");
    let none = world(connect_pool("p").allowing_each_user(0), []);
    let decision = asked(&none, &without_groups(UntoldReason::NotInToken), &connect(ConnectMethod::Config));
    assert_eq!(
        denial(decision).1,
        "Quota exceeded: user bob may have no session in pool p. Ask its administrator."
    );
}

#[rstest]
#[case(session("ended").in_state(Terminated))]
#[case(session("failed").in_state(Failed))]
#[case(session("stopped").on("p-0").released(900))]
fn sessions_that_are_over_do_not_count(#[case] over: Session) {
    let inventory = world(connect_pool("p").allowing_each_user(1), [over.with_spark_id(OTHER_ID)]);
    created(first_call(&inventory));
}

/// What it has on its server is still there.
#[rstest]
#[case(session("going").on("p-0").being_deleted())]
#[case(session("released").on("p-0").in_state(Terminating))]
fn sessions_that_are_being_released_count(#[case] going: Session) {
    let inventory = world(connect_pool("p").allowing_each_user(1), [going.with_spark_id(OTHER_ID)]);
    assert_eq!(denial(first_call(&inventory)).0, DenialKind::QuotaExceeded);
}

#[test]
fn a_session_that_exists_is_not_measured_against_the_quota_again() {
    let inventory =
        world(connect_pool("p").allowing_user("alice", 0), [session("s").with_spark_id(ID).on("p-0")]);
    assert!(matches!(first_call(&inventory), Decision::Route(_)));
}

#[test]
fn requests_that_cannot_be_understood_are_refused() {
    let inventory = thrift_world([]);
    let refused = |call: Call| denial(asked(&inventory, &alice(), &call));
    let empty = refused(Call::Thrift { session_name: "default".to_owned(), head: None });
    assert_eq!(empty.0, DenialKind::BadRequest);
    assert!(empty.1.starts_with("This is a Thrift endpoint"), "{}", empty.1);
    let malformed = refused(Call::Malformed { protocol: Protocol::Thrift, problem: "Nonsense.".to_owned() });
    assert_eq!(malformed, (DenialKind::BadRequest, "Nonsense.".to_owned()));
    assert_eq!(refused(Call::Other { grpc: false }).0, DenialKind::UnknownPath);
}

#[test]
fn an_unknown_host_is_told_from_a_host_without_that_protocol() {
    let inventory = connect_world([]);
    let unknown =
        unknown_host(&inventory, "typo.example.com", Protocol::Connect, &Call::Other { grpc: true });
    assert_eq!(unknown.kind, DenialKind::UnknownHost);
    assert_eq!(
        unknown.message,
        "No pool has host typo.example.com. Check the host name in the connection URL; `kubectl get ssp -o wide` \
         lists the pools with their hosts."
    );
    let other = unknown_host(&inventory, "spark.example.com", Protocol::Thrift, &Call::Other { grpc: false });
    assert_eq!(other.message, "Host spark.example.com has no pool of type thrift.");
}

/// By it the audit tells the two apart.
#[test]
fn a_refusal_names_the_session_of_another_user_and_none_where_the_pool_is_refused() {
    let refused = |inventory: &Inventory| match first_call(inventory) {
        Decision::Refuse { session, .. } => session,
        other => panic!("{other:?}"),
    };
    let hers = session("hers").of("eve").with_spark_id(ID);
    assert_eq!(refused(&connect_world([hers.clone()])).as_deref(), Some("hers"));
    assert_eq!(refused(&world(connect_pool("p").open_to(&["eve"], &[]), [hers])), None);
}

mod clones;
mod handles;
mod named;
mod over;
