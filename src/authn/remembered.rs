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

use super::grant::Grant;
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
    /// What is left of the verified token's life.
    pub life: Duration,
}

#[derive(Clone)]
pub(super) struct Proven {
    pub identity: Arc<Identity>,
    /// When the password itself was last shown to the provider.
    proven_at: Instant,
    counts_until: Instant,
    /// The end of the grace.
    usable_until: Instant,
    /// `None` where the provider gave no refresh token.
    grant: Option<Arc<Grant>>,
}

/// What a login needs before it is used.
pub(super) enum Next {
    Nothing,
    Refresh(SecretString),
    LogIn,
}

impl Proven {
    /// A verified token, and for how much longer it counts while the provider does not answer. It expires for
    /// everybody when it says so.
    pub fn by_token(identity: Identity, life: Duration, now: Instant, terms: Terms, grace: Duration) -> Self {
        Self {
            identity: Arc::new(identity),
            proven_at: now,
            counts_until: now + life.min(terms.ttl),
            usable_until: now + life.min(terms.ttl + grace),
            grant: None,
        }
    }

    pub fn by_password(granted: Granted, grant: Option<Arc<Grant>>, now: Instant, terms: Terms) -> Self {
        Self::granted(granted, grant, now, now, terms)
    }

    /// After a refresh.
    pub fn renewed(&self, granted: Granted, now: Instant, terms: Terms) -> Self {
        Self::granted(granted, self.grant.clone(), self.proven_at, now, terms)
    }

    fn granted(
        granted: Granted,
        grant: Option<Arc<Grant>>,
        proven_at: Instant,
        now: Instant,
        terms: Terms,
    ) -> Self {
        let counts_until = (now + granted.life.min(terms.ttl)).min(proven_at + terms.ttl);
        Self {
            identity: Arc::new(granted.identity),
            proven_at,
            counts_until,
            usable_until: counts_until + terms.grace,
            grant,
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
        match self.grant.as_ref().and_then(|grant| grant.refresh_token()) {
            Some(token) if now < self.proven_at + terms.ttl => Next::Refresh(token),
            _ => Next::LogIn,
        }
    }

    /// The provider has sent another refresh token with the answer to a refresh.
    pub fn rotate(&self, refresh_token: SecretString) {
        if let Some(grant) = &self.grant {
            grant.rotate(refresh_token);
        }
    }

    /// The provider may forget this login, unless `successor` goes on with it.
    pub fn give_back(&self, successor: Option<&Self>) {
        let goes_on = |grant: &Arc<Grant>| {
            successor.and_then(|it| it.grant.as_ref()).is_some_and(|its| Arc::ptr_eq(its, grant))
        };
        if let Some(grant) = self.grant.as_ref().filter(|grant| !goes_on(grant)) {
            grant.give_back();
        }
    }

    /// Whether the password has to be shown again in any case, so that the refresh token is of no use.
    pub fn is_past_refreshing(&self, now: Instant, terms: Terms) -> bool {
        now >= self.proven_at + terms.ttl
    }

    /// Whether it counts although the provider does not answer.
    pub fn outlasts_outage(&self, now: Instant) -> bool {
        now < self.usable_until
    }

    /// After that nothing of it is of use.
    pub fn kept_until(&self, terms: Terms) -> Instant {
        match self.grant {
            Some(_) => self.usable_until.max(self.proven_at + terms.ttl),
            None => self.usable_until,
        }
    }
}

#[cfg(test)]
#[path = "remembered_tests.rs"]
mod tests;
