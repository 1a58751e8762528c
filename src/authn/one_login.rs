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
use super::flights::Callers;
use super::limits::{Attempt, Limited, network};
use super::logins::{Key, Outcome, REFUSAL_TTL, Remembered};
use super::reception::Reception;
use super::remembered::Proven;
use super::turns::{Lane, Turn};
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
    callers: Arc<Callers>,
}

impl Drop for OneLogin {
    fn drop(&mut self) {
        self.reception.flights.landed(&self.key, &self.callers);
    }
}

impl OneLogin {
    pub fn new(
        reception: Arc<Reception>,
        key: Key,
        credentials: Credentials,
        before: Option<Arc<Proven>>,
        origin: Origin<'_>,
        callers: Arc<Callers>,
    ) -> Self {
        let Origin { address, pool } = origin;
        Self { reception, key, credentials, before, address, pool: pool.map(str::to_owned), callers }
    }

    pub fn run(self) -> BoxFuture<'static, Outcome> {
        async move {
            let attempt = self.admitted()?;
            // Kept until the outcome is known everywhere.
            let mut turn = None;
            match self.prove(&mut turn).await {
                Ok(proven) => Ok(self.succeeded(proven, attempt)),
                Err(failed) => self.failed(failed, attempt, turn.as_mut()),
            }
        }
        .boxed()
    }

    /// Only new password logins are limited: a token costs the provider nothing.
    fn admitted(&self) -> Result<Option<Attempt>, AuthnError> {
        match &self.credentials {
            Credentials::Password { user, .. } if self.before.is_none() => {
                let admitted = self.reception.failures.admit(user, self.network(), Instant::now());
                admitted.map(Some).map_err(|limited| self.limited(limited))
            }
            Credentials::Password { .. } | Credentials::Token(_) => Ok(None),
        }
    }

    async fn prove(&self, turn: &mut Option<Turn>) -> Result<Proven, Failed> {
        let authority = &self.reception.authority;
        let before = self.before.as_deref();
        let lane = |otherwise| if before.is_some() { Lane::Confirmed } else { otherwise };
        match &self.credentials {
            Credentials::Password { user, password, .. } => {
                let passwords = authority.passwords.as_ref().ok_or(AuthnError::PasswordLoginOff)?;
                *turn = Some(self.turn(lane(Lane::Passwords(self.network()))).await?);
                passwords.prove(user, password, before).await
            }
            Credentials::Token(token) => {
                let verified = authority.verify(token).await?;
                if authority.asks_userinfo(&verified) {
                    *turn = Some(self.turn(lane(Lane::Tokens(self.network()))).await?);
                }
                Ok(authority.complete(verified, token).await?)
            }
        }
    }

    /// A login that is not confirmed yet, and for which nobody waits any more, leaves the queue.
    async fn turn(&self, lane: Lane) -> Result<Turn, AuthnError> {
        let mut turn = std::pin::pin!(self.reception.turns.take(lane));
        loop {
            tokio::select! {
                biased;
                turn = &mut turn => return turn.map_err(|limited| self.limited(limited)),
                () = self.callers.all_left(), if self.before.is_none() => {
                    if self.reception.flights.give_up(&self.key, &self.callers) {
                        // Nobody hears it.
                        return Err(AuthnError::TooManyLogins);
                    }
                }
            }
        }
    }

    fn limited(&self, limited: Limited) -> AuthnError {
        if limited.first {
            self.tell(Event::LoginLimited, limited.error.reason());
        }
        limited.error
    }

    /// From where its failures are counted.
    fn network(&self) -> Option<IpAddr> {
        self.address.map(network)
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
            let (pool, address) = (self.pool.as_deref(), self.address);
            let user = Some(identity.user.as_str());
            audit::record(Event::Login, Record { user, pool, address, ..Record::default() });
        }
        self.remember(proven);
        identity
    }

    fn failed(&self, failed: Failed, attempt: Option<Attempt>, turn: Option<&mut Turn>) -> Outcome {
        let (reception, error) = (&self.reception, failed.error);
        if let Some(goes_on) = self.outlasts(&error, failed.revoked, Instant::now()) {
            return Ok(goes_on);
        }
        match error.kind() {
            AuthnErrorKind::Unavailable => reception.logins.forget(&self.key),
            // In how many seconds it may be tried again changes.
            AuthnErrorKind::Limited => {}
            AuthnErrorKind::Rejected | AuthnErrorKind::Misconfigured => {
                let counts = matches!(error, AuthnError::WrongPassword | AuthnError::AccountRefused { .. })
                    && attempt.is_some_and(|attempt| attempt.failed(self.key));
                if let (true, Some(turn)) = (counts, turn) {
                    turn.was_wrong();
                }
                self.tell_refusal(error.reason(), counts);
                reception.logins.remember(self.key, Remembered::Refused(error.clone()), REFUSAL_TTL);
                if let Some(before) = &self.before {
                    before.give_back(None);
                }
            }
        }
        Err(error)
    }

    /// A login that was confirmed before goes on for a while, if this error does not speak of its user.
    fn outlasts(&self, error: &AuthnError, revoked: bool, now: Instant) -> Option<Arc<Identity>> {
        let before = self.before.as_ref().filter(|_| !error.speaks_of_the_user())?;
        // Not told by new logins: they can be made up, and perhaps such that the provider stumbles.
        if error.stops_everybody() && matches!(self.credentials, Credentials::Password { .. }) {
            self.reception.outage.unanswered(now, error);
        }
        if revoked || !before.outlasts_outage(now) {
            return None;
        }
        self.remember(before.unanswered(now));
        Some(Arc::clone(&before.identity))
    }

    /// What is refused without costing anybody a failure (forged tokens, empty passwords) would fill a disk: it is told
    /// once in a while.
    fn tell_refusal(&self, reason: &'static str, counts: bool) {
        let more = if counts { Some(0) } else { self.reception.refusals.record(self.address, reason) };
        if let Some(more) = more {
            self.record(Event::LoginRefused, reason, more);
        }
    }

    fn tell(&self, event: Event, reason: &'static str) {
        self.record(event, reason, 0);
    }

    fn record(&self, event: Event, reason: &'static str, more: u64) {
        let user = match &self.credentials {
            Credentials::Password { user, .. } => Some(user.as_str()),
            Credentials::Token(_) => None,
        };
        let (pool, address) = (self.pool.as_deref(), self.address);
        audit::record(event, Record { user, pool, address, reason: Some(reason), more, ..Record::default() });
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
