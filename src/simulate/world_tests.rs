use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::plan::{About, Action, Event};
use crate::simulate::{Course, End, Scalings};

fn pool(min: i32, max: i32) -> SparkSessionPool {
    let spec = json!({
        "type": "connect",
        "host": "spark.example.com",
        "replicas": { "min": min, "max": max },
        "scaling": { "metrics": { "targetPerInstance": 1 }, "scaleUpThreshold": "1", "cooldownSeconds": 100 },
        "sparkApplicationTemplate": { "spec": {} },
    });
    SparkSessionPool::new("p", serde_json::from_value(spec).unwrap())
}

fn world(min: i32, max: i32) -> World {
    World::new(pool(min, max), Box::new(ThisOperator), StartTimes::Constant(40), 0)
}

fn ready(world: &World) -> usize {
    world.ledger().rows().last().unwrap().counts.ready
}

#[test]
fn a_session_waits_for_its_instance_is_used_and_leaves_and_the_instance_goes() {
    let mut world = world(0, 3);
    world.expect(10, "alice", 500);
    world.run_until(1000).unwrap();
    let course = *world.ledger().courses().next().unwrap();
    assert_eq!(course, Course { arrived: 10, active: Some(50), end: Some((550, End::Left)) });
    // Created at 10; empty at 550, for the cooldown; gone two seconds later.
    assert_eq!(world.ledger().instance_seconds(), 652 - 10);
    assert_eq!(world.ledger().scalings(), Scalings { up: 1, down: 1 });
    assert_eq!((world.ledger().most_instances(), world.ledger().most_sessions_on_one()), (1, 1));
    assert!(!world.has_users());
}

#[test]
fn what_was_before_the_count_costs_nothing() {
    let mut world = world(2, 3);
    world.ledger_mut().count_from(100);
    world.settle().unwrap();
    world.run_until(150).unwrap();
    assert_eq!(world.ledger().instance_seconds(), 2 * 50);
    assert_eq!(world.ledger().scalings(), Scalings::default());
}

#[test]
fn a_driver_that_dies_takes_its_session_with_it_and_is_replaced() {
    let mut world = world(0, 3);
    world.expect(0, "alice", 10_000);
    world.run_until(100).unwrap();
    world.kill("p-0", "OOMKilled").unwrap();
    world.settle().unwrap();
    world.expect(200, "bob", 10);
    world.run_until(1000).unwrap();
    let ends: Vec<_> = world.ledger().courses().map(|course| course.end.unwrap()).collect();
    assert_eq!(ends, [(100, End::Ended), (250, End::Left)]);
    assert_eq!(world.kill("p-0", "again").unwrap_err().to_string(), "there is no instance p-0");
}

#[test]
fn drivers_that_fail_to_start_do_not_answer() {
    let mut world = world(1, 1);
    world.fail_starts(Some("ImagePullBackOff"));
    world.settle().unwrap();
    world.run_until(45).unwrap();
    assert_eq!(ready(&world), 0);
    world.fail_starts(None);
    world.run_until(200).unwrap();
    assert_eq!(ready(&world), 1);
}

/// Has something to say whenever it is asked.
struct Restless(fn(&PoolView) -> Action);

impl Planner for Restless {
    fn plan(&mut self, view: &PoolView, _: &Observations, _: Timestamp) -> Plan {
        Plan { actions: vec![(self.0)(view)], wake_at: None }
    }
}

fn trouble_with(action: fn(&PoolView) -> Action) -> String {
    let mut world = World::new(pool(0, 1), Box::new(Restless(action)), StartTimes::Constant(1), 3600);
    world.settle().unwrap_err().to_string()
}

#[test]
fn a_planner_that_never_comes_to_an_end_is_named() {
    let text = trouble_with(|view| {
        let about = About::Pool { name: view.pool.meta.name.clone(), uid: view.pool.meta.uid.clone() };
        Action::Event(Event { about, warning: false, reason: "Restless", note: String::new() })
    });
    assert_eq!(text, "at 01:00:00 there is still something to do after 12 plans in a row: Restless");
}

#[test]
fn a_plan_that_cannot_be_carried_out_is_named() {
    let text = trouble_with(|_| Action::DeleteInstance { name: "p-9".to_owned(), uid: "uid".to_owned() });
    assert_eq!(
        text,
        "at 01:00:00 a plan has DeleteInstance, which cannot be carried out: there is no instance p-9"
    );
}
