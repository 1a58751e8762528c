//! How many instances there are, which are given up, and what they are called.

use rstest::rstest;

use super::cluster::Cluster;
use crate::api::{MetricType, Sharing};
use crate::model::fixtures::{at, connect_pool, going, ready, session, starting, time};
use crate::model::{Instance, LeavingDriver, Session};
use crate::plan::Action;

fn waiting(count: usize) -> impl Iterator<Item = Session> {
    (0..count).map(|n| session(&format!("s{n}")))
}

fn on(instance: &'static str, count: usize) -> impl Iterator<Item = Session> {
    (0..count).map(move |n| session(&format!("{instance}-s{n}")).on(instance))
}

#[test]
fn the_minimum_is_kept_without_sessions() {
    let cluster = Cluster::of(connect_pool("p").sized(2, 5));
    assert_eq!(cluster.creates(), ["p-0", "p-1"]);
}

#[test]
fn without_sessions_and_minimum_nothing_runs() {
    assert_eq!(Cluster::of(connect_pool("p").sized(0, 5)).creates(), [""; 0]);
}

#[test]
fn a_waiting_session_starts_an_instance_from_zero() {
    let cluster = Cluster::of(connect_pool("p").sized(0, 5)).session(session("s"));
    assert_eq!(cluster.creates(), ["p-0"]);
    assert_eq!(cluster.settled().instances.len(), 1);
}

#[test]
fn an_instance_that_starts_is_not_started_twice() {
    let cluster = Cluster::of(connect_pool("p").sized(0, 5)).instance(starting("p-0")).session(session("s"));
    assert_eq!(cluster.creates(), [""; 0]);
}

#[rstest]
#[case::nothing(10, "1", 0, 0)]
#[case::one_session(10, "1", 1, 1)]
#[case::full(10, "1", 10, 1)]
#[case::one_too_many(10, "1", 11, 2)]
#[case::as_busy_as_the_threshold(10, "0.8", 8, 1)]
#[case::busier_than_the_threshold(10, "0.8", 9, 2)]
#[case::the_threshold_is_of_all_instances(10, "0.8", 16, 2)]
#[case::two_instances_busier_than_the_threshold(10, "0.8", 17, 3)]
#[case::a_single_session_needs_no_second_instance(1, "0.8", 1, 1)]
#[case::never_more_than_the_maximum(1, "0.8", 50, 5)]
fn instances_are_sessions_by_target_and_one_more_above_the_threshold(
    #[case] target: i32,
    #[case] threshold: &str,
    #[case] sessions: usize,
    #[case] instances: usize,
) {
    let pool = connect_pool("p").sized(0, 5).sessions_per_instance(target).scaling_up_above(threshold);
    let cluster = Cluster::of(pool.allowing_each_user(100)).sessions(waiting(sessions));
    assert_eq!(cluster.creates().len(), instances);
}

#[test]
fn placed_and_waiting_sessions_count_together() {
    let pool = connect_pool("p").sized(0, 5).sessions_per_instance(4).scaling_up_above("1");
    let cluster = Cluster::of(pool).instance(ready("p-0")).sessions(on("p-0", 4)).session(session("s"));
    assert_eq!(cluster.creates(), ["p-1"]);
}

#[test]
fn twenty_sessions_per_instance_where_the_pool_does_not_say() {
    let pool = connect_pool("p").sized(0, 5).scaling_up_above("1").allowing_each_user(100);
    assert_eq!(Cluster::of(pool.clone()).sessions(waiting(20)).creates().len(), 1);
    assert_eq!(Cluster::of(pool).sessions(waiting(21)).creates().len(), 2);
}

