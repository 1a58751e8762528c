//! What waiting sessions are told.
//!
//! The tests' time begins at 2027-01-15T08:00:00Z.

use rstest::rstest;
use uuid::Uuid;

use super::cluster::Cluster;
use crate::api::SessionState::{Active, Failed, Pending};
use crate::api::{Sharing, WaitPhase};
use crate::model::fixtures::{at, connect_pool, failed, ready, session, starting, time};
use crate::model::{Instance, Pool};
use crate::plan::waiting;

/// One instance at most, with one place.
fn narrow() -> Pool {
    connect_pool("p").sized(1, 1).with_places_per_instance(1)
}

fn starts_took(pool: Pool, seconds: &[i32]) -> Pool {
    pool.with_status(|status| status.recent_start_seconds = seconds.to_vec())
}

/// An instance whose driver Pod is there, without an address.
fn with_pod(creating: bool, message: Option<&str>) -> Instance {
    Instance {
        pod: Some(("p-0-driver".to_owned(), "uid".to_owned())),
        creating,
        message: message.map(str::to_owned),
        ..starting("p-0")
    }
}

fn told(cluster: Cluster) -> String {
    let cluster = cluster.session(session("s")).planned();
    let (state, reason, message) = cluster.told("s");
    assert_eq!(state, Pending);
    format!("{reason}: {message}")
}

#[test]
fn a_waiting_session_knows_what_it_waits_for() {
    let pool = connect_pool("p").sized(0, 1).shared_by(Sharing::Session);
    assert_eq!(told(Cluster::of(pool.clone())), "StartingInstance: Instance p-0 is being created.");
    assert_eq!(
        told(Cluster::of(pool.clone()).instance(ready("p-0")).session(session("other").on("p-0"))),
        "Queued: Position 1 of 1 in the queue: every instance of pool p is in use, and the pool is at its maximum of 1."
    );
    assert_eq!(
        told(Cluster::of(pool).with_host_taken_by("older")),
        "HostConflict: Pool older has this pool's host and type already."
    );
}

#[rstest]
#[case::the_spark_operator(
    starting("p-0"),
    WaitPhase::StartingInstance,
    "StartingInstance: Instance p-0 is starting: the Spark Operator has it as SUBMITTED."
)]
#[case::a_node(
    with_pod(false, Some("0/3 nodes are available")),
    WaitPhase::StartingInstance,
    "StartingInstance: Instance p-0 is starting: driver Pod p-0-driver has no address yet (0/3 nodes are available)"
)]
#[case::the_image(
    with_pod(true, None),
    WaitPhase::PullingImage,
    "PullingImage: Instance p-0 is starting: driver Pod p-0-driver is being created, its image pulled if its node lacks it."
)]
#[case::an_image_that_is_not_there(
    with_pod(false, Some("ErrImagePull: no such image")),
    WaitPhase::PullingImage,
    "PullingImage: Instance p-0 is starting: driver Pod p-0-driver has no address yet (ErrImagePull: no such image)"
)]
#[case::the_server(
    Instance { endpoint: ready("p-0").endpoint, ..with_pod(false, None) },
    WaitPhase::StartingSpark,
    "StartingSpark: Instance p-0 is starting: its server does not answer at 10.0.0.1:15002 yet."
)]
fn the_phases_of_a_start_are(#[case] instance: Instance, #[case] phase: WaitPhase, #[case] message: &str) {
    let cluster = Cluster::of(connect_pool("p")).instance(instance);
    assert_eq!(told(cluster.clone()), message);
    let cluster = cluster.session(session("s")).planned();
    assert_eq!(cluster.sessions[0].status.wait.as_ref().map(|wait| wait.phase), Some(phase));
}

