//! Plans every pool that was touched and has the plan carried out, while this replica leads.

mod absence;
mod carry_out;
mod learn;
mod places;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::activity::Activity;
use super::apply::Applier;
use super::apply_error::ApplyError;
use super::endings;
use super::leadership::{Leadership, Term};
use super::stores::Stores;
use super::takeover::Takeover;
use super::watching::Watching;
use crate::plan::{self, Observations};
use learn::Tried;

/// Pools that are planned at the same time.
const WORKERS: usize = 8;
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// A pool is planned at least this often: a watch that lost something is made good by then.
const AT_LEAST_EVERY: Duration = Duration::from_secs(300);

pub struct Reconciler {
    stores: Arc<Stores>,
    applier: Arc<Applier>,
    takeover: Takeover,
    leadership: Leadership,
    activity: Activity,
    memory: Mutex<HashMap<String, Memory>>,
    /// Of this term.
    watching: Mutex<Option<Watching>>,
    /// The term for which everything that was written before it is known.
    taken_over: Mutex<Option<Term>>,
}

/// When to plan a pool again.
enum Again {
    Never,
    After(Duration),
    /// This plan could not be carried out: sooner, if what prevented it is over sooner.
    Retry(Duration),
}

/// What is remembered of a pool between plans.
#[derive(Clone, Debug, Default)]
struct Memory {
    observations: Observations,
    /// Names of instances that may have been created, or not.
    unsure: Vec<String>,
    /// UIDs of instances whose token is lost for sure: the API server has no Secret of theirs.
    without_token: Vec<String>,
    /// Plans in a row that could not be carried out.
    failures: u32,
    /// What the log was told of that: each problem once.
    problem: Option<String>,
}

