//! Lists of a user's sessions, for requests whose session this replica does not know: another one may have created it a
//! moment ago, and the watch has yet to show it.
//!
//! A client can bring them about as often as it likes, by calls about sessions that nobody knows. So each user has one list
//! at a time, and the next one begins [`PACE`] after the last. Whoever comes while a list runs waits for the next: only a
//! list that began after a request came is sure to have what was written before it. Of all users, [`AT_ONCE`] are served
//! at a time, in the order in which they came.
//!
//! Not here: how long a request waits for its list, which is as long as it may be held.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::writer::SessionWriter;
use crate::model::{Denial, DenialKind};
use crate::telemetry::Causes;

/// Lists that the API server is asked for at the same time.
const AT_ONCE: usize = 4;
/// From the beginning of one list of a user's sessions to the next one's.
const PACE: Duration = Duration::from_secs(1);

/// Pool and user.
type Key = (String, String);
type Flight = Shared<BoxFuture<'static, Result<(), Denial>>>;

pub struct Refreshes(Arc<State>);

struct State {
    writer: SessionWriter,
    at_once: Semaphore,
    lists: Mutex<Lists>,
}

#[derive(Default)]
struct Lists {
    last: HashMap<Key, List>,
    last_number: u64,
}

/// The last list of a user's sessions.
struct List {
    number: u64,
    flight: Flight,
    /// `None` while it has yet to begin: then it serves whoever comes.
    began: Option<Instant>,
}

impl Refreshes {
    pub fn new(writer: SessionWriter) -> Self {
        let (at_once, lists) = (Semaphore::new(AT_ONCE), Mutex::default());
        Self(Arc::new(State { writer, at_once, lists }))
    }

    /// Returns when this replica knows what a list that began after this call had of the user's sessions in the pool.
    pub async fn refresh(&self, pool: &str, user: &str) -> Result<(), Denial> {
        let flight = self.0.join((pool.to_owned(), user.to_owned()));
        flight.await
    }
}

impl State {
    fn join(self: &Arc<Self>, key: Key) -> Flight {
        let mut lists = self.lock();
        let last = lists.last.get(&key).map(|last| (last.flight.clone(), last.began));
        let after = match last {
            Some((flight, None)) => return flight,
            Some((flight, Some(began))) => Some((flight, began + PACE)),
            None => None,
        };
        let (told, outcome) = oneshot::channel();
        let outcome = outcome.map(|told| told.unwrap_or_else(|_| Err(failed())));
        let flight = outcome.boxed().shared();
        lists.last_number += 1;
        let number = lists.last_number;
        lists.last.insert(key.clone(), List { number, flight: flight.clone(), began: None });
        drop(lists);
        // A task of its own: were it driven by its callers, one that all of them left would stay the last for ever.
        let one = One { state: Arc::clone(self), number, key };
        tokio::spawn(one.list(after, told));
        flight
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        // A panic while the lock was held leaves data that is whole: every edit is a map operation.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One list. It is forgotten in the end, unless another one came after it: also if it ends in a panic.
struct One {
    state: Arc<State>,
    number: u64,
    key: Key,
}

impl One {
    async fn list(self, after: Option<(Flight, Instant)>, told: oneshot::Sender<Result<(), Denial>>) {
        if let Some((other, at)) = after {
            // Its outcome is for those who waited for it.
            let _ = other.await;
            tokio::time::sleep_until(at).await;
        }
        let began = {
            // Closed by nobody.
            let _permit = self.state.at_once.acquire().await;
            let began = self.begins();
            let (pool, user) = &self.key;
            let listed = self.state.writer.refresh(pool, user).await.map_err(|error| {
                tracing::warn!(pool, user, error = %Causes(&error), "the sessions of a user could not be listed");
                not_listed(&error)
            });
            // Everybody who waited for it may have gone.
            let _ = told.send(listed);
            began
        };
        tokio::time::sleep_until(began + PACE).await;
    }

    /// From now on it serves nobody else.
    fn begins(&self) -> Instant {
        let now = Instant::now();
        if let Some(list) = self.state.lock().last.get_mut(&self.key)
            && list.number == self.number
        {
            list.began = Some(now);
        }
        now
    }
}

impl Drop for One {
    fn drop(&mut self) {
        let mut lists = self.state.lock();
        if lists.last.get(&self.key).is_some_and(|list| list.number == self.number) {
            lists.last.remove(&self.key);
        }
    }
}

fn not_listed(error: &kube::Error) -> Denial {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => {
            let message =
                format!("The session could not be looked up: Kubernetes refused it: {}", status.message);
            Denial::new(DenialKind::StartFailed, message)
        }
        _ => Denial::new(
            DenialKind::Unavailable,
            "The session could not be looked up, because the Kubernetes API does not answer. Try again in a minute.",
        ),
    }
}

fn failed() -> Denial {
    Denial::new(DenialKind::Internal, "The session could not be looked up; the operator's log says why.")
}
