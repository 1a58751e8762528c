//! Sessions that nobody uses and in which something runs, or may run.
//!
//! The tests' time begins at 2027-01-15T08:00:00Z.

use rstest::rstest;

use super::cluster::Cluster;
use crate::api::SessionState::{Active, Idle, Terminating};
use crate::model::fixtures::{at, connect_pool, ready, session, thrift_pool};
use crate::model::{Pool, ReleaseOutcome, SparkRuns};
use crate::plan::explain;

const MINUTES: i64 = 60;
const SLACK: i64 = 75;
/// When a session that was placed in the beginning and never used is due to end.
const DUE: i64 = 60 * MINUTES + SLACK;
const QUERY: &str = "streaming query \"events\" runs in it";

fn pool() -> Pool {
    connect_pool("p").ending_idle_sessions(60)
}

fn of(pool: Pool) -> Cluster {
    let session = session("s").on("p-0").held();
    Cluster::of(pool.held()).instance(ready("p-0")).session(session).watching_since(-100_000).settled()
}

fn runs() -> Option<SparkRuns> {
    Some(SparkRuns::Something(QUERY.to_owned()))
}

fn silent(asked_at: i64) -> Option<SparkRuns> {
    let reason = "no answer from Spark at 10.0.0.1:15002 within 5 s".to_owned();
    Some(SparkRuns::Unknown { reason, since: at(asked_at) })
}

#[test]
fn a_session_in_which_nothing_runs_ends_after_spark_was_asked() {
    let before = of(pool()).at(DUE - 1).settled();
    assert_eq!((before.state_of("s"), before.questions.len()), (Idle, 0), "not before it is due");
    let asked = before.running("s", None).at(DUE).settled();
    assert_eq!((asked.state_of("s"), &*asked.questions), (Idle, &[("s".to_owned(), DUE)][..]));
    let ending = asked.running("s", Some(SparkRuns::Nothing)).at(DUE + 1).settled();
    let message = "The session ended because it was not used for 60 min (since 2027-01-15T08:00:00Z). Start a new \
                   session.";
    assert_eq!(ending.told("s"), (Terminating, "IdleTimeout", message));
}

#[test]
fn a_session_in_which_a_query_runs_is_kept_and_says_so() {
    let kept = of(pool()).running("s", runs()).at(DUE).settled();
    let message = format!("Served by instance p-0. No client uses it now, but {QUERY}, which keeps it.");
    assert_eq!(kept.told("s"), (Active, "QueryRunning", &*message));
    assert_eq!(kept.wakes_at(), Some(DUE + 5 * MINUTES));
    let text = explain(&kept.view(), "s", at(DUE)).unwrap().to_string();
    assert!(text.contains(&format!("why       QueryRunning: {message}\n")), "{text}");
    let ends =
        "ends      not for want of use while that query runs, by sessionPolicy.runningQueriesKeepSessions\n";
    assert!(text.contains(ends), "{text}");

    let mut day = kept;
    for n in 1..200 {
        day = day.at(DUE + n * 5 * MINUTES).settled();
        assert_eq!(day.told("s"), (Active, "QueryRunning", &*message));
    }
    assert_eq!(day.questions.len(), 200, "asked every five minutes");
    let writes = day.plan().actions;
    assert_eq!(writes, [], "and nothing is written for it");
}

#[test]
fn when_the_query_ends_the_idle_timeout_counts_from_when_it_last_ran() {
    let kept = of(pool()).running("s", runs()).at(DUE).settled();
    let last = DUE + 5 * MINUTES;
    let kept = kept.at(last).settled().running("s", Some(SparkRuns::Nothing));
    let over = kept.at(last + 5 * MINUTES).settled();
    assert_eq!((over.state_of("s"), over.told("s").1), (Active, "Placed"));
    let asked = over.questions.len();
    let ends = last + 60 * MINUTES + SLACK;
    let idle = over.at(ends - 1).settled();
    assert_eq!((idle.state_of("s"), idle.questions.len()), (Idle, asked), "nobody asks meanwhile");
    let ending = idle.at(ends).settled();
    assert_eq!((ending.state_of("s"), ending.told("s").1), (Terminating, "IdleTimeout"));
}

/// Short timeouts are tried out, and a question every five minutes would come after them.
#[test]
fn a_short_idle_timeout_is_how_often_spark_is_asked() {
    let due = MINUTES + SLACK;
    let kept = of(connect_pool("p").ending_idle_sessions(1)).running("s", runs()).at(due).settled();
    assert_eq!(kept.wakes_at(), Some(due + MINUTES));
}

#[test]
fn a_client_that_comes_back_uses_it_as_any_other() {
    let kept = of(pool()).running("s", runs()).at(DUE).settled();
    let used = kept.used("s", DUE + 10).at(DUE + 11).settled();
    assert_eq!(used.told("s"), (Active, "Placed", "Served by instance p-0."));
    let later = used.at(DUE + 10 + 60 * MINUTES + SLACK - 1).settled();
    assert_eq!((later.state_of("s"), later.questions.len()), (Idle, 1), "nobody asks while it is used");
    assert_eq!(later.clone().at(later.now + 1).settled().told("s").1, "QueryRunning");
}

