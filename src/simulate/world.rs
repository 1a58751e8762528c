//! One pool in a cluster that does at once what it is told, and the time that passes in it.
//!
//! Time jumps from one thing that happens to the next: somebody arrives or leaves, an instance answers or is gone, the
//! planner wants to look again. After each the planner is asked until it proposes nothing more. The world decides
//! nothing, draws no conclusions, and reads no clock: what comes of it is in its [`Ledger`].

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::carried::Carried;
use super::clock::{self, Second};
use super::cluster::{Cluster, MEASURED_EVERY};
use super::ledger::Ledger;
use super::starts::StartTimes;
use crate::api::{SessionState, SparkSessionPool};
use crate::model::PoolView;
use crate::plan::{Observations, Plan, plan};

/// After so many plans in a row nothing is left to do, as long as nothing happens.
const ROUNDS: usize = 12;

/// Seconds from an instance's deletion until its driver is gone.
const DELETION: Second = 2;

/// Who decides about the pool.
pub trait Planner: Send {
    fn plan(&mut self, view: &PoolView, observations: &Observations, now: Timestamp) -> Plan;
}

/// The planner of this operator.
#[derive(Clone, Copy, Debug)]
pub struct ThisOperator;

impl Planner for ThisOperator {
    fn plan(&mut self, view: &PoolView, observations: &Observations, now: Timestamp) -> Plan {
        plan(view, observations, now)
    }
}

/// What keeps a world from going on.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    #[error("at {at} there is still something to do after {ROUNDS} plans in a row: {actions}")]
    NeverSettles { at: String, actions: String },
    #[error("at {at} a plan has {action}, which cannot be carried out: {why}")]
    Impossible { at: String, action: &'static str, why: String },
    #[error("there is no instance {0}")]
    NoInstance(String),
}

enum Happening {
    /// Somebody opens a session, and uses it for so many seconds from when it is there.
    Arrival {
        user: String,
        stays: Second,
    },
    Departure {
        session: String,
    },
    /// The driver of an instance answers, or fails to.
    Started {
        instance: String,
    },
    Gone {
        instance: String,
    },
    /// What the drivers use is measured.
    Measured,
}

pub struct World {
    cluster: Cluster,
    planner: Box<dyn Planner>,
    now: Second,
    /// What will happen, in its order.
    agenda: BTreeMap<(Second, u64), Happening>,
    entered: u64,
    wakes_at: Option<Second>,
    starts: StartTimes,
    /// What drivers that start say instead of answering.
    failing: Option<String>,
    /// What each session uses of what its driver requests; `None`: nothing is measured.
    percent_per_session: Option<u32>,
    /// How long sessions that are not there yet will be used.
    stays: HashMap<String, Second>,
    ledger: Ledger,
}

impl World {
    /// A world with this pool, whose status is forgotten. It begins at `now`, and nobody has looked at the pool yet.
    pub fn new(pool: SparkSessionPool, planner: Box<dyn Planner>, starts: StartTimes, now: Second) -> Self {
        Self {
            cluster: Cluster::new(pool, now),
            planner,
            now,
            agenda: BTreeMap::new(),
            entered: 0,
            wakes_at: None,
            starts,
            failing: None,
            percent_per_session: None,
            stays: HashMap::new(),
            ledger: Ledger::new(now),
        }
    }

    pub fn now(&self) -> Second {
        self.now
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// For what a script does to the pool and its instances; [`Self::settle`] has the planner look at it.
    pub fn cluster_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// Somebody will come then, and stay for so many seconds from when the session is there.
    pub fn expect(&mut self, at: Second, user: &str, stays: Second) {
        self.enter(at, Happening::Arrival { user: user.to_owned(), stays });
    }

    /// From now on it is measured what drivers use: this part of their requests, in percent, for each session.
    pub fn measure(&mut self, percent_per_session: u32) {
        if self.percent_per_session.replace(percent_per_session).is_none() {
            self.measured();
        }
    }

    /// Somebody comes now, and stays.
    pub fn arrive(&mut self, user: &str) -> String {
        let session = self.cluster.create_session(user, self.now);
        self.ledger.arrived(&session, self.now);
        session
    }

    /// The session is closed by whoever uses it.
    pub fn leave(&mut self, session: &str) {
        self.cluster.release_session(session, self.now);
    }

    /// The driver is gone, with these words.
    pub fn kill(&mut self, instance: &str, words: &str) -> Result<(), WorldError> {
        self.cluster.fail_instance(instance, words)
    }

    /// Drivers that start from now on fail with these words; `None`: they answer.
    pub fn fail_starts(&mut self, words: Option<&str>) {
        self.failing = words.map(str::to_owned);
    }

    pub fn start_in(&mut self, starts: StartTimes) {
        self.starts = starts;
    }

    /// Lets everything happen up to this second, that included.
    pub fn run_until(&mut self, end: Second) -> Result<(), WorldError> {
        while let Some(next) = self.next_at().filter(|next| *next <= end) {
            self.pass_to(next);
            while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= next) {
                let happening = entry.remove();
                self.happen(happening)?;
            }
            self.settle()?;
        }
        self.pass_to(end);
        Ok(())
    }

