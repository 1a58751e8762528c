//! Sessions whose clients have gone: they make room, or end.
//!
//! The tests' time begins at 2027-01-15T08:00:00Z.

use rstest::rstest;
use uuid::Uuid;

use super::cluster::Cluster;
use crate::api::DisconnectCause::{self, ClosedByClient, ConnectionLost, Unused};
use crate::api::SessionState::{Active, Failed, Idle, Pending, Terminated, Terminating};
use crate::model::fixtures::{at, connect_pool, ready, session};
use crate::model::{InstancePhase, Pool, ReleaseOutcome, Session, SparkRuns};
use crate::plan::explain;

const MINUTES: i64 = 60;

fn pool() -> Pool {
    connect_pool("p").sized(1, 1).allowing_each_user(2).ending_idle_sessions(720)
}

fn name(n: u128) -> String {
    format!("p-{}", Uuid::from_u128(n))
}

/// A session that a connection of alice made.
fn made(n: u128) -> Session {
    session(&name(n)).with_spark_id(Uuid::from_u128(n)).held()
}

/// It is on an instance, and its client went at this second.
fn left(n: u128, seconds: i64, cause: DisconnectCause) -> Session {
    made(n).on("p-0").disconnected(seconds, cause)
}

/// What has a place can be used since second 5.
fn cluster(pool: Pool, sessions: impl IntoIterator<Item = Session>) -> Cluster {
    Cluster::of(pool.held())
        .instance(ready("p-0"))
        .sessions(sessions)
        .watching_since(-100_000)
        .at(5)
        .settled()
}

/// A new session of alice comes at second 200.
fn with_a_newer(pool: Pool, sessions: impl IntoIterator<Item = Session>) -> Cluster {
    cluster(pool, sessions).at(199).settled().session(made(99).created(200)).at(200).settled()
}

fn runs() -> Option<SparkRuns> {
    Some(SparkRuns::Something("streaming query \"events\" runs in it".to_owned()))
}

#[test]
fn the_session_that_was_left_first_makes_room_and_says_so() {
    let cluster = with_a_newer(pool(), [left(1, 150, ClosedByClient), left(2, 120, ClosedByClient)]);
    let message = "The session ended to make room for a newer one of the same user: its client was gone since \
                   2027-01-15T08:02:00Z, and user alice may have 2 session(s) in pool p at the same time. Start a new \
                   session.";
    assert_eq!(cluster.told(&name(2)), (Terminating, "ReplacedByNewer", message));
    assert_eq!((cluster.state_of(&name(1)), cluster.state_of(&name(99))), (Active, Active));
    assert_eq!(cluster.releases, [(name(2), "p-0".to_owned())].into());

    let over = cluster.released(&name(2), ReleaseOutcome::Released).settled();
    assert_eq!(over.told(&name(2)), (Terminated, "ReplacedByNewer", message));
    assert_eq!((over.state_of(&name(1)), over.state_of(&name(99))), (Active, Active));
}

/// gRPC's clients close a connection that they have not used for half an hour, and come back over another one.
#[test]
fn a_session_whose_connection_was_only_unused_makes_room_after_all_others_and_has_no_other_end() {
    let sessions = [left(1, 110, Unused), left(2, 150, ClosedByClient)];
    let cluster = with_a_newer(pool().ending_disconnected_sessions(60), sessions);
    assert_eq!((cluster.state_of(&name(1)), cluster.told(&name(2)).1), (Active, "ReplacedByNewer"));
    let later = cluster.at(150 + 61 * MINUTES).settled();
    assert_eq!(later.told(&name(1)).1, "Idle");
    let text = explain(&later.view(), &name(1), at(150 + 61 * MINUTES)).unwrap().to_string();
    assert!(text.contains("its last connection was closed after it was not used for long"), "{text}");
    assert!(!text.contains("disconnectedTimeoutMinutes"), "{text}");
    let last = with_a_newer(pool().allowing_each_user(1), [left(1, 110, Unused)]);
    assert_eq!(last.told(&name(1)).1, "ReplacedByNewer");
}

