//! One question to the provider, and what follows from its answer: for the limits, for what is remembered, for what is
//! known of the provider. It runs to its end even if everybody who waited for it goes away.

use std::net::IpAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::Origin;
use super::authority::Failed;
use super::error::{AuthnError, AuthnErrorKind};
use super::limits::Attempt;
use super::logins::{Key, Outcome, REFUSAL_TTL, Remembered};
use super::reception::Reception;
use super::remembered::Proven;
use crate::model::{Credentials, Identity};
use crate::telemetry::audit::{self, Event, Record};

/// A login that is under way.
pub(super) struct OneLogin {
    reception: Arc<Reception>,
    key: Key,
    credentials: Credentials,
    /// What these credentials were good for until now.
    before: Option<Arc<Proven>>,
    address: Option<IpAddr>,
    pool: Option<String>,
}

impl Drop for OneLogin {
    fn drop(&mut self) {
        self.reception.logins.landed(&self.key);
    }
}

impl OneLogin {
    pub fn new(
        reception: Arc<Reception>,
        key: Key,
        credentials: Credentials,
        before: Option<Arc<Proven>>,
        origin: Origin<'_>,
    ) -> Self {
        let Origin { address, pool } = origin;
        Self { reception, key, credentials, before, address, pool: pool.map(str::to_owned) }
    }

    pub fn run(self) -> BoxFuture<'static, Outcome> {
        async move {
            let attempt = self.admitted()?;
            match self.reception.authority.prove(&self.credentials, self.before.as_deref()).await {
                Ok(proven) => Ok(self.succeeded(proven, attempt)),
                Err(failed) => self.failed(failed, attempt),
            }
        }
        .boxed()
    }

    /// Only new password logins are limited: a token costs the provider nothing.
    fn admitted(&self) -> Result<Option<Attempt>, AuthnError> {
        match &self.credentials {
            Credentials::Password { user, .. } if self.before.is_none() => {
                let admitted = self.reception.failures.admit(user, self.address, Instant::now());
                admitted.map(Some).map_err(|limited| {
                    if limited.first {
                        self.tell(Event::LoginLimited, Some(user), Some(limited.error.reason()));
                    }
                    limited.error
                })
            }
            Credentials::Password { .. } | Credentials::Token(_) => Ok(None),
        }
    }

    fn succeeded(&self, proven: Proven, attempt: Option<Attempt>) -> Arc<Identity> {
        if matches!(self.credentials, Credentials::Password { .. }) {
            self.reception.outage.answered();
        }
        if let Some(attempt) = attempt {
            attempt.succeeded();
        }
        let identity = Arc::clone(&proven.identity);
        if self.before.is_none() {
            self.tell(Event::Login, Some(&identity.user), None);
        }
        self.remember(proven);
        identity
    }

    fn failed(&self, failed: Failed, attempt: Option<Attempt>) -> Outcome {
        let (reception, now, error) = (&self.reception, Instant::now(), failed.error);
        match error.kind() {
            AuthnErrorKind::Unavailable => {
                if let Some(before) = &self.before {
                    // Not told by new logins: they can be made up, and perhaps such that the provider stumbles.
                    if error == AuthnError::Unavailable
                        && matches!(self.credentials, Credentials::Password { .. })
                    {
                        reception.outage.unanswered(now);
                    }
                    if !failed.revoked && before.outlasts_outage(now) {
                        self.remember(before.unanswered(now));
                        return Ok(Arc::clone(&before.identity));
                    }
                }
                reception.logins.forget(&self.key);
            }
            AuthnErrorKind::Rejected | AuthnErrorKind::Misconfigured | AuthnErrorKind::Limited => {
                if matches!(error, AuthnError::WrongPassword | AuthnError::AccountRefused { .. })
                    && let Some(attempt) = attempt
                {
                    attempt.failed(self.key, now);
                }
                self.tell_refusal(error.reason());
                reception.logins.remember(self.key, Remembered::Refused(error.clone()), REFUSAL_TTL);
                if let Some(before) = &self.before {
                    before.give_back(None);
                }
            }
        }
        Err(error)
    }

    /// Forged tokens cost their sender nothing, and would fill a disk: they are told once in a while.
    fn tell_refusal(&self, reason: &'static str) {
        match &self.credentials {
            Credentials::Password { user, .. } => self.tell(Event::LoginRefused, Some(user), Some(reason)),
            Credentials::Token(_) if self.reception.refused_tokens.is_news((self.address, reason)) => {
                self.tell(Event::LoginRefused, None, Some(reason));
            }
            Credentials::Token(_) => {}
        }
    }

    fn tell(&self, event: Event, user: Option<&str>, reason: Option<&str>) {
        let (pool, address) = (self.pool.as_deref(), self.address);
        audit::record(event, Record { user, pool, address, reason, ..Record::default() });
    }

    fn remember(&self, proven: Proven) {
        let ttl = proven.kept_until(self.reception.authority.terms).saturating_duration_since(Instant::now());
        let proven = Arc::new(proven);
        self.reception.logins.remember(self.key, Remembered::Proven(Arc::clone(&proven)), ttl);
        if let Some(before) = &self.before {
            before.give_back(Some(&proven));
        }
    }
}
