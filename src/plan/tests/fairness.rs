//! Who is next when places are few.

use std::collections::HashMap;

use proptest::prelude::*;
use rstest::rstest;

use super::cluster::Cluster;
use crate::api::Sharing;
use crate::model::Pool;
use crate::model::fixtures::{connect_pool, ready, session};
use crate::plan::fair_order;

#[rstest]
#[case::first_come("abc", "", "abc")]
#[case::round_robin("aaabbc", "", "abcaba")]
#[case::who_has_less_is_first("ab", "a", "ba")]
#[case::until_they_are_equal("aabb", "aa", "bbaa")]
#[case::nobody("", "a", "")]
fn the_order_is_fair(#[case] waiting: &str, #[case] in_use: &str, #[case] expected: &str) {
    let letters = |text: &'static str| -> Vec<&'static str> { text.split_terminator("").skip(1).collect() };
    let (waiting, in_use): (String, String) = (waiting.to_owned(), in_use.to_owned());
    let (waiting, in_use) = (letters(waiting.leak()), letters(in_use.leak()));
    let mut counts = HashMap::new();
    in_use.into_iter().for_each(|user| *counts.entry(user).or_default() += 1);
    let order: String = fair_order(&counts, &waiting).into_iter().map(|n| waiting[n]).collect();
    assert_eq!(order, expected);
}

const USERS: [&str; 4] = ["a", "b", "c", "d"];

proptest! {
    #[test]
    fn nobody_gets_a_second_place_before_another_who_waits_has_a_first(
        waiting in prop::collection::vec(0..USERS.len(), 0..40),
        in_use in prop::collection::vec(0..5_usize, USERS.len()),
    ) {
        let waiting: Vec<&str> = waiting.into_iter().map(|n| USERS[n]).collect();
        let mut has: HashMap<&str, usize> = USERS.into_iter().zip(in_use).collect();
        let order = fair_order(&has, &waiting);
        let mut left = waiting.clone();
        for n in &order {
            let user = waiting[*n];
            let least = left.iter().map(|user| has[user]).min();
            prop_assert_eq!(Some(has[user]), least, "{} is served before one with less", user);
            *has.get_mut(user).unwrap() += 1;
            left.remove(left.iter().position(|other| *other == user).unwrap());
        }
        let mut sorted = order.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..waiting.len()).collect::<Vec<_>>());
        let own = |user: &'static str| order.iter().filter(|n| waiting[**n] == user).copied().collect::<Vec<_>>();
        prop_assert!(USERS.into_iter().all(|user| own(user).is_sorted()), "first come within a user");
    }
}

/// The sessions that have a place when as many as fit do.
fn placed(pool: Pool, sessions: &[(&str, &str)]) -> Vec<String> {
    let sessions = sessions.iter().map(|&(name, user)| session(name).of(user));
    let cluster = Cluster::of(pool).instance(ready("p-0")).sessions(sessions).settled();
    let placed = cluster.sessions.iter().filter(|session| session.status.assigned_instance.is_some());
    placed.map(|session| session.meta.name.clone()).collect()
}

const CROWD: [(&str, &str); 5] =
    [("a1", "alice"), ("a2", "alice"), ("a3", "alice"), ("b1", "bob"), ("c1", "carol")];

#[test]
fn no_instance_gets_more_sessions_than_it_has_places_and_they_go_round() {
    let pool = connect_pool("p").sized(1, 1).with_places_per_instance(4);
    assert_eq!(placed(pool, &CROWD), ["a1", "a2", "b1", "c1"]);
}

#[test]
fn a_driver_of_one_s_own_has_no_more_places_either() {
    let pool = connect_pool("p").sized(1, 1).with_places_per_instance(2).shared_by(Sharing::User);
    assert_eq!(placed(pool, &CROWD), ["a1", "a2"]);
}

#[test]
fn a_place_that_becomes_free_goes_to_who_has_none() {
    let pool = connect_pool("p").sized(1, 1).with_places_per_instance(2);
    let mut cluster = Cluster::of(pool)
        .instance(ready("p-0"))
        .sessions([session("a1"), session("a2"), session("a3")].map(|it| it.of("alice")))
        .session(session("b1").of("bob").created(5))
        .settled();
    assert_eq!(cluster.place_of("a2"), None, "one place for each");
    assert_eq!(cluster.place_of("b1"), Some("p-0"));
    cluster.sessions.retain(|session| session.meta.name != "a1");
    let cluster = cluster.session(session("c1").of("carol").created(9)).settled();
    assert_eq!(
        (cluster.place_of("a2"), cluster.place_of("c1")),
        (Some("p-0"), None),
        "both have none: first come"
    );
}
