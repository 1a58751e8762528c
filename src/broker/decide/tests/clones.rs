//! What becomes of `spark.cloneSession()`.

use super::*;

fn parent() -> Session {
    session("parent").with_spark_id(ID).on("p-0")
}

fn clone() -> Session {
    session("clone").with_spark_id(OTHER_ID).clone_of("parent")
}

#[test]
fn a_clone_has_an_object_before_spark_hears_of_it() {
    let draft = created(cloned(&connect_world([parent()])));
    assert_eq!(draft.name, SessionKey::Connect { pool: "p".into(), session_id: OTHER_ID }.object_name());
    assert_eq!(draft.spec.session_id, Some(OTHER_ID.to_string()));
    assert_eq!(draft.spec.cloned_from.as_deref(), Some("parent"));
}

#[test]
fn the_call_goes_to_the_parent_s_instance_once_the_clone_has_a_place_there() {
    let waiting = cloned(&connect_world([parent(), clone()]));
    assert!(matches!(&waiting, Decision::Wait { session, .. } if session == "clone"), "{waiting:?}");
    match cloned(&connect_world([parent(), clone().on("p-0")])) {
        Decision::Route(route) => {
            assert_eq!((&*route.session, &*route.cluster), ("parent", "p-0/uid-of-p-0-driver"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clone_that_was_refused_says_why() {
    let failed = clone().ended(Failed, "CloneRefused", "It cannot be cloned.", 1000);
    let (kind, message) = denial(cloned(&connect_world([parent(), failed])));
    assert_eq!((kind, &*message), (DenialKind::StartFailed, "It cannot be cloned."));
}

#[test]
fn an_id_that_is_taken_is_another_user_s_or_spark_s_to_refuse() {
    let other = session("other").with_spark_id(OTHER_ID).on("p-0");
    let (kind, _) = denial(cloned(&connect_world([parent(), other.clone().of("bob")])));
    assert_eq!(kind, DenialKind::PermissionDenied);
    assert!(matches!(cloned(&connect_world([parent(), other])), Decision::Route(_)));
}

#[test]
fn a_clone_counts_against_the_quota() {
    let world = world(connect_pool("p").allowing_each_user(1), [parent()]);
    assert_eq!(denial(cloned(&world)).0, DenialKind::QuotaExceeded);
}

/// Its client has been away, and this call is the first one after that.
#[test]
fn a_clone_does_not_get_the_place_of_its_original() {
    let name = SessionKey::Connect { pool: "p".into(), session_id: ID }.object_name();
    let parent = session(&name).with_spark_id(ID).on("p-0").disconnected(0, DisconnectCause::ClosedByClient);
    let world = world(connect_pool("p").allowing_each_user(1), [parent]);
    assert_eq!(denial(cloned(&world)).0, DenialKind::QuotaExceeded);
}

#[test]
fn a_server_that_has_no_clones_says_so_itself() {
    let mut pool = connect_pool("p");
    pool.spec.spark_application_template.spec.insert("sparkVersion".to_owned(), "4.0.1".into());
    assert!(matches!(cloned(&world(pool, [parent()])), Decision::Route(_)));
}
