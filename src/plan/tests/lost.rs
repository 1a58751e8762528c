//! Instances that nobody says have failed, and that do not come any more.

use super::cluster::Cluster;
use crate::api::InstanceState;
use crate::api::SessionState::{Active, Pending, Terminated};
use crate::model::fixtures::{application, at, connect_pool, driver, ready, session, starting, time};
use crate::model::{Going, Instance, InstancePhase, Inventory, Kind, Object, Pool};
use crate::plan::{Action, plan};

/// Its Pod is being deleted, and has until then to end.
fn evicted(name: &str, until: i64) -> Instance {
    let going = Some(Going { for_good: false, until: Some(at(until)) });
    Instance { phase: InstancePhase::Deleting, going, ..ready(name) }
}

/// A pool of one, whose only instance has served for long when its node is lost.
fn with_a_lost_node() -> Cluster {
    let pool = connect_pool("p").sized(1, 1);
    let cluster = Cluster::of(pool).settled().answering(&["p-0"]).session(session("s")).at(60).settled();
    assert_eq!(cluster.state_of("s"), Active);
    let mut cluster = cluster.at(1_000);
    *cluster.find_instance("p-0") = evicted("p-0", 1_030);
    cluster.settled()
}

#[test]
fn a_driver_that_is_deleted_has_its_time_to_end() {
    let cluster = with_a_lost_node();
    assert_eq!(cluster.fleet(), [("p-0", InstanceState::Terminated)]);
    assert_eq!((cluster.told("s").0, cluster.told("s").1), (Terminated, "InstanceLost"));
    assert_eq!((cluster.creates(), cluster.wakes_at()), (vec![], Some(1_040)));
    let words = "1 instance wanted: 0 sessions at target 20, and replicas.min is 1; none is there, and replicas.max of 1 has no \
                 room for another one until p-0 is gone.";
    assert_eq!(cluster.condition("Scaled"), (false, "NoRoom", words));
    let ended = cluster.clone().at(1_031).swept().settled();
    assert_eq!(ended.fleet().last(), Some(&("p-1", InstanceState::Pending)), "as it always was");
    assert_eq!(ended.pool.status.consecutive_failures, 0);
}

#[test]
fn a_driver_on_a_lost_node_makes_room_for_another_one() {
    let before = with_a_lost_node().at(1_039).settled();
    assert_eq!(before.creates(), [""; 0]);
    let cluster = before.at(1_040).session(session("new").created(1_040)).settled();
    assert_eq!(cluster.fleet(), [("p-0", InstanceState::Failed), ("p-1", InstanceState::Pending)]);
    let words = "Instance p-0 failed: its driver Pod p-0-driver was deleted and had time to end until 2027-01-15T08:17:10Z, and is \
                 still there: its node is lost, most likely";
    assert!(cluster.events.contains(&("InstanceFailed", words.to_owned())), "{:?}", cluster.events);
    assert_eq!(cluster.pool.status.consecutive_failures, 0, "it had served for long");
    let cluster = cluster.answering(&["p-1"]).at(1_050).settled();
    assert_eq!(cluster.place_of("new"), Some("p-1"));
    // Its SparkApplication goes as well, and what is left of it is in nobody's way.
    assert_eq!(cluster.fleet(), [("p-0", InstanceState::Terminated), ("p-1", InstanceState::Running)]);
    let cluster = cluster.at(9_000).settled();
    assert_eq!((cluster.creates(), cluster.deletes()), (vec![], vec![]));
    assert_eq!(cluster.condition("Scaled").1, "AsNeeded");
}

#[test]
fn a_young_driver_on_a_lost_node_is_a_failed_attempt() {
    let mut cluster = Cluster::of(connect_pool("p").sized(1, 1)).settled();
    *cluster.find_instance("p-0") = evicted("p-0", 30);
    let cluster = cluster.at(40).settled();
    assert_eq!((cluster.pool.status.consecutive_failures, cluster.creates()), (1, vec![]));
    assert_eq!(cluster.at(50).creates(), ["p-1"]);
}

