//! What the pool's status and its events say.

use rstest::rstest;

use super::cluster::Cluster;
use crate::api::InstanceState;
use crate::model::Instance;
use crate::model::fixtures::{at, connect_pool, failed, going, ready, session, starting, time};
use crate::plan::Action;

#[test]
fn the_status_counts_instances_and_sessions() {
    let cluster = Cluster::of(connect_pool("p").sized(3, 3))
        .instance(ready("p-0"))
        .instance(starting("p-1"))
        .instance(going("p-2"))
        .instance(failed("p-3", "OOM"))
        .session(session("a").on("p-0"))
        .session(session("b").on("p-0"))
        .planned();
    let status = &cluster.pool.status;
    assert_eq!((status.current_replicas, status.ready_replicas, status.desired_replicas), (2, 1, 3));
    assert_eq!((status.total_active_sessions, status.pending_sessions), (2, 0));
    assert_eq!((status.observed_generation, status.next_ordinal), (Some(1), 4));
    let rows: Vec<_> =
        status.instances.iter().map(|row| (row.name.as_str(), row.state, row.active_sessions)).collect();
    assert_eq!(
        rows,
        [
            ("p-0", InstanceState::Running, 2),
            ("p-1", InstanceState::Pending, 0),
            ("p-2", InstanceState::Terminated, 0),
            ("p-3", InstanceState::Failed, 0),
        ]
    );
    assert_eq!(status.instances[0].endpoint.as_deref(), Some("10.0.0.1:15002"));
    assert_eq!(status.instances[3].message.as_deref(), Some("instance p-3 failed: OOM"));
}

#[test]
fn a_waiting_session_shows_in_the_status() {
    let cluster = Cluster::of(connect_pool("p")).session(session("s")).planned();
    let status = &cluster.pool.status;
    assert_eq!((status.pending_sessions, status.desired_replicas, status.current_replicas), (1, 1, 0));
}

#[test]
fn a_pool_at_zero_is_ready_and_says_so() {
    let cluster = Cluster::of(connect_pool("p")).settled();
    assert_eq!(
        cluster.condition("Ready"),
        (true, "ScaledToZero", "No instance runs; the first user starts one.")
    );
    assert_eq!(
        cluster.condition("Accepted"),
        (true, "Accepted", "Clients reach the pool at host spark.example.com.")
    );
}

#[test]
fn a_pool_is_ready_when_the_first_instance_answers() {
    let cluster =
        Cluster::of(connect_pool("p").sized(2, 2)).instance(starting("p-0")).instance(starting("p-1"));
    let mut cluster = cluster.settled();
    assert_eq!(cluster.condition("Ready"), (false, "InstancesStarting", "2 instance(s) are starting."));
    *cluster.find_instance("p-0") = ready("p-0");
    cluster.settle();
    assert_eq!(cluster.condition("Ready"), (true, "InstancesReady", "1 of 2 instance(s) answer."));
}

#[test]
fn a_pool_whose_instances_fail_is_not_ready_and_says_why() {
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).instance(failed("p-0", "OOM")).settled();
    let (ready, reason, message) = cluster.condition("Ready");
    assert_eq!((ready, reason), (false, "InstanceFailed"));
    assert!(message.starts_with("1 attempt(s) in a row failed: instance p-0 failed: OOM; next attempt at "));
}

#[test]
fn a_pool_whose_host_is_taken_is_not_accepted_and_names_the_other() {
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).with_host_taken_by("older").settled();
    assert_eq!(
        cluster.condition("Accepted"),
        (
            false,
            "HostConflict",
            "Host spark.example.com with type connect belongs to pool older, which is older. Choose another host, or \
             delete one of the pools."
        )
    );
    assert_eq!(cluster.condition("Ready").1, "HostConflict");
    assert_eq!(cluster.events.iter().filter(|(reason, _)| *reason == "HostConflict").count(), 1);
}

