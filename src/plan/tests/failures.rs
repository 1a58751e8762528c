//! Instances that fail, and templates that the API server refuses.

use rstest::rstest;

use super::cluster::Cluster;
use crate::api::InstanceState;
use crate::api::SessionState::{Failed, Pending};
use crate::model::fixtures::{at, connect_pool, failed, ready, session, starting, thrift_pool, time, told};
use crate::model::{Instance, InstancePhase, Pool};
use crate::plan::{Action, Objection};

/// A pool whose status says that so many instances in a row failed, the last one at second 0.
fn after_failures(pool: Pool, failures: i32) -> Pool {
    pool.with_status(|status| {
        status.consecutive_failures = failures;
        status.last_failure_time = Some(time(0));
        status.last_failure_message = Some("instance p-0 failed: OOM".to_owned());
        status.next_ordinal = 1;
        status.instances = vec![told("p-0", InstanceState::Failed)];
    })
}

#[rstest]
#[case(1, 10)]
#[case(2, 20)]
#[case(3, 40)]
#[case(4, 80)]
#[case(5, 160)]
#[case(6, 300)]
#[case(7, 300)]
#[case(9, 300)]
fn each_failure_doubles_the_time_until_the_next_attempt(#[case] failures: i32, #[case] seconds: i64) {
    let cluster =
        Cluster::of(after_failures(connect_pool("p").sized(1, 1), failures)).instance(failed("p-0", "OOM"));
    let before = cluster.clone().at(seconds - 1);
    assert_eq!((before.creates(), before.deletes(), before.wakes_at()), (vec![], vec![], Some(seconds)));
    let due = cluster.at(seconds);
    assert_eq!((due.creates(), due.deletes()), (vec!["p-1".to_owned()], vec!["p-0".to_owned()]));
}

#[test]
fn a_failure_is_counted_once() {
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).instance(failed("p-0", "OOM")).at(5).settled();
    let again = cluster.clone().at(9).settled();
    for cluster in [&cluster, &again] {
        let status = &cluster.pool.status;
        assert_eq!((status.consecutive_failures, &status.last_failure_time), (1, &Some(time(5))));
        assert_eq!(status.last_failure_message.as_deref(), Some("instance p-0 failed: OOM"));
    }
}

#[test]
fn failures_are_forgotten_when_a_later_instance_has_been_there_for_five_minutes() {
    let mut cluster = Cluster::of(after_failures(connect_pool("p").sized(1, 1), 4)).at(100).settled();
    cluster.instances.clear();
    let later = Instance { created_at: at(100), ..ready("p-1") };
    let cluster = cluster.instance(later).at(130).settled();
    assert_eq!(
        (cluster.pool.status.consecutive_failures, cluster.wakes_at()),
        (4, Some(400)),
        "it may fail yet"
    );
    assert_eq!(cluster.condition("Ready").1, "InstancesReady");
    let cluster = cluster.at(400).settled();
    assert_eq!(cluster.pool.status.consecutive_failures, 0);
    assert_eq!(cluster.pool.status.last_failure_message, None);
}

#[test]
fn a_server_that_answers_and_fails_again_and_again_counts_on() {
    let mut cluster = Cluster::of(connect_pool("p").sized(1, 1)).settled();
    let mut now = 0;
    for (n, wait) in [10, 20, 40].into_iter().enumerate() {
        let name = format!("p-{n}");
        cluster = cluster.at(now + 5).answering(&[&name]).settled();
        *cluster.find_instance(&name) = failed(&name, "OOM");
        cluster = cluster.at(now + 30).settled();
        assert_eq!(cluster.pool.status.consecutive_failures, i32::try_from(n + 1).unwrap());
        now += 30 + wait;
        cluster = cluster.at(now).settled().swept();
    }
}

