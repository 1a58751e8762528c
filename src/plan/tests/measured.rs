//! Pools that are sized by the CPU or the memory that their drivers use. What a load asks for is told in `utilization`;
//! here, what becomes of it.

use rstest::rstest;

use super::cluster::Cluster;
use crate::api::{MetricType, Sharing};
use crate::model::fixtures::{connect_pool, failed, ready, session};
use crate::model::{Instance, Pool};

const NOW: i64 = 600;

/// Half of the CPU is the target.
fn pool() -> Pool {
    connect_pool("p").sized(0, 5).measured_by(MetricType::Cpu).sessions_per_instance(50).cooling_down(0)
}

/// Uses these thousandths of its CPU.
fn busy(name: &str, cpu: u32) -> Instance {
    ready(name).using(cpu, 0, NOW - 5)
}

fn cluster(pool: Pool, instances: impl IntoIterator<Item = Instance>) -> Cluster {
    let cluster = Cluster::of(pool).at(NOW).session(session("s").on("p-0"));
    instances.into_iter().fold(cluster, Cluster::instance)
}

#[test]
fn a_pool_grows_with_its_load_and_says_why() {
    let cluster = cluster(pool(), [busy("p-0", 900), busy("p-1", 700)]);
    assert_eq!(cluster.creates(), ["p-2", "p-3"]);
    let grown = cluster.planned();
    let words = "2 → 4: cpu at 80 % of the requests on average over 2 instance(s), target 50 %.";
    assert_eq!(grown.condition("Scaled"), (true, "Resized", words));
    assert!(grown.events.contains(&("ScaledUp", words.to_owned())), "{:?}", grown.events);
}

#[test]
fn it_waits_for_what_it_has_started_before_it_starts_more() {
    let grown = cluster(pool(), [busy("p-0", 1000)]).planned();
    assert_eq!(grown.creates(), [""; 0]);
    let (told, _, message) = grown.condition("Scaled");
    assert!(told, "{message}");
}

#[test]
fn it_shrinks_with_its_load_to_one_while_a_session_is_there() {
    let idle = cluster(pool(), [busy("p-0", 10), busy("p-1", 0), busy("p-2", 0)]);
    assert_eq!(idle.deletes(), ["p-1", "p-2"]);
    let left = idle.planned();
    let words = "3 → 1: cpu at 0 % of the requests on average over 3 instance(s), target 50 %.";
    assert_eq!(left.condition("Scaled"), (true, "Resized", words));
}

#[test]
fn it_goes_to_its_minimum_with_the_last_session_however_busy_its_drivers_are() {
    let mut cluster = cluster(pool(), [busy("p-0", 3000)]);
    cluster.sessions.clear();
    assert_eq!(cluster.deletes(), ["p-0"]);
}

#[test]
fn who_comes_first_starts_the_first() {
    let cluster = Cluster::of(pool()).at(NOW).session(session("s")).session(session("t").of("bob"));
    assert_eq!(cluster.creates(), ["p-0"]);
}

#[test]
fn its_limits_hold_and_are_told() {
    let above = cluster(pool().sized(0, 3), [busy("p-0", 1700), busy("p-1", 1700)]);
    assert_eq!(above.creates(), ["p-2"]);
    let words = "2 → 3: cpu at 170 % of the requests on average over 2 instance(s), target 50 % would need 7, and \
                 replicas.max is 3.";
    let grown = above.planned();
    assert!(grown.events.contains(&("ScaledUp", words.to_owned())), "{:?}", grown.events);
    assert_eq!(
        grown.condition("Scaled"),
        (false, "AtMaximum", words.replace("2 → 3", "3 instances").as_str())
    );
    assert_eq!(cluster(pool().sized(2, 3), [busy("p-0", 0), busy("p-1", 0)]).deletes(), [""; 0]);
}

