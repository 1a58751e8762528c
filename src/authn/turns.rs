//! How many logins the provider has to answer at the same time.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::error::AuthnError;

/// Hashing a password is the dearest thing that the provider does, and everybody comes at nine.
const MAX_AT_ONCE: usize = 32;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Turns(Semaphore);

impl Turns {
    pub fn new() -> Self {
        Self(Semaphore::new(MAX_AT_ONCE))
    }

    pub async fn take(&self) -> Result<SemaphorePermit<'_>, AuthnError> {
        match timeout(PATIENCE, self.0.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            // It is never closed.
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(
                    at_once = MAX_AT_ONCE,
                    "a login did not get its turn at the identity provider"
                );
                Err(AuthnError::TooManyLogins)
            }
        }
    }
}