/// Another controller's finalizer keeps the SparkApplication; its driver is gone.
#[test]
fn a_spark_application_that_somebody_holds_takes_no_room() {
    let mut inventory = Inventory::default();
    inventory.put(Object::Pool(connect_pool("p").sized(1, 1).trusting()));
    let mut held = application("p-0").being_deleted();
    held.deleted_at = Some(at(100));
    inventory.put(Object::Application(held));
    let creates = |inventory: &Inventory, now| {
        let view = inventory.pool_view("p").unwrap();
        let plan = plan(&view, &Default::default(), at(now));
        let creates = plan.actions.iter().any(|it| matches!(it, Action::CreateInstance { .. }));
        (creates, plan.wake_at)
    };
    inventory.put(Object::Pod(driver("p-0").at_ip("10.0.0.1")));
    assert_eq!(creates(&inventory, 10_000), (false, None), "its driver runs");
    inventory.put(Object::Pod(driver("p-0").at_ip("10.0.0.1").killed_at(130)));
    assert_eq!(creates(&inventory, 139), (false, Some(at(140))));
    assert!(creates(&inventory, 140).0);
    inventory.remove(Kind::Pod, "p-0-driver");
    assert_eq!(creates(&inventory, 169), (false, Some(at(170))), "one may be on its way");
    assert!(creates(&inventory, 170).0);
}

#[test]
fn the_inventory_tells_a_deleted_pod_from_a_deleted_application() {
    let mut inventory = Inventory::default();
    inventory.put(Object::Pool(connect_pool("p")));
    inventory.put(Object::Application(application("p-0")));
    inventory.put(Object::Pod(driver("p-0").at_ip("10.0.0.1").killed_at(30)));
    let instance = inventory.instance("p-0").unwrap();
    let going = Going { for_good: false, until: Some(at(30)) };
    assert_eq!((instance.phase, instance.going), (InstancePhase::Deleting, Some(going)));
    assert_eq!((instance.may_run(at(39)), instance.may_run(at(40))), (true, false));
}

/// A pool whose sessions wait for a minute at most.
fn impatient() -> Pool {
    connect_pool("p").sized(1, 1).giving_up_after(60)
}

#[test]
fn an_instance_that_never_answers_is_a_failed_attempt_and_replaced() {
    let cluster = Cluster::of(impatient()).session(session("s")).settled().at(60).settled();
    assert_eq!(cluster.told("s").1, "StartTimeout");
    assert_eq!((cluster.condition("Ready").1, cluster.wakes_at()), ("StartOverdue", Some(70)));
    let cluster = cluster.at(70).settled();
    let words = "nstance p-0 failed: it did not answer in time (sessionPolicy.startTimeoutSeconds: 60): the Spark Operator has it as \
                 SUBMITTED";
    let told = format!("1 attempt(s) in a row failed: i{words}; next attempt at 2027-01-15T08:01:20Z");
    assert_eq!(cluster.condition("Ready"), (false, "InstanceFailed", told.as_str()));
    assert_eq!(cluster.condition("Scaled").1, "BackingOff");
    let told: Vec<_> = cluster.events.iter().filter(|(reason, _)| *reason == "InstanceFailed").collect();
    assert_eq!(told, [&("InstanceFailed", format!("I{words}"))]);
    let due = cluster.at(80);
    assert_eq!(
        (due.deletes(), due.creates()),
        (vec!["p-0".to_owned()], vec!["p-1".to_owned()]),
        "at its maximum"
    );
    let answering = due.settled().answering(&["p-1"]).at(100).session(session("t").created(100)).settled();
    assert_eq!(answering.place_of("t"), Some("p-1"));
    assert_eq!(answering.at(500).settled().pool.status.consecutive_failures, 0);
}