#[test]
fn instances_that_fail_together_count_as_one() {
    let cluster = Cluster::of(connect_pool("p").sized(3, 3)).settled();
    let mut cluster = cluster;
    *cluster.find_instance("p-0") = failed("p-0", "OOM");
    let mut cluster = cluster.at(5).settled();
    *cluster.find_instance("p-1") = failed("p-1", "OOM");
    *cluster.find_instance("p-2") = failed("p-2", "OOM");
    let cluster = cluster.at(6).settled();
    assert_eq!(cluster.pool.status.consecutive_failures, 1);
    let cluster = cluster.at(16).settled();
    assert_eq!(cluster.fleet().iter().filter(|(_, state)| *state == InstanceState::Pending).count(), 3);
}

#[test]
fn a_driver_that_dies_after_long_service_is_replaced_at_once() {
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).settled().answering(&["p-0"]).at(60).settled();
    let mut cluster = cluster.at(7200).settled();
    *cluster.find_instance("p-0") = failed("p-0", "OOM");
    let cluster = cluster.settled();
    assert_eq!(cluster.fleet(), [("p-0", InstanceState::Failed), ("p-1", InstanceState::Pending)]);
    assert_eq!(cluster.pool.status.consecutive_failures, 0);
    assert!(cluster.events.iter().all(|(reason, note)| *reason != "ScaledUp" || note.starts_with("0 → 1")));
    // Its log is there to be read for a while.
    assert_eq!((cluster.deletes(), cluster.wakes_at()), (vec![], Some(7210)));
    assert_eq!(cluster.at(7210).deletes(), ["p-0"]);
}

/// By a node that is drained, or by hand: the Pod goes, looks as if it had not come yet, and only then is it a failure.
#[test]
fn a_driver_whose_pod_is_deleted_after_long_service_is_replaced_at_once() {
    let mut cluster =
        Cluster::of(connect_pool("p").sized(1, 1)).settled().answering(&["p-0"]).at(60).settled();
    for phase in [InstancePhase::Deleting, InstancePhase::Starting, InstancePhase::Failed] {
        cluster.now += 7_200;
        cluster.find_instance("p-0").phase = phase;
        cluster = cluster.settled();
        assert_eq!(cluster.pool.status.consecutive_failures, 0, "{phase:?}");
    }
    assert_eq!(cluster.fleet().last(), Some(&("p-1", InstanceState::Pending)));
}

/// A node is drained: the replacement is created when the Pod begins to go, and the failure is counted when it is gone.
fn replaced_before_the_failure_was_counted() -> Cluster {
    let pool = thrift_pool("p").cooling_down(0);
    let mut cluster =
        Cluster::of(pool).session(session("s")).settled().at(40).answering(&["p-0"]).settled().at(100);
    cluster.find_instance("p-0").phase = InstancePhase::Deleting;
    let mut cluster = cluster.settled().at(102);
    cluster.find_instance("p-0").phase = InstancePhase::Failed;
    let cluster = cluster.settled();
    assert_eq!(cluster.pool.status.consecutive_failures, 1);
    assert_eq!(cluster.fleet(), [("p-0", InstanceState::Failed), ("p-1", InstanceState::Pending)]);
    let cluster = cluster.at(112).settled().swept().answering(&["p-1"]).at(130).settled();
    assert_eq!(cluster.pool.status.consecutive_failures, 1, "it may fail yet");
    cluster
}

#[test]
fn a_replacement_that_is_older_than_the_counted_failure_ends_the_row_when_it_is_given_up() {
    let mut cluster = replaced_before_the_failure_was_counted().at(200);
    cluster.sessions.clear();
    let cluster = cluster.settled().swept().settled();
    let told = (true, "ScaledToZero", "No instance runs; the first user starts one.");
    assert_eq!((cluster.condition("Ready"), cluster.pool.status.consecutive_failures), (told, 0));
    assert_eq!(cluster.pool.status.last_failure_message, None);
}