impl Reconciler {
    pub fn new(
        stores: Arc<Stores>,
        applier: Arc<Applier>,
        takeover: Takeover,
        leadership: Leadership,
        activity: Activity,
    ) -> Arc<Self> {
        let (memory, watching, taken_over) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { stores, applier, takeover, leadership, activity, memory, watching, taken_over })
    }

    /// Starts the workers. Nothing is planned before every watch has listed its objects once and the
    /// servers among them have been asked whether they answer.
    pub fn spawn(self: &Arc<Self>, tasks: &mut JoinSet<anyhow::Result<()>>) {
        tasks.spawn(Arc::clone(self).take_over());
        for _ in 0..WORKERS {
            let reconciler = Arc::clone(self);
            tasks.spawn(async move {
                reconciler.stores.until_probed().await;
                loop {
                    let pool = reconciler.stores.queue.next().await;
                    let deleted = reconciler.stores.take_deleted(&pool);
                    let again = match reconciler.planning_term() {
                        Some(term) => {
                            deleted.iter().for_each(|session| endings::tell_deleted(session));
                            reconciler.reconcile(&pool, term).await
                        }
                        // Planned when this replica takes over, with all others.
                        None => Again::Never,
                    };
                    let queue = &reconciler.stores.queue;
                    match again {
                        Again::Never => {}
                        Again::After(delay) => queue.add_after(&pool, delay),
                        Again::Retry(delay) => queue.retry_after(&pool, delay),
                    }
                    // Last, so that the end of an outage does not find it neither here nor there.
                    queue.done(&pool);
                }
            });
        }
    }

    /// At the beginning of each term: forgets what was observed in earlier ones, learns what the last
    /// leader wrote, and has every pool planned once. The same when the API server was set back within a term.
    async fn take_over(self: Arc<Self>) -> anyhow::Result<()> {
        self.stores.until_probed().await;
        let mut set_backs = self.stores.history.set_backs();
        let mut last = None;
        loop {
            let term = tokio::select! {
                term = self.leadership.next_term(last) => term,
                // The sender lives in the stores.
                Ok(()) = set_backs.changed() => {
                    (*lock(&self.taken_over), last) = (None, None);
                    continue;
                }
            };
            let learnt = self.leadership.in_term(term, self.takeover.learn(&self.stores)).await;
            // A renewal in the last moment may have kept a term that seemed over: then it is still to be taken over.
            if learnt.is_some() || self.leadership.term() != Some(term) {
                last = Some(term);
            }
            if learnt.is_none() {
                continue;
            }
            lock(&self.memory).clear();
            *lock(&self.watching) = Some(Watching::begin(Instant::now(), Timestamp::now()));
            *lock(&self.taken_over) = Some(term);
            for pool in self.stores.read(Takeover::pools) {
                self.stores.queue.add(&pool);
            }
        }
    }

    fn planning_term(&self) -> Option<Term> {
        let taken_over = *lock(&self.taken_over);
        self.leadership.term().filter(|term| Some(*term) == taken_over)
    }

    async fn reconcile(&self, pool: &str, term: Term) -> Again {
        let now = Timestamp::now();
        let mut memory = self.remembered(pool);
        if let Some(watching) = lock(&self.watching).as_mut() {
            memory.observations.watching_since = Some(watching.since(Instant::now(), now));
            memory.observations.clock_jumped_at = watching.jumped_at;
        }
        memory.observations.activity_slack = self.activity.slack();
        if let Err(error) = self.look(pool, &mut memory).await {
            tracing::debug!(pool, %error, "it is not known what there is");
            memory.failures = memory.failures.saturating_add(1);
            let retry = retry_after(memory.failures);
            self.remember(pool, Some(memory));
            return Again::Retry(retry);
        }
        let mut view = self.stores.read(|inventory| inventory.pool_view(pool));
        if let Some(view) = &mut view {
            view.activity = self.activity.of(view.sessions.iter().map(|session| session.name()));
        }
        let there = view.iter().flat_map(|view| &view.sessions);
        memory.observations.begin_plan(there.map(AsRef::as_ref), now);
        let plan = match &view {
            Some(view) => plan::plan(view, &memory.observations, now),
            None => {
                let (sessions, unreadable) = self.stores.read(|inventory| {
                    let sessions: Vec<_> = inventory.sessions_in(pool).cloned().collect();
                    (sessions, inventory.unreadable_pool(pool).map(str::to_owned))
                });
                match unreadable {
                    Some(problem) => plan::plan_unreadable_pool(&sessions, &problem, now),
                    None => plan::plan_without_pool(&sessions, now),
                }
            }
        };
        let wake_at = plan.wake_at;
        let tried = Tried::by(&plan);
        let Ok(undone) = self.carry_out(plan, pool, term).await else { return Again::Never };
        let until_wake =
            wake_at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
        let until_wake = until_wake.map_or(AT_LEAST_EVERY, |delay| delay.min(AT_LEAST_EVERY));
        let delay = match undone {
            None => {
                (memory.failures, memory.problem) = (0, None);
                let over = memory.observations.refusal.take_if(|refusal| tried.has_shown(refusal.objection));
                // What was left out for it comes next.
                over.map_or(until_wake, |_| Duration::ZERO)
            }
            Some(undone) => {
                let of_pool = view.as_ref().map(|view| &view.pool.meta);
                self.learn(pool, of_pool, undone, tried, &mut memory, now).min(until_wake)
            }
        };
        let undone = memory.failures > 0;
        self.remember(pool, (view.is_some() || undone).then_some(memory));
        if undone {
            Again::Retry(delay)
        } else if view.is_some() || wake_at.is_some() {
            Again::After(delay)
        } else {
            Again::Never
        }
    }

    async fn look(&self, pool: &str, memory: &mut Memory) -> Result<(), ApplyError> {
        self.look_for(&mut memory.unsure).await?;
        self.look_for_missing(pool, memory).await.map_err(ApplyError::Api)
    }

    /// Enters those of these instances that are there: the next plan would make others in their place, under the next
    /// names.
    async fn look_for(&self, unsure: &mut Vec<String>) -> Result<(), ApplyError> {
        while let Some(name) = unsure.last() {
            self.applier.look_for(name).await?;
            unsure.pop();
        }
        Ok(())
    }

    fn remembered(&self, pool: &str) -> Memory {
        lock(&self.memory).get(pool).cloned().unwrap_or_default()
    }

    fn remember(&self, pool: &str, memory: Option<Memory>) {
        let mut memories = lock(&self.memory);
        match memory {
            Some(memory) => memories.insert(pool.to_owned(), memory),
            None => memories.remove(pool),
        };
    }
}

/// What a panic elsewhere has left is whole: every edit is one operation.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// After so many failures in a row, from 1.
fn retry_after(failures: u32) -> Duration {
    (FIRST_RETRY * 2_u32.saturating_pow(failures.clamp(1, 10) - 1)).min(LONGEST_RETRY)
}
