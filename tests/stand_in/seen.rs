//! What all Spark servers of a stand-in have been told, for tests that ask for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

/// A key that no session takes: the answer repeats its value, as Spark's do.
pub const REFUSED_KEY: &str = "spark.stand-in.refused";

#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
#[allow(dead_code, reason = "no test needs all of it")]
pub struct State {
    /// Sessions of Spark Connect in which configuration was set.
    pub conf: BTreeMap<SparkSession, BTreeMap<String, String>>,
    /// How many calls it took to set it, one of several keys counting once.
    pub sets: usize,
    pub released: BTreeSet<SparkSession>,
    /// Sessions of Thrift Servers, by the public half of their handle.
    pub open: BTreeSet<Uuid>,
    pub closed: BTreeSet<Uuid>,
}

/// As Spark tells them apart: each server has its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SparkSession {
    /// The driver Pod.
    pub pod: String,
    /// Whom the gateway says it is; whom the request says, where the gateway says nothing.
    pub user: String,
    pub id: String,
}

impl Seen {
    pub fn state(&self) -> State {
        self.with(|state| state.clone())
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets these pairs in their order. Returns the warnings, or the error that ended it.
    pub(super) fn set(
        &self,
        session: &SparkSession,
        pairs: impl IntoIterator<Item = (String, String)>,
        silent: bool,
    ) -> Result<Vec<String>, String> {
        self.with(|state| {
            state.sets += 1;
            let conf = state.conf.entry(session.clone()).or_default();
            let mut warnings = Vec::new();
            for (key, value) in pairs {
                if key != REFUSED_KEY {
                    conf.insert(key, value);
                    continue;
                }
                let words =
                    format!("[INVALID_CONF_VALUE] The value '{value}' in the config \"{key}\" is invalid.");
                match silent {
                    true => warnings.push(format!("Failed to set {key} to {value} due to {words}")),
                    false => return Err(words),
                }
            }
            Ok(warnings)
        })
    }
}
