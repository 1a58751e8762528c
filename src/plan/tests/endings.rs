//! How sessions end: their instance is lost, they wait too long, they have been kept long enough,
//! their pool is gone.

use std::sync::Arc;

use rstest::rstest;

use super::cluster::Cluster;
use crate::api::SessionState::{self, Active, Failed, Pending, Terminated};
use crate::api::SparkInteractiveSessionStatus;
use crate::model::fixtures::{at, connect_pool, failed, going, ready, session, starting, thrift_pool, time};
use crate::model::{Instance, Session};
use crate::plan::{Action, plan_unreadable_pool, plan_without_pool};

#[rstest]
#[case::it_failed(Some(failed("p-0", "OOM")))]
#[case::it_is_being_deleted(Some(going("p-0")))]
#[case::it_is_gone(None)]
fn a_connect_session_ends_with_its_instance(#[case] instance: Option<Instance>) {
    let cluster = Cluster::of(connect_pool("p")).session(session("s").on("p-0")).at(40);
    let cluster = instance.into_iter().fold(cluster, Cluster::instance).settled();
    assert_eq!(
        cluster.told("s"),
        (Terminated, "InstanceLost", "Instance p-0, which held this session, is gone. Start a new session.")
    );
    let status = &cluster.sessions[0].status;
    assert_eq!((&status.finished_at, &status.endpoint), (&Some(time(40)), &None));
}

#[rstest]
#[case::it_failed(Some(failed("p-0", "OOM")))]
#[case::it_is_being_deleted(Some(going("p-0")))]
#[case::it_is_gone(None)]
fn a_thrift_session_whose_instance_is_lost_is_placed_again(#[case] instance: Option<Instance>) {
    let cluster = Cluster::of(thrift_pool("p")).session(session("s").on("p-0"));
    let cluster = instance.into_iter().fold(cluster, Cluster::instance).planned();
    assert_eq!((cluster.state_of("s"), cluster.place_of("s")), (Pending, None));
    let cluster = cluster.instance(ready("p-5")).settled();
    assert_eq!((cluster.state_of("s"), cluster.place_of("s")), (Active, Some("p-5")));
}

#[test]
fn a_thrift_session_goes_straight_to_an_instance_that_answers() {
    let cluster = Cluster::of(thrift_pool("p"))
        .instance(failed("p-0", "OOM"))
        .instance(ready("p-1"))
        .session(session("s").on("p-0"))
        .planned();
    assert_eq!((cluster.state_of("s"), cluster.place_of("s")), (Active, Some("p-1")));
}

#[test]
fn a_thrift_session_that_lost_its_instance_waits_as_long_as_a_new_one() {
    let mut cluster = Cluster::of(thrift_pool("p").giving_up_after(60))
        .instance(ready("p-0"))
        .session(session("s"))
        .settled();
    cluster.instances.clear();
    let cluster = cluster.at(1000).settled();
    assert_eq!((cluster.state_of("s"), cluster.wakes_at()), (Pending, Some(1060)));
}

#[test]
fn a_session_whose_driver_starts_anew_keeps_its_place_and_says_so() {
    let cluster =
        Cluster::of(connect_pool("p")).instance(starting("p-0")).session(session("s").on("p-0")).settled();
    assert_eq!(cluster.place_of("s"), Some("p-0"));
    assert_eq!(
        cluster.told("s"),
        (Active, "InstanceStarting", "Instance p-0 is starting: the Spark Operator has it as SUBMITTED.")
    );
}

/// While this replica leads, and while nobody did: a new leader has nothing but the status.
#[rstest]
#[case::at_another_address("10.9.9.9:15002")]
#[case::at_the_same_address("10.0.0.1:15002")]
fn a_connect_session_ends_with_its_driver_though_its_instance_goes_on(#[case] address: &str) {
    let mut cluster =
        Cluster::of(connect_pool("p")).instance(ready("p-0")).session(session("s").on("p-0")).settled();
    assert_eq!(cluster.sessions[0].status.driver_uid.as_deref(), Some("uid-of-p-0-driver"));
    let instance = cluster.find_instance("p-0");
    instance.pod = Some(("p-0-driver".to_owned(), "the next".to_owned()));
    instance.endpoint = Some(address.parse().unwrap());
    cluster.settle();
    let message = "The driver of instance p-0, which held this session, was replaced. Start a new session.";
    assert_eq!(cluster.told("s"), (Terminated, "InstanceLost", message));
    assert_eq!(cluster.sessions[0].status.driver_uid, None);
    assert!(cluster.releases.is_empty(), "the new driver has nothing of it");
}

