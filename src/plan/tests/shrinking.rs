//! When pools shrink, which instances go, and what becomes of their sessions.

use rstest::rstest;

use super::cluster::Cluster;
use crate::api::InstanceState::{Draining, Pending, Running, Terminated};
use crate::api::{DrainReason, DrainStatus, ScaleDownStatus, SessionState, Sharing};
use crate::model::fixtures::{connect_pool, draining, ready, session, starting, thrift_pool, time};
use crate::model::{InstancePhase, Pool, ReleaseOutcome, Session};
use crate::plan::Action;

fn on(instance: &'static str, count: usize) -> impl Iterator<Item = Session> {
    (0..count).map(move |n| session(&format!("{instance}-s{n}")).on(instance))
}

fn pool() -> Pool {
    connect_pool("p").sized(0, 9).sessions_per_instance(10).allowing_each_user(99)
}

/// Three instances with so many sessions each.
fn three(pool: Pool, sessions: [usize; 3]) -> Cluster {
    let names = ["p-0", "p-1", "p-2"];
    names.into_iter().zip(sessions).fold(Cluster::of(pool), |cluster, (name, count)| {
        cluster.instance(ready(name)).sessions(on(name, count))
    })
}

#[test]
fn a_superfluous_instance_stays_for_the_cooldown() {
    let cluster = Cluster::of(pool().cooling_down(300)).instance(ready("p-0")).at(50).settled();
    assert_eq!(
        cluster.pool.status.scale_down,
        Some(ScaleDownStatus { from: Some(1), since: time(50), to: 0 })
    );
    let before = cluster.clone().at(349);
    assert_eq!((before.deletes(), before.wakes_at()), (vec![], Some(350)));
    assert_eq!(cluster.at(350).deletes(), ["p-0"]);
}

#[test]
fn a_load_that_returns_within_the_cooldown_begins_it_anew() {
    let cluster = Cluster::of(pool().cooling_down(300)).instance(ready("p-0")).at(50).settled();
    let used = cluster.at(200).session(session("s").on("p-0")).settled();
    assert_eq!(used.pool.status.scale_down, None);
    let mut left = used.at(250);
    left.sessions.clear();
    assert_eq!(left.settled().wakes_at(), Some(550));
}

#[test]
fn a_dip_of_the_load_at_the_end_of_the_cooldown_takes_no_more_than_what_was_superfluous_all_the_time() {
    let cluster = three(pool().cooling_down(300), [4, 1, 0]).at(0).settled();
    assert_eq!(cluster.pool.status.scale_down.as_ref().unwrap().to, 1);
    let mut busy =
        cluster.at(100).sessions((0..5).map(|n| session(&format!("more-{n}")).on("p-0"))).settled();
    assert_eq!(busy.pool.status.scale_down, None, "ten sessions are a third of thirty: held");
    busy.sessions.truncate(6);
    let mut busy = busy.at(200).settled();
    assert_eq!(busy.pool.status.scale_down, Some(ScaleDownStatus { from: Some(3), since: time(200), to: 1 }));
    busy.sessions.clear();
    assert_eq!(busy.at(500).settled().fleet(), [("p-0", Terminated), ("p-1", Terminated), ("p-2", Running)]);
}

#[rstest]
#[case::less_than_the_threshold([3, 3, 2], &["p-2", "p-0"])]
#[case::as_much_as_the_threshold([3, 3, 3], &[])]
#[case::the_oldest_of_those_with_as_many([2, 2, 2], &["p-0", "p-1"])]
fn below_the_threshold_those_with_the_fewest_sessions_are_emptied(
    #[case] sessions: [usize; 3],
    #[case] drained: &[&str],
) {
    let mut drained = drained.to_vec();
    drained.sort_unstable();
    let cluster = three(pool(), sessions).settled();
    let draining: Vec<_> =
        cluster.fleet().into_iter().filter(|(_, state)| *state == Draining).map(|(name, _)| name).collect();
    assert_eq!(draining, drained);
}

#[test]
fn what_does_not_answer_yet_goes_before_what_serves() {
    let cluster = Cluster::of(pool().sized(1, 5)).instance(ready("p-0")).instance(starting("p-1"));
    assert_eq!(cluster.deletes(), ["p-1"]);
}

#[rstest]
#[case(Sharing::User)]
#[case(Sharing::Session)]
fn drivers_that_are_not_shared_go_only_when_they_are_empty(#[case] sharing: Sharing) {
    let mut pool = pool().shared_by(sharing);
    pool.spec.scaling.max_sessions_per_instance = Some(2);
    let cluster = three(pool, [1, 1, 0]).settled();
    assert_eq!(cluster.fleet(), [("p-0", Running), ("p-1", Running), ("p-2", Terminated)]);
}