/// Also where the container of its driver is never created, since its node is no good.
#[test]
fn what_it_was_doing_is_told() {
    let mut cluster = Cluster::of(impatient()).settled();
    let pod = Some(("p-0-driver".to_owned(), "uid".to_owned()));
    let creating = Instance { pod, creating: true, ..starting("p-0") };
    *cluster.find_instance("p-0") = creating;
    let message = cluster.at(70).settled().pool.status.last_failure_message.unwrap();
    let words = "driver Pod p-0-driver is being created, its image pulled if its node lacks it";
    assert!(message.ends_with(words), "{message}");
}

#[test]
fn without_a_word_of_the_pool_it_has_a_quarter_of_an_hour() {
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).settled();
    assert_eq!(cluster.clone().at(909).settled().pool.status.consecutive_failures, 0);
    assert_eq!(cluster.at(910).settled().pool.status.consecutive_failures, 1);
}

/// Who does not wait for long does not make it start sooner.
#[test]
fn attempts_get_longer_until_one_comes() {
    let mut cluster = Cluster::of(impatient()).settled();
    let mut given = Vec::new();
    for n in 0..7 {
        let name = format!("p-{n}");
        let created = cluster.now;
        while cluster.fleet().iter().all(|told| *told != (name.as_str(), InstanceState::Failed)) {
            cluster = cluster.clone().at(cluster.wakes_at().unwrap()).settled();
        }
        given.push(cluster.now - created);
        while cluster.creates().is_empty() {
            cluster = cluster.clone().at(cluster.wakes_at().unwrap()).settled_unless_it_creates();
        }
        cluster = cluster.settled().swept();
    }
    assert_eq!(given, [70, 130, 250, 490, 910, 910, 910]);
}

#[test]
fn a_pool_whose_starts_take_longer_gives_them_time() {
    let pool = impatient().with_status(|status| status.recent_start_seconds = vec![200, 210, 190]);
    let cluster = Cluster::of(pool).settled();
    assert_eq!(cluster.clone().at(409).settled().pool.status.consecutive_failures, 0);
    assert_eq!(cluster.at(410).settled().pool.status.consecutive_failures, 1);
}

#[test]
fn such_attempts_go_on_for_ever() {
    let pool = impatient().with_status(|status| {
        status.consecutive_failures = 9;
        status.last_failure_time = Some(time(-1_000));
    });
    let cluster = Cluster::of(pool).settled().at(910).settled();
    assert_eq!(cluster.fleet(), [("p-0", InstanceState::Failed)]);
    assert_eq!(cluster.condition("Ready").1, "InstanceFailed");
    assert_eq!(cluster.at(910 + 300).creates(), ["p-1"]);
}

/// After a restart of the operator it may be too busy for the first probe.
#[test]
fn one_that_has_answered_is_not_given_up_for_that() {
    let mut cluster = Cluster::of(impatient())
        .settled()
        .answering(&["p-0"])
        .session(session("s"))
        .at(20)
        .settled()
        .at(5_000);
    cluster.find_instance("p-0").phase = InstancePhase::Starting;
    let cluster = cluster.settled();
    assert_eq!(cluster.fleet(), [("p-0", InstanceState::Pending)]);
    assert_eq!(cluster.state_of("s"), Active);
    let mut unknown = cluster;
    unknown.pool.status = Default::default();
    assert_eq!(unknown.planned().fleet(), [("p-0", InstanceState::Pending)], "its status was lost");
}

#[test]
fn one_that_answers_too_late_is_replaced_all_the_same() {
    let cluster = Cluster::of(impatient()).settled().at(70).settled().answering(&["p-0"]).settled();
    assert_eq!(cluster.fleet(), [("p-0", InstanceState::Failed)]);
    assert_eq!(cluster.session(session("s").created(75)).at(75).settled().state_of("s"), Pending);
}