#[test]
fn a_driver_that_is_seen_after_a_while_without_any_is_known_as_another_one() {
    let mut cluster =
        Cluster::of(connect_pool("p")).instance(ready("p-0")).session(session("s").on("p-0")).settled();
    *cluster.find_instance("p-0") = starting("p-0");
    cluster.settle();
    assert_eq!(cluster.state_of("s"), Active, "the watch of Pods may only be late");
    let mut back = cluster.clone();
    *back.find_instance("p-0") = ready("p-0");
    assert_eq!(back.settled().told("s"), (Active, "Placed", "Served by instance p-0."));
    cluster.find_instance("p-0").pod = Some(("p-0-driver".to_owned(), "the next".to_owned()));
    cluster.settle();
    assert_eq!((cluster.state_of("s"), cluster.told("s").1), (Terminated, "InstanceLost"));
}

#[test]
fn a_thrift_session_goes_on_with_the_next_driver() {
    let mut cluster =
        Cluster::of(thrift_pool("p")).instance(ready("p-0")).session(session("s").on("p-0")).settled();
    cluster.find_instance("p-0").pod = Some(("p-0-driver".to_owned(), "the next".to_owned()));
    cluster.settle();
    assert_eq!((cluster.state_of("s"), cluster.place_of("s")), (Active, Some("p-0")));
    assert_eq!(cluster.sessions[0].status.driver_uid.as_deref(), Some("the next"));
}

#[test]
fn a_session_that_waits_too_long_fails_and_says_what_it_waited_for() {
    let mut pulling = starting("p-0");
    pulling.message = Some("ErrImagePull: no such image".to_owned());
    let cluster = Cluster::of(connect_pool("p").giving_up_after(60)).instance(pulling).session(session("s"));
    let waiting = cluster.clone().at(59).settled();
    assert_eq!(
        (waiting.state_of("s"), waiting.wakes_at()),
        (Pending, Some(60)),
        "the pool's condition tells of an instance that takes so long"
    );
    let waiting = waiting.at(60).settled();
    assert_eq!(waiting.wakes_at(), Some(70), "then the instance is given up");
    let waiting = waiting.at(118).settled();
    assert_eq!(
        (waiting.state_of("s"), waiting.wakes_at()),
        (Pending, Some(119)),
        "counted from the first look"
    );
    let given_up = cluster.at(60).settled();
    assert_eq!(
        given_up.told("s"),
        (
            Failed,
            "StartTimeout",
            "No instance of pool p was ready within 60 s: instance p-0 is starting: the Spark Operator has it as SUBMITTED \
             (ErrImagePull: no such image). Try again later; the pool's administrator finds more with `kubectl describe \
             ssp`."
        )
    );
}

#[test]
fn the_patience_counts_from_when_the_session_began_to_wait() {
    let cluster = Cluster::of(connect_pool("p").giving_up_after(60)).instance(starting("p-0"));
    let cluster = cluster.session(session("s").explained("InstanceStarting", "", 10));
    assert_eq!(cluster.clone().at(69).settled().state_of("s"), Pending);
    assert_eq!(cluster.at(70).settled().state_of("s"), Failed);
}

#[test]
fn a_session_waits_a_quarter_of_an_hour_where_the_pool_does_not_say() {
    let cluster = Cluster::of(connect_pool("p")).instance(starting("p-0")).session(session("s"));
    assert_eq!(cluster.wakes_at(), Some(900));
}

#[test]
fn an_ended_session_is_kept_for_its_time_and_then_deleted() {
    let ended = session("s").ended(Terminated, "InstanceLost", "", 100);
    let cluster = Cluster::of(connect_pool("p").keeping_ended_sessions(2)).session(ended);
    let before = cluster.clone().at(219).settled();
    assert_eq!((before.has_session("s"), before.wakes_at()), (true, Some(220)));
    assert!(!cluster.at(220).settled().has_session("s"));
}

