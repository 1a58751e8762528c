//! A pool whose `sharing` changes while it has sessions: nobody moves, and no driver is started for those who have a place.

use rstest::rstest;

use super::cluster::Cluster;
use crate::api::Sharing::{self, Pool, Session as Alone, User};
use crate::model::fixtures::{connect_pool, ready, session, starting};

/// Owner and instance of each session.
type Open = &'static [(&'static str, &'static str)];

const ALL_ON_ONE: Open = &[("alice", "p-0"), ("bob", "p-0"), ("carol", "p-0")];
const ALICE_S_ON_ONE: Open = &[("alice", "p-0"), ("alice", "p-0"), ("alice", "p-0")];
const ONE_EACH: Open = &[("alice", "p-0"), ("bob", "p-1"), ("carol", "p-2")];
const ALICE_S_ON_THREE: Open = &[("alice", "p-0"), ("alice", "p-1"), ("alice", "p-2")];

/// These sessions on instances that answer, in a pool that was shared otherwise until now.
fn switched(to: Sharing, open: Open) -> Cluster {
    let pool = connect_pool("p").sized(0, 9).allowing_each_user(99).shared_by(to);
    let mut cluster = Cluster::of(pool);
    for (n, (owner, instance)) in open.iter().enumerate() {
        if !cluster.instances.iter().any(|it| it.name == *instance) {
            cluster = cluster.instance(ready(instance));
        }
        cluster = cluster.session(session(&format!("s{n}")).of(owner).on(instance));
    }
    cluster
}

#[rstest]
#[case::everybody_s_to_a_user_s(User, ALL_ON_ONE)]
#[case::everybody_s_to_a_session_s(Alone, ALL_ON_ONE)]
#[case::a_user_s_to_a_session_s(Alone, ALICE_S_ON_ONE)]
#[case::a_user_s_to_everybody_s(Pool, ONE_EACH)]
#[case::a_session_s_to_a_user_s(User, ALICE_S_ON_THREE)]
#[case::a_session_s_to_everybody_s(Pool, ALICE_S_ON_THREE)]
fn no_driver_is_started_for_those_who_have_a_place(#[case] to: Sharing, #[case] open: Open) {
    let cluster = switched(to, open);
    let settled = cluster.clone().settled();
    assert_eq!(cluster.creates(), [""; 0], "{:?}", settled.condition("Scaled"));
    for (n, (_, instance)) in open.iter().enumerate() {
        assert_eq!(settled.place_of(&format!("s{n}")), Some(*instance), "s{n}");
    }
}

/// Of a driver that was shared before, nobody has a free place.
#[rstest]
#[case::another_user(User, ALL_ON_ONE, &["dave"], 1)]
#[case::one_who_is_on_a_driver_with_others(User, ALL_ON_ONE, &["alice"], 1)]
#[case::all_of_one_user_on_one_driver(User, ALL_ON_ONE, &["dave", "dave"], 1)]
#[case::each_user_on_their_own(User, ALL_ON_ONE, &["dave", "erin"], 2)]
#[case::one_whose_driver_is_theirs_alone(User, ALICE_S_ON_ONE, &["alice"], 0)]
#[case::each_session_on_its_own(Alone, ALICE_S_ON_ONE, &["alice", "alice"], 2)]
fn those_who_come_then_get_what_they_need(
    #[case] to: Sharing,
    #[case] open: Open,
    #[case] coming: &[&str],
    #[case] created: usize,
) {
    let mut cluster = switched(to, open);
    for (n, owner) in coming.iter().enumerate() {
        cluster = cluster.session(session(&format!("new{n}")).of(owner).created(1));
    }
    assert_eq!(cluster.creates().len(), created);
    let mut settled = cluster.settled();
    let new: Vec<String> = settled.instances.iter().map(|it| it.name.clone()).collect();
    settled = settled.answering(&new.iter().map(String::as_str).collect::<Vec<_>>()).settled();
    for n in 0..coming.len() {
        assert!(settled.place_of(&format!("new{n}")).is_some(), "new{n} has no place");
    }
    assert_eq!(settled.creates(), [""; 0]);
}

#[test]
fn an_empty_driver_serves_the_next_user_before_another_is_started() {
    let cluster = switched(User, ALL_ON_ONE).instance(starting("p-1"));
    assert_eq!(cluster.session(session("new").of("dave").created(1)).creates(), [""; 0]);
}

/// A pool whose places became fewer is the same case: its sessions stay where they are.
#[test]
fn a_user_with_more_sessions_than_places_keeps_them_on_one_driver() {
    let mut cluster = switched(User, ALICE_S_ON_ONE);
    cluster.pool = cluster.pool.with_places_per_instance(2);
    assert_eq!(cluster.creates(), [""; 0]);
    assert_eq!(cluster.session(session("new").created(1)).creates(), ["p-1"]);
}

#[rstest]
#[case(User, ALL_ON_ONE, "1 instance: 3 sessions of 3 user(s), and 1 driver has sessions of several users.")]
#[case(
    Alone,
    ALL_ON_ONE,
    "1 instance: 3 sessions, each on a driver of its own, and 1 driver has several sessions."
)]
#[case(User, ALICE_S_ON_ONE, "1 instance: 3 sessions of 1 user(s).")]
fn the_condition_says_what_is_left_of_the_time_before(
    #[case] to: Sharing,
    #[case] open: Open,
    #[case] words: &str,
) {
    assert_eq!(switched(to, open).settled().condition("Scaled"), (true, "AsNeeded", words));
}