#[test]
fn the_maximum_lifetime_ends_what_a_query_keeps() {
    let kept = of(pool().ending_sessions_after(120)).running("s", runs()).at(DUE).settled();
    let message = format!(
        "Served by instance p-0. No client uses it now, but {QUERY}, which keeps it, until 2027-01-15T10:00:00Z at the \
         latest."
    );
    assert_eq!(kept.told("s"), (Active, "QueryRunning", &*message));
    let ended = kept.at(120 * MINUTES).settled();
    assert_eq!((ended.state_of("s"), ended.told("s").1), (Terminating, "LifetimeExceeded"));
}

#[test]
fn a_server_that_does_not_answer_keeps_a_session_for_five_minutes() {
    let mut cluster = of(pool()).running("s", silent(DUE));
    for n in 0..5 {
        cluster = cluster.at(DUE + n * MINUTES).settled();
        let message = "Not used since 2027-01-15T08:00:00Z; ends at 2027-01-15T09:06:15Z unless it is used.";
        assert_eq!(cluster.told("s"), (Idle, "Idle", message));
    }
    assert_eq!(cluster.questions.len(), 5, "asked every minute");
    let given_up = cluster.at(DUE + 5 * MINUTES).settled();
    let message = "The session ended because it was not used for 60 min (since 2027-01-15T08:00:00Z). Whether a query was \
                   still running in it is not known: no answer from Spark at 10.0.0.1:15002 within 5 s. Start a new \
                   session.";
    assert_eq!(given_up.told("s"), (Terminating, "IdleTimeout", message));
}

#[test]
fn a_server_that_answers_again_is_believed() {
    let cluster = of(pool()).running("s", silent(DUE)).at(DUE).settled();
    let kept = cluster.running("s", runs()).at(DUE + MINUTES).settled();
    assert_eq!((kept.state_of("s"), kept.told("s").1), (Active, "QueryRunning"));
}

/// The patience is not used up by a server that was silent yesterday.
#[test]
fn each_row_of_questions_without_an_answer_has_its_own_patience() {
    let once = of(pool()).running("s", silent(DUE)).at(DUE).settled();
    let used = once.used("s", DUE + 10).at(DUE + 11).settled();
    let due = DUE + 10 + 60 * MINUTES + SLACK;
    let again = used.at(due).settled();
    assert_eq!((again.state_of("s"), again.wakes_at()), (Idle, Some(due + MINUTES)));
    assert_eq!(again.at(due + 5 * MINUTES).settled().state_of("s"), Terminating);
}

fn never_asked(pool: Pool) {
    let ended = of(pool).running("s", runs()).at(DUE).settled();
    assert_eq!((ended.state_of("s"), ended.told("s").1), (Terminating, "IdleTimeout"));
    assert_eq!(ended.questions, []);
}

#[test]
fn where_the_pool_does_not_want_it_nobody_asks() {
    let mut pool = pool();
    pool.spec.session_policy.running_queries_keep_sessions = false;
    never_asked(pool);
}

#[test]
fn a_thrift_server_is_not_asked() {
    never_asked(thrift_pool("p").ending_idle_sessions(60));
}

#[test]
fn a_pool_that_no_longer_wants_it_ends_what_was_kept() {
    let mut kept = of(pool()).running("s", runs()).at(DUE).settled();
    kept.pool.spec.session_policy.running_queries_keep_sessions = false;
    let used = kept.at(DUE + MINUTES).settled();
    assert_eq!(used.told("s").1, "Placed", "its query counted as a use until now");
    let ended = used.at(DUE + DUE).settled();
    assert_eq!((ended.state_of("s"), ended.told("s").1), (Terminating, "IdleTimeout"));
}

/// What it knew is forgotten; what ran was a use, which the status has.
#[test]
fn another_replica_that_begins_to_lead_asks_anew() {
    let mut kept = of(pool()).running("s", runs()).at(DUE).settled();
    kept.spark_sides.clear();
    kept.activity.clear();
    kept.find_session("s").status.last_activity_at = Some(crate::model::fixtures::time(DUE));
    let mut led = kept.at(DUE + MINUTES).watching_since(DUE + MINUTES).settled();
    assert_eq!((led.state_of("s"), led.told("s").1), (Active, "Placed"));
    led.questions.clear();
    let again = led.at(DUE + DUE).settled();
    assert_eq!((again.told("s").1, again.questions.len()), ("QueryRunning", 1));
}

#[rstest]
#[case::deleted(|cluster: &mut Cluster| cluster.delete_session("s"), "Deleted")]
#[case::the_pool_is_deleted(|cluster: &mut Cluster| cluster.pool.meta.deleting = true, "PoolDeleted")]
fn other_ends_do_not_ask(#[case] end: fn(&mut Cluster), #[case] reason: &str) {
    let mut cluster = of(pool()).running("s", runs()).at(DUE).settled();
    end(&mut cluster);
    let ended = cluster.at(DUE + 1).settled();
    assert_eq!((ended.state_of("s"), ended.told("s").1), (Terminating, reason));
    let over = ended.released("s", ReleaseOutcome::Released).settled();
    assert_eq!(over.questions.len(), 1);
}
