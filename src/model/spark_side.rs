//! What this replica has done for a session on its Spark server.
//!
//! In memory only: a replica that begins to lead does it again, which changes nothing.

use std::collections::BTreeMap;

use uuid::Uuid;

/// What is known of one session, which is told apart from a namesake by its UID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparkSide {
    /// By Spark Connect's session id.
    pub prepared: BTreeMap<Uuid, Preparation>,
    pub release: Option<ReleaseOutcome>,
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
