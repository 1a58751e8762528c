//! Ends single Spark sessions of a session that goes on: of a client that leaves a named session, and of one that has to
//! make room for another. Every replica does so, in the request that asks for it.
//!
//! Not here: the end of the whole session, which is the planner's business.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use uuid::Uuid;

use super::{DEFECT, Place, Stores, place};
use crate::spark::connect_client::{self, Caller};

/// Calls at a time: those who come then wait for their turn.
const AT_A_TIME: usize = 16;
/// From the first call for a Spark session to the last, with the time until it is its turn.
const PATIENCE: Duration = Duration::from_secs(8);

#[derive(Clone)]
pub struct SparkClients {
    stores: Arc<Stores>,
    permits: Arc<Semaphore>,
}

/// What became of a Spark session that was to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused {
    Released,
    /// Something runs in it, or the server does not tell all that does.
    InUse,
}

impl SparkClients {
    pub fn new(stores: Arc<Stores>) -> Self {
        Self { stores, permits: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    /// Ends this Spark session and what runs in it. There is nothing to end where the session has no server.
    pub async fn release(&self, session: &str, spark_session_id: Uuid) -> Result<(), String> {
        self.on_server(session, spark_session_id, async |place, caller| {
            connect_client::release_session(&place.server, caller).await.map_err(|error| error.to_string())
        })
        .await
        .map(|_| ())
    }

    /// The same, if nothing runs in it.
    pub async fn release_unused(&self, session: &str, spark_session_id: Uuid) -> Result<Unused, String> {
        let outcome = self
            .on_server(session, spark_session_id, async |place, caller| {
                let text = |error: connect_client::CallError| error.to_string();
                let running = connect_client::running(&place.server, caller).await.map_err(text)?;
                // A server without our interceptor does not tell what runs for whom.
                if !running.is_nothing() || running.executions.is_none() {
                    return Ok(Unused::InUse);
                }
                connect_client::release_session(&place.server, caller).await.map_err(text)?;
                Ok(Unused::Released)
            })
            .await?;
        Ok(outcome.unwrap_or(Unused::Released))
    }

    /// `None`: the session has no server.
    async fn on_server<T>(
        &self,
        session: &str,
        session_id: Uuid,
        work: impl AsyncFnOnce(&Place, &Caller) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let found = self.stores.read(|inventory| {
            let session = inventory.session(session)?;
            place(inventory, session, session.status.assigned_instance.as_deref()?)
        });
        let Some(place) = found else { return Ok(None) };
        let (place, permits) = (place?, Arc::clone(&self.permits));
        let caller = Caller { user: place.user.clone(), session_id };
        let in_turn = async {
            // Closed by nobody.
            let _permit = permits.acquire().await.map_err(|_| DEFECT.to_owned())?;
            work(&place, &caller).await
        };
        let late = |_| format!("Spark has not answered within {} s", PATIENCE.as_secs());
        timeout(PATIENCE, in_turn).await.map_err(late)?.map(Some)
    }
}

#[cfg(test)]
#[path = "clients_tests.rs"]
mod tests;
