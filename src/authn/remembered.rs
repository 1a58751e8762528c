//! What is known of a login that worked, and what has to be done before it counts again. Pure: time is a parameter.
//!
//! Two times end it. Its token expires: then the refresh token brings a new one, which costs the provider no password
//! hash and brings changed groups, or a disabled account, to light. And the password was proven too long ago: then it
//! is proven anew, whatever the refresh token is good for, since providers go on refreshing after a password was
//! changed (Keycloak does when an administrator resets it).

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;

use crate::model::Identity;

/// After an attempt without an answer, the login counts for this long before it is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// For how long logins count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Since the password was proven; for tokens, since they were verified.
    pub ttl: Duration,
    /// How much longer while the provider does not answer.
    pub grace: Duration,
}

/// What the provider gave for a password or for a refresh token, verified.
pub(super) struct Granted {
    pub identity: Identity,
    /// What is left of the access token's life.
    pub life: Duration,
    pub refresh_token: Option<SecretString>,
}

#[derive(Clone)]
pub(super) struct Proven {
    pub identity: Arc<Identity>,
    /// When the password itself was last shown to the provider.
    proven_at: Instant,
    counts_until: Instant,
    /// The end of the grace.
    usable_until: Instant,
    /// Zeroised when dropped, as `SecretString` is.
    refresh_token: Option<SecretString>,
}

/// What a login needs before it is used.
pub(super) enum Next {
    Nothing,
    Refresh(SecretString),
    LogIn,
}

impl Proven {
    /// A verified token. There is no grace: it expires for everybody when it says so.
    pub fn by_token(identity: Identity, life: Duration, now: Instant, terms: Terms) -> Self {
        let counts_until = now + life.min(terms.ttl);
        Self {
            identity: Arc::new(identity),
            proven_at: now,
            counts_until,
            usable_until: counts_until,
            refresh_token: None,
        }
    }

    pub fn by_password(granted: Granted, now: Instant, terms: Terms) -> Self {
        Self::granted(granted, now, now, terms)
    }

    /// After a refresh. A provider that rotates refresh tokens sends a new one, others mean that the old one goes on.
    pub fn renewed(&self, granted: Granted, now: Instant, terms: Terms) -> Self {
        let refresh_token = granted.refresh_token.clone().or_else(|| self.refresh_token.clone());
        Self::granted(Granted { refresh_token, ..granted }, self.proven_at, now, terms)
    }

    fn granted(granted: Granted, proven_at: Instant, now: Instant, terms: Terms) -> Self {
        let counts_until = (now + granted.life.min(terms.ttl)).min(proven_at + terms.ttl);
        Self {
            identity: Arc::new(granted.identity),
            proven_at,
            counts_until,
            usable_until: counts_until + terms.grace,
            refresh_token: granted.refresh_token,
        }
    }

    /// The provider was asked and did not answer: it goes on, for a moment without asking again.
    pub fn unanswered(&self, now: Instant) -> Self {
        let counts_until = (now + PAUSE).min(self.usable_until).max(self.counts_until);
        Self { counts_until, ..self.clone() }
    }

    pub fn next(&self, now: Instant, terms: Terms) -> Next {
        if now < self.counts_until {
            return Next::Nothing;
        }
        match &self.refresh_token {
            Some(token) if now < self.proven_at + terms.ttl => Next::Refresh(token.clone()),
            _ => Next::LogIn,
        }
    }

    /// Whether it counts although the provider does not answer.
    pub fn outlasts_outage(&self, now: Instant) -> bool {
        now < self.usable_until
    }

    /// After that nothing of it is of use.
    pub fn kept_until(&self, terms: Terms) -> Instant {
        match self.refresh_token {
            Some(_) => self.usable_until.max(self.proven_at + terms.ttl),
            None => self.usable_until,
        }
    }
}

#[cfg(test)]
#[path = "remembered_tests.rs"]
mod tests;