#[test]
fn a_pool_whose_host_is_no_dns_name_is_not_accepted_and_starts_nothing() {
    let pool = connect_pool("p").sized(1, 1).with_host("*.example.com");
    let cluster = Cluster::of(pool).session(session("s")).settled();
    assert_eq!(
        cluster.condition("Accepted"),
        (
            false,
            "InvalidHost",
            "Host *.example.com is not a DNS name: lower-case letters, digits and hyphens, in labels separated by \
             dots, without a wildcard and without a port. No client reaches the pool. Correct spec.host."
        )
    );
    assert_eq!(
        cluster.condition("Ready"),
        (false, "InvalidHost", "No client can name the host; see the condition Accepted.")
    );
    assert_eq!(cluster.events.iter().filter(|(reason, _)| *reason == "InvalidHost").count(), 1);
    assert!(cluster.creates().is_empty());
    assert_eq!(cluster.told("s").2, "The host of this pool is no DNS name, so no instance is started.");
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let mut cluster = Cluster::of(connect_pool("p")).instance(starting("p-0")).session(session("s")).at(10);
    cluster = cluster.settled().at(20);
    *cluster.find_instance("p-0") = failed("p-0", "OOM");
    cluster.settle();
    let time_of = |cluster: &Cluster| {
        let conditions = &cluster.pool.status.conditions;
        conditions.iter().find(|c| c.type_ == "Ready").unwrap().last_transition_time.clone()
    };
    assert_eq!((cluster.condition("Ready").1, time_of(&cluster)), ("InstanceFailed", time(10)));
    cluster = cluster.instance(ready("p-1")).at(30).settled();
    assert_eq!((cluster.condition("Ready").1, time_of(&cluster)), ("InstancesReady", time(30)));
}

#[test]
fn conditions_of_others_are_kept() {
    let mut cluster = Cluster::of(connect_pool("p")).settled();
    let mut other = cluster.pool.status.conditions[0].clone();
    other.type_ = "Programmed".to_owned();
    cluster.pool.status.conditions.push(other.clone());
    cluster = cluster.session(session("s")).settled();
    assert!(cluster.pool.status.conditions.contains(&other));
}

#[test]
fn events_tell_the_story_of_an_instance_and_its_session() {
    let mut cluster = Cluster::of(connect_pool("p").cooling_down(0)).session(session("s")).settled();
    *cluster.find_instance("p-0") = ready("p-0");
    cluster.settle();
    *cluster.find_instance("p-0") = failed("p-0", "OOM");
    cluster.settle();
    let story: Vec<_> = cluster.events.iter().map(|(reason, note)| format!("{reason}: {note}")).collect();
    assert_eq!(
        story,
        [
            "SessionWaiting: Instance p-0 is being created.",
            "ScaledUp: 0 → 1: 1 session at target 20.",
            "InstanceCreated: Created instance p-0.",
            "SessionActive: Served by instance p-0.",
            "InstanceReady: Instance p-0 answers at 10.0.0.1:15002.",
            "SessionTerminated: Instance p-0, which held this session, is gone. Start a new session.",
            "InstanceFailed: Instance p-0 failed: OOM",
        ]
    );
}

#[test]
fn an_unchanged_pool_is_not_written_again() {
    let cluster =
        Cluster::of(connect_pool("p").sized(1, 1)).instance(ready("p-0")).session(session("s")).settled();
    assert_eq!(cluster.at(5000).plan().actions, Vec::<Action>::new());
}

#[test]
fn what_did_not_come_is_not_told() {
    let plan = Cluster::of(connect_pool("p").sized(2, 5)).plan();
    let told = |not_created: &[String]| -> Vec<String> {
        let events = plan.actions.iter().filter_map(|action| match action {
            Action::Event(event) if !event.tells_of(not_created, &[]) => Some(event.note.clone()),
            _ => None,
        });
        events.filter(|note| note.contains("p-") || note.contains('→')).collect()
    };
    let all = [
        "0 → 2: 0 sessions at target 20, and replicas.min is 2.",
        "Created instance p-0.",
        "Created instance p-1.",
    ];
    assert_eq!(told(&[]), all);
    assert_eq!(told(&["p-1".to_owned()]), all[1..2]);
}

#[test]
fn an_instance_that_starts_for_longer_than_anybody_waits_is_told() {
    let pool = connect_pool("p").sized(1, 1).giving_up_after(60);
    let cluster = Cluster::of(pool).settled();
    assert_eq!(cluster.wakes_at(), Some(60));
    let early = cluster.clone().at(59).settled();
    assert_eq!(early.condition("Ready").1, "InstancesStarting");
    let late = cluster.at(60).settled();
    let words = "Instance p-0 has been starting since 2027-01-15T08:00:00Z, longer than sessions wait for it (60 s): the \
                 Spark Operator has it as SUBMITTED. See why its Pod is not started.";
    assert_eq!(late.condition("Ready"), (false, "StartOverdue", words));
    assert_eq!(late.condition("Scaled").1, "StartOverdue");
    assert_eq!(late.events.iter().filter(|(reason, _)| *reason == "StartOverdue").count(), 1);
    assert_eq!(late.answering(&["p-0"]).settled().condition("Scaled").1, "AsNeeded");
}

