//! Which instance a session gets.

use rstest::rstest;

use super::cluster::Cluster;
use crate::api::{SessionState, Sharing};
use crate::model::fixtures::{connect_pool, failed, going, ready, session, starting};
use crate::model::{Instance, Pool, Session};

#[test]
fn the_least_loaded_instance_that_answers_takes_the_session() {
    let cluster = Cluster::of(connect_pool("p").sized(2, 5))
        .instance(ready("p-0"))
        .instance(ready("p-1"))
        .session(session("old").on("p-0"))
        .session(session("new"))
        .planned();
    assert_eq!(cluster.place_of("new"), Some("p-1"));
}

#[test]
fn among_equals_the_lowest_ordinal_takes_it() {
    let cluster = Cluster::of(connect_pool("p").sized(2, 5))
        .instance(ready("p-2"))
        .instance(ready("p-10"))
        .session(session("s"))
        .planned();
    assert_eq!(cluster.place_of("s"), Some("p-2"));
}

#[test]
fn sessions_that_come_together_are_spread() {
    let cluster = Cluster::of(connect_pool("p").sized(2, 5))
        .instance(ready("p-0"))
        .instance(ready("p-1"))
        .sessions(["a", "b", "c", "d"].map(session))
        .planned();
    let places = ["a", "b", "c", "d"].map(|name| cluster.place_of(name).unwrap());
    assert_eq!(places, ["p-0", "p-1", "p-0", "p-1"]);
}

#[rstest]
#[case::starting(starting("p-0"))]
#[case::failed(failed("p-0", "OOM"))]
#[case::being_deleted(going("p-0"))]
fn an_instance_that_does_not_answer_takes_no_session(#[case] instance: Instance) {
    let cluster = Cluster::of(connect_pool("p")).instance(instance).session(session("s")).planned();
    assert_eq!((cluster.state_of("s"), cluster.place_of("s")), (SessionState::Pending, None));
}

#[test]
fn an_instance_that_this_very_plan_gives_up_takes_no_session() {
    let pool = connect_pool("p").sized(0, 5).shared_by(Sharing::User);
    let cluster = Cluster::of(pool)
        .instance(ready("p-0"))
        .instance(ready("p-1"))
        .session(session("old").on("p-0"))
        .session(session("new"));
    assert_eq!(cluster.deletes(), ["p-1"]);
    assert_eq!(cluster.planned().place_of("new"), Some("p-0"));
}

#[test]
fn a_placed_session_is_active_and_knows_its_server() {
    let cluster = Cluster::of(connect_pool("p")).instance(ready("p-0")).session(session("s")).planned();
    assert_eq!(cluster.told("s"), (SessionState::Active, "Placed", "Served by instance p-0."));
    assert_eq!(cluster.sessions[0].status.endpoint.as_deref(), Some("10.0.0.1:15002"));
}

#[test]
fn a_session_keeps_its_place_however_loads_change() {
    let cluster = Cluster::of(connect_pool("p").sized(2, 5))
        .instance(ready("p-0"))
        .instance(ready("p-1"))
        .sessions(["a", "b", "c"].map(|name| session(name).on("p-0")))
        .settled();
    assert_eq!(["a", "b", "c"].map(|name| cluster.place_of(name)), [Some("p-0"); 3]);
}

#[test]
fn an_idle_session_stays_idle() {
    let cluster = Cluster::of(connect_pool("p"))
        .instance(ready("p-0"))
        .session(session("s").on("p-0").in_state(SessionState::Idle))
        .settled();
    assert_eq!(cluster.state_of("s"), SessionState::Idle);
}

#[rstest]
#[case::everyone(Sharing::Pool, Some("p-0"), Some("p-0"))]
#[case::the_sessions_of_one_user(Sharing::User, Some("p-0"), None)]
#[case::nobody(Sharing::Session, None, None)]
fn a_driver_is_shared_by(
    #[case] sharing: Sharing,
    #[case] place_of_the_same_user: Option<&str>,
    #[case] place_of_another_user: Option<&str>,
) {
    for (user, place) in [("alice", place_of_the_same_user), ("bob", place_of_another_user)] {
        let cluster = Cluster::of(connect_pool("p").sized(0, 5).shared_by(sharing))
            .instance(ready("p-0"))
            .session(session("old").of("alice").on("p-0"))
            .session(session("new").of(user))
            .planned();
        assert_eq!(cluster.place_of("new"), place, "of {user}");
        assert_eq!(cluster.instances.len(), if place.is_some() { 1 } else { 2 }, "for {user}");
    }
}

#[test]
fn one_plan_does_not_put_two_users_on_one_unshared_driver() {
    let cluster = Cluster::of(connect_pool("p").sized(0, 5).shared_by(Sharing::User))
        .instance(ready("p-0"))
        .session(session("a").of("alice"))
        .session(session("b").of("bob"))
        .planned();
    assert_eq!((cluster.place_of("a"), cluster.place_of("b")), (Some("p-0"), None));
}

#[test]
fn a_user_with_a_driver_of_her_own_takes_no_second_one_from_others() {
    let mut cluster = Cluster::of(connect_pool("p").sized(2, 2).shared_by(Sharing::User))
        .instance(ready("p-0"))
        .instance(ready("p-1"))
        .session(session("a1").of("alice"))
        .session(session("a2").of("alice"))
        .settled();
    cluster = cluster.session(session("b").of("bob").created(1)).settled();
    assert_eq!(cluster.place_of("a2"), Some("p-0"));
    assert_eq!(cluster.place_of("b"), Some("p-1"));
}

#[rstest]
#[case::though_another_one_is_less_loaded(connect_pool("p"))]
#[case::though_a_driver_has_one_session(connect_pool("p").shared_by(Sharing::Session))]
fn a_clone_gets_its_parent_s_instance(#[case] pool: Pool) {
    let cluster = Cluster::of(pool.sized(2, 5))
        .instance(ready("p-0"))
        .instance(ready("p-1"))
        .session(session("parent").on("p-1"))
        .session(session("clone").clone_of("parent"))
        .settled();
    assert_eq!((cluster.state_of("clone"), cluster.place_of("clone")), (SessionState::Active, Some("p-1")));
}

#[rstest]
#[case::full(
    connect_pool("p").with_places_per_instance(1), session("parent").on("p-0"),
    "Session parent cannot be cloned: its instance p-0 takes no more sessions, and a clone can be nowhere else. Open a \
     new session instead."
)]
#[case::of_another_user(connect_pool("p"), session("parent").on("p-0").of("bob"), NO_PLACE)]
#[case::not_there(connect_pool("p"), session("other").on("p-0"), NO_PLACE)]
#[case::over(connect_pool("p"), session("parent").ended(SessionState::Terminated, "Released", "", 0), NO_PLACE)]
fn a_clone_without_a_place_there_fails_at_once(
    #[case] pool: Pool,
    #[case] parent: Session,
    #[case] words: &str,
) {
    let cluster = Cluster::of(pool.sized(2, 5))
        .instance(ready("p-0"))
        .instance(ready("p-1"))
        .session(parent)
        .session(session("clone").clone_of("parent"))
        .settled();
    assert_eq!(cluster.told("clone"), (SessionState::Failed, "CloneRefused", words));
}

const NO_PLACE: &str =
    "Session parent cannot be cloned: it has no place any more. Open a new session instead.";
