//! In which order the actions of a plan are applied, and what of them is left out when some fail.

use std::collections::HashSet;

use futures::StreamExt;
use kube::ResourceExt;

use super::Reconciler;
use super::places::Places;
use crate::api::SparkInteractiveSessionStatus;
use crate::model::REPLACED_BY_NEWER;
use crate::operator::apply_error::{ApplyError, NotTaken};
use crate::operator::leadership::Term;
use crate::plan::{Action, Objection, Plan};

/// Sessions of one pool that are written at the same time.
const WRITES: usize = 16;

/// A plan of which something was not carried out.
#[derive(Default)]
pub(super) struct Undone {
    /// What went wrong first, of all that is not told below.
    pub first: Option<ApplyError>,
    /// What the API server objects to, of the pool as a whole.
    pub refused: Option<(Objection, String)>,
    /// Sessions that cannot be written.
    pub unwritable: Vec<NotTaken>,
    /// Names of the instances whose creation failed: some of them may be there, and only the answer was lost.
    pub not_created: Vec<String>,
    /// The instances are as they were, since the pool's status was not written.
    pub left_out: bool,
}

impl Undone {
    fn is_empty(&self) -> bool {
        self.first.is_none() && self.refused.is_none() && self.unwritable.is_empty()
    }

    /// An error where nothing more may be done at all.
    fn note(&mut self, outcome: Result<(), ApplyError>) -> Result<(), NotLeading> {
        match outcome {
            Ok(()) => {}
            Err(ApplyError::NotLeading) => return Err(NotLeading),
            Err(ApplyError::Refused { objection, message }) => {
                self.refused.get_or_insert((objection, message));
            }
            Err(ApplyError::Unwritable(not_taken)) => self.unwritable.push(not_taken),
            Err(error) => {
                self.first.get_or_insert(error);
            }
        }
        Ok(())
    }
}

/// Another replica leads by now.
pub(super) struct NotLeading;

impl Reconciler {
    /// What goes wrong with one object keeps the others from nothing that does not depend on it. Returns what went wrong.
    pub(super) async fn carry_out(
        &self,
        plan: Plan,
        pool: &str,
        term: Term,
    ) -> Result<Option<Undone>, NotLeading> {
        let (mut of_pool, mut of_sessions) = (Vec::new(), Vec::new());
        for action in plan.actions {
            if action.session().is_some() { &mut of_sessions } else { &mut of_pool }.push(action);
        }
        let mut undone = Undone::default();
        self.carry_out_of_pool(of_pool, term, &mut undone).await?;
        self.carry_out_of_sessions(of_sessions, pool, term, &mut undone).await?;
        Ok((!undone.is_empty()).then_some(undone))
    }

    /// In order: the status reserves the ordinals of the instances that are created next. If it cannot be written, the pool is
    /// another one by now, most likely: the next plan knows what to do about its instances, and tells of it.
    async fn carry_out_of_pool(
        &self,
        actions: Vec<Action>,
        term: Term,
        undone: &mut Undone,
    ) -> Result<(), NotLeading> {
        let mut is_written = true;
        let mut not_changed = Vec::new();
        for action in actions {
            let writes = matches!(action, Action::UpdatePoolStatus { .. });
            let (mut creates, mut changes) = (None, None);
            match &action {
                _ if !is_written && follows_status(&action) => {
                    undone.left_out = true;
                    continue;
                }
                Action::Event(event) if event.tells_of(&undone.not_created, &not_changed) => continue,
                Action::CreateInstance { application, .. } => creates = Some(application.name_any()),
                Action::DeleteInstance { name, .. } | Action::AdoptInstance { name, .. } => {
                    changes = Some(name.clone())
                }
                _ => {}
            }
            let outcome = self.apply(action, term).await;
            is_written &= !writes || outcome.is_ok();
            undone.not_created.extend(creates.filter(|_| outcome.is_err()));
            not_changed.extend(changes.filter(|_| outcome.is_err()));
            undone.note(outcome)?;
        }
        Ok(())
    }