/// After a restart of the operator it may be too busy for the first probe, hours after its start.
#[test]
fn a_server_that_has_answered_is_not_called_late_when_it_does_not_for_a_moment() {
    let pool = connect_pool("p").sized(1, 1).giving_up_after(60);
    let mut served = Cluster::of(pool).settled().at(30).answering(&["p-0"]).settled();
    *served.find_instance("p-0") = Instance { created_at: at(0), ..starting("p-0") };
    let silent = served.at(7200).settled();
    let words = "Instance p-0, which answered first at 2027-01-15T08:00:30Z, does not answer now: the Spark Operator has it \
                 as SUBMITTED.";
    assert_eq!(silent.condition("Ready"), (false, "NotAnswering", words));
    let scaled = silent.condition("Scaled");
    assert_eq!((scaled.0, scaled.1), (true, "Starting"), "{scaled:?}");
    let told: Vec<_> = silent.events.iter().filter(|(reason, _)| reason.starts_with("Start")).collect();
    assert!(told.is_empty(), "{told:?}");
    assert_ne!(silent.wakes_at(), Some(60));
    // What never answered is still told, and first.
    let mut beside = silent.clone();
    beside.pool = beside.pool.sized(2, 2);
    let beside = beside.settled().at(7260).settled();
    assert_eq!(beside.condition("Ready").1, "StartOverdue");
    assert!(beside.condition("Ready").2.starts_with("Instance p-1 has been starting since"), "{beside:?}");
}

/// One that starts before the others do is told at once what keeps it, whether or not anybody waits for it.
#[rstest]
#[case::image(
    "ErrImagePull: no such image",
    "driver Pod p-1-driver has no address yet (ErrImagePull: no such image). It goes on when that is over."
)]
#[case::no_node(
    "0/3 nodes are available: 3 Insufficient cpu.",
    "driver Pod p-1-driver has no address yet (0/3 nodes are available: 3 Insufficient cpu). It goes on when that is over."
)]
fn an_instance_that_cannot_start_is_told(#[case] message: &str, #[case] words: &str) {
    let pod = Some(("p-1-driver".to_owned(), "uid".to_owned()));
    let blocked = Instance { pod, message: Some(message.to_owned()), endpoint: None, ..starting("p-1") };
    let cluster =
        Cluster::of(connect_pool("p").sized(2, 2)).instance(ready("p-0")).instance(blocked).settled();
    assert_eq!(cluster.condition("Ready").1, "InstancesReady");
    let since = "Instance p-1 has been starting since 2027-01-15T08:00:00Z";
    let told = format!("2 instances: 0 sessions at target 20, and replicas.min is 2. {since}: {words}");
    assert_eq!(cluster.condition("Scaled"), (false, "StartBlocked", told.as_str()));
    let warned = ("StartBlocked", told.clone());
    assert_eq!(cluster.events.iter().filter(|event| **event == warned).count(), 1, "{:?}", cluster.events);
    let mut alone = cluster;
    alone.instances.retain(|instance| instance.name == "p-1");
    let alone = alone.settled();
    assert_eq!(alone.condition("Ready"), (false, "StartBlocked", format!("{since}: {words}").as_str()));
    assert_eq!(alone.answering(&["p-1", "p-2"]).settled().condition("Scaled").1, "AsNeeded");
}

#[test]
fn a_spark_operator_that_takes_nothing_up_is_missed_after_a_minute() {
    let unnoticed = Instance { launcher_state: String::new(), ..starting("p-0") };
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).instance(unnoticed).settled();
    assert_eq!(cluster.wakes_at(), Some(60));
    assert_eq!(cluster.condition("Ready"), (false, "InstancesStarting", "1 instance(s) are starting."));
    let words = "Instance p-0 has been starting since 2027-01-15T08:00:00Z: the Spark Operator has not taken it up yet. See \
                 whether the Spark Operator runs, and watches this namespace (`spark.jobNamespaces` of its chart).";
    assert_eq!(cluster.at(60).settled().condition("Ready"), (false, "StartBlocked", words));
}