#[test]
fn an_estimate_comes_from_the_recent_starts() {
    let pool = starts_took(connect_pool("p"), &[35, 20, 60]);
    let cluster = Cluster::of(pool).instance(starting("p-0")).session(session("s")).at(5).settled();
    assert_eq!(
        cluster.told("s").2,
        "Instance p-0 is starting: the Spark Operator has it as SUBMITTED. Expected about 08:00:35 UTC (recent starts of this \
         pool took 35 s)."
    );
    let wait = cluster.sessions[0].status.wait.clone().unwrap();
    assert_eq!((wait.expected_at, wait.as_of, wait.position), (Some(time(35)), time(5), None));
    let words = |seconds| waiting(&cluster.view(), "s", at(seconds)).unwrap().words(at(seconds));
    assert_eq!(
        words(15),
        "instance p-0 is starting: the Spark Operator has it as SUBMITTED, expected in about 20 s"
    );
    assert_eq!(
        words(36),
        "instance p-0 is starting: the Spark Operator has it as SUBMITTED, expected any moment"
    );
}

#[test]
fn starts_are_remembered_the_last_eight() {
    let pool = starts_took(connect_pool("p").sized(1, 1), &[1, 2, 3, 4, 5, 6, 7, 8]);
    let mut cluster = Cluster::of(pool).instance(starting("p-0")).settled();
    *cluster.find_instance("p-0") = ready("p-0");
    let cluster = cluster.at(33).settled();
    assert_eq!(cluster.pool.status.recent_start_seconds, [2, 3, 4, 5, 6, 7, 8, 33]);
    let another_leader = cluster.at(99).settled();
    assert_eq!(another_leader.pool.status.recent_start_seconds.len(), 8, "told once");
    assert_eq!(another_leader.pool.status.recent_start_seconds[7], 33);
}

/// Three who wait behind one who has the only place.
fn queue() -> Cluster {
    Cluster::of(narrow())
        .instance(ready("p-0"))
        .session(session("has").of("zoe").on("p-0"))
        .session(session("a1").of("alice").created(1))
        .session(session("a2").of("alice").created(2))
        .session(session("b1").of("bob").created(3))
        .settled()
}

const FULL: &str = "in the queue: every instance of pool p is full, and the pool is at its maximum of 1.";

#[test]
fn who_is_queued_knows_the_position() {
    let cluster = queue();
    for (name, place) in [("a1", 1), ("b1", 2), ("a2", 3)] {
        assert_eq!(
            cluster.told(name),
            (Pending, "Queued", &*format!("Position {place} of 3 {FULL}")),
            "{name}"
        );
    }
    let words = waiting(&cluster.view(), "a2", at(4)).unwrap().words(at(4));
    assert_eq!(
        words,
        "it is at position 3 of 3 in the queue, since every instance of pool p is full, and the pool is at its maximum of 1"
    );
    assert_eq!(waiting(&cluster.view(), "has", at(4)), None);
    assert_eq!(waiting(&cluster.view(), "nobody", at(4)), None);
}

#[test]
fn a_moving_queue_is_written_every_fifteen_seconds_and_told_exactly() {
    let mut cluster = queue();
    cluster.sessions.retain(|session| session.meta.name != "a1");
    let early = cluster.clone().at(14).settled();
    assert!(early.told("b1").2.starts_with("Position 2 of 3 "), "{}", early.told("b1").2);
    assert_eq!(early.wakes_at(), Some(15));
    let words = waiting(&early.view(), "b1", at(14)).unwrap().words(at(14));
    assert!(words.starts_with("it is at position 2 of 2 in the queue, since "), "{words}");
    let late = early.at(15).settled();
    assert!(late.told("b1").2.starts_with("Position 2 of 2 "), "{}", late.told("b1").2);
    assert_eq!(late.sessions[2].status.wait.as_ref().map(|wait| wait.as_of.clone()), Some(time(15)));
}

#[test]
fn those_for_whom_an_instance_starts_are_not_queued() {
    let pool = connect_pool("p").sized(1, 1).with_places_per_instance(2);
    let cluster = Cluster::of(pool)
        .instance(starting("p-0"))
        .sessions(["a", "b", "c"].map(|name| session(name).of(name)))
        .settled();
    assert_eq!(
        ["a", "b", "c"].map(|name| cluster.told(name).1),
        ["StartingInstance", "StartingInstance", "Queued"]
    );
    assert!(cluster.told("c").2.starts_with("Position 1 of 1 "));
}

#[test]
fn the_wait_is_over_when_the_session_is_active() {
    let mut cluster =
        Cluster::of(connect_pool("p")).instance(starting("p-0")).session(session("s")).settled();
    *cluster.find_instance("p-0") = ready("p-0");
    cluster.settle();
    assert_eq!((cluster.state_of("s"), &cluster.sessions[0].status.wait), (Active, &None));
}

