//! What a simulation has come to: how long sessions waited and how they ended, what the instances cost, and what
//! happened when. It counts, and judges nothing.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::carried::{Carried, Event};
use super::clock::Second;
use crate::api::SessionState;
use crate::model::{InstancePhase, PoolView};
use crate::plan::with_drains;

#[derive(Debug, Default)]
pub struct Ledger {
    /// What was before costs nothing.
    counts_from: Second,
    counted_to: Second,
    sessions: BTreeMap<u64, Course>,
    by_name: HashMap<String, u64>,
    existing: i64,
    instance_seconds: i64,
    most_instances: i64,
    most_sessions_on_one: usize,
    scalings: Scalings,
    rows: Vec<Row>,
    happened: Happened,
}

/// How often the number of instances was changed, whatever by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scalings {
    pub up: usize,
    pub down: usize,
}

/// What became of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    pub arrived: Second,
    /// When it could be used.
    pub active: Option<Second>,
    pub end: Option<(Second, End)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By whoever used it.
    Left,
    /// By the operator, or with its instance.
    Ended,
    /// By a quota, when it came.
    Refused,
    /// Waited in vain.
    GaveUp,
}

/// The pool at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub placed: usize,
    pub waiting: usize,
    pub starting: usize,
    pub ready: usize,
    pub draining: usize,
}

/// A moment at which something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// In seconds since midnight.
    pub at: Second,
    pub counts: Counts,
    pub happened: Happened,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Happened {
    /// From outside.
    pub script: Vec<String>,
    /// How many sessions, by what became of them.
    pub sessions: BTreeMap<String, usize>,
    pub events: Vec<Event>,
}

impl Happened {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Ledger {
    pub fn new(now: Second) -> Self {
        Self { counts_from: now, counted_to: now, ..Self::default() }
    }

    /// What instances cost, and how often their number changes, counts from then on.
    pub fn count_from(&mut self, second: Second) {
        self.counts_from = second;
    }

    pub fn note(&mut self, line: &str) {
        self.happened.script.push(line.to_owned());
    }

    pub fn arrived(&mut self, session: &str, now: Second) {
        let n = self.by_name.len() as u64;
        self.by_name.insert(session.to_owned(), n);
        self.sessions.insert(n, Course { arrived: now, active: None, end: None });
    }

    pub fn pass_to(&mut self, now: Second) {
        let counted = now - self.counted_to.max(self.counts_from);
        self.instance_seconds += self.existing * counted.max(0);
        self.counted_to = now;
    }

    pub fn instance_gone(&mut self) {
        self.existing -= 1;
    }

    pub fn carried(&mut self, carried: Carried, now: Second) {
        self.existing += i64::try_from(carried.created.len()).unwrap_or(0);
        if now >= self.counts_from {
            self.scalings.up += usize::from(!carried.created.is_empty());
            self.scalings.down += usize::from(!carried.deleted.is_empty());
        }
        for change in carried.sessions {
            let course = self.by_name.get(&change.session).and_then(|n| self.sessions.get_mut(n));
            let Some(course) = course else { continue };
            if change.to == SessionState::Active {
                course.active.get_or_insert(now);
            }
            let became = match change.to {
                SessionState::Active if change.from == SessionState::Pending => "placed".to_owned(),
                SessionState::Pending if change.from != SessionState::Pending => "waiting again".to_owned(),
                SessionState::Terminating => format!("being released: {}", change.reason),
                SessionState::Terminated => format!("ended: {}", change.reason),
                SessionState::Failed => format!("failed: {}", change.reason),
                _ => continue,
            };
            *self.happened.sessions.entry(became).or_default() += 1;
            let end = match (change.to, change.reason.as_str()) {
                (SessionState::Terminated, "Released") => End::Left,
                (SessionState::Terminated, _) => End::Ended,
                (SessionState::Failed, "QuotaExceeded") => End::Refused,
                (SessionState::Failed, _) => End::GaveUp,
                _ => continue,
            };
            course.end.get_or_insert((now, end));
        }
        self.happened.events.extend(carried.events);
    }

    /// Writes down how the pool is when all is done for now, if anything has changed.
    pub fn look(&mut self, view: Option<&PoolView>, now: Second) {
        let counts = view.map(Counts::of).unwrap_or_default();
        self.most_instances = self.most_instances.max(self.existing);
        let happened = std::mem::take(&mut self.happened);
        if happened.sessions.contains_key("placed") {
            self.most_sessions_on_one = self.most_sessions_on_one.max(view.map_or(0, fullest));
        }
        if self.rows.last().map(|row| row.counts).unwrap_or_default() != counts || !happened.is_nothing() {
            self.rows.push(Row { at: now, counts, happened });
        }
    }

    /// Sessions that came and have not ended.
    pub fn unfinished(&self) -> usize {
        self.sessions.values().filter(|course| course.end.is_none()).count()
    }

    /// In the order in which they came.
    pub fn courses(&self) -> impl Iterator<Item = &Course> {
        self.sessions.values()
    }

    /// From the creation of each until its driver was gone.
    pub fn instance_seconds(&self) -> i64 {
        self.instance_seconds
    }

    /// That existed at the same time.
    pub fn most_instances(&self) -> i64 {
        self.most_instances
    }

    pub fn most_sessions_on_one(&self) -> usize {
        self.most_sessions_on_one
    }

    pub fn scalings(&self) -> Scalings {
        self.scalings
    }

    /// In their order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

impl Counts {
    fn of(view: &PoolView) -> Self {
        let view = &with_drains(view);
        let instances = |phase| view.instances.iter().filter(|instance| instance.phase == phase).count();
        let lives = view.sessions.iter().filter(|session| !session.is_finished());
        let (placed, waiting): (Vec<_>, Vec<_>) =
            lives.partition(|session| session.status.assigned_instance.is_some());
        Self {
            placed: placed.len(),
            waiting: waiting.len(),
            starting: instances(InstancePhase::Starting),
            ready: instances(InstancePhase::Ready),
            draining: instances(InstancePhase::Draining),
        }
    }
}

/// Sessions on the instance that has the most.
fn fullest(view: &PoolView) -> usize {
    let mut load: HashMap<&str, usize> = HashMap::new();
    for instance in view.sessions.iter().filter_map(|session| session.status.assigned_instance.as_deref()) {
        *load.entry(instance).or_default() += 1;
    }
    load.into_values().max().unwrap_or(0)
}
