//! Remembers the outcome of logins, so that not every one of a session's requests asks the provider.
//!
//! Kept under a hash of the credentials keyed with a random key of this process: neither a memory dump nor a guess at
//! common passwords leads from an entry to a password. Not shared between replicas. How long a login counts is
//! `remembered`'s question, how to log in `authority`'s.

use std::sync::Arc;
use std::time::Duration;

use moka::Expiry;
use moka::notification::RemovalCause;
use secrecy::ExposeSecret;

use super::error::AuthnError;
use super::remembered::Proven;
use crate::model::{Credentials, Identity};

/// How long a refusal is remembered: enough to stop a client in a retry loop, short enough that a
/// user who has just been unlocked does not notice.
pub(super) const REFUSAL_TTL: Duration = Duration::from_secs(5);
/// Up to about 2 KiB each with a refresh token. The least used go first, so that guesses do not push users out.
const MAX_ENTRIES: u64 = 50_000;

pub(super) type Outcome = Result<Arc<Identity>, AuthnError>;
/// Stands for credentials.
pub(super) type Key = [u8; blake3::OUT_LEN];

#[derive(Clone)]
pub(super) enum Remembered {
    Proven(Arc<Proven>),
    Refused(AuthnError),
}

impl Remembered {
    pub fn proven(self) -> Option<Arc<Proven>> {
        match self {
            Self::Proven(proven) => Some(proven),
            Self::Refused(_) => None,
        }
    }
}

pub(super) struct Logins {
    hash_key: [u8; blake3::KEY_LEN],
    entries: moka::sync::Cache<Key, Entry>,
}

#[derive(Clone)]
struct Entry {
    remembered: Remembered,
    ttl: Duration,
}

impl Entry {
    fn give_back(&self) {
        if let Remembered::Proven(proven) = &self.remembered {
            proven.give_back(None);
        }
    }
}

impl Logins {
    pub fn new() -> Self {
        let entries = moka::sync::Cache::builder()
            .max_capacity(MAX_ENTRIES)
            .expire_after(OwnTtl)
            .eviction_listener(|_key, entry: Entry, cause| {
                // Whoever replaces an entry knows whether the login goes on.
                if cause != RemovalCause::Replaced {
                    entry.give_back();
                }
            })
            .build();
        Self { hash_key: rand::random(), entries }
    }

    pub fn get(&self, key: &Key) -> Option<Remembered> {
        self.entries.get(key).map(|entry| entry.remembered)
    }

    pub fn remember(&self, key: Key, remembered: Remembered, ttl: Duration) {
        self.entries.insert(key, Entry { remembered, ttl });
    }

    /// Gives back the logins of which `is_over` is true, and lets go of what has expired. Takes some milliseconds with
    /// all the entries that there can be.
    pub fn give_back_if(&self, is_over: impl Fn(&Proven) -> bool) {
        self.entries.run_pending_tasks();
        for (_, entry) in &self.entries {
            if let Remembered::Proven(proven) = &entry.remembered
                && is_over(proven)
            {
                proven.give_back(None);
            }
        }
    }

    pub fn forget(&self, key: &Key) {
        self.entries.invalidate(key);
    }

    /// The kind comes first and the user's length before the user, so that no two credentials are
    /// the same bytes.
    pub fn key(&self, credentials: &Credentials) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(&self.hash_key);
        match credentials {
            Credentials::Password { user, password, .. } => {
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
    fn expire_after_create(
        &self,
        _key: &K,
        entry: &Entry,
        _created_at: std::time::Instant,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(
        &self,
        _key: &K,
        entry: &Entry,
        _updated_at: std::time::Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }
}

#[cfg(test)]
#[path = "logins_tests.rs"]
mod tests;
