//! One document of the provider, fetched when first needed and kept.
//!
//! At most one fetch is under way, all callers share its outcome, failed ones are not repeated at
//! once, and an old document stays in use while the provider is down. No periodic task: nothing
//! is fetched while nobody logs in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::Instant;

use super::provider::ProviderError;

/// How often to fetch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// A document older than this is fetched again when it is next needed.
    pub max_age: Duration,
    /// Between two fetches for something the document does not have.
    pub floor: Duration,
    /// Between failed attempts while an old document does.
    pub retry_stale: Duration,
    /// Between failed attempts while there is none.
    pub retry_empty: Duration,
}

type Outcome<T> = Result<Arc<T>, ProviderError>;
type Flight<T> = Shared<BoxFuture<'static, Outcome<T>>>;
type Fetch<T> = Box<dyn Fn() -> BoxFuture<'static, Result<T, ProviderError>> + Send + Sync>;

pub(super) struct Fetched<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    fetch: Fetch<T>,
    pace: Pace,
    state: Mutex<State<T>>,
}

struct State<T> {
    current: Option<(Arc<T>, Instant)>,
    /// When the last fetch ended, and how if it failed.
    last: Option<(Instant, Option<ProviderError>)>,
    flight: Option<Flight<T>>,
}

impl<T: Send + Sync + 'static> Fetched<T> {
    pub fn new<F>(pace: Pace, fetch: F) -> Self
    where
        F: Fn() -> BoxFuture<'static, Result<T, ProviderError>> + Send + Sync + 'static,
    {
        let state = Mutex::new(State { current: None, last: None, flight: None });
        Self { inner: Arc::new(Inner { fetch: Box::new(fetch), pace, state }) }
    }

    /// The document, stale if it cannot be had fresh.
    pub async fn get(&self) -> Outcome<T> {
        let (flight, stale) = {
            let mut state = self.inner.lock();
            let stale = match &state.current {
                Some((current, fetched_at)) => {
                    let fresh = fetched_at.elapsed() < self.inner.pace.max_age;
                    if fresh || state.tried_within(self.inner.pace.retry_stale) {
                        return Ok(Arc::clone(current));
                    }
                    Some(Arc::clone(current))
                }
                None => {
                    if let Some(error) = state.failed_within(self.inner.pace.retry_empty) {
                        return Err(error);
                    }
                    None
                }
            };
            (Inner::flight(&self.inner, &mut state), stale)
        };
        match (flight.await, stale) {
            (Err(_), Some(stale)) => Ok(stale),
            (outcome, _) => outcome,
        }
    }

    /// A document other than `seen`, which lacks something. Within the floor it may be `seen` again.
    pub async fn newer_than(&self, seen: &Arc<T>) -> Outcome<T> {
        let flight = {
            let mut state = self.inner.lock();
            match &state.current {
                Some((current, _)) if !Arc::ptr_eq(current, seen) => return Ok(Arc::clone(current)),
                _ => {}
            }
            if let Some(error) = state.failed_within(self.inner.pace.floor) {
                return Err(error);
            }
            if state.tried_within(self.inner.pace.floor) {
                return Ok(Arc::clone(seen));
            }
            Inner::flight(&self.inner, &mut state)
        };
        flight.await
    }
}

impl<T: Send + Sync + 'static> Inner<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the fetch under way, or starts one. It runs as a task of its own: were it driven by its
    /// callers, one abandoned by all of them (Envoy's timeout) would greet the next with an old error.
    fn flight(inner: &Arc<Self>, state: &mut State<T>) -> Flight<T> {
        if let Some(flight) = &state.flight {
            return flight.clone();
        }
        let this = Arc::clone(inner);
        let flight = async move {
            let outcome = (this.fetch)().await.map(Arc::new);
            this.lock().finish(&outcome);
            outcome
        }
        .boxed()
        .shared();
        state.flight = Some(flight.clone());
        tokio::spawn(flight.clone());
        flight
    }
}

impl<T> State<T> {
    fn finish(&mut self, outcome: &Outcome<T>) {
        let now = Instant::now();
        self.flight = None;
        match outcome {
            Ok(document) => {
                self.current = Some((Arc::clone(document), now));
                self.last = Some((now, None));
            }
            Err(error) => {
                // At most one line per attempt, however many logins wait for it.
                tracing::warn!(%error, stale = self.current.is_some(), "no answer from the identity provider that can be used");
                self.last = Some((now, Some(error.clone())));
            }
        }
    }

    fn tried_within(&self, duration: Duration) -> bool {
        self.last.as_ref().is_some_and(|(at, _)| at.elapsed() < duration)
    }

    fn failed_within(&self, duration: Duration) -> Option<ProviderError> {
        self.last.as_ref().filter(|(at, _)| at.elapsed() < duration).and_then(|(_, error)| error.clone())
    }
}

#[cfg(test)]
#[path = "fetched_tests.rs"]
mod tests;