#[test]
fn an_ended_session_is_kept_for_an_hour_where_the_pool_does_not_say() {
    let cluster = Cluster::of(connect_pool("p")).session(session("s").ended(Failed, "StartTimeout", "", 0));
    assert_eq!(cluster.wakes_at(), Some(3600));
}

#[test]
fn an_ended_session_says_to_its_end_what_it_said_when_it_ended() {
    let ended = session("s").ended(Failed, "QuotaExceeded", "Too many.", 0);
    let cluster = Cluster::of(connect_pool("p")).instance(ready("p-0")).session(ended).at(30).settled();
    assert_eq!(cluster.told("s"), (Failed, "QuotaExceeded", "Too many."));
    assert_eq!(cluster.place_of("s"), None);
}

#[test]
fn a_session_that_is_being_deleted_is_left_alone() {
    let cluster = Cluster::of(connect_pool("p")).instance(ready("p-0")).session(session("s").being_deleted());
    assert_eq!(cluster.planned().place_of("s"), None);
}

fn without_pool(session: Session, now: i64) -> Vec<Action> {
    plan_without_pool(&[Arc::new(session)], at(now)).actions
}

#[test]
fn a_session_that_was_seen_before_its_pool_is_given_a_few_seconds() {
    let early = Arc::new(session("s").in_pool("late"));
    let plan = plan_without_pool(&[early], at(4));
    assert_eq!((plan.actions, plan.wake_at), (Vec::new(), Some(at(5))));
}

#[rstest]
#[case::a_waiting_one(
    session("s").in_pool("nowhere"),
    (Failed, "PoolNotFound", "There is no SparkSessionPool named nowhere in this namespace. `kubectl get ssp` lists those there are.")
)]
#[case::a_placed_one(session("s").on("p-0"), (Terminated, "PoolDeleted", "Pool p was deleted."))]
fn a_session_without_a_pool_ends(
    #[case] session: Session,
    #[case] (state, reason, message): (crate::api::SessionState, &str, &str),
) {
    let actions = without_pool(session, 5);
    let Action::UpdateSessionStatus { status, .. } = &actions[0] else { panic!("{actions:#?}") };
    assert_eq!((status.state, &status.finished_at, &status.endpoint), (state, &Some(time(5)), &None));
    assert_eq!((&*status.conditions[0].reason, &*status.conditions[0].message), (reason, message));
}

#[test]
fn an_ended_session_without_a_pool_is_left_alone_at_first() {
    assert_eq!(without_pool(session("s").ended(Failed, "PoolNotFound", "", 0), 5), []);
}

#[test]
fn an_ended_session_without_a_pool_is_deleted_after_an_hour() {
    let actions = without_pool(session("s").ended(Failed, "PoolNotFound", "", 0), 3600);
    assert_eq!(actions, [Action::DeleteSession { name: "s".to_owned(), uid: "uid-of-s".to_owned() }]);
}

const PROBLEM: &str = "unknown variant `Team`";

#[rstest]
#[case::a_waiting_one(session("s"))]
#[case::a_placed_one(session("s").on("p-0").driven_by("d"))]
fn a_session_whose_pool_cannot_be_read_is_left_as_it_is_and_says_so(#[case] session: Session) {
    let actions = plan_unreadable_pool(&[Arc::new(session.clone())], PROBLEM, at(5)).actions;
    let Action::UpdateSessionStatus { status, .. } = &actions[0] else { panic!("{actions:#?}") };
    let message = "This operator cannot read SparkSessionPool p (unknown variant `Team`): the session is left as it is until \
                   it can.";
    let condition = &status.conditions[0];
    assert_eq!(
        (&*condition.status, &*condition.reason, &*condition.message),
        ("False", "PoolUnreadable", message)
    );
    let told = SparkInteractiveSessionStatus { conditions: Vec::new(), ..(**status).clone() };
    let before = SparkInteractiveSessionStatus { observed_generation: Some(1), ..session.status };
    assert_eq!(told, before, "nothing else changes");
}

#[rstest]
#[case::an_ended_one(session("s").ended(Failed, "StartTimeout", "", 0))]
#[case::an_ending_one(session("s").on("p-0").in_state(SessionState::Terminating))]
fn nothing_is_said_of_a_session_that_has_its_reason(#[case] session: Session) {
    assert_eq!(plan_unreadable_pool(&[Arc::new(session.held())], PROBLEM, at(9_000)).actions, []);
}
