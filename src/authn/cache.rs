//! Remembers the outcome of logins, so that not every one of a session's requests asks the provider.
//!
//! Kept under a hash of the credentials keyed with a random key of this process: neither a memory
//! dump nor a guess at common passwords leads from an entry to a password. Not shared between
//! replicas, and not a rate limit: other wrong passwords are other entries.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use secrecy::ExposeSecret;

use super::error::{AuthnError, AuthnErrorKind};
use crate::model::Credentials;
use crate::model::Identity;

/// How long a refusal is remembered: enough to stop a client in a retry loop, short enough that a
/// user who has just been unlocked does not notice.
const REFUSAL_TTL: Duration = Duration::from_secs(5);
/// About 300 bytes each. The least used go first, so that guesses do not push users out.
const MAX_ENTRIES: u64 = 50_000;

type Outcome = Result<Arc<Identity>, AuthnError>;

/// A successful login and how long it may be remembered.
pub(super) struct Login {
    pub identity: Arc<Identity>,
    pub ttl: Duration,
}

pub(super) struct Cache {
    key: [u8; blake3::KEY_LEN],
    entries: moka::future::Cache<[u8; blake3::OUT_LEN], Entry>,
}

#[derive(Clone)]
struct Entry {
    outcome: Outcome,
    ttl: Duration,
}

impl Cache {
    pub fn new() -> Self {
        let entries = moka::future::Cache::builder().max_capacity(MAX_ENTRIES).expire_after(OwnTtl).build();
        Self { key: rand::random(), entries }
    }

    /// The remembered outcome for `credentials`, or that of `login`, which runs once however many
    /// callers wait. Outages are not remembered.
    pub async fn get_or<F>(&self, credentials: &Credentials, login: F) -> Outcome
    where
        F: Future<Output = Result<Login, AuthnError>>,
    {
        let key = self.hash(credentials);
        if let Some(entry) = self.entries.get(&key).await {
            return entry.outcome;
        }
        let entry = self.entries.try_get_with(key, async {
            match login.await {
                Ok(Login { identity, ttl }) => Ok(Entry { outcome: Ok(identity), ttl }),
                Err(error) if error.kind() == AuthnErrorKind::Unavailable => Err(error),
                Err(error) => Ok(Entry { outcome: Err(error), ttl: REFUSAL_TTL }),
            }
        });
        match entry.await {
            Ok(entry) => entry.outcome,
            Err(error) => Err(AuthnError::clone(&error)),
        }
    }

    /// The kind comes first and the user's length before the user, so that no two credentials are
    /// the same bytes.
    fn hash(&self, credentials: &Credentials) -> [u8; blake3::OUT_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        match credentials {
            Credentials::Password { user, password } => {
                hasher.update(b"p").update(&(user.len() as u64).to_le_bytes()).update(user.as_bytes());
                hasher.update(password.expose_secret().as_bytes());
            }
            Credentials::Token(token) => {
                hasher.update(b"t").update(token.expose_secret().as_bytes());
            }
        }
        *hasher.finalize().as_bytes()
    }
}

/// Each entry lives as long as it says.
struct OwnTtl;

impl<K> Expiry<K, Entry> for OwnTtl {
    fn expire_after_create(&self, _key: &K, entry: &Entry, _created_at: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(
        &self,
        _key: &K,
        entry: &Entry,
        _updated_at: Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
