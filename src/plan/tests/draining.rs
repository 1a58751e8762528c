//! Instances that are emptied before they go.

use super::cluster::Cluster;
use crate::api::InstanceState;
use crate::api::SessionState::{Active, Terminated};
use crate::model::fixtures::{connect_pool, draining, ready, session};

#[test]
fn a_draining_instance_keeps_its_sessions_and_itself() {
    let cluster = Cluster::of(connect_pool("p").sized(0, 5))
        .instance(draining("p-0"))
        .session(session("s").on("p-0").in_state(Active))
        .settled();
    assert_eq!(cluster.instances.len(), 1);
    assert_eq!(cluster.sessions[0].status.state, Active);
    assert_eq!(cluster.sessions[0].status.assigned_instance.as_deref(), Some("p-0"));
    assert_eq!(cluster.pool.status.instances[0].state, InstanceState::Draining);
}

#[test]
fn no_session_is_placed_on_a_draining_instance_however_empty() {
    let cluster = Cluster::of(connect_pool("p").sized(0, 5))
        .instance(draining("p-0"))
        .instance(ready("p-1"))
        .session(session("old").on("p-0").in_state(Active))
        .session(session("crowd").on("p-1").in_state(Active))
        .session(session("new"))
        .settled();
    let new = cluster.sessions.iter().find(|session| session.meta.name == "new").unwrap();
    assert_eq!(new.status.assigned_instance.as_deref(), Some("p-1"));
}

#[test]
fn who_waits_is_given_another_instance_than_the_draining_one() {
    let cluster = Cluster::of(connect_pool("p").sized(0, 5))
        .instance(draining("p-0"))
        .session(session("old").on("p-0").in_state(Active))
        .session(session("new"));
    assert_eq!(cluster.creates(), ["p-1"]);
}

#[test]
fn what_a_draining_instance_holds_starts_no_other() {
    let cluster = Cluster::of(connect_pool("p").sized(0, 5))
        .instance(draining("p-0"))
        .session(session("s").on("p-0").in_state(Active));
    assert_eq!(cluster.creates(), [""; 0]);
}

/// The cooldown is for instances that may be needed again: this one will not be.
#[test]
fn it_goes_as_soon_as_its_last_session_has_ended() {
    let cluster = Cluster::of(connect_pool("p").sized(0, 5))
        .instance(draining("p-0"))
        .session(session("s").on("p-0").in_state(Terminated));
    assert_eq!(cluster.deletes(), ["p-0"]);
}

#[test]
fn the_minimum_is_kept_beside_a_draining_instance() {
    let cluster = Cluster::of(connect_pool("p").sized(1, 5))
        .instance(draining("p-0"))
        .session(session("s").on("p-0").in_state(Active));
    assert_eq!(cluster.creates(), ["p-1"]);
}

#[test]
fn draining_is_told_once() {
    let cluster = Cluster::of(connect_pool("p").sized(0, 5))
        .instance(draining("p-0"))
        .session(session("s").on("p-0").in_state(Active))
        .settled();
    let told: Vec<_> = cluster.events.iter().filter(|(reason, _)| *reason == "InstanceDraining").collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1.starts_with("Instance p-0 takes no new sessions"), "{told:?}");
}
