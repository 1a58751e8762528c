//! Times in the future, which a clock that was ahead has written.

use proptest::prelude::*;

use super::cluster::Cluster;
use super::properties::{any_pool, happen, happening};
use crate::api::DrainReason;
use crate::api::SessionState::{Active, Idle, Pending, Terminated};
use crate::api::{
    DisconnectCause, DrainStatus, InstanceState, ScaleDownStatus, SparkInteractiveSessionStatus,
};
use crate::model::fixtures::{at, connect_pool, ready, session, time, told};
use crate::plan::past::{times_of_pool, times_of_session};
use crate::plan::{Action, Objection, Observations, Refusal, plan_without_pool};

/// A day ahead.
const AHEAD: i64 = 86_400;

#[test]
fn a_failure_in_the_future_does_not_keep_the_next_attempt_from_being_made() {
    let pool = connect_pool("p").sized(1, 1).with_status(|status| {
        status.consecutive_failures = 1;
        status.last_failure_time = Some(time(AHEAD));
        status.last_failed_start_time = Some(time(AHEAD));
    });
    let cluster = Cluster::of(pool).settled();
    assert_eq!((cluster.creates(), cluster.wakes_at()), (vec![], Some(10)));
    assert_eq!(cluster.at(10).creates(), ["p-0"]);
}

#[test]
fn a_pool_shrinks_when_its_cooldown_is_over_whatever_was_written() {
    let pool = connect_pool("p").sized(0, 3).cooling_down(300).with_status(|status| {
        status.scale_down = Some(ScaleDownStatus { from: Some(1), since: time(AHEAD), to: 0 });
        status.instances = vec![told("p-0", InstanceState::Running)];
    });
    let cluster = Cluster::of(pool).instance(ready("p-0")).settled();
    assert_eq!((cluster.deletes(), cluster.wakes_at()), (vec![], Some(300)));
    assert_eq!(cluster.at(300).deletes(), ["p-0"]);
}

#[test]
fn a_drain_has_its_deadline_from_now_on() {
    let mut pool = connect_pool("p").sized(0, 3).with_status(|status| {
        let drain = Some(DrainStatus { reason: DrainReason::ScaleDown, since: time(AHEAD) });
        let draining = told("p-0", InstanceState::Draining);
        status.instances = vec![crate::api::InstanceStatus { drain, ..draining }];
        status.scale_down = Some(ScaleDownStatus { from: Some(0), since: time(-600), to: 0 });
    });
    pool.spec.scaling.drain_timeout_seconds = Some(200);
    let drained = Cluster::of(pool)
        .instance(ready("p-0"))
        .instance(ready("p-1"))
        .session(session("s").on("p-0").held());
    let drained = drained.planned();
    let since = drained.pool.status.instances[0].drain.as_ref().map(|drain| drain.since.clone());
    assert_eq!(since, Some(time(0)));
}