#[rstest]
#[case::from_zero(0, 5, "5 session(s) and no instance yet")]
#[case::what_is_not_measured_holds(
    2,
    40,
    "2 instances: no instance has figures of cpu from after its start yet."
)]
#[case::but_not_more_on_an_instance_than_it_takes(2, 61, "61 sessions, at most 20 on an instance")]
fn pools_by_cpu_are_not_sized_by_their_sessions(
    #[case] instances: usize,
    #[case] sessions: usize,
    #[case] why: &str,
) {
    let mut pool = connect_pool("p").sized(0, 9).allowing_each_user(100).with_places_per_instance(20);
    pool.spec.scaling.metrics.metric_type = MetricType::Cpu;
    let names = ["p-0", "p-1"].into_iter().take(instances);
    let cluster = names.fold(Cluster::of(pool), |cluster, name| cluster.instance(ready(name)));
    let cluster = cluster.sessions(waiting(sessions)).planned();
    let (_, _, message) = cluster.condition("Scaled");
    assert!(message.contains(why), "{message}");
    assert_eq!(cluster.instances.len(), sessions.div_ceil(20).max(instances).max(1));
}

#[test]
fn a_busy_cpu_starts_an_instance_and_an_idle_one_gives_one_up() {
    let mut pool = connect_pool("p").sized(1, 5);
    pool.spec.scaling.metrics.metric_type = MetricType::Cpu;
    let at_cpu = |cpu: u32| {
        let using = |name: &str| ready(name).running_since(0).using(cpu, 0, 600);
        let cluster = Cluster::of(pool.clone()).instance(using("p-0")).instance(using("p-1"));
        cluster.sessions(on("p-0", 3)).at(610).planned()
    };
    let told = |cpu| at_cpu(cpu).condition("Scaled").2.to_owned();
    assert_eq!(told(990), "2 → 3: cpu at 99 % of the requests on average over 2 instance(s), target 80 %.");
    assert!(told(800).starts_with("2 instances: cpu at 80 % of the requests"), "{}", told(800));
    assert_eq!(told(300), "2 → 1: cpu at 30 % of the requests on average over 2 instance(s), target 80 %.");
}

#[rstest]
#[case(Sharing::User, 2)]
#[case(Sharing::Session, 3)]
fn unshared_drivers_are_counted_by_those_who_need_one(#[case] sharing: Sharing, #[case] instances: usize) {
    let cluster = Cluster::of(connect_pool("p").sized(0, 5).shared_by(sharing))
        .session(session("a1").of("alice"))
        .session(session("a2").of("alice"))
        .session(session("b1").of("bob"));
    assert_eq!(cluster.creates().len(), instances);
}

#[rstest]
#[case::starting(starting("p-0"))]
#[case::ready(ready("p-0"))]
#[case::being_deleted(going("p-0"))]
fn an_instance_takes_room_until_it_is_gone(#[case] instance: Instance) {
    let pool = connect_pool("p").sized(0, 1).sessions_per_instance(1);
    let cluster = Cluster::of(pool).instance(instance).sessions(waiting(3));
    assert_eq!(cluster.creates(), [""; 0]);
}

#[test]
fn what_does_not_answer_yet_goes_first_then_the_oldest_and_the_minimum_stays() {
    let cluster = Cluster::of(connect_pool("p").sized(1, 5))
        .instance(ready("p-0"))
        .instance(ready("p-1"))
        .instance(starting("p-2"));
    assert_eq!(cluster.deletes(), ["p-2", "p-0"]);
    let left = cluster.planned();
    assert_eq!((left.deletes(), left.creates()), (vec![], vec![]));
}

#[test]
fn an_empty_instance_goes_before_one_with_sessions() {
    let cluster = Cluster::of(connect_pool("p").sized(0, 5))
        .instance(ready("p-0"))
        .instance(ready("p-1"))
        .session(session("s").on("p-1"));
    assert_eq!(cluster.deletes(), ["p-0"]);
}

#[test]
fn every_change_of_the_size_starts_the_cooldown_anew() {
    let up = Cluster::of(connect_pool("p").sized(1, 5)).at(50).planned();
    assert_eq!(up.pool.status.last_scale_time, Some(time(50)));
    let down = Cluster::of(connect_pool("p").sized(0, 5)).instance(ready("p-0")).at(70).planned();
    assert_eq!(down.pool.status.last_scale_time, Some(time(70)));
}

#[test]
fn an_ordinal_is_not_used_again_after_its_instance_is_gone() {
    let mut cluster = Cluster::of(connect_pool("p").sized(1, 5)).settled();
    cluster.instances.clear();
    assert_eq!(cluster.creates(), ["p-1"]);
}