#[test]
fn while_it_is_being_closed_it_makes_room_only_once() {
    let cluster =
        with_a_newer(pool(), [left(1, 190, ClosedByClient), made(2).on("p-0").connected_from(1, 10)]);
    assert_eq!(cluster.state_of(&name(99)), Active);
    let crowded = cluster.session(made(100).created(201)).at(201).settled();
    assert_eq!(crowded.told(&name(100)).1, "QuotaExceeded");
}

#[rstest]
#[case::is_connected(made(1).on("p-0").connected_from(1, 10))]
#[case::was_never_seen_connected(made(1).on("p-0"))]
#[case::has_just_lost_its_connection(left(1, 150, ConnectionLost))]
#[case::has_a_name(left(1, 150, ClosedByClient).named("etl"))]
#[case::was_made_by_kubectl(
    session("mine").claimed_by(Uuid::from_u128(7)).on("p-0").disconnected(150, ClosedByClient).held()
)]
#[case::is_another_users(left(1, 150, ClosedByClient).of("bob"))]
fn a_session_makes_no_room_that(#[case] other: Session) {
    let cluster =
        with_a_newer(pool().allowing_each_user(1), [other.clone(), made(2).on("p-0").connected_from(2, 10)]);
    assert_eq!((cluster.state_of(other.name()), cluster.told(&name(99)).1), (Active, "QuotaExceeded"));
}

#[test]
fn the_refusal_names_who_is_disconnected_and_when_a_place_may_be_free() {
    let cluster =
        with_a_newer(pool(), [left(1, 150, ConnectionLost), made(2).on("p-0").connected_from(2, 10)]);
    let message = format!(
        "Quota exceeded: user alice may have 2 session(s) in pool p at the same time, and has 2: {} (Active, disconnected \
         since 08:02 UTC), {} (Active). Try again in 11 s: {} makes room then, unless its client comes back. End one: \
         spark.stop() in its program, close the JDBC connection, or `kubectl delete sis NAME`; idle ones end by themselves \
         after 720 min.",
        name(1),
        name(2),
        name(1),
    );
    assert_eq!(cluster.told(&name(99)), (Failed, "QuotaExceeded", &*message));
    let later = cluster.session(made(100).created(210)).at(210).settled();
    assert_eq!((later.told(&name(1)).1, later.state_of(&name(100))), ("ReplacedByNewer", Active));
}

#[test]
fn where_the_pool_is_full_a_user_s_own_session_makes_room() {
    let pool = pool().allowing_each_user(9).allowing_in_total(2);
    let bobs = made(2).of("bob").on("p-0").disconnected(10, ClosedByClient);
    let cluster = with_a_newer(pool, [left(1, 150, ClosedByClient), bobs]);
    let message = "The session ended to make room for a newer one of the same user: its client was gone since \
                   2027-01-15T08:02:30Z, and pool p has room for 2 session(s). Start a new session.";
    assert_eq!(cluster.told(&name(1)), (Terminating, "ReplacedByNewer", message));
    assert_eq!((cluster.state_of(&name(2)), cluster.state_of(&name(99))), (Active, Active));
}

/// The API server takes nothing that is written of the session: the next plan would not know that it has made room.
#[test]
fn a_session_makes_no_room_if_that_cannot_be_written_down() {
    let mut cluster = cluster(pool().allowing_each_user(1), [left(1, 150, ClosedByClient)]);
    cluster.unwritable.insert(name(1));
    let cluster = cluster.session(made(99).created(200)).at(200).settled();
    assert_eq!((cluster.told(&name(1)).1, cluster.told(&name(99)).1), ("Placed", "QuotaExceeded"));
    assert_eq!(cluster.releases, [].into());
}