#[test]
fn every_phase_has_its_event() {
    let mut cluster = Cluster::of(connect_pool("p")).session(session("s")).settled();
    *cluster.find_instance("p-0") = with_pod(true, None);
    cluster.settle();
    *cluster.find_instance("p-0") = Instance { endpoint: ready("p-0").endpoint, ..with_pod(false, None) };
    cluster.settle();
    let waits = cluster.events.iter().filter(|(reason, _)| *reason == "SessionWaiting").count();
    assert_eq!(waits, 3, "{:?}", cluster.events);
}

#[test]
fn who_finds_no_place_in_time_is_told_so() {
    let mut cluster = queue();
    cluster.pool.spec.session_policy.start_timeout_seconds = Some(60);
    assert_eq!(
        cluster.at(61).settled().told("b1"),
        (
            Failed,
            "StartTimeout",
            "No place in pool p became free within 60 s: every instance of pool p is full, and the pool is at its maximum \
             of 1. Try again later; the pool's administrator finds more with `kubectl describe ssp`."
        )
    );
}

#[test]
fn who_is_not_set_up_in_time_fails_and_is_released() {
    let mut pool = connect_pool("p").sized(1, 1).giving_up_after(60);
    pool.spec.session_policy.default_session_conf.insert("a".to_owned(), "1".to_owned());
    let new = session("s").with_spark_id(Uuid::from_u128(1));
    let preparing = Cluster::of(pool).instance(ready("p-0")).session(new).settled();
    let wait = preparing.sessions[0].status.wait.as_ref().unwrap();
    assert_eq!((wait.phase, preparing.wakes_at()), (WaitPhase::ApplyingConf, Some(60)));
    let words = waiting(&preparing.view(), "s", at(1)).unwrap().words(at(1));
    assert_eq!(words, "its configuration is being set on instance p-0");
    let given_up = preparing.at(60).settled();
    let message = "The session was not set up in pool p within 60 s: its configuration is being set on instance p-0. Try \
                   again later; the pool's administrator finds more with `kubectl describe ssp`.";
    assert_eq!(given_up.told("s"), (Failed, "StartTimeout", message));
    assert_eq!(given_up.releases["s"], "p-0");
}

#[rstest]
#[case::logs("26/11/22 11:05:31 INFO DiskBlockManager: Created local directory at /tmp/x")]
#[case::jvm("WARNING: Using incubator modules: jdk.incubator.vector")]
fn of_what_spark_submit_has_logged_the_cause_is_shown(#[case] begins: &str) {
    let logged = "\n\
                   26/11/22 11:05:31 INFO SparkContext: Added JAR http://operator/identity.jar\n\
                   Exception in thread \"main\" java.lang.ClassNotFoundException: com.example.Missing\n\
                   \tat java.base/java.lang.Class.forName0(Native Method)";
    let message = format!("failed to run spark-submit: {begins}{logged}");
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).instance(failed("p-0", &message)).settled();
    assert_eq!(
        cluster.pool.status.last_failure_message.as_deref(),
        Some(
            "instance p-0 failed: failed to run spark-submit: Exception in thread \"main\" \
             java.lang.ClassNotFoundException: com.example.Missing"
        )
    );
}

#[test]
fn of_a_stack_trace_the_telling_lines_are_shown() {
    let message = "io.fabric8.kubernetes.client.KubernetesClientException: Operation: [create] for kind: [Pod] failed.\n\
                   \tat a.B.c(B.java:1)\n\tat a.B.d(B.java:2)\n\tat a.B.e(B.java:3)\n\tat a.B.f(B.java:4)\n\
                   Caused by: pods \"p-0-driver\" is forbidden: exceeded quota: small\n\tat a.B.g(B.java:5)";
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).instance(failed("p-0", message)).settled();
    assert_eq!(
        cluster.pool.status.last_failure_message.as_deref(),
        Some(
            "instance p-0 failed: io.fabric8.kubernetes.client.KubernetesClientException: Operation: [create] for kind: \
             [Pod] failed. Caused by: pods \"p-0-driver\" is forbidden: exceeded quota: small"
        )
    );
}