#[test]
fn a_replacement_that_is_older_than_the_counted_failure_ends_the_row_after_five_minutes() {
    let cluster = replaced_before_the_failure_was_counted();
    assert_eq!(cluster.wakes_at(), Some(400));
    assert_eq!(cluster.at(400).settled().pool.status.consecutive_failures, 0);
}

/// The load is gone when the next attempt is due, so there is none.
#[test]
fn one_of_those_that_were_started_together_ends_the_row_of_the_others() {
    let mut pool = thrift_pool("p").sessions_per_instance(1).scaling_up_above("1").cooling_down(0);
    pool.spec.scaling.scale_down_threshold = "1".to_owned();
    let cluster = Cluster::of(pool).session(session("a")).session(session("b")).settled();
    let mut cluster = cluster.at(30).answering(&["p-0"]).settled();
    *cluster.find_instance("p-1") = failed("p-1", "OOM");
    let mut cluster = cluster.at(35).settled();
    assert_eq!(cluster.pool.status.consecutive_failures, 1);
    cluster.sessions.retain(|session| session.meta.name == "a");
    let mut cluster = cluster.at(300).settled().swept().settled();
    assert_eq!(cluster.pool.status.consecutive_failures, 0);
    assert_eq!(cluster.fleet(), [("p-0", InstanceState::Running)]);
    cluster.sessions.clear();
    assert_eq!(cluster.at(400).settled().swept().settled().condition("Ready").1, "ScaledToZero");
}

/// Where sessions are short, instances are given up before they are five minutes old, and one in fifty may fail.
#[test]
fn an_instance_that_was_given_up_after_it_had_answered_ends_the_row() {
    let pool = after_failures(connect_pool("p").cooling_down(0), 4);
    let cluster =
        Cluster::of(pool).at(100).session(session("s")).settled().answering(&["p-1"]).at(120).settled();
    assert_eq!(cluster.pool.status.consecutive_failures, 4);
    let mut idle = cluster.at(200);
    idle.sessions.clear();
    let idle = idle.settled();
    assert_eq!(idle.fleet(), [("p-1", InstanceState::Terminated)]);
    assert_eq!(idle.swept().settled().pool.status.consecutive_failures, 0);
}

#[test]
fn after_ten_failures_nothing_is_started_until_somebody_acts() {
    let cluster =
        Cluster::of(after_failures(connect_pool("p").sized(1, 1), 10)).instance(failed("p-0", "OOM"));
    let mut cluster = cluster.at(9_000).settled();
    assert_eq!((cluster.creates(), cluster.deletes()), (vec![], vec![]));
    let told = (
        false,
        "CrashLoop",
        "10 attempt(s) in a row failed, and no other is made: instance p-0 failed: OOM. Correct the pool, or have it tried \
         once more: `kubectl delete sparkapplication p-0`.",
    );
    assert_eq!(cluster.condition("Ready"), told);
    assert_eq!(cluster.condition("Scaled"), told);
    let told: Vec<_> = cluster.events.iter().filter(|(reason, _)| *reason == "CrashLoop").collect();
    assert_eq!(told.len(), 1, "{told:?}");

    let mut once_more = cluster.clone();
    once_more.instances.clear();
    assert_eq!(once_more.creates(), ["p-1"], "after the failed one was deleted");
    once_more.pool.status.last_failure_time = Some(time(8_999));
    assert_eq!(once_more.creates(), ["p-1"], "at once");
    cluster.pool.meta.generation += 1;
    assert_eq!(cluster.creates(), ["p-1"], "after the pool was changed");
}

#[test]
fn an_instance_that_was_ready_before_the_failures_does_not_end_their_row() {
    let mut cluster = Cluster::of(connect_pool("p").sized(2, 2)).instance(ready("p-0")).settled();
    for (name, seconds) in [("p-1", 100), ("p-2", 200), ("p-3", 300)] {
        cluster = cluster.at(seconds);
        let created_at = cluster.find_instance(name).created_at;
        *cluster.find_instance(name) = Instance { created_at, ..failed(name, "OOM") };
        cluster = cluster.settled().at(seconds + 99).settled();
        cluster.instances.retain(|instance| instance.phase != InstancePhase::Deleting);
    }
    assert_eq!(cluster.pool.status.consecutive_failures, 3);
}

