//! What carrying out a plan has changed, as far as somebody wants to know.

use serde::Serialize;

use crate::api::{SessionState, SparkInteractiveSessionStatus};
use crate::plan;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Carried {
    /// Names of instances, in the order of the plan.
    pub created: Vec<String>,
    pub deleted: Vec<String>,
    pub sessions: Vec<SessionChange>,
    pub events: Vec<Event>,
}

/// A session whose status was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionChange {
    pub session: String,
    pub from: SessionState,
    pub to: SessionState,
    /// Has a place now, and had none.
    pub placed: bool,
    /// Of its `Ready` condition.
    pub reason: String,
}

impl SessionChange {
    pub fn between(
        session: &str,
        old: &SparkInteractiveSessionStatus,
        new: &SparkInteractiveSessionStatus,
    ) -> Self {
        let ready = new.conditions.iter().find(|condition| condition.type_ == "Ready");
        Self {
            session: session.to_owned(),
            from: old.state,
            to: new.state,
            placed: old.assigned_instance.is_none() && new.assigned_instance.is_some(),
            reason: ready.map(|condition| condition.reason.clone()).unwrap_or_default(),
        }
    }
}

/// An event about the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    pub warning: bool,
    pub reason: &'static str,
    pub note: String,
}

impl Event {
    /// Without the address that every driver here has, which says nothing. `None` of an event about a session: those
    /// are counted.
    pub fn of_pool(event: plan::Event, address: &str) -> Option<Self> {
        let plan::Event { about: plan::About::Pool { .. }, warning, reason, note } = event else {
            return None;
        };
        let note = match note.split_once(&format!(" at {address}:")) {
            Some((before, port)) => {
                format!("{before}{}", port.trim_start_matches(|c: char| c.is_ascii_digit()))
            }
            None => note,
        };
        Some(Self { warning, reason, note })
    }
}