#[test]
fn nobody_is_replaced_while_there_is_room() {
    let cluster = with_a_newer(pool(), [left(1, 150, ClosedByClient)]);
    assert_eq!((cluster.state_of(&name(1)), cluster.state_of(&name(99))), (Active, Active));
    assert_eq!(cluster.questions, []);
}

#[test]
fn a_limit_that_was_lowered_takes_as_many_as_it_needs() {
    let sessions = (1..=4).map(|n| left(n, 100 + n as i64, ClosedByClient));
    let cluster = with_a_newer(pool(), sessions);
    let reasons: Vec<_> = (1..=4).map(|n| cluster.told(&name(n)).1).collect();
    assert_eq!(reasons, ["ReplacedByNewer", "ReplacedByNewer", "ReplacedByNewer", "Placed"]);
    assert_eq!(cluster.state_of(&name(99)), Active);
}

#[test]
fn what_runs_in_a_session_keeps_its_place_and_the_next_one_goes() {
    let sessions = [left(1, 110, ClosedByClient), left(2, 150, ClosedByClient)];
    let cluster = cluster(pool(), sessions).at(199).settled();
    let cluster = cluster.running(&name(1), runs()).session(made(99).created(200)).at(200).settled();
    assert_eq!((cluster.state_of(&name(1)), cluster.told(&name(2)).1), (Active, "ReplacedByNewer"));
    assert_eq!(cluster.state_of(&name(99)), Active);
}

#[test]
fn where_something_runs_in_all_of_them_the_newer_one_is_refused() {
    let cluster = cluster(pool().allowing_each_user(1), [left(1, 110, ClosedByClient)]).at(199).settled();
    let cluster = cluster.running(&name(1), runs()).session(made(99).created(200)).at(200).settled();
    assert_eq!((cluster.state_of(&name(1)), cluster.told(&name(99)).1), (Active, "QuotaExceeded"));
    let words = format!("{} keeps its place: streaming query \"events\" runs in it. End one: ", name(1));
    assert!(cluster.told(&name(99)).2.contains(&words), "{}", cluster.told(&name(99)).2);
}

#[test]
fn the_newer_one_waits_for_what_spark_says() {
    let cluster = cluster(pool().allowing_each_user(1), [left(1, 110, ClosedByClient)]).at(199).settled();
    let waits = cluster.running(&name(1), None).session(made(99).created(200)).at(200).settled();
    assert_eq!((waits.state_of(&name(1)), waits.state_of(&name(99))), (Active, Pending));
    assert_eq!(waits.questions.len(), 1);
    let answered = waits.running(&name(1), Some(SparkRuns::Nothing)).at(201).settled();
    assert_eq!((answered.told(&name(1)).1, answered.state_of(&name(99))), ("ReplacedByNewer", Active));
}

#[test]
fn a_server_that_does_not_answer_keeps_nobody_waiting() {
    let cluster = cluster(pool().allowing_each_user(1), [left(1, 110, ClosedByClient)]).at(199).settled();
    let silent = SparkRuns::Unknown { reason: "no answer".to_owned(), since: at(200) };
    let cluster = cluster.running(&name(1), Some(silent)).session(made(99).created(200)).at(200).settled();
    assert_eq!((cluster.state_of(&name(1)), cluster.told(&name(99)).1), (Active, "QuotaExceeded"));
    let words = format!("{} keeps its place: Spark does not say what runs in it. End one: ", name(1));
    assert!(cluster.told(&name(99)).2.contains(&words), "{}", cluster.told(&name(99)).2);
}