#[test]
fn a_failed_instance_does_not_take_the_room_of_its_replacement() {
    let cluster =
        Cluster::of(after_failures(connect_pool("p").sized(0, 1), 1)).instance(failed("p-0", "OOM"));
    assert_eq!(cluster.session(session("s").created(9)).at(10).creates(), ["p-1"]);
}

#[test]
fn while_the_next_attempt_is_awaited_sessions_read_the_cause() {
    let cluster = Cluster::of(connect_pool("p"))
        .instance(failed("p-0", "Java heap space\n\n\tat org.apache.spark.Foo\n\tat b\n\tat c\n\tat d"))
        .session(session("s"))
        .settled();
    let (state, reason, message) = cluster.told("s");
    assert_eq!((state, reason), (Pending, "InstanceFailed"));
    assert!(
        message.starts_with(
            "Instance p-0 failed: Java heap space at org.apache.spark.Foo at b at c; the next attempt is at 2027-"
        ),
        "{message}"
    );
}

#[test]
fn after_three_failures_in_a_row_sessions_stop_waiting() {
    let cluster = Cluster::of(after_failures(connect_pool("p"), 3)).instance(failed("p-0", "OOM"));
    let cluster = cluster.session(session("s")).at(1).settled();
    assert_eq!(
        cluster.told("s"),
        (
            Failed,
            "InstanceFailed",
            "Pool p cannot start an instance, 3 in a row failed. The last: instance p-0 failed: OOM. \
             Try again later; the pool's administrator finds more with `kubectl describe ssp`."
        )
    );
}

#[test]
fn sessions_go_on_waiting_while_another_instance_starts() {
    let cluster = Cluster::of(after_failures(connect_pool("p"), 5))
        .instance(failed("p-0", "OOM"))
        .instance(starting("p-1"))
        .session(session("s"))
        .at(1)
        .settled();
    assert_eq!(cluster.state_of("s"), Pending);
}

#[test]
fn a_failure_without_a_message_tells_the_state() {
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).instance(failed("p-0", "")).settled();
    assert_eq!(cluster.pool.status.last_failure_message.as_deref(), Some("instance p-0 failed (FAILED)"));
}

const REFUSED: &str = "admission webhook denied the request: driver.memory is too large";

#[rstest]
#[case::template(
    Objection::Template,
    "TemplateRefused",
    "the API server refuses the sparkApplicationTemplate",
    "The administrator of the pool has to correct it."
)]
#[case::rights(
    Objection::Forbidden,
    "CreationForbidden",
    "the API server does not let the operator create an instance",
    "An administrator of the cluster has to allow it."
)]
fn what_the_api_server_refuses_fails_the_sessions_in_its_words(
    #[case] objection: Objection,
    #[case] reason: &str,
    #[case] clause: &str,
    #[case] remedy: &str,
) {
    let cluster =
        Cluster::of(connect_pool("p")).objecting(objection, REFUSED).session(session("s")).settled();
    let words = format!("Pool p cannot start an instance: {clause}: {REFUSED}. {remedy}");
    assert_eq!(cluster.told("s"), (Failed, reason, words.as_str()));
    let (ready, told, message) = cluster.condition("Ready");
    assert_eq!((ready, told), (false, reason));
    assert!(message.contains(REFUSED), "{message}");
    assert_eq!(cluster.events.iter().filter(|(told, _)| *told == reason).count(), 1);
}

