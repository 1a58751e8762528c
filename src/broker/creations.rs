//! At most one creation of a session at a time in this replica: a notebook's first calls come together, and each would
//! send the API server the same object. Whoever comes meanwhile hears the outcome, a failure as well.
//!
//! Not here: other replicas. Names are deterministic, so the API server lets one of them create the session and the
//! others adopt it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use super::decide::Draft;
use super::detached;
use super::writer::SessionWriter;
use crate::model::Denial;

type Flight = Shared<BoxFuture<'static, Result<(), Denial>>>;

/// The session's name and its user: a failure may be about the user, and another one may present the same id.
type Key = (String, String);

pub struct Creations {
    writer: SessionWriter,
    under_way: Arc<Mutex<HashMap<Key, Flight>>>,
}

impl Creations {
    pub fn new(writer: SessionWriter) -> Self {
        Self { writer, under_way: Arc::default() }
    }

    /// Creates the session, in place of the ended one with the UID `replaces`. Goes on if the caller goes away.
    pub async fn create(
        &self,
        draft: Draft,
        replaces: Option<String>,
        client: Option<IpAddr>,
    ) -> Result<(), Denial> {
        self.flight(draft, replaces, client).await
    }

    fn flight(&self, draft: Draft, replaces: Option<String>, client: Option<IpAddr>) -> Flight {
        let key = (draft.name.clone(), draft.spec.user.clone());
        let mut under_way = lock(&self.under_way);
        if let Some(flight) = under_way.get(&key) {
            return flight.clone();
        }
        let (writer, ended) = (self.writer.clone(), (Arc::clone(&self.under_way), key.clone()));
        let flight = async move {
            let outcome =
                detached(async move { writer.ensure(&draft, replaces.as_deref(), client).await }).await;
            let (under_way, key) = ended;
            lock(&under_way).remove(&key);
            outcome
        };
        let flight = flight.boxed().shared();
        under_way.insert(key, flight.clone());
        // A task of its own: were it driven by its callers, one that all of them left would stay under way.
        tokio::spawn(flight.clone());
        flight
    }
}

fn lock(under_way: &Mutex<HashMap<Key, Flight>>) -> MutexGuard<'_, HashMap<Key, Flight>> {
    // A panic while the lock was held leaves data that is whole: every edit is a map operation.
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}
