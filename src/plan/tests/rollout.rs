//! A changed template.

use rstest::rstest;
use serde_json::json;

use super::cluster::Cluster;
use crate::api::InstanceState::{self, Draining, Pending, Running, Terminated};
use crate::api::{MetricType, Sharing};
use crate::model::fixtures::{connect_pool, failed, session};
use crate::model::{InstancePhase, Pool};

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
    let reordered = r#"{ "driver": { "memory": "1g", "cores": 1 }, "image": "a", "timeToLiveSeconds": 60,
                         "restartPolicy": { "type": "Always" } }"#;
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

/// As after a restart of the operator, whose first probe a busy server did not answer in time.
#[test]
fn one_that_answered_once_is_not_removed_as_one_that_starts() {
    let mut cluster = with_image(running(pool().sized(1, 1), &[2]), "spark:2").settled();
    cluster.find_instance("p-0").phase = InstancePhase::Starting;
    let cluster = cluster.settled();
    assert_eq!(cluster.fleet(), [("p-0", Pending)]);
    assert_eq!((cluster.place_of("p-0-s0"), cluster.deletes()), (Some("p-0"), vec![]));
}

#[test]
fn a_dip_of_the_load_in_the_middle_of_a_rollout_waits_for_the_cooldown() {
    let pool = pool().sized(0, 5).sessions_per_instance(10).scaling_up_above("1").cooling_down(300);
    let mut cluster = running(pool.sized(4, 5), &[8, 8, 8, 8]);
    cluster.pool.spec.replicas.min = 0;
    let mut cluster = with_image(cluster, "spark:2").refusing("no").at(50).settled();
    assert_eq!(cluster.fleet(), ["p-0", "p-1", "p-2", "p-3"].map(|name| (name, Running)));
    cluster.sessions.retain(|session| session.name().ends_with("s0"));
    let dip = cluster.clone().at(60).settled();
    assert_eq!(dip.fleet(), cluster.fleet());
    assert_eq!((dip.pool.status.desired_replicas, dip.wakes_at()), (1, Some(110)), "the next attempt");
    let later = dip.clone().at(360).settled();
    let drained = ["p-0", "p-1", "p-2"].map(|name| (name, Draining));
    assert_eq!(later.fleet(), [&drained[..], &[("p-3", Running)]].concat());
    // None can be created, and these are still there.
    let again = later.sessions((0..30).map(|n| session(&format!("more-{n}")))).settled();
    assert_eq!(again.fleet(), ["p-0", "p-1", "p-2", "p-3"].map(|name| (name, Running)));
}

#[rstest]
#[case::another_users_driver(Sharing::User, None, [1, 1], [Running, Running])]
#[case::a_driver_of_its_own(Sharing::Session, None, [1, 1], [Draining, Draining])]
#[case::a_full_one(Sharing::Pool, Some(2), [2, 2], [Running, Running])]
#[case::one_with_a_free_place(Sharing::Pool, Some(2), [1, 1], [Draining, Running])]
fn at_the_maximum_one_makes_room_if_others_can_stand_in(
    #[case] sharing: Sharing,
    #[case] places: Option<i32>,
    #[case] sessions: [usize; 2],
    #[case] states: [InstanceState; 2],
) {
    let mut pool = pool().sized(2, 2);
    pool.spec.sharing = sharing;
    pool.spec.scaling.max_sessions_per_instance = places;
    let mut cluster = running(pool, &sessions);
    for (n, session) in cluster.sessions.iter_mut().enumerate().filter(|_| sharing == Sharing::User) {
        session.spec.user = format!("user-{n}");
    }
    let cluster = with_image(cluster, "spark:2").settled();
    assert_eq!(cluster.fleet().into_iter().map(|(_, state)| state).collect::<Vec<_>>(), states);
    let waits = cluster.condition("UpToDate").2.contains("replicas.max leaves no room");
    assert_eq!(waits, states[0] == Running);
}

/// Drivers that are not shared: each session that there is has its own, and keeps it.
#[test]
fn no_driver_is_started_for_sessions_that_keep_the_one_they_have() {
    let mut pool = pool().sized(0, 9).cooling_down(300);
    pool.spec.sharing = Sharing::Session;
    let cluster = Cluster::of(pool).sessions((0..3).map(|n| session(&format!("s{n}")))).settled();
    let cluster = cluster.answering(&["p-0", "p-1", "p-2"]).settled();
    let cluster = with_image(cluster, "spark:2").settled();
    assert_eq!(cluster.fleet(), ["p-0", "p-1", "p-2"].map(|name| (name, Draining)));
    assert_eq!(cluster.pool.status.desired_replicas, 0);
    assert_eq!(cluster.session(session("new")).creates(), ["p-3"]);
}

/// What was kept for the cooldown in the middle of a rollout goes with another one, if it is needed no more.
#[test]
fn a_load_that_falls_twice_in_a_rollout_leaves_nothing_behind() {
    let pool = pool().sized(0, 3).sessions_per_instance(10).scaling_up_above("1").cooling_down(300);
    let mut cluster = with_image(running(pool.sized(3, 3), &[8, 8, 8]), "spark:2");
    cluster.pool.spec.replicas.min = 0;
    let mut cluster = cluster.settled();
    assert_eq!(cluster.fleet()[0], ("p-0", Draining));
    cluster.sessions.retain(|session| !session.name().starts_with("p-0"));
    let mut cluster = cluster.settled().swept().settled().answering(&["p-3"]).at(10).settled();
    cluster.sessions.truncate(1);
    for now in [20, 400, 800] {
        cluster = cluster.at(now).settled().swept();
    }
    assert_eq!(cluster.settled().fleet().last(), Some(&("p-3", Running)));
}

#[test]
fn no_instance_makes_room_beside_one_that_is_created() {
    let pool = pool().sized(8, 9);
    let cluster = with_image(running(pool, &[1; 8]), "spark:2").refusing("no").settled();
    assert!(cluster.fleet().iter().all(|(_, state)| *state == Running), "{:?}", cluster.fleet());
}

/// At the maximum nothing else can serve who comes back.
#[test]
fn what_drains_in_a_rollout_is_taken_back_where_there_is_no_room_for_others() {
    let pool = pool().sessions_per_instance(10).scaling_up_above("1").cooling_down(0);
    let mut cluster = running(pool.sized(4, 4), &[8, 8, 8, 8]);
    cluster.pool.spec.replicas.min = 0;
    cluster.sessions.retain(|session| session.name().ends_with("s0"));
    let cluster = with_image(cluster, "spark:2").settled();
    let draining = |cluster: &Cluster| cluster.fleet().iter().filter(|(_, state)| *state == Draining).count();
    assert_eq!(draining(&cluster), 3);
    let again = cluster.sessions((0..30).map(|n| session(&format!("more-{n}")))).settled();
    assert_eq!(draining(&again), 1, "it makes the room for a new one: {:?}", again.fleet());
}
