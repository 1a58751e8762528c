//! When sessions were last used, as far as this replica has seen, and how that gets into their statuses.
//!
//! Every replica keeps and writes what its own checks and its own Envoys' access logs tell; statuses bring it together,
//! where it only ever moves forward. Not here: what counts as a use (`model::Call::counts_as_activity`), and when a
//! session has not been used for too long (`plan`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::apply_error::is_refused;
use super::session_patch::SessionPatch;
use super::stores::Stores;
use crate::api::SessionState;
use crate::model::Session;
use crate::telemetry::Causes;

/// Owner of `status.lastActivityAt`.
const ACTIVITY_MANAGER: &str = "spark-session-operator-activity";
/// Statuses that are written at the same time.
const WRITES: usize = 16;
/// The next round tries again what an API server that does not answer has kept waiting.
const ONE_WRITE: Duration = Duration::from_secs(10);
/// A use of a session that the watch has not shown yet is remembered for this long.
const UNKNOWN_FOR: SignedDuration = SignedDuration::from_mins(5);

/// The last use of each session. Clones share it.
#[derive(Clone)]
pub struct Activity(Arc<Shared>);

struct Shared {
    seen: Mutex<Seen>,
    interval: SignedDuration,
    /// Somebody came back.
    back: Notify,
}

#[derive(Default)]
struct Seen {
    /// By name of the session.
    last: HashMap<String, Timestamp>,
    /// Used again after a while or for the first time, since it was last asked: at most once per session and interval.
    back: Vec<String>,
}

