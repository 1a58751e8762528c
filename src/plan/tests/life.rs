//! How long sessions live: idle ones, old ones, deleted ones, and what is done on Spark before they are over.
//!
//! The tests' time begins at 2027-01-15T08:00:00Z.

use rstest::rstest;

use super::cluster::Cluster;
use crate::api::SessionState::{self, Active, Failed, Idle, Pending, Terminated, Terminating};
use crate::api::ThriftConnection;
use crate::model::fixtures::{self, connect_pool, ready, session, starting, thrift_pool, time};
use crate::model::{Pool, ReleaseOutcome, Session};
use crate::plan::{Action, plan_without_pool};

/// Since before everything that the tests say.
const ALWAYS: i64 = -100_000;
const MINUTES: i64 = 60;
/// See [`crate::plan::Observations::activity_slack`].
const SLACK: i64 = 75;

/// One session on an instance, in a pool that ends idle ones after an hour.
fn cluster(session: Session) -> Cluster {
    of_pool(connect_pool("p").ending_idle_sessions(60), session).settled()
}

fn of_pool(pool: Pool, session: Session) -> Cluster {
    Cluster::of(pool.held()).instance(ready("p-0")).session(session.held()).watching_since(ALWAYS)
}

fn placed() -> Session {
    session("s").on("p-0")
}

const NOT_USED: &str =
    "The session ended because it was not used for 60 min (since 2027-01-15T08:00:00Z). Start a new session.";

#[test]
fn a_session_that_nobody_uses_is_shown_as_idle_and_says_when_it_ends() {
    let at = 10 * MINUTES + SLACK;
    let before = cluster(placed()).at(at - 1).settled();
    assert_eq!((before.state_of("s"), before.wakes_at()), (Active, Some(at)));
    let idle = cluster(placed()).at(at).settled();
    let message = "Not used since 2027-01-15T08:00:00Z; ends at 2027-01-15T09:01:15Z unless it is used.";
    assert_eq!(idle.told("s"), (Idle, "Idle", message));
    assert_eq!((idle.place_of("s"), idle.wakes_at()), (Some("p-0"), Some(60 * MINUTES + SLACK)));
}

#[test]
fn half_of_a_short_timeout_is_long_enough_to_be_idle() {
    let pool = connect_pool("p").ending_idle_sessions(4);
    assert_eq!(of_pool(pool, placed()).settled().wakes_at(), Some(2 * MINUTES + SLACK));
}

#[rstest]
#[case::as_another_replica_wrote(cluster(placed().used(1000)))]
#[case::as_this_replica_saw(cluster(placed().used(10)).used("s", 1000))]
#[case::since_it_became_active(of_pool(connect_pool("p").ending_idle_sessions(60), placed()).at(1000).settled())]
fn what_counts_is_the_last_use(#[case] cluster: Cluster) {
    let idle = 1000 + 10 * MINUTES + SLACK;
    let ends = 1000 + 60 * MINUTES + SLACK;
    let states = |at| cluster.clone().at(at).settled().state_of("s");
    assert_eq!([idle - 1, idle, ends - 1, ends].map(states), [Active, Idle, Idle, Terminating]);
}

#[test]
fn a_session_that_is_used_again_is_active_again() {
    let idle = cluster(placed()).at(3000).settled();
    assert_eq!(idle.state_of("s"), Idle);
    let used = idle.used("s", 3100).at(3101).settled();
    assert_eq!(used.told("s"), (Active, "Placed", "Served by instance p-0."));
    let activations = used.events.iter().filter(|(reason, _)| *reason == "SessionActive").count();
    assert_eq!(activations, 0, "it has been active all the time: {:?}", used.events);
}

#[test]
fn an_idle_session_is_released_on_spark_and_then_over() {
    let ending = cluster(placed()).at(60 * MINUTES + SLACK).settled();
    assert_eq!(ending.told("s"), (Terminating, "IdleTimeout", NOT_USED));
    assert_eq!(ending.place_of("s"), Some("p-0"));
    assert_eq!(ending.releases["s"], "p-0");
    assert_eq!(ending.sessions[0].status.finished_at, None);
    let over = ending.at(4000).released("s", ReleaseOutcome::Released).settled();
    assert_eq!(over.told("s"), (Terminated, "IdleTimeout", NOT_USED));
    assert_eq!(over.sessions[0].status.finished_at, Some(time(4000)));
    assert!(!over.sessions[0].meta.held, "the ended object goes as soon as somebody deletes it");
    let told: Vec<_> =
        over.events.iter().map(|(reason, _)| *reason).filter(|it| it.starts_with("Sess")).collect();
    assert_eq!(told, ["SessionTerminating", "SessionTerminated"]);
}