#[test]
fn an_emptied_instance_keeps_its_sessions_until_they_end_and_then_goes() {
    let mut cluster = three(pool(), [2, 2, 1]).settled();
    assert_eq!(cluster.fleet(), [("p-0", Draining), ("p-1", Running), ("p-2", Draining)]);
    assert_eq!(cluster.place_of("p-2-s0"), Some("p-2"));
    cluster.find_session("p-2-s0").status.released_at = Some(time(7));
    let cluster = cluster.at(7).settled().released("p-2-s0", ReleaseOutcome::Released).settled();
    assert_eq!(cluster.fleet(), [("p-0", Draining), ("p-1", Running), ("p-2", Terminated)]);
}

#[test]
fn no_session_comes_to_an_instance_that_is_emptied() {
    let cluster = three(pool(), [2, 2, 1]).settled().session(session("new")).settled();
    assert_eq!(cluster.place_of("new"), Some("p-1"));
}

#[test]
fn a_load_that_returns_takes_an_emptied_instance_back_before_another_is_started() {
    let cluster = three(pool(), [2, 2, 1]).settled();
    let back = cluster.sessions((0..5).map(|n| session(&format!("new-{n}")))).settled();
    assert_eq!(back.creates(), [""; 0]);
    assert_eq!(back.fleet(), [("p-0", Running), ("p-1", Running), ("p-2", Draining)]);
    assert!(
        back.events.contains(&(
            "ScaledUp",
            "1 → 2: 10 sessions at target 10, more than 80 % of 1 instance(s).".to_owned()
        )),
        "{:#?}",
        back.events
    );
    assert!(back.events.iter().any(|(reason, note)| {
        (*reason, note.as_str())
            == ("InstanceTakenBack", "Instance p-0, which was about to go, takes sessions again.")
    }));
}

#[test]
fn what_is_left_at_the_deadline_ends_with_the_reason() {
    let mut pool = pool();
    pool.spec.scaling.drain_timeout_seconds = Some(600);
    let cluster = three(pool, [2, 2, 1]).at(10).settled();
    let drain = cluster.pool.status.instances[2].drain.clone();
    assert_eq!(drain, Some(DrainStatus { reason: DrainReason::ScaleDown, since: time(10) }));
    assert_eq!(cluster.clone().at(609).settled().state_of("p-2-s0"), SessionState::Active);
    let over = cluster.at(610).settled();
    assert_eq!(over.told("p-2-s0").0, SessionState::Terminating);
    let over = over.released("p-2-s0", ReleaseOutcome::Released).settled();
    assert_eq!(
        over.told("p-2-s0"),
        (
            SessionState::Terminated,
            "InstanceDrained",
            "Instance p-2, which held this session, is removed, since the pool needs fewer instances. It had 600 s to \
             end by itself. Start a new session."
        )
    );
    assert_eq!(over.fleet()[2], ("p-2", Terminated));
}

#[test]
fn without_draining_the_sessions_end_at_once() {
    let mut pool = thrift_pool("p").sized(0, 9).sessions_per_instance(10).allowing_each_user(99);
    pool.spec.scaling.drain_before_scale_down = false;
    let cluster = three(pool, [2, 2, 1]).at(10).settled();
    let (state, reason, message) = cluster.told("p-2-s0");
    assert_eq!((state, reason), (SessionState::Terminating, "InstanceDrained"));
    assert!(
        message.starts_with("Instance p-2, which held this session, is removed, since the pool needs fewer")
    );
}

#[test]
fn the_size_is_told_with_its_reason() {
    let cluster = three(pool().cooling_down(300), [2, 2, 1]).at(0).settled();
    let (scaled, reason, message) = cluster.condition("Scaled");
    assert_eq!((scaled, reason), (false, "CoolingDown"));
    assert!(message.starts_with("3 instances, and no more than 1 needed since 2027-"), "{message}");
    assert!(message.ends_with("unless they are needed. Now: 5 sessions at target 10."), "{message}");
    let shrunk = cluster.at(300).planned();
    assert_eq!(shrunk.condition("Scaled"), (true, "Resized", "3 → 1: 5 sessions at target 10."));
    assert!(shrunk.events.contains(&("ScaledDown", "3 → 1: 5 sessions at target 10.".to_owned())));
    assert_eq!(
        shrunk.settled().condition("Scaled"),
        (true, "AsNeeded", "1 instance: 5 sessions at target 10.")
    );
}

