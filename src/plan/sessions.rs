//! The sessions of a pool while its plan is made.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::endings::Unused;
use super::preparation::Setup;
use super::{Plan, Unwritable, drains};
use crate::api::{SessionState, SparkInteractiveSessionSpec};
use crate::model::{Instance, PoolView, Protocol, REPLACED_BY_NEWER, Session, own_spark_session_id};

/// The sessions of a pool while the plan is made: each starts as its status says.
pub struct Drafts<'a> {
    pub(super) view: &'a PoolView,
    pub(super) now: Timestamp,
    pub(super) instances: HashMap<&'a str, &'a Instance>,
    pub(super) drafts: Vec<Draft<'a>>,
}

pub(super) struct Draft<'a> {
    pub session: &'a Session,
    /// The same as it is known, also with times in the future.
    pub known: &'a Session,
    /// The API server did not take it, and nothing is decided that it would have to say. `Some(true)`: it is time to try again.
    pub unwritable: Option<bool>,
    protocol: Protocol,
    pub state: SessionState,
    pub instance: Option<&'a str>,
    /// Of the end that is decided: now, or in an earlier plan if the session is still being released.
    pub verdict: Option<Verdict>,
    /// Of an idle session.
    pub unused: Option<Unused>,
    /// What runs in it and keeps it though no client uses it, in words.
    pub kept: Option<String>,
    /// Whether it gets in depends on what Spark says of another session, which is being asked; or nobody could say that it got in.
    pub held_back: bool,
    /// Of a Connect session that has a place.
    pub setup: Option<Setup>,
}

pub(super) struct Verdict {
    pub reason: &'static str,
    pub message: String,
}

impl Draft<'_> {
    /// Holds a place in the quota.
    pub fn counts(&self) -> bool {
        !self.state.is_finished() && !self.held_back
    }

    /// Is being closed, and its place belongs to another session already, or to the next one of its client.
    pub fn has_made_room(&self) -> bool {
        let released = self.session.status.released_at.is_some();
        self.verdict.as_ref().is_some_and(|verdict| verdict.reason == REPLACED_BY_NEWER || released)
    }

    /// Holds a place as far as its object says, which cannot be changed.
    pub fn still_shows_a_place(&self) -> bool {
        self.unwritable.is_some()
            && !self.counts()
            && self.session.status.assigned_instance.is_some()
            && !self.session.is_finished()
    }

    /// Nothing of it may be written, or told, in this plan.
    pub fn is_left_alone(&self) -> bool {
        self.unwritable == Some(false)
    }

    /// Is neither over nor about to be.
    pub fn goes_on(&self) -> bool {
        self.counts() && self.verdict.is_none()
    }

    pub fn waits(&self) -> bool {
        self.goes_on() && self.instance.is_none()
    }

    /// What keeps it from being used though it has a place, in words.
    pub fn preparing(&self) -> Option<&str> {
        self.setup.as_ref()?.preparing.as_deref()
    }

    /// Spark Connect's id of the session where it does not come from a client: from the spec, or from its name.
    pub fn own_session_id(&self) -> Option<String> {
        let SparkInteractiveSessionSpec { session_id, name, .. } = &self.session.spec;
        session_id.clone().or_else(|| {
            name.as_ref().filter(|_| self.protocol == Protocol::Connect)?;
            let own = || own_spark_session_id(&self.session.meta.uid).to_string();
            Some(self.session.status.session_id.clone().unwrap_or_else(own))
        })
    }

    pub fn end(&mut self, state: SessionState, reason: &'static str, message: String) {
        self.state = state;
        self.verdict = Some(Verdict { reason, message });
    }

    /// The session ends; whether something has to be done on its server first is decided later.
    pub fn condemn(&mut self, reason: &'static str, message: impl Into<String>) {
        self.verdict = Some(Verdict { reason, message: message.into() });
    }
}

impl<'a> Drafts<'a> {
    /// `known`: the view as the watches know it.
    pub fn new(
        known: &'a PoolView,
        view: &'a PoolView,
        unwritable: &Unwritable,
        now: Timestamp,
        plan: &mut Plan,
    ) -> Self {
        // One that is deleted and not held is gone, though the watch may show it once more.
        let sessions = view.sessions.iter().zip(&known.sessions);
        let there = sessions.filter(|(session, _)| !session.meta.deleting || session.meta.held);
        let drafts = there
            .map(|(session, known)| {
                let next_attempt = unwritable.next_attempt(session);
                next_attempt.filter(|at| now < *at).into_iter().for_each(|at| plan.wake_at(at));
                (session, known, next_attempt.map(|at| at <= now))
            })
            .map(|(session, known, unwritable)| Draft {
                session,
                known,
                unwritable,
                protocol: view.pool.protocol(),
                state: session.status.state,
                instance: session.status.assigned_instance.as_deref().filter(|_| !session.is_finished()),
                verdict: None,
                unused: None,
                kept: None,
                held_back: unwritable.is_some()
                    && session.status.assigned_instance.is_none()
                    && !session.meta.deleting
                    && !session.is_finished(),
                setup: None,
            })
            .collect();
        let instances = view.instances.iter().map(|instance| (instance.name.as_str(), instance)).collect();
        Self { view, now, instances, drafts }
    }

    /// The owner of every session that the pool is sized for, one entry a session. What is left on an instance that
    /// somebody else has drained needs no other place.
    pub fn users(&self) -> Vec<&'a str> {
        let pool = &self.view.pool;
        let set_aside: HashSet<&str> = self
            .view
            .instances
            .iter()
            .filter(|instance| !drains::counts(pool, instance))
            .map(|instance| instance.name.as_str())
            .collect();
        self.drafts
            .iter()
            .filter(|draft| draft.counts() && !draft.instance.is_some_and(|name| set_aside.contains(name)))
            .map(|draft| draft.session.spec.user.as_str())
            .collect()
    }

    /// The owners of the sessions of each instance that takes sessions and has some.
    pub fn occupied(&self) -> Vec<Vec<&'a str>> {
        let takes = |name: &&str| self.instances.get(*name).is_some_and(|instance| instance.takes_sessions());
        let mut owners: HashMap<&str, Vec<&'a str>> = HashMap::new();
        for draft in self.drafts.iter().filter(|draft| draft.counts()) {
            if let Some(instance) = draft.instance.filter(takes) {
                owners.entry(instance).or_default().push(&draft.session.spec.user);
            }
        }
        owners.into_values().collect()
    }

    /// Sessions by instance.
    pub fn load(&self) -> HashMap<&'a str, usize> {
        let mut load = HashMap::new();
        for instance in self.drafts.iter().filter(|draft| draft.counts()).filter_map(|draft| draft.instance) {
            *load.entry(instance).or_default() += 1;
        }
        load
    }

    pub fn waiting(&self) -> usize {
        self.drafts.iter().filter(|draft| draft.waits()).count()
    }
}