#[test]
fn a_session_whose_client_is_gone_ends_after_the_pool_s_time() {
    let pool = pool().ending_disconnected_sessions(60);
    let due = 150 + 60 * MINUTES;
    let before = cluster(pool, [left(1, 150, ConnectionLost)]).at(due - 1).settled();
    assert_eq!((before.state_of(&name(1)), before.wakes_at()), (Idle, Some(due)));
    let text = explain(&before.view(), &name(1), at(due - 1)).unwrap().to_string();
    let client = "client    disconnected since 2027-01-15T08:02:30Z: its last connection was lost; makes room for the user's \
                  next session when a limit is reached, unless something runs in it\n";
    assert!(text.contains(client), "{text}");
    let ends =
        "at 2027-01-15T09:02:30Z if no client comes back, by sessionPolicy.disconnectedTimeoutMinutes 60\n";
    assert!(text.contains(ends), "{text}");
    let ended = before.at(due).settled();
    let message = "The session ended because its client was gone for 60 min (since 2027-01-15T08:02:30Z). Start a new \
                   session.";
    assert_eq!(ended.told(&name(1)), (Terminating, "DisconnectedTimeout", message));
}

#[test]
fn a_named_session_ends_after_the_pool_s_time_too() {
    let pool = pool().ending_disconnected_sessions(60);
    let named = left(1, 150, ClosedByClient).named("etl");
    let cluster = cluster(pool, [named]).at(150 + 60 * MINUTES).settled();
    assert_eq!(cluster.told(&name(1)).1, "DisconnectedTimeout");
}

#[test]
fn a_query_that_runs_keeps_a_session_whose_client_is_gone() {
    let pool = pool().ending_disconnected_sessions(60);
    let due = 150 + 60 * MINUTES;
    let kept = cluster(pool, [left(1, 150, ClosedByClient)]).running(&name(1), runs()).at(due).settled();
    assert_eq!((kept.state_of(&name(1)), kept.told(&name(1)).1), (Active, "QueryRunning"));
    // Its time counts from when the query was last seen to run.
    let over = kept.running(&name(1), Some(SparkRuns::Nothing)).at(due + 60 * MINUTES - 1).settled();
    assert_ne!(over.told(&name(1)).1, "DisconnectedTimeout");
    assert_eq!(over.at(due + 60 * MINUTES).settled().told(&name(1)).1, "DisconnectedTimeout");
}

#[rstest]
#[case::not_before_a_program_that_was_told_to_wait_is_back(ClosedByClient, 164, 165, false)]
#[case::after_15_s_where_it_closed_the_connection(ClosedByClient, 165, 165, true)]
#[case::not_so_soon_where_the_connection_was_lost(ConnectionLost, 224, 225, false)]
#[case::after_a_minute_more_where_the_connection_was_lost(ConnectionLost, 225, 225, true)]
fn a_session_ends_whose_client_went_while_it_waited(
    #[case] cause: DisconnectCause,
    #[case] now: i64,
    #[case] due: i64,
    #[case] ends: bool,
) {
    let waiting = Cluster::of(pool().held()).session(made(1).disconnected(150, cause)).at(now).settled();
    assert_eq!(waiting.state_of(&name(1)) == Terminated, ends);
    if ends {
        let message = "The session ended because its client went away at 2027-01-15T08:02:30Z, before the session could be \
                       used, and did not come back. Start a new session.";
        assert_eq!(waiting.told(&name(1)), (Terminated, "ClientGone", message));
    } else {
        assert_eq!(waiting.wakes_at(), Some(due));
    }
}

#[test]
fn a_session_that_was_usable_after_its_client_had_gone_ends_as_well() {
    let waiting = cluster(pool(), []).session(made(1)).at(100).settled();
    assert_eq!(waiting.state_of(&name(1)), Active, "usable since second 100");
    let mut left_before = waiting.clone();
    *left_before.find_session(&name(1)) = waiting.sessions[0].clone().disconnected(99, ClosedByClient);
    assert_eq!(left_before.at(114).settled().told(&name(1)).1, "ClientGone");
    let mut left_after = waiting.clone();
    *left_after.find_session(&name(1)) = waiting.sessions[0].clone().disconnected(100, ClosedByClient);
    assert_eq!(left_after.at(130).settled().state_of(&name(1)), Active);
}