#[test]
fn an_ended_session_is_removed_in_time() {
    let ended = session("s").ended(Terminated, "Released", "The client ended the session.", AHEAD);
    let cluster = Cluster::of(connect_pool("p").keeping_ended_sessions(60)).session(ended.clone()).settled();
    assert_eq!(cluster.sessions[0].status.finished_at, Some(time(0)));
    let told = cluster.events.iter().any(|(reason, _)| reason.starts_with("Session"));
    assert!(!told, "nothing new has happened to it: {:?}", cluster.events);
    assert!(
        cluster.clone().at(3599).settled().has_session("s") && !cluster.at(3600).settled().has_session("s")
    );

    let plan = plan_without_pool(&[std::sync::Arc::new(ended)], at(0));
    let [Action::UpdateSessionStatus { status, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
    assert_eq!((&status.finished_at, plan.wake_at), (&Some(time(0)), Some(at(3600))));
}

#[test]
fn a_use_in_the_future_is_one_now() {
    let cluster = Cluster::of(connect_pool("p").ending_idle_sessions(60).held())
        .instance(ready("p-0"))
        .session(session("s").on("p-0").used(1_000).held())
        .watching_since(-100_000)
        .settled();
    assert_eq!((cluster.state_of("s"), cluster.wakes_at()), (Active, Some(675)));
    // Others own that field: from when it is past on, it is what it says.
    let idle = cluster.at(1_675).settled();
    assert_eq!(idle.state_of("s"), Idle);
}

#[test]
fn a_session_that_waits_has_its_patience_from_now_on() {
    let waiting = session("s").explained("Queued", "", AHEAD);
    let cluster = Cluster::of(connect_pool("p").giving_up_after(60)).session(waiting).settled();
    assert_eq!(cluster.clone().at(59).settled().state_of("s"), Pending);
    assert_eq!(cluster.at(60).settled().told("s").1, "StartTimeout");
}

/// The clock of the API server is a little ahead of the operator's: that is no reason to write anything again.
#[test]
fn what_the_api_server_dates_in_the_future_is_left_alone() {
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).session(session("s").created(3)).settled();
    assert_eq!(cluster.sessions[0].status.created_at, Some(time(3)));
}

#[test]
fn what_was_observed_before_the_clock_was_set_back_was_observed_now() {
    let (generation, objection, message) = (1, Objection::Template, "no".to_owned());
    let refusal = Some(Refusal { generation, at: at(AHEAD), objection, message });
    let mut observations = Observations { refusal, ..Observations::default() };
    observations.unwritable.note("uid-of-s", 1, "too large", at(AHEAD));
    let session = session("s");
    observations.begin_plan([&session].into_iter(), at(0));
    assert_eq!(observations.refusal.unwrap().stands_until(), at(60));
    assert_eq!(observations.unwritable.next_attempt(&session), Some(at(1)));
}

/// Some of the times of all statuses, as these bits say. Those that only others write stay.
fn date(cluster: &mut Cluster, bits: u32, seconds: i64) {
    let chosen = |n: usize| bits >> (n % 32) & 1 == 1;
    let mut dated = 0..;
    let mut date = |at: &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::Time| {
        if dated.next().is_some_and(chosen) {
            *at = time(seconds);
        }
    };
    times_of_pool(&mut cluster.pool.status).for_each(&mut date);
    for session in &mut cluster.sessions {
        let status = &mut session.status;
        let others =
            (status.last_activity_at.take(), status.disconnected_at.take(), status.released_at.take());
        times_of_session(status).for_each(&mut date);
        (status.last_activity_at, status.disconnected_at, status.released_at) = others;
    }
}

fn statuses(cluster: &Cluster) -> Vec<&SparkInteractiveSessionStatus> {
    cluster.sessions.iter().map(|session| &session.status).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_time_in_the_future_counts_as_now(
        pool in any_pool(),
        happenings in prop::collection::vec(happening(), 1..30),
        bits in any::<u32>(),
        ahead in 1..1_000_000_i64,
        later in 1..4_000_i64,
    ) {
        let mut cluster = Cluster::of(pool).watching_since(-100_000);
        for (serial, happening) in happenings.into_iter().enumerate() {
            happen(&mut cluster, happening, serial);
            cluster.settle();
        }
        let (mut ahead_of_time, mut in_time) = (cluster.clone(), cluster.clone());
        date(&mut ahead_of_time, bits, cluster.now + ahead);
        date(&mut in_time, bits, cluster.now);
        for at in [cluster.now, cluster.now + later] {
            (ahead_of_time.now, in_time.now) = (at, at);
            ahead_of_time.settle();
            in_time.settle();
            prop_assert_eq!(&ahead_of_time.pool.status, &in_time.pool.status);
            prop_assert_eq!(statuses(&ahead_of_time), statuses(&in_time));
            prop_assert_eq!(&ahead_of_time.instances, &in_time.instances);
            prop_assert_eq!(ahead_of_time.plan().wake_at, in_time.plan().wake_at);
        }
    }

    /// The planner cannot correct these: they count as now as long as they are in the future.
    #[test]
    fn a_time_of_others_in_the_future_counts_as_now(used in 1..100_000_i64, left in 1..100_000_i64, connect in any::<bool>()) {
        let of = |used: i64, left: i64| {
            let mut session = session("s").on("p-0").held().used(used);
            if connect {
                session = session.disconnected(left, DisconnectCause::ClosedByClient);
            }
            let pool = connect_pool("p").ending_idle_sessions(60).ending_disconnected_sessions(10).held();
            let pool = pool.allowing_each_user(1);
            Cluster::of(pool).instance(ready("p-0")).session(session).watching_since(-100_000)
        };
        prop_assert_eq!(of(used, left).plan(), of(0, 0).plan());
        let newer = session("newer");
        prop_assert_eq!(of(used, left).session(newer.clone()).plan(), of(0, 0).session(newer).plan());
    }
}