#[test]
fn what_spark_does_not_release_is_over_too_and_says_so() {
    let words = "p-0 did not answer within 10 s.".to_owned();
    let ending = cluster(placed()).at(9000).settled().released("s", ReleaseOutcome::GaveUp(words)).settled();
    let message = format!(
        "{NOT_USED} It could not be closed on Spark's side (p-0 did not answer within 10 s); Spark does that itself after \
         its own timeout."
    );
    assert_eq!(ending.told("s"), (Terminated, "IdleTimeout", &*message));
}

#[test]
fn a_use_does_not_bring_back_what_is_ending() {
    let ending = cluster(placed()).at(9000).settled();
    let used = ending.used("s", 9001).at(9002).settled();
    assert_eq!(used.told("s"), (Terminating, "IdleTimeout", NOT_USED));
}

#[test]
fn nothing_ends_for_idleness_that_was_not_watched_for_a_whole_interval() {
    let ends = 60 * MINUTES + SLACK;
    let new_leader = cluster(placed()).watching_since(ends).at(ends).settled();
    assert_eq!((new_leader.state_of("s"), new_leader.wakes_at()), (Active, Some(ends + SLACK)));
    assert_eq!(new_leader.at(ends + SLACK).settled().state_of("s"), Terminating);

    let mut nobody_watches = cluster(placed()).at(90_000);
    nobody_watches.observations.watching_since = None;
    assert_eq!(nobody_watches.settled().state_of("s"), Active);
}

/// The machine slept, or somebody set the clock by a day: what was used a minute before is not idle since yesterday.
#[test]
fn a_clock_that_jumps_ahead_counts_as_a_use() {
    let day = 86_400;
    let mut jumped = cluster(placed()).at(60).settled().at(day).watching_since(day);
    jumped.observations.clock_jumped_at = Some(fixtures::at(day));
    jumped.settle();
    let soon = jumped.at(day + 600).settled();
    assert_eq!(soon.state_of("s"), Active);
    let unused = soon.at(day + 2 * day).settled();
    assert_eq!(unused.told("s").1, "IdleTimeout");
}

#[test]
fn an_idle_session_stays_idle_when_another_replica_begins_to_lead() {
    let idle = cluster(placed()).at(3000).settled().watching_since(3000).settled();
    assert_eq!(idle.state_of("s"), Idle);
}

#[test]
fn a_session_that_waits_is_not_idle() {
    let waiting = Cluster::of(connect_pool("p").ending_idle_sessions(1).giving_up_after(86_400))
        .instance(starting("p-0"))
        .session(session("s"))
        .watching_since(ALWAYS);
    assert_eq!(waiting.at(9000).settled().state_of("s"), Pending);
}

#[test]
fn a_session_ends_at_its_maximum_age_however_much_it_is_used() {
    let pool = connect_pool("p").ending_sessions_after(480);
    let cluster = of_pool(pool, placed().used(480 * MINUTES));
    let before = cluster.clone().at(480 * MINUTES - 1).settled();
    assert_eq!((before.state_of("s"), before.wakes_at()), (Active, Some(480 * MINUTES)));
    let ending = cluster.watching_since(480 * MINUTES).at(480 * MINUTES).settled();
    let message =
        "The session ended because it had reached its maximum lifetime of 480 min. Start a new one.";
    assert_eq!(ending.told("s"), (Terminating, "LifetimeExceeded", message));
}

#[test]
fn a_jdbc_session_whose_connections_are_closed_is_over_at_once() {
    let cluster = of_pool(thrift_pool("p"), placed().released(5)).settled().at(6).settled();
    assert_eq!(cluster.told("s"), (Terminated, "Released", "The client ended the session."));
    assert!(cluster.releases.is_empty());
}

/// Spark may have refused the client's own call, or not have got it; Spark 3 has no such call.
#[test]
fn what_a_connect_client_released_is_released_for_it_and_its_place_is_free_meanwhile() {
    let pool = connect_pool("p").allowing_each_user(1);
    let ending = of_pool(pool, placed().released(5)).settled().at(6).settled();
    let next = ending.clone().session(session("next").created(6)).settled();
    assert_eq!((next.state_of("s"), next.state_of("next")), (Terminating, Active));
    assert_eq!(ending.told("s"), (Terminating, "Released", "The client ended the session."));
    assert_eq!(ending.releases["s"], "p-0");
    let over = ending.released("s", ReleaseOutcome::Released).settled();
    assert_eq!(over.told("s"), (Terminated, "Released", "The client ended the session."));
}