#[rstest]
#[case(403, "sparkapplications \"p-0\" is forbidden: exceeded quota: apps", Some(Objection::Quota))]
#[case(403, "User \"op\" cannot create resource \"sparkapplications\"", Some(Objection::Forbidden))]
#[case(403, "admission webhook \"w\" denied the request: no", Some(Objection::Template))]
#[case(400, "admission webhook \"w\" denied the request: no", Some(Objection::Template))]
#[case(422, "spec.driver: Required value", Some(Objection::Template))]
#[case(500, "etcdserver: request timed out", None)]
fn what_is_objected_to_is_told_by_code_and_words(
    #[case] code: u16,
    #[case] words: &str,
    #[case] objection: Option<Objection>,
) {
    assert_eq!(Objection::of(code, words), objection);
}

/// Somebody deletes its Pod, or a node is drained: that is no success of the template's.
#[test]
fn a_young_instance_whose_pod_is_deleted_does_not_end_the_row() {
    let pool = after_failures(connect_pool("p").sized(1, 1), 4);
    let mut cluster = Cluster::of(pool).at(100).settled().answering(&["p-1"]).at(120).settled();
    for phase in [InstancePhase::Deleting, InstancePhase::Starting, InstancePhase::Failed] {
        cluster.find_instance("p-1").phase = phase;
        cluster = cluster.at(130).settled();
    }
    assert_eq!(cluster.pool.status.consecutive_failures, 5);
}

/// While the creation is tried anew once a minute, nothing else is told, and nobody who has a place to come to is told it.
#[test]
fn a_quota_that_stays_used_up_is_told_once() {
    let pool = connect_pool("p").sized(0, 5).sessions_per_instance(1).scaling_up_above("1");
    let cluster =
        Cluster::of(pool).session(session("first")).settled().objecting(Objection::Quota, "exceeded quota");
    let mut cluster = cluster.at(1).session(session("second").of("bob")).settled();
    let told = |cluster: &Cluster| (cluster.told("first").1.to_owned(), cluster.told("second").1.to_owned());
    assert_eq!(told(&cluster).0, "StartingInstance");
    let before = (told(&cluster), cluster.events.len());
    for minute in 1..4 {
        cluster = cluster.at(60 * minute + 1);
        let retried = cluster.plan();
        let statuses = retried.actions.iter().any(|it| matches!(it, Action::UpdateSessionStatus { .. }));
        assert!(!statuses && !cluster.creates().is_empty(), "{retried:?}");
        cluster = cluster.settled();
    }
    assert_eq!((told(&cluster), cluster.events.len()), before);
}

/// Nobody waits any more, and nothing is tried: the pool starts when somebody comes.
#[test]
fn a_quota_that_was_used_up_is_forgotten_with_the_last_who_waited() {
    let mut cluster = Cluster::of(connect_pool("p"))
        .objecting(Objection::Quota, "exceeded quota")
        .session(session("s"))
        .settled();
    cluster.sessions.clear();
    assert_eq!(cluster.settled().condition("Ready").1, "ScaledToZero");
}

/// What others give back leaves room.
#[test]
fn sessions_wait_for_a_quota_of_the_namespace() {
    let words = "sparkapplications.sparkoperator.k8s.io \"p-0\" is forbidden: exceeded quota: apps, used: 3, limited: 3";
    let objection = Objection::of(403, words).unwrap();
    let cluster = Cluster::of(connect_pool("p")).objecting(objection, words).session(session("s")).settled();
    let cause = format!("a quota of the namespace leaves no room for another instance: {words}");
    let words = format!("A{}.", &cause[1..]);
    assert_eq!(cluster.told("s"), (Pending, "NamespaceQuotaExceeded", words.as_str()));
    assert_eq!(cluster.condition("Ready").1, "NamespaceQuotaExceeded");
    assert_eq!(cluster.condition("Scaled").2, format!("1 instance wanted: 1 session at target 20. {words}"));
    let mut cluster = cluster.at(60);
    cluster.refuses = None;
    assert_eq!(cluster.creates().len(), 1);
}

