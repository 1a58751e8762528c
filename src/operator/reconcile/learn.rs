//! What a plan that was not carried out as a whole teaches the next one, and who is told.

use std::time::Duration;

use jiff::Timestamp;

use super::carry_out::Undone;
use super::{Memory, Reconciler, retry_after};
use crate::model::Meta;
use crate::operator::apply_error::ApplyError;
use crate::plan::{Action, Noted, Objection, Plan, Refusal};
use crate::telemetry::Causes;

/// Conflicts in a row that are no coincidence: the state may be older than it looks.
const DOUBTFUL_CONFLICTS: u32 = 3;

/// What a plan asked of the API server that it may object to.
#[derive(Clone, Copy)]
pub(super) struct Tried {
    creates: bool,
    writes_status: bool,
}

impl Tried {
    pub fn by(plan: &Plan) -> Self {
        let any = |is_it: fn(&Action) -> bool| plan.actions.iter().any(is_it);
        Self {
            creates: any(|it| matches!(it, Action::CreateInstance { .. } | Action::CreateToken { .. })),
            writes_status: any(|it| matches!(it, Action::UpdatePoolStatus { .. })),
        }
    }

    /// Whether that shows, where nothing was objected to, that this is over.
    pub fn has_shown(self, objection: Objection) -> bool {
        self.creates || objection == Objection::Status && self.writes_status
    }
}

impl Reconciler {
    /// `of_pool`: the pool that was planned, if there is one. Returns after what time to plan again.
    pub(super) fn learn(
        &self,
        pool: &str,
        of_pool: Option<&Meta>,
        undone: Undone,
        tried: Tried,
        memory: &mut Memory,
        now: Timestamp,
    ) -> Duration {
        memory.unsure = undone.not_created;
        // What is learnt now is planned with at once.
        let (mut is_news, mut fails) = (false, undone.first.is_some());
        for not_taken in undone.unwritable {
            let unwritable = &mut memory.observations.unwritable;
            match unwritable.note(&not_taken.uid, not_taken.version, &not_taken.message, now) {
                Noted::News => self.applier.tell_not_taken(&not_taken),
                Noted::Again => {}
                Noted::InSpiteOfIt => fails = true,
            }
            is_news = true;
        }
        match undone.refused {
            Some((objection, message)) => {
                // What is known already (a token's Secret is tried again and again) takes its time.
                let known = memory.observations.refusal.as_ref();
                if known.is_some_and(|known| known.message == message) {
                    fails = true;
                } else {
                    is_news = true;
                    tracing::warn!(pool, message, "the API server lets no instance of the pool be created");
                    if let (Objection::Status, Some(meta)) = (objection, of_pool) {
                        self.applier.tell_pool_not_taken(pool, &meta.uid, &message);
                    }
                }
                let generation = of_pool.map_or(0, |meta| meta.generation);
                memory.observations.refusal = Some(Refusal { generation, at: now, objection, message });
            }
            None if undone.left_out || !memory.unsure.is_empty() => {}
            None => {
                memory.observations.refusal.take_if(|refusal| tried.has_shown(refusal.objection));
            }
        }
        // Without its pool a session is planned without all that.
        fails |= of_pool.is_none();
        memory.failures = if fails { memory.failures.saturating_add(1) } else { 0 };
        let retry = retry_after(memory.failures.max(1));
        if let Some(error) = undone.first {
            if matches!(error, ApplyError::Outdated(_)) && memory.failures >= DOUBTFUL_CONFLICTS {
                self.stores.history.doubt();
            }
            log(pool, &error, retry, memory);
        }
        if is_news && !fails { Duration::ZERO } else { retry }
    }
}

/// Each problem once.
fn log(pool: &str, error: &ApplyError, retry: Duration, memory: &mut Memory) {
    if let ApplyError::Outdated(detail) = error {
        return tracing::debug!(pool, detail, "planned on an old state");
    }
    let problem = Causes(error).to_string();
    if memory.problem.as_ref() != Some(&problem) {
        tracing::warn!(pool, problem, "plan was not carried out, trying again in {retry:?}");
        memory.problem = Some(problem);
    }
}
