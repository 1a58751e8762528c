//! Who gets in.

use rstest::rstest;

use super::cluster::Cluster;
use crate::api::SessionState::{Active, Failed, Idle, Pending, Terminated, Terminating};
use crate::model::fixtures::{connect_pool, ready, session};
use crate::model::{Pool, Session};
use crate::plan::quota;

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
        "Quota exceeded: user alice may have 1 session(s) in pool p at the same time, and has 1: alice-0 (waiting). End \
         one: spark.stop() in its program, close the JDBC connection, or `kubectl delete sis NAME`; idle ones end by \
         themselves after 720 min."
    );
}

/// What one more session of alice is told.
fn refusal(pool: Pool, sessions: impl IntoIterator<Item = Session>) -> String {
    let cluster = Cluster::of(pool.ending_idle_sessions(60)).instance(ready("p-0")).sessions(sessions);
    let cluster = cluster.session(session("new").created(9)).planned();
    let (state, reason, message) = cluster.told("new");
    assert_eq!((state, reason), (Failed, "QuotaExceeded"));
    message.to_owned()
}

const END_ONE: &str = "End one: spark.stop() in its program, close the JDBC connection, or `kubectl delete sis NAME`; \
                       idle ones end by themselves after 60 min.";

#[test]
fn a_refusal_names_the_user_s_sessions_and_how_they_are() {
    let sessions = [
        session("dev-1").on("p-0").in_state(Idle).used(-60),
        session("dev-2").on("p-0"),
        session("dev-3").on("p-0").in_state(Terminating),
    ];
    assert_eq!(
        refusal(pool().allowing_each_user(3), sessions),
        format!(
            "Quota exceeded: user alice may have 3 session(s) in pool p at the same time, and has 3: dev-1 (Idle since \
             07:59 UTC), dev-2 (Active), dev-3 (ending). {END_ONE}"
        )
    );
}

#[test]
fn of_many_sessions_a_refusal_names_five() {
    let sessions = of("alice", 8).into_iter().map(|session| session.on("p-0"));
    let message = refusal(pool().allowing_each_user(8), sessions);
    assert!(message.contains("and has 8: alice-0 (Active), alice-1 (Active), "), "{message}");
    assert!(message.contains(", alice-4 (Active) and 3 more. End one"), "{message}");
}

#[test]
fn a_full_pool_says_which_of_its_sessions_are_the_user_s() {
    let others = || of("bob", 2).into_iter().map(|session| session.on("p-0"));
    let full = "Quota exceeded: pool p is full, all of its 3 session(s) are in use";
    assert_eq!(
        refusal(pool().allowing_in_total(3), others().chain([session("mine").on("p-0")])),
        format!("{full}, 1 of them yours: mine (Active). {END_ONE}")
    );
    assert_eq!(
        refusal(pool().allowing_in_total(2), others()),
        format!("{}, none of them yours. Try again when somebody has ended one.", full.replace('3', "2"))
    );
}

#[test]
fn who_may_have_none_is_not_told_to_end_one() {
    assert_eq!(
        refusal(pool().allowing_user("alice", 0), []),
        "Quota exceeded: user alice may have no session in pool p. Ask its administrator."
    );
}

#[test]
fn the_last_places_of_a_pool_go_round() {
    let sessions = [of("alice", 4), of("bob", 2)].concat();
    let cluster =
        Cluster::of(pool().allowing_in_total(4)).instance(ready("p-0")).sessions(sessions).settled();
    let placed = cluster.sessions.iter().filter(|session| session.status.state == Active);
    let placed: Vec<_> = placed.map(|session| session.meta.name.as_str()).collect();
    assert_eq!(placed, ["alice-0", "alice-1", "bob-0", "bob-1"]);
}

#[test]
fn who_was_let_in_before_is_not_refused_for_a_newcomer_with_less() {
    let mut cluster = Cluster::of(pool().allowing_in_total(3)).sessions(of("alice", 3)).settled();
    cluster = cluster.session(session("bob").of("bob").created(1)).settled();
    assert_eq!((cluster.state_of("alice-2"), cluster.state_of("bob")), (Pending, Failed));
}

#[test]
fn a_quota_tells_why_it_counts() {
    let policy = pool().allowing_user("carol", 3).allowing_group("etl", 4).spec.session_policy;
    let source = |user: &str| quota::matching(&policy, user, &["etl".to_owned()]).unwrap().to_string();
    assert_eq!(
        (source("carol"), source("alice")),
        ("quotas[0] (named)".into(), "quotas[1] (group etl)".into())
    );
}

#[test]
fn who_is_refused_starts_no_instance() {
    let pool = connect_pool("p").sized(0, 5).allowing_user("mallory", 0);
    let cluster = Cluster::of(pool).session(session("s").of("mallory")).settled();
    assert_eq!((cluster.state_of("s"), cluster.instances.len()), (Failed, 0));
}