#[test]
fn a_refused_template_is_left_alone_for_a_minute() {
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).refusing(REFUSED).settled();
    assert_eq!(cluster.clone().at(59).creates().len(), 0);
    assert_eq!(cluster.at(60).creates().len(), 1);
}

#[test]
fn a_refused_template_is_tried_again_without_waiting_for_a_change() {
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).refusing(REFUSED).settled();
    assert_eq!(cluster.wakes_at(), Some(60));
}

#[test]
fn a_corrected_template_is_tried_at_once() {
    let mut cluster = Cluster::of(connect_pool("p").sized(1, 1)).refusing(REFUSED).settled();
    cluster.pool.meta.generation += 1;
    assert_eq!(cluster.at(1).creates().len(), 1);
}

#[test]
fn a_refusal_does_not_end_sessions_that_an_instance_can_take() {
    let cluster = Cluster::of(thrift_pool("p").sized(2, 2))
        .refusing(REFUSED)
        .instance(starting("p-0"))
        .session(session("s"))
        .settled();
    assert_eq!(cluster.state_of("s"), Pending);
}

#[test]
fn what_the_driver_said_last_is_told_when_it_is_known() {
    let mut cluster =
        Cluster::of(connect_pool("p").sized(1, 1)).instance(failed("p-0", "exit code 1")).settled();
    cluster.find_instance("p-0").last_words = Some("port 15002 is taken".to_owned());
    cluster.settle();
    let told = "instance p-0 failed: exit code 1. Its driver's log ends: port 15002 is taken";
    assert_eq!(cluster.pool.status.last_failure_message.as_deref(), Some(told));
    assert_eq!(cluster.pool.status.consecutive_failures, 1);
    let notes: Vec<_> = cluster.events.iter().filter(|(reason, _)| *reason == "InstanceFailed").collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert_eq!(notes[1].1, "The log of instance p-0's driver ends: port 15002 is taken");
}

#[test]
fn an_instance_that_nobody_owns_is_adopted_once() {
    let orphan = Instance { orphaned: true, ..ready("p-3") };
    let cluster = Cluster::of(connect_pool("p").sized(1, 2)).instance(orphan);
    let adopts = |cluster: &Cluster| {
        let adopted = cluster.plan().actions.into_iter().filter_map(|action| match action {
            Action::AdoptInstance { name, uid, owner } => Some((name, uid, owner.name, owner.uid)),
            _ => None,
        });
        adopted.collect::<Vec<_>>()
    };
    let expected = ["p-3", "uid-of-p-3", "p", "uid-of-p"].map(str::to_owned);
    let [name, uid, pool, pool_uid] = expected;
    assert_eq!(adopts(&cluster), [(name, uid, pool, pool_uid)]);
    let after = cluster.planned();
    assert_eq!((adopts(&after), after.creates(), after.deletes()), (vec![], vec![], vec![]));
    let note = "SparkApplication p-3, which nobody owned, is an instance of this pool.";
    assert!(after.events.contains(&("InstanceAdopted", note.to_owned())), "{:?}", after.events);
}

/// It was cut off, and is reached again while it is kept for its log; or the Spark Operator starts it anew.
#[test]
fn one_that_comes_back_after_its_failure_was_told_is_replaced_all_the_same() {
    let mut cluster = Cluster::of(connect_pool("p").sized(1, 1)).instance(ready("p-0")).settled().at(1_000);
    *cluster.find_instance("p-0") = failed("p-0", "no answer");
    let mut cluster = cluster.settled();
    assert_eq!(cluster.fleet(), [("p-0", InstanceState::Failed), ("p-1", InstanceState::Pending)]);
    *cluster.find_instance("p-0") = ready("p-0");
    let cluster = cluster.settled();
    assert_eq!(cluster.fleet(), [("p-0", InstanceState::Failed), ("p-1", InstanceState::Pending)]);
    assert_eq!(cluster.at(1_100).deletes(), ["p-0"]);
}