#[rstest]
#[case::while_in_use(0, 1, &["p-1", "p-2"])]
#[case::a_minimum_is_use(1, 0, &["p-0", "p-1"])]
#[case::not_when_nobody_is_there(0, 0, &[])]
fn spare_instances_are_kept_beyond_what_is_needed(
    #[case] min: i32,
    #[case] sessions: usize,
    #[case] created: &[&str],
) {
    let mut pool = pool().sized(min, 9);
    pool.spec.scaling.spare_instances = Some(2);
    let cluster = Cluster::of(pool);
    let cluster =
        if sessions > 0 { cluster.instance(ready("p-0")).sessions(on("p-0", sessions)) } else { cluster };
    assert_eq!(cluster.creates(), created);
}

#[test]
fn spare_instances_go_when_the_last_session_has_ended() {
    let mut pool = pool();
    pool.spec.scaling.spare_instances = Some(1);
    let mut cluster = Cluster::of(pool).instance(ready("p-0")).sessions(on("p-0", 1)).settled();
    assert_eq!(cluster.instances.len(), 2);
    cluster.sessions.clear();
    assert_eq!(cluster.settled().deletes(), [""; 0], "both went in the last plan");
}

#[test]
fn an_instance_that_the_api_server_did_not_delete_is_deleted_without_another_cooldown() {
    let mut cluster = three(pool().cooling_down(300), [2, 0, 0]).at(0).settled().at(300);
    assert_eq!(cluster.deletes(), ["p-1", "p-2"]);
    for action in cluster.plan().actions {
        if let Action::UpdatePoolStatus { status, .. } = action {
            cluster.pool.status = *status;
        }
    }
    assert_eq!(cluster.deletes(), ["p-1", "p-2"]);
    assert_eq!(cluster.settled().pool.status.scale_down, None);
}

#[test]
fn drivers_of_their_own_go_when_their_sessions_end_and_the_pool_says_so() {
    let mut pool = pool().cooling_down(300).shared_by(Sharing::User);
    pool.spec.replicas.max = 3;
    let cluster = Cluster::of(pool).instance(ready("p-0")).instance(ready("p-1")).instance(ready("p-2"));
    let cluster = cluster.session(session("a").on("p-0")).session(session("b").on("p-1")).at(0).settled();
    assert_eq!(cluster.fleet().len(), 3, "both are one user's");
    let cluster = cluster.at(400).settled();
    assert_eq!(cluster.condition("Scaled").1, "AsNeeded", "{:?}", cluster.condition("Scaled"));
}

#[test]
fn who_takes_a_drain_back_is_told_so() {
    let mut cluster =
        Cluster::of(pool().sized(1, 3)).instance(draining("p-0")).session(session("s").on("p-0")).settled();
    *cluster.find_instance("p-0") = ready("p-0");
    let told: Vec<&str> = cluster.settled().events.iter().map(|(reason, _)| *reason).collect();
    assert!(told.contains(&"InstanceTakenBack") && !told.contains(&"InstanceReady"), "{told:?}");
}

#[test]
fn one_that_somebody_has_told_to_drain_meanwhile_is_not_taken_back() {
    let mut cluster = three(pool().cooling_down(0), [3, 1, 1]).settled();
    assert_eq!(cluster.fleet(), [("p-0", Running), ("p-1", Draining), ("p-2", Draining)]);
    *cluster.find_instance("p-1") = draining("p-1");
    let cluster = cluster.sessions((0..14).map(|n| session(&format!("more-{n}")))).settled();
    let states: Vec<_> = cluster.fleet().into_iter().filter(|(name, _)| *name != "p-3").collect();
    assert_eq!(states, [("p-0", Running), ("p-1", Draining), ("p-2", Running)]);
}

/// What the administrator takes away goes at once; what is left cools down as before.
#[test]
fn a_lower_maximum_does_not_wait_for_the_cooldown() {
    let mut cluster = three(pool().sized(0, 5).cooling_down(300), [4, 1, 0]).settled();
    cluster.pool.spec.replicas.max = 2;
    let cluster = cluster.at(50).settled();
    assert_eq!(cluster.fleet(), [("p-0", Running), ("p-1", Running), ("p-2", Terminated)]);
    assert_eq!(
        cluster.pool.status.scale_down,
        Some(ScaleDownStatus { from: Some(2), since: time(0), to: 1 })
    );
}

/// It may be too busy for the first probe of an operator that has been started anew.
#[test]
fn one_that_answered_once_is_not_given_up_as_one_that_starts() {
    let cluster =
        Cluster::of(pool().sized(2, 2).cooling_down(0)).settled().answering(&["p-0", "p-1"]).settled();
    let mut cluster = cluster.sessions(on("p-0", 4)).sessions(on("p-1", 1)).settled();
    cluster.find_instance("p-0").phase = InstancePhase::Starting;
    cluster.pool.spec.replicas.min = 0;
    assert_eq!(cluster.settled().fleet(), [("p-0", Pending), ("p-1", Draining)]);
}
