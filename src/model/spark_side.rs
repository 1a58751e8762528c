//! What this replica has done for a session on its Spark server.
//!
//! In memory only: a replica that begins to lead does it again, which changes nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

/// What is known of one session, which is told apart from a namesake by its UID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparkSide {
    /// By Spark Connect's session id.
    pub prepared: BTreeMap<Uuid, Preparation>,
    /// The last answer to the question what runs in it.
    pub running: Option<RunningAnswer>,
    pub release: Option<ReleaseOutcome>,
}

/// What Spark said of what runs in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningAnswer {
    /// By the planner's clock. What began later is not in the answer.
    pub asked_at: Timestamp,
    pub runs: SparkRuns,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SparkRuns {
    Nothing,
    /// What it is, in words.
    Something(String),
    /// Spark has not said it, for this reason, since it was first asked in vain.
    Unknown {
        reason: String,
        since: Timestamp,
    },
}

impl SparkSide {
    /// Notes an answer. Of several in a row that say nothing, the time of the first one is kept.
    pub fn note_running(&mut self, asked_at: Timestamp, runs: SparkRuns) {
        let first = match self.running.take().map(|before| before.runs) {
            Some(SparkRuns::Unknown { since, .. }) => Some(since),
            _ => None,
        };
        let runs = match runs {
            SparkRuns::Unknown { reason, since } => {
                SparkRuns::Unknown { reason, since: first.unwrap_or(since) }
            }
            known => known,
        };
        self.running = Some(RunningAnswer { asked_at, runs });
    }
}

/// How far a Spark session has its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preparation {
    /// Envoy's name of the server that it was done on: an instance whose driver was replaced knows nothing of it.
    pub cluster: String,
    pub progress: Progress,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The last attempt failed, for this reason; the next one is under way.
    Failing(String),
    Done(AppliedConf),
}

/// What Spark made of the configuration: keys only, and reasons without values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedConf {
    /// Sorted.
    pub applied: Vec<String>,
    /// Key and Spark's reason, sorted.
    pub refused: Vec<(String, String)>,
}

/// How the attempt ended to close on Spark's side what belongs to the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseOutcome {
    Released,
    /// Why not, in words. Spark's own timeout will do it.
    GaveUp(String),
}