#[rstest]
#[case::whose_client_closed_its_connection(ClosedByClient)]
#[case::whose_connection_was_lost(ConnectionLost)]
fn a_session_that_was_used_goes_on_after_its_instance_was_away(#[case] cause: DisconnectCause) {
    let mut cluster = cluster(pool(), [left(1, 150, cause)]).at(400).settled();
    cluster.find_instance("p-0").phase = InstancePhase::Starting;
    let mut away = cluster.settled();
    assert_eq!(away.told(&name(1)).1, "InstanceStarting");
    away.find_instance("p-0").phase = InstancePhase::Ready;
    let back = away.at(410).settled();
    assert_eq!((back.state_of(&name(1)), back.told(&name(1)).1), (Active, "Placed"));
}

#[test]
fn what_runs_in_a_session_keeps_it_though_its_instance_was_away_when_its_client_went() {
    let mut cluster = cluster(pool(), [left(1, 150, ConnectionLost)]).at(151);
    cluster.find_instance("p-0").phase = InstancePhase::Starting;
    let mut away = cluster.settled().running(&name(1), runs());
    away.find_instance("p-0").phase = InstancePhase::Ready;
    let kept = away.at(160).settled().at(300).settled();
    assert_eq!((kept.state_of(&name(1)), kept.told(&name(1)).1), (Active, "QueryRunning"));
}

#[test]
fn a_clone_does_not_get_the_place_of_its_original() {
    let cluster = cluster(pool().allowing_each_user(1), [left(1, 150, ClosedByClient)]).at(199).settled();
    let clone = made(99).clone_of(&name(1)).created(200);
    let cluster = cluster.session(clone).at(200).settled();
    assert_eq!((cluster.state_of(&name(1)), cluster.told(&name(99)).1), (Active, "QuotaExceeded"));
}

#[test]
fn a_query_that_has_ended_since_spark_was_asked_keeps_no_place() {
    let cluster = cluster(pool().allowing_each_user(1), [left(1, 110, ClosedByClient)]).at(199).settled();
    let refused = cluster.running(&name(1), runs()).session(made(99).created(200)).at(200).settled();
    assert_eq!(refused.told(&name(99)).1, "QuotaExceeded");
    let again = refused.running(&name(1), Some(SparkRuns::Nothing)).session(made(100).created(215)).at(215);
    let again = again.settled();
    assert_eq!((again.told(&name(1)).1, again.state_of(&name(100))), ("ReplacedByNewer", Active));
}

#[test]
fn an_answer_of_a_moment_ago_is_good_enough() {
    let cluster = cluster(pool().allowing_each_user(1), [left(1, 110, ClosedByClient)]).at(199).settled();
    let refused = cluster.running(&name(1), runs()).session(made(99).created(200)).at(200).settled();
    let again = refused.session(made(100).created(205)).at(205).settled();
    assert_eq!((again.told(&name(100)).1, again.questions.len()), ("QuotaExceeded", 1));
}

/// Its request has come, and the write that tells of its connection is under way.
#[test]
fn a_client_that_is_coming_back_is_asked_about_anew() {
    let cluster = cluster(pool().allowing_each_user(1), [left(1, 110, ClosedByClient)]).at(199).settled();
    let asked = cluster.running(&name(1), None).session(made(99).created(200)).at(200).settled();
    let mut answered = asked.used(&name(1), 201).running(&name(1), runs());
    let uid = answered.find_session(&name(1)).meta.uid.clone();
    answered.spark_sides.entry(uid).or_default().note_running(at(200), SparkRuns::Nothing);
    let answered = answered.at(202).settled();
    assert_eq!((answered.state_of(&name(1)), answered.told(&name(99)).1), (Active, "QuotaExceeded"));
}

#[test]
fn a_session_that_was_made_in_advance_does_not_end_with_the_first_client() {
    let mine = session("mine").claimed_by(Uuid::from_u128(7)).disconnected(50, ClosedByClient).held();
    let cluster = Cluster::of(pool().held()).session(mine).at(100).settled();
    assert_eq!(cluster.state_of("mine"), Pending);
}