#[rstest]
#[case::many_more(0)]
#[case::spare_ones_too(1)]
fn without_figures_it_stays_as_it_is_and_says_what_is_wrong(#[case] spare: i32) {
    let mut blind = cluster(pool().keeping_spare(spare), [ready("p-0"), ready("p-1"), ready("p-2")]);
    blind.metrics_problem = Some("the cluster has no metrics.k8s.io API; install metrics-server".to_owned());
    assert_eq!((blind.creates(), blind.deletes()), (vec![], vec![]));
    let words = "3 instances stay: cpu is not measured: the cluster has no metrics.k8s.io API; install metrics-server.";
    assert_eq!(blind.settled().condition("Scaled"), (false, "NotMeasured", words));
}

#[test]
fn an_instance_that_has_just_started_is_no_cause_for_alarm() {
    let new = cluster(pool(), [ready("p-0").running_since(NOW - 10)]).settled();
    let words = "1 instance: no instance has figures of cpu from after its start yet.";
    assert_eq!(new.condition("Scaled"), (true, "AsNeeded", words));
}

#[test]
fn spare_instances_come_on_top_and_do_not_add_up() {
    let pool = pool().keeping_spare(1);
    let loaded = cluster(pool.clone(), [busy("p-0", 480)]);
    assert_eq!(loaded.creates(), ["p-1"]);
    let with_spare = cluster(pool, [busy("p-0", 480), busy("p-1", 10)]);
    assert_eq!((with_spare.creates(), with_spare.deletes()), (vec![], vec![]));
    let settled = with_spare.settled();
    assert!(settled.condition("Scaled").2.ends_with("target 50 % and 1 spare."), "{settled:#?}");
}

#[test]
fn there_are_places_for_all_whatever_is_measured() {
    let pool = pool().with_places_per_instance(2).allowing_each_user(9);
    let cluster = cluster(pool, [busy("p-0", 10)]).sessions((0..4).map(|n| session(&format!("more-{n}"))));
    assert_eq!(cluster.creates(), ["p-1", "p-2"]);
    assert_eq!(cluster.planned().condition("Scaled").2, "1 → 3: 5 sessions, at most 2 on an instance.");
}

#[test]
fn drivers_of_their_own_are_counted_by_users() {
    let mut cluster = cluster(pool().shared_by(Sharing::User), [busy("p-0", 3000)]);
    cluster.metrics_problem = Some("down".to_owned());
    assert_eq!(cluster.creates(), [""; 0]);
    assert!(cluster.settled().condition("Scaled").0);
}

/// As busy as the target says, give or take a tenth, is no reason to add spare ones to spare ones.
#[test]
fn a_spare_instance_that_starts_asks_for_no_other() {
    let mut pool = pool().sized(0, 20);
    pool.spec.scaling.spare_instances = Some(1);
    let loaded = cluster(pool, [busy("p-0", 480), busy("p-1", 480)]).settled();
    assert_eq!(loaded.instances.len(), 3, "{:?}", loaded.fleet());
    assert!(loaded.condition("Scaled").2.ends_with("within a tenth of it and 1 spare."), "{loaded:#?}");
}

#[test]
fn without_figures_what_fails_is_replaced() {
    let names = ["p-0", "p-1", "p-2", "p-3", "p-4"];
    let mut cluster = cluster(pool(), names.map(ready));
    cluster.metrics_problem = Some("down".to_owned());
    let mut cluster = cluster.settled().at(NOW + 1000);
    for name in ["p-1", "p-2", "p-3"] {
        *cluster.find_instance(name) = failed(name, "NodeLost");
    }
    assert_eq!(cluster.creates(), ["p-5", "p-6", "p-7"]);
}

#[test]
fn there_is_a_spare_one_beyond_the_places_that_are_needed() {
    let mut pool = pool().with_places_per_instance(2).allowing_each_user(9);
    pool.spec.scaling.spare_instances = Some(1);
    let cluster = cluster(pool, [busy("p-0", 10)]).sessions((0..3).map(|n| session(&format!("more-{n}"))));
    assert_eq!(cluster.creates(), ["p-1", "p-2"]);
    let words = "1 → 3: 4 sessions, at most 2 on an instance and 1 spare.";
    assert_eq!(cluster.planned().condition("Scaled").2, words);
}
