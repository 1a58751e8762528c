//! A changed template.

use serde_json::json;

use super::cluster::Cluster;
use crate::api::InstanceState::{Draining, Pending, Running, Terminated};
use crate::api::MetricType;
use crate::model::Pool;
use crate::model::fixtures::{connect_pool, failed, session};

fn pool() -> Pool {
    connect_pool("p").with_template(json!({ "image": "spark:1" })).allowing_each_user(99)
}

/// Instances that answer, made from the present template, with so many sessions each.
fn running(pool: Pool, sessions: &[usize]) -> Cluster {
    let names: Vec<String> = (0..sessions.len()).map(|n| format!("p-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut cluster = Cluster::of(pool).settled().answering(&names);
    for (name, count) in names.iter().zip(sessions) {
        let on = (0..*count).map(|n| session(&format!("{name}-s{n}")).on(name));
        cluster = cluster.sessions(on);
    }
    cluster.settled()
}

fn with_image(mut cluster: Cluster, image: &str) -> Cluster {
    cluster.pool = cluster.pool.with_template(json!({ "image": image }));
    cluster.pool.meta.generation += 1;
    cluster
}

#[test]
fn an_instance_is_replaced_when_the_new_one_answers() {
    let cluster = with_image(running(pool().sized(1, 5), &[1]), "spark:2").settled();
    assert_eq!(cluster.fleet(), [("p-0", Running), ("p-1", Pending)]);
    let cluster = cluster.answering(&["p-1"]).settled();
    assert_eq!(cluster.fleet(), [("p-0", Draining), ("p-1", Running)]);
    let new = cluster.session(session("new")).settled();
    assert_eq!((new.place_of("new"), new.place_of("p-0-s0")), (Some("p-1"), Some("p-0")));
}

#[test]
fn one_without_sessions_goes_when_the_new_one_answers() {
    let cluster = with_image(running(pool().sized(1, 5), &[0]), "spark:2").settled();
    assert_eq!(cluster.fleet(), [("p-0", Running), ("p-1", Pending)]);
    assert_eq!(cluster.answering(&["p-1"]).settled().fleet(), [("p-0", Terminated), ("p-1", Running)]);
}

#[test]
fn what_nobody_needs_goes_at_once_and_is_not_replaced() {
    let cluster = running(pool().sized(0, 5).cooling_down(900), &[]).session(session("s")).settled();
    let mut cluster = cluster.answering(&["p-0"]).settled();
    cluster.sessions.clear();
    assert_eq!(with_image(cluster.settled(), "spark:2").settled().fleet(), [("p-0", Terminated)]);
}

#[test]
fn a_quarter_is_replaced_at_a_time() {
    let cluster = with_image(running(pool().sized(8, 20), &[1; 8]), "spark:2").settled();
    let pending = |cluster: &Cluster| cluster.fleet().iter().filter(|(_, state)| *state == Pending).count();
    assert_eq!(pending(&cluster), 2);
    let cluster = cluster.answering(&["p-8"]).settled();
    assert_eq!((cluster.fleet()[0], pending(&cluster)), (("p-0", Draining), 2));
}

#[test]
fn at_the_maximum_the_one_with_the_fewest_sessions_makes_room() {
    let cluster = with_image(running(pool().sized(2, 2), &[3, 1]), "spark:2").settled();
    assert_eq!(cluster.fleet(), [("p-0", Running), ("p-1", Draining)]);
    let mut cluster = cluster;
    cluster.sessions.retain(|session| session.meta.name != "p-1-s0");
    let cluster = cluster.settled().swept().settled();
    assert_eq!(cluster.fleet(), [("p-0", Running), ("p-2", Pending)]);
}

#[test]
fn the_only_instance_that_there_may_be_serves_until_it_is_empty() {
    let cluster = with_image(running(pool().sized(1, 1), &[2]), "spark:2").settled();
    assert_eq!(cluster.fleet(), [("p-0", Running)]);
    assert_eq!(
        cluster.condition("UpToDate"),
        (
            false,
            "RollingOut",
            "0 of 1 instance answer that are made from the present template; p-0 will be replaced; replicas.max leaves no \
             room for another one, and p-0 still takes sessions, until it has none of its 2: raise replicas.max to replace \
             it now, or set scaling.drainTimeoutSeconds."
        )
    );
    let mut cluster = cluster.session(session("new")).settled();
    assert_eq!(cluster.place_of("new"), Some("p-0"));
    cluster.sessions.clear();
    let cluster = cluster.settled().swept().settled();
    assert_eq!(cluster.fleet(), [("p-1", Pending)]);
}

#[test]
fn with_a_deadline_the_only_instance_is_emptied() {
    let mut pool = pool().sized(1, 1);
    pool.spec.scaling.drain_timeout_seconds = Some(60);
    let cluster = with_image(running(pool, &[2]), "spark:2").settled();
    assert_eq!(cluster.fleet(), [("p-0", Draining)]);
}

#[test]
fn a_template_that_is_changed_back_takes_the_old_instances_back() {
    let cluster = with_image(running(pool().sized(1, 5), &[1]), "spark:2").settled();
    let cluster = cluster.answering(&["p-1"]).settled();
    let back = with_image(cluster, "spark:1").settled();
    assert_eq!(back.fleet(), [("p-0", Running), ("p-1", Terminated)]);
}

#[test]
fn a_template_that_fails_leaves_the_old_instances_alone() {
    let mut cluster = with_image(running(pool().sized(2, 5), &[1, 1]), "broken").settled();
    *cluster.find_instance("p-2") = failed("p-2", "ErrImagePull");
    let cluster = cluster.at(1).settled();
    assert_eq!(cluster.fleet()[..2], [("p-0", Running), ("p-1", Running)]);
    let (_, reason, message) = cluster.condition("UpToDate");
    assert_eq!(reason, "BackingOff");
    let words = "p-0 and p-1 will be replaced; instance p-2 failed: ErrImagePull; next attempt at 2027-01-15T08:00:11Z.";
    assert!(message.ends_with(words), "{message}");
    let again = cluster.at(11).settled();
    assert_eq!(again.condition("UpToDate").1, "RollingOut");
    let told = again.events.iter().filter(|(reason, _)| *reason == "RollingOut").count();
    assert_eq!(told, 1, "not once for each attempt: {:#?}", again.events);
}

#[test]
fn a_template_that_fails_ten_times_is_told_as_given_up_though_the_old_instances_serve() {
    let mut cluster = with_image(running(pool().sized(1, 5), &[1]), "broken").settled();
    cluster.pool.status.consecutive_failures = 9;
    *cluster.find_instance("p-1") = failed("p-1", "no such class");
    let cluster = cluster.at(1).settled().at(10_000).settled();
    assert!(cluster.condition("Ready").0);
    let words = "0 of 1 instance answer that are made from the present template; p-0 will be replaced. 10 attempt(s) in a \
                 row failed, and no other is made: instance p-1 failed: no such class. Correct the pool, or have it tried \
                 once more: `kubectl delete sparkapplication p-1`.";
    assert_eq!(cluster.condition("UpToDate"), (false, "CrashLoop", words));
    let told = cluster.events.iter().filter(|(reason, _)| *reason == "CrashLoop").count();
    assert_eq!(told, 1, "{:#?}", cluster.events);
}

#[test]
fn the_same_template_in_another_order_and_another_policy_restart_nothing() {
    let template = json!({ "image": "a", "driver": { "cores": 1, "memory": "1g" } });
    let cluster = running(pool().with_template(template).sized(1, 5), &[1]);
    let mut same = cluster.clone();
    let reordered = r#"{ "driver": { "memory": "1g", "cores": 1 }, "image": "a" }"#;
    same.pool = same.pool.with_template(serde_json::from_str(reordered).unwrap());
    same.pool.spec.session_policy.default_session_conf.insert("spark.sql.ansi.enabled".into(), "true".into());
    same.pool.spec.scaling.cooldown_seconds = 7;
    same.pool.meta.generation += 1;
    assert_eq!(same.settled().fleet(), cluster.fleet());
}

#[test]
fn the_story_is_told() {
    let cluster =
        with_image(running(pool().sized(1, 5), &[1]), "spark:2").settled().answering(&["p-1"]).settled();
    let told = |cluster: &Cluster, reason: &str| {
        cluster.events.iter().rfind(|(told, _)| *told == reason).map(|(_, note)| note.clone())
    };
    assert_eq!(
        told(&cluster, "RollingOut").as_deref(),
        Some("0 of 1 instance answer that are made from the present template; p-0 will be replaced.")
    );
    assert_eq!(
        told(&cluster, "InstanceDraining").as_deref(),
        Some(
            "Instance p-0 takes no new sessions, since the pool's template has changed, and goes when those it has have \
             ended."
        )
    );
    let mut done = cluster;
    done.sessions.clear();
    let done = done.settled().swept().settled();
    assert_eq!(told(&done, "RolledOut").as_deref(), Some("No instance is made from an earlier template."));
    assert!(done.condition("UpToDate").0);
}

#[test]
fn what_replaces_others_does_not_count_for_the_size() {
    let pool = pool().sized(2, 9).sessions_per_instance(10);
    let cluster = with_image(running(pool, &[6, 6]), "spark:2").settled().answering(&["p-2"]).settled();
    assert_eq!(cluster.fleet(), [("p-0", Draining), ("p-1", Running), ("p-2", Running), ("p-3", Pending)]);
    assert_eq!(cluster.pool.status.desired_replicas, 2);
}

/// What is there for a moment to replace others is not the number that stays.
#[test]
fn a_pool_whose_use_is_not_measured_is_rolled_out_without_growing() {
    let mut cluster = running(pool().sized(0, 5).measured_by(MetricType::Cpu), &[]);
    cluster.metrics_problem = Some("down".to_owned());
    let cluster = cluster.session(session("s")).settled().answering(&["p-0"]).settled();
    let cluster = with_image(cluster, "spark:2").settled();
    assert_eq!(cluster.fleet(), [("p-0", Running), ("p-1", Pending)]);
    let cluster = cluster.answering(&["p-1"]).settled();
    assert_eq!(cluster.fleet(), [("p-0", Draining), ("p-1", Running)]);
}

#[test]
fn who_drains_already_makes_the_room_and_not_the_last_that_takes_sessions() {
    let mut pool = pool().sized(2, 2).sessions_per_instance(10).cooling_down(0).scaling_up_above("1");
    pool.spec.scaling.drain_timeout_seconds = Some(86_400);
    let mut cluster = running(pool, &[3, 2]);
    cluster.pool.spec.replicas.min = 0;
    let cluster = cluster.settled();
    assert_eq!(cluster.fleet(), [("p-0", Running), ("p-1", Draining)]);
    let mut cluster = with_image(cluster, "spark:2").settled();
    assert_eq!(cluster.fleet(), [("p-0", Running), ("p-1", Draining)]);
    cluster.sessions.retain(|session| !session.name().starts_with("p-1"));
    let cluster = cluster.settled().swept().settled();
    assert_eq!(cluster.fleet(), [("p-0", Running), ("p-2", Pending)]);
}

#[test]
fn a_refused_template_is_told_while_the_old_instances_serve() {
    let cluster =
        with_image(running(pool().sized(1, 5), &[1]), "spark:2").refusing("Required value").settled();
    assert!(cluster.condition("Ready").0);
    let told = cluster.condition("UpToDate");
    assert_eq!((told.0, told.1), (false, "TemplateRefused"));
    assert!(
        told.2.ends_with("; the API server refuses the sparkApplicationTemplate: Required value."),
        "{told:?}"
    );
    let told = |cluster: &Cluster| {
        let told = cluster.events.iter().filter(|(reason, _)| *reason == "TemplateRefused");
        (told.count(), cluster.pool.status.conditions.clone(), cluster.pool.status.last_scale_time.clone())
    };
    let before = told(&cluster);
    assert_eq!(before.0, 1);
    let again = cluster.at(100);
    assert_eq!(again.creates(), ["p-2"], "tried once more");
    assert_eq!(told(&again.settled()), before);
}
