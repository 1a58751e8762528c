//! In which order the actions of a plan are applied, and what of them is left out when some fail.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use kube::ResourceExt;

use super::Reconciler;
use crate::model::Session;
use crate::operator::apply::ApplyError;
use crate::operator::leadership::Term;
use crate::plan::{Action, Plan};

/// Sessions of one pool that are written at the same time.
const WRITES: usize = 16;

/// A plan of which something was not carried out.
pub(super) struct Undone {
    /// What went wrong first, a refused template before all.
    pub first: ApplyError,
    /// Names of the instances whose creation failed: some of them may be there, and only the answer was lost.
    pub not_created: Vec<String>,
}

impl From<ApplyError> for Undone {
    fn from(first: ApplyError) -> Self {
        Self { first, not_created: Vec::new() }
    }
}

impl Reconciler {
    /// What goes wrong with one object keeps the others from nothing that does not depend on it.
    pub(super) async fn carry_out(&self, plan: Plan, term: Term) -> Result<(), Undone> {
        let (mut of_pool, mut of_sessions) = (Vec::new(), Vec::new());
        for action in plan.actions {
            if action.session().is_some() { &mut of_sessions } else { &mut of_pool }.push(action);
        }
        let mut trouble = Trouble::default();
        // In order: the status reserves the ordinals of the instances that are created next. If it cannot be written, the
        // pool is another one by now, most likely: the next plan knows what to do about its instances, and tells of it.
        let mut is_written = true;
        let mut not_created = Vec::new();
        for action in of_pool {
            let writes = matches!(action, Action::UpdatePoolStatus { .. });
            let creates = match &action {
                _ if !is_written && follows_status(&action) => continue,
                Action::CreateInstance { application, .. } => Some(application.name_any()),
                Action::Event(event) if event.tells_of(&not_created) => continue,
                _ => None,
            };
            let outcome = self.apply(action, term).await;
            is_written &= !writes || outcome.is_ok();
            not_created.extend(creates.filter(|_| outcome.is_err()));
            trouble.note(outcome)?;
        }
        let [holds, ends, statuses, others] = waves(of_sessions);
        let unheld = self.write(holds, term, &mut trouble).await?;
        // Places are given away only when those who had them are written off: otherwise the API would show one too many
        // for a moment, and for longer if this replica died in between.
        let mut unwritten = self.write(ends, term, &mut trouble).await?;
        let places_are_free = unwritten.is_empty();
        let waits = |action: &Action| places_are_free || !self.places(action);
        let statuses = statuses.into_iter().filter(|action| !names(&unheld, action) && waits(action));
        unwritten.extend(self.write(statuses.collect(), term, &mut trouble).await?);
        let others = others.into_iter().filter(|action| !names(&unwritten, action));
        self.write(others.collect(), term, &mut trouble).await?;
        trouble.first.map_or(Ok(()), |first| Err(Undone { first, not_created }))
    }

    /// Returns the sessions with which it went wrong.
    async fn write(
        &self,
        wave: Vec<Action>,
        term: Term,
        trouble: &mut Trouble,
    ) -> Result<HashSet<String>, ApplyError> {
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
            trouble.note(outcome)?;
        }
        Ok(failed)
    }

    /// Whether the status gives a place to a session that has none.
    fn places(&self, action: &Action) -> bool {
        let Action::UpdateSessionStatus { session, status, .. } = action else { return false };
        let placed = |session: &Arc<Session>| session.status.assigned_instance.is_some();
        let had = self.stores.read(|inventory| inventory.session(session).is_some_and(placed));
        status.assigned_instance.is_some() && !had
    }

    async fn apply(&self, action: Action, term: Term) -> Result<(), ApplyError> {
        // Its name alone: it may hold the configuration of a session, and with it a password.
        tracing::debug!(action = action.name(), session = action.session(), "applying");
        let applied = self.leadership.in_term(term, self.applier.apply(action)).await;
        applied.unwrap_or(Err(ApplyError::NotLeading))
    }
}

/// What went wrong so far.
#[derive(Default)]
struct Trouble {
    first: Option<ApplyError>,
}

impl Trouble {
    /// An error where nothing more may be done at all.
    fn note(&mut self, outcome: Result<(), ApplyError>) -> Result<(), ApplyError> {
        match (outcome, &self.first) {
            (Ok(()), _) => {}
            (Err(ApplyError::NotLeading), _) => return Err(ApplyError::NotLeading),
            (Err(_), Some(ApplyError::Refused { .. })) => {}
            (Err(refused @ ApplyError::Refused { .. }), _) => self.first = Some(refused),
            (Err(error), None) => self.first = Some(error),
            (Err(_), Some(_)) => {}
        }
        Ok(())
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

/// Finalizers that hold sessions, their ends, what else is written of them, and what comes after that.
fn waves(actions: Vec<Action>) -> [Vec<Action>; 4] {
    let mut waves: [Vec<Action>; 4] = Default::default();
    for action in actions {
        let wave = match &action {
            Action::SetFinalizer { hold: true, .. } => 0,
            Action::UpdateSessionStatus { status, .. } if status.state.is_finished() => 1,
            Action::UpdateSessionStatus { .. } | Action::DeleteSession { .. } => 2,
            _ => 3,
        };
        waves[wave].push(action);
    }
    waves
}

fn names(sessions: &HashSet<String>, action: &Action) -> bool {
    action.session().is_some_and(|session| sessions.contains(session))
}
