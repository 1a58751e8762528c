//! Who gets in.

use rstest::rstest;

use super::cluster::Cluster;
use crate::api::SessionState::{Active, Failed, Terminated};
use crate::model::fixtures::{connect_pool, ready, session};
use crate::model::{Pool, Session};

fn pool() -> Pool {
    connect_pool("p").sized(1, 1)
}

/// How many of these sessions get a place.
fn admitted(pool: Pool, sessions: impl IntoIterator<Item = Session>) -> usize {
    let cluster = Cluster::of(pool).instance(ready("p-0")).sessions(sessions).settled();
    cluster.sessions.iter().filter(|session| session.status.state == Active).count()
}

fn of(user: &str, count: usize) -> Vec<Session> {
    (0..count).map(|n| session(&format!("{user}-{n}")).of(user)).collect()
}

#[test]
fn each_user_gets_as_many_as_the_policy_says() {
    let sessions = [of("alice", 4), of("bob", 1)].concat();
    assert_eq!(admitted(pool().allowing_each_user(2), sessions), 2 + 1);
}

#[test]
fn all_users_together_get_as_many_as_the_policy_says() {
    let sessions = [of("alice", 2), of("bob", 2)].concat();
    assert_eq!(admitted(pool().allowing_in_total(3), sessions), 3);
}

#[rstest]
#[case::a_named_user("carol", &[], 3)]
#[case::a_member_of_a_group("alice", &["etl"], 4)]
#[case::the_first_that_matches_even_if_a_later_one_allows_more("carol", &["etl"], 3)]
#[case::nobody_matches("alice", &["sales"], 1)]
#[case::nothing_at_all("mallory", &[], 0)]
fn the_first_matching_quota_counts(#[case] user: &str, #[case] groups: &[&str], #[case] places: usize) {
    let pool = pool()
        .allowing_each_user(1)
        .allowing_user("carol", 3)
        .allowing_group("etl", 4)
        .allowing_user("mallory", 0);
    let sessions = of(user, 6).into_iter().map(|session| session.in_groups(groups));
    assert_eq!(admitted(pool, sessions), places);
}

#[test]
fn a_matching_quota_without_a_number_leaves_that_of_everybody() {
    let mut pool = pool().allowing_each_user(2).allowing_user("alice", 9);
    pool.spec.session_policy.quotas[0].max_sessions_per_user = None;
    assert_eq!(admitted(pool, of("alice", 4)), 2);
}

#[test]
fn the_oldest_come_first() {
    let cluster = Cluster::of(pool().allowing_each_user(1))
        .instance(ready("p-0"))
        .session(session("a-young").created(9))
        .session(session("b-old").created(1))
        .planned();
    assert_eq!((cluster.state_of("b-old"), cluster.state_of("a-young")), (Active, Failed));
}

#[test]
fn sessions_that_have_a_place_keep_it_when_the_quota_shrinks() {
    let cluster = Cluster::of(pool().allowing_each_user(1).allowing_in_total(1))
        .instance(ready("p-0"))
        .sessions(["a", "b", "c"].map(|name| session(name).on("p-0")))
        .session(session("new"))
        .settled();
    assert_eq!(["a", "b", "c"].map(|name| cluster.state_of(name)), [Active; 3]);
    assert_eq!(cluster.state_of("new"), Failed);
}

#[test]
fn a_younger_session_with_a_place_counts_before_an_older_one_without() {
    let cluster = Cluster::of(pool().allowing_each_user(1))
        .instance(ready("p-0"))
        .session(session("old"))
        .session(session("young").on("p-0").created(9))
        .settled();
    assert_eq!((cluster.state_of("old"), cluster.state_of("young")), (Failed, Active));
}

#[test]
fn ended_sessions_and_those_being_deleted_count_no_more() {
    let sessions = [
        session("a").ended(Terminated, "Idle", "", 0),
        session("b").ended(Failed, "StartTimeout", "", 0),
        session("c").on("p-0").being_deleted(),
        session("new"),
    ];
    let cluster =
        Cluster::of(pool().allowing_each_user(1)).instance(ready("p-0")).sessions(sessions).settled();
    assert_eq!(cluster.state_of("new"), Active);
}

#[test]
fn who_is_refused_reads_which_limit_and_what_to_do() {
    let cluster =
        Cluster::of(pool().allowing_each_user(1)).instance(ready("p-0")).sessions(of("alice", 2)).planned();
    let (state, reason, message) = cluster.told("alice-1");
    assert_eq!((state, reason), (Failed, "QuotaExceeded"));
    assert_eq!(
        message,
        "Quota exceeded: user alice may have 1 session(s) in pool p at the same time, and has them all in use. End \
         one of them (spark.stop() in PySpark, or close the JDBC connection's session with `kubectl delete sis \
         NAME`) and try again."
    );
    let full =
        Cluster::of(pool().allowing_in_total(1)).instance(ready("p-0")).sessions(of("alice", 2)).planned();
    assert_eq!(
        full.told("alice-1").2,
        "Quota exceeded: pool p is full, all of its 1 session(s) are in use. Try again when somebody has ended one."
    );
}

#[test]
fn who_is_refused_starts_no_instance() {
    let pool = connect_pool("p").sized(0, 5).allowing_user("mallory", 0);
    let cluster = Cluster::of(pool).session(session("s").of("mallory")).settled();
    assert_eq!((cluster.state_of("s"), cluster.instances.len()), (Failed, 0));
}