    /// When something happens next.
    pub fn next_at(&self) -> Option<Second> {
        let agenda = self.agenda.first_key_value().map(|((at, _), _)| *at);
        [agenda, self.wakes_at].into_iter().flatten().min()
    }

    /// Whether a session is waiting or used, or will come.
    pub fn has_users(&self) -> bool {
        let comes = |happening: &Happening| matches!(happening, Happening::Arrival { .. });
        self.ledger.unfinished() > 0 || self.agenda.values().any(comes)
    }

    /// Has the planner look, and does what it proposes, until it proposes nothing more.
    pub fn settle(&mut self) -> Result<(), WorldError> {
        let mut last = Vec::new();
        for _ in 0..ROUNDS {
            let Some(view) = self.cluster.view() else {
                self.wakes_at = None;
                self.ledger.look(None, self.now);
                return Ok(());
            };
            let now = clock::timestamp(self.now);
            let plan = self.planner.plan(&view, self.cluster.observations(), now);
            if plan.actions.is_empty() {
                // Not before the next second: a planner that wants to look at once has looked.
                self.wakes_at = plan.wake_at.map(|at| clock::second_after(at).max(self.now + 1));
                self.ledger.look(Some(&view), self.now);
                return Ok(());
            }
            last = plan.actions.iter().map(crate::plan::Action::name).collect();
            let carried = self.cluster.carry_out(plan, self.now)?;
            self.take_note(carried);
        }
        last.dedup();
        Err(WorldError::NeverSettles { at: clock::text(self.now), actions: last.join(", ") })
    }

    fn pass_to(&mut self, at: Second) {
        self.now = self.now.max(at);
        self.ledger.pass_to(self.now);
    }

    fn happen(&mut self, happening: Happening) -> Result<(), WorldError> {
        match happening {
            Happening::Arrival { user, stays } => {
                let session = self.arrive(&user);
                self.stays.insert(session, stays);
            }
            Happening::Departure { session } => self.leave(&session),
            Happening::Started { instance } => match self.failing.clone() {
                Some(words) if self.cluster.is_starting(&instance) => {
                    self.cluster.fail_instance(&instance, &words)?;
                }
                Some(_) => {}
                None => self.cluster.answer(&instance, self.now)?,
            },
            Happening::Gone { instance } => {
                self.cluster.remove_instance(&instance);
                self.ledger.instance_gone();
            }
            Happening::Measured => self.measured(),
        }
        Ok(())
    }

    fn measured(&mut self) {
        let Some(percent_per_session) = self.percent_per_session else { return };
        self.cluster.measure(percent_per_session, self.now);
        self.enter(self.now + MEASURED_EVERY, Happening::Measured);
    }

    fn enter(&mut self, at: Second, happening: Happening) {
        self.entered += 1;
        self.agenda.insert((at, self.entered), happening);
    }

    fn take_note(&mut self, carried: Carried) {
        for instance in &carried.created {
            let at = self.now + self.starts.draw();
            self.enter(at, Happening::Started { instance: instance.clone() });
        }
        for instance in &carried.deleted {
            self.enter(self.now + DELETION, Happening::Gone { instance: instance.clone() });
        }
        for change in &carried.sessions {
            if change.to == SessionState::Active
                && let Some(stays) = self.stays.remove(&change.session)
            {
                self.enter(self.now + stays, Happening::Departure { session: change.session.clone() });
            }
        }
        self.ledger.carried(carried, self.now);
    }
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
