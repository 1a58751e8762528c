//! A login that the provider keeps for a password: its refresh token, until the provider is told that nobody needs it
//! any more.
//!
//! Does not ask the provider: `revocations` tells it, `token_endpoint` refreshes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secrecy::SecretString;

use super::revocations::Revocations;

/// Shared by all that is remembered of one login: a rotated refresh token is still the same login, and many providers
/// end the whole login when an old refresh token of it is revoked.
pub(super) struct Grant {
    /// The newest one. `None` after the login was given back.
    refresh_token: Mutex<Option<SecretString>>,
    revocations: Arc<Revocations>,
}

impl Grant {
    pub fn new(refresh_token: SecretString, revocations: Arc<Revocations>) -> Self {
        Self { refresh_token: Mutex::new(Some(refresh_token)), revocations }
    }

    pub fn refresh_token(&self) -> Option<SecretString> {
        self.lock().clone()
    }

    /// The provider has sent another refresh token for this login.
    pub fn rotate(&self, refresh_token: SecretString) {
        *self.lock() = Some(refresh_token);
    }

    /// Nobody will refresh it any more. To say so twice is the same as once.
    pub fn give_back(&self) {
        if let Some(refresh_token) = self.lock().take() {
            self.revocations.add(refresh_token);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<SecretString>> {
        self.refresh_token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A login that was never used, because its tokens cannot be, is given back here. The cache of logins drops its
/// entries at some later time, so it calls [`Grant::give_back`] itself.
impl Drop for Grant {
    fn drop(&mut self) {
        self.give_back();
    }
}