    async fn carry_out_of_sessions(
        &self,
        actions: Vec<Action>,
        pool: &str,
        term: Term,
        undone: &mut Undone,
    ) -> Result<(), NotLeading> {
        let [holds, ends, statuses, others] = waves(actions);
        // Of these nothing else is done or told: it would follow from what is not so.
        let mut unwritten = self.write(holds, term, undone).await?;
        let failed = self.write(ends, term, undone).await?;
        let mut places = self.places(pool, &failed);
        unwritten.extend(failed);
        let mut allowed = Vec::new();
        for action in statuses {
            if names(&unwritten, &action) {
                continue;
            }
            if self.may_be_written(&action, &mut places) {
                allowed.push(action);
            } else {
                unwritten.extend(action.session().map(str::to_owned));
            }
        }
        unwritten.extend(self.write(allowed, term, undone).await?);
        let others = others.into_iter().filter(|action| !names(&unwritten, action));
        self.write(others.collect(), term, undone).await?;
        Ok(())
    }

    /// Returns the sessions with which it went wrong.
    async fn write(
        &self,
        wave: Vec<Action>,
        term: Term,
        undone: &mut Undone,
    ) -> Result<HashSet<String>, NotLeading> {
        let writes = wave.into_iter().map(|action| async move {
            let session = action.session().map(str::to_owned);
            (session, self.apply(action, term).await)
        });
        let mut writes = futures::stream::iter(writes).buffer_unordered(WRITES);
        let mut failed = HashSet::new();
        while let Some((session, outcome)) = writes.next().await {
            if outcome.is_err() {
                failed.extend(session);
            }
            undone.note(outcome)?;
        }
        Ok(failed)
    }

    fn places(&self, pool: &str, unwritten: &HashSet<String>) -> Places {
        if unwritten.is_empty() {
            return Places::default();
        }
        self.stores.read(|inventory| {
            let sessions: Vec<_> = inventory.sessions_in(pool).cloned().collect();
            inventory.pool(pool).map(|pool| Places::new(pool, &sessions, unwritten)).unwrap_or_default()
        })
    }

    fn may_be_written(&self, action: &Action, places: &mut Places) -> bool {
        let Action::UpdateSessionStatus { session, status, .. } = action else { return true };
        let known = self.stores.read(|inventory| inventory.session(session).cloned());
        known.is_none_or(|session| places.allow(&session, status))
    }

    async fn apply(&self, action: Action, term: Term) -> Result<(), ApplyError> {
        // Its name alone: it may hold the configuration of a session, and with it a password.
        tracing::debug!(action = action.name(), session = action.session(), "applying");
        let applied = self.leadership.in_term(term, self.applier.apply(action)).await;
        applied.unwrap_or(Err(ApplyError::NotLeading))
    }
}

/// What is done, or told, of a pool's instances because its status says so.
fn follows_status(action: &Action) -> bool {
    matches!(
        action,
        Action::CreateInstance { .. }
            | Action::AdoptInstance { .. }
            | Action::DeleteInstance { .. }
            | Action::Event(_)
    )
}

/// Finalizers that hold sessions, what gives their places to others, what else is written of them, and what comes after that.
fn waves(actions: Vec<Action>) -> [Vec<Action>; 4] {
    let mut waves: [Vec<Action>; 4] = Default::default();
    for action in actions {
        let wave = match &action {
            Action::SetFinalizer { hold: true, .. } => 0,
            Action::UpdateSessionStatus { status, .. } if frees_place(status) => 1,
            Action::UpdateSessionStatus { .. } | Action::DeleteSession { .. } => 2,
            _ => 3,
        };
        waves[wave].push(action);
    }
    waves
}

fn frees_place(status: &SparkInteractiveSessionStatus) -> bool {
    let mut conditions = status.conditions.iter();
    status.state.is_finished() || conditions.any(|condition| condition.reason == REPLACED_BY_NEWER)
}

fn names(sessions: &HashSet<String>, action: &Action) -> bool {
    action.session().is_some_and(|session| sessions.contains(session))
}