#[test]
fn the_next_ordinal_is_recovered_from_the_instances_when_the_status_is_lost() {
    let cluster = Cluster::of(connect_pool("p").sized(2, 5)).instance(ready("p-7"));
    assert_eq!(cluster.creates(), ["p-8"]);
}

#[test]
fn the_next_ordinal_is_written_before_an_instance_uses_it() {
    let plan = Cluster::of(connect_pool("p").sized(2, 5)).plan();
    let Action::UpdatePoolStatus { status, .. } = &plan.actions[0] else { panic!("{plan:#?}") };
    assert_eq!(status.next_ordinal, 2);
}

#[test]
fn planning_again_before_anything_was_seen_gives_the_same_names() {
    let cluster = Cluster::of(connect_pool("p").sized(2, 5)).session(session("s"));
    assert_eq!(cluster.plan(), cluster.plan());
}

#[test]
fn a_pool_that_is_being_deleted_gets_no_instances() {
    let cluster = Cluster::of(connect_pool("p").sized(2, 5).being_deleted()).session(session("s"));
    assert_eq!(cluster.creates(), [""; 0]);
}

#[test]
fn a_pool_whose_host_is_taken_gets_no_instances() {
    let cluster =
        Cluster::of(connect_pool("p").sized(2, 5)).session(session("s")).with_host_taken_by("older");
    assert_eq!(cluster.creates(), [""; 0]);
}

#[rstest]
#[case::no_more_than_the_target_asks_for(10, Sharing::Pool, 1)]
#[case::more_where_places_are_fewer_than_the_target(3, Sharing::Pool, 4)]
#[case::more_of_a_user_s_own(3, Sharing::User, 4)]
fn instances_are_started_for_those_who_find_no_place(
    #[case] places: i32,
    #[case] sharing: Sharing,
    #[case] instances: usize,
) {
    let pool = connect_pool("p").sized(0, 9).with_places_per_instance(places).shared_by(sharing);
    let cluster = Cluster::of(pool.allowing_each_user(99)).sessions(waiting(10));
    assert_eq!(cluster.creates().len(), instances);
}

/// No session moves, and no driver has sessions of two users.
#[test]
fn a_user_whose_sessions_are_spread_keeps_nobody_from_a_driver() {
    let pool = connect_pool("p").sized(0, 5).with_places_per_instance(2).shared_by(Sharing::User);
    let cluster = Cluster::of(pool).instance(ready("p-0")).instance(ready("p-1"));
    let cluster = cluster.sessions(on("p-0", 1)).sessions(on("p-1", 1)).session(session("b").of("bob"));
    assert_eq!(cluster.creates(), ["p-2"]);
}

#[test]
fn spare_instances_are_beyond_the_places_that_are_needed() {
    let mut pool = connect_pool("p").sized(0, 9).allowing_each_user(100).with_places_per_instance(10);
    pool.spec.scaling.spare_instances = Some(1);
    let cluster = Cluster::of(pool).instance(ready("p-0")).instance(ready("p-1"));
    assert_eq!(cluster.sessions(on("p-0", 10)).sessions(on("p-1", 10)).creates(), ["p-2"]);
}

/// Its SparkApplication is gone at once, and the driver has some seconds to end: a quota of the namespace counts both.
#[test]
fn a_driver_that_still_ends_takes_the_room_of_one() {
    let mut cluster = Cluster::of(connect_pool("p").sized(0, 1)).session(session("s"));
    cluster.leaving = vec![LeavingDriver { instance: "p-0".to_owned(), killed_at: Some(at(30)) }];
    let cluster = cluster.settled();
    assert_eq!((cluster.creates(), cluster.wakes_at()), (vec![], Some(30)));
    let words = "1 instance wanted: 1 session at target 20; none is there, and replicas.max of 1 has no room for another one \
                 until p-0 is gone.";
    assert_eq!(cluster.condition("Scaled"), (false, "NoRoom", words));
    assert_eq!(cluster.at(30).creates().len(), 1);
}