impl Activity {
    /// `interval`: how often at most the last use of a session is written.
    pub fn new(interval: Duration) -> Self {
        // A duration that long is never reached either way.
        let interval = SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX);
        Self(Arc::new(Shared { seen: Mutex::default(), interval, back: Notify::new() }))
    }

    /// For how long a use may be known to another replica alone. Of a request that is open: until Envoy tells of it (a
    /// quarter of the interval), until it may be written (the interval), and until that was looked after, written and
    /// seen.
    pub fn slack(&self) -> SignedDuration {
        let quarter = self.0.interval / 4;
        self.0.interval.saturating_add(quarter).saturating_add(SignedDuration::from_secs(10))
    }

    /// The session was used at this time, or later. Part of every check.
    pub fn note(&self, session: &str, at: Timestamp) {
        let back = {
            let mut seen = self.lock();
            let back = match seen.last.get_mut(session) {
                Some(last) => {
                    let before = *last;
                    *last = before.max(at);
                    at.duration_since(before) >= self.0.interval
                }
                None => {
                    seen.last.insert(session.to_owned(), at);
                    true
                }
            };
            if back {
                seen.back.push(session.to_owned());
            }
            back
        };
        if back {
            self.0.back.notify_one();
        }
    }

    pub fn latest(&self, session: &str) -> Option<Timestamp> {
        self.lock().last.get(session).copied()
    }

    /// What is known of these sessions.
    pub fn of<'a>(&self, sessions: impl IntoIterator<Item = &'a str>) -> HashMap<String, Timestamp> {
        let seen = self.lock();
        let known = sessions.into_iter().filter_map(|session| seen.last.get_key_value(session));
        known.map(|(session, at)| (session.clone(), *at)).collect()
    }

    fn all(&self) -> Uses {
        let mut seen = self.lock();
        // They are among all.
        seen.back.clear();
        seen.last.iter().map(|(session, at)| (session.clone(), *at)).collect()
    }

    /// Waits for sessions that are used again after a while.
    async fn back(&self) -> Uses {
        loop {
            let back: Uses = {
                let mut seen = self.lock();
                let names = std::mem::take(&mut seen.back);
                names.into_iter().filter_map(|name| seen.last.get(&name).map(|at| (name, *at))).collect()
            };
            if !back.is_empty() {
                return back;
            }
            self.0.back.notified().await;
        }
    }

    /// Unless it has been used since.
    fn forget(&self, uses: &Uses) {
        let mut seen = self.lock();
        for (session, at) in uses {
            if seen.last.get(session).is_some_and(|last| last <= at) {
                seen.last.remove(session);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // A panic while the lock was held leaves data that is whole: every edit is one operation.
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names of sessions, and when they were used.
type Uses = Vec<(String, Timestamp)>;

/// Writes `status.lastActivityAt`, on every replica.
pub struct ActivityWriter {
    patch: SessionPatch,
    stores: Arc<Stores>,
    activity: Activity,
}

impl ActivityWriter {
    pub fn new(patch: SessionPatch, stores: Arc<Stores>, activity: Activity) -> Self {
        Self { patch, stores, activity }
    }

    /// For ever. Sessions in use are looked at every few seconds; one that was idle, as soon as it is used.
    pub async fn run(self) -> anyhow::Result<()> {
        self.stores.until_synced().await;
        let mut looks = tokio::time::interval(look_every(self.activity.0.interval));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let uses = tokio::select! {
                _ = looks.tick() => self.activity.all(),
                uses = self.activity.back() => uses,
            };
            self.look(uses, Timestamp::now()).await;
        }
    }

    /// Writes what is due, and forgets sessions that nobody asks about any more.
    async fn look(&self, uses: Uses, now: Timestamp) {
        let (mut due, mut over) = (Vec::new(), Vec::new());
        self.stores.read(|inventory| {
            for (name, at) in uses {
                match inventory.session(&name) {
                    Some(session) if session.is_finished() => over.push((name, at)),
                    Some(session) => due.extend(update(session, at, self.activity.0.interval, now)),
                    None if now.duration_since(at) > UNKNOWN_FOR => over.push((name, at)),
                    None => {}
                }
            }
        });
        self.activity.forget(&over);
        let writes = due.into_iter().map(|update| self.write(update));
        let mut outcomes = futures::stream::iter(writes).buffer_unordered(WRITES);
        while let Some(outcome) = outcomes.next().await {
            if let Err(error) = outcome {
                // The planner tells of it, on the session; nothing is wrong with the others.
                if error.downcast_ref().is_some_and(is_refused) {
                    tracing::debug!(error = %Causes(error.as_ref()), "the last use of a session cannot be written");
                    continue;
                }
                // The others would fare no better; all of them are due again in the next round.
                tracing::warn!(error = %Causes(error.as_ref()), "the last use of a session was not written, trying again");
                return;
            }
        }
    }

    async fn write(&self, Update { session, version, at }: Update) -> anyhow::Result<()> {
        let status = json!({ "lastActivityAt": Time(at) });
        // Another replica may know of a later use: the watch will tell, and the next round looks again.
        let written = self.patch.apply(&session, ACTIVITY_MANAGER, Some(version), status);
        tokio::time::timeout(ONE_WRITE, written).await??;
        Ok(())
    }
}

/// What `status.lastActivityAt` should become.
#[derive(Debug, PartialEq, Eq)]
struct Update {
    session: String,
    /// Of the object that was looked at.
    version: u64,
    at: Timestamp,
}

/// A new session's last use is its creation. One that is idle is not idle any more, which the planner has to hear.
fn update(session: &Session, used: Timestamp, interval: SignedDuration, now: Timestamp) -> Option<Update> {
    let state = session.status.state;
    if state.is_finished() || state == SessionState::Terminating {
        return None;
    }
    // Statuses have whole seconds.
    let at = Timestamp::from_second(used.as_second()).ok()?;
    let known = session.status.last_activity_at.as_ref().map_or(session.meta.created_at, |time| time.0);
    let newer = at.duration_since(known);
    // By a replica whose clock was ahead: as long as it stands no other use would be written.
    let is_in_the_future = known.duration_since(now) >= interval;
    let due = if state == SessionState::Idle { newer.is_positive() } else { newer >= interval };
    (due || is_in_the_future).then(|| Update {
        session: session.meta.name.clone(),
        version: session.meta.resource_version,
        at,
    })
}

fn look_every(interval: SignedDuration) -> Duration {
    let twelfth = Duration::try_from(interval).unwrap_or(Duration::MAX) / 12;
    twelfth.clamp(Duration::from_millis(250), Duration::from_secs(5))
}

#[cfg(test)]
#[path = "activity_tests.rs"]
mod tests;