#[test]
fn a_deleted_session_is_released_on_spark_before_its_object_goes() {
    let mut cluster = cluster(placed()).settled();
    cluster.delete_session("s");
    let ending = cluster.settled();
    let message = "The session was deleted (kubectl delete). Start a new session.";
    assert_eq!(ending.told("s"), (Terminating, "Deleted", message));
    assert_eq!(ending.releases["s"], "p-0");
    let over = ending.released("s", ReleaseOutcome::Released).settled();
    assert!(!over.has_session("s"));
    assert!(over.events.contains(&("SessionTerminated", message.to_owned())), "{:?}", over.events);
}

#[rstest]
#[case::that_waits(session("s"))]
#[case::that_has_ended(session("s").ended(Failed, "StartTimeout", "", 0))]
#[case::whose_instance_is_gone(session("s").on("p-9"))]
fn a_deleted_session_with_nothing_on_spark_goes_at_once(#[case] session: Session) {
    let cluster = cluster(session.being_deleted()).planned();
    assert!(!cluster.has_session("s") && cluster.releases.is_empty());
}

#[test]
fn a_session_is_held_before_it_is_placed_and_so_is_its_pool() {
    let cluster = Cluster::of(connect_pool("p")).instance(ready("p-0")).session(session("s"));
    let held: Vec<_> = cluster
        .plan()
        .actions
        .into_iter()
        .map(|action| matches!(action, Action::SetFinalizer { hold: true, .. }))
        .collect();
    let status =
        cluster.plan().actions.iter().position(|it| matches!(it, Action::UpdateSessionStatus { .. }));
    assert_eq!(held.iter().filter(|held| **held).count(), 2);
    assert!(held.iter().rposition(|held| *held) < status);
    let cluster = cluster.settled();
    assert!(cluster.sessions[0].meta.held && cluster.pool.meta.held);
}

#[test]
fn who_waits_needs_no_finalizer() {
    let cluster = Cluster::of(connect_pool("p")).session(session("s")).settled();
    assert!(!cluster.sessions[0].meta.held && !cluster.pool.meta.held);
}

#[test]
fn a_session_that_is_ending_keeps_its_place_in_the_quota() {
    let pool = connect_pool("p").sized(1, 1).allowing_each_user(1);
    let mut cluster = of_pool(pool, placed()).settled();
    cluster.delete_session("s");
    cluster = cluster.session(session("early").created(1)).settled();
    assert_eq!(cluster.state_of("early"), Failed);
    cluster = cluster.released("s", ReleaseOutcome::Released).settled();
    assert_eq!(cluster.session(session("late").created(2)).settled().state_of("late"), Active);
}

#[test]
fn a_deleted_pool_ends_its_sessions_first() {
    let pool = connect_pool("p").sized(0, 3).being_deleted();
    let cluster = of_pool(pool, placed()).session(session("new").created(1)).settled();
    let placed = (Terminating, "PoolDeleted", "Pool p was deleted, and the session with it.");
    assert_eq!(cluster.told("s"), placed);
    let new = (Failed, "PoolDeleted", "Pool p is being deleted: no session starts in it.");
    assert_eq!(cluster.told("new"), new);
    assert_eq!(cluster.instances.len(), 1, "no instance comes or goes");
    assert!(cluster.has_pool());
    let cluster = cluster.released("s", ReleaseOutcome::Released).settled();
    assert_eq!(cluster.state_of("s"), Terminated);
    assert!(!cluster.has_pool());
}

#[test]
fn the_connections_of_a_thrift_session_are_closed_though_it_has_no_place() {
    let mut left = session("s");
    left.status.connections.push(ThriftConnection { id: "1".to_owned(), instance: "p-0".to_owned() });
    let cluster = of_pool(thrift_pool("p"), left.being_deleted()).planned();
    assert_eq!((cluster.state_of("s"), cluster.releases["s"].as_str()), (Terminating, "p-0"));
}

#[rstest]
#[case::an_ended_one(session("s").ended(Terminated, "Released", "", 0))]
#[case::one_that_is_deleted(session("s").on("p-0").being_deleted())]
fn without_a_pool_nothing_holds_a_session(#[case] session: Session) {
    let sessions = [std::sync::Arc::new(session.held())];
    let plan = plan_without_pool(&sessions, crate::model::fixtures::at(5));
    assert!(matches!(plan.actions[..], [Action::SetFinalizer { hold: false, .. }]), "{plan:?}");
}

#[test]
fn one_that_was_ending_ends_when_its_instance_is_lost() {
    let mut ending = cluster(placed()).at(9000).settled();
    ending.instances.clear();
    let over: (SessionState, &str, &str) = (Terminated, "IdleTimeout", NOT_USED);
    assert_eq!(ending.settled().told("s"), over);
}
