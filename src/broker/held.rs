//! The checks that wait, for their login or for their session: how many there may be.
//!
//! A check that is answered at once takes no place. One that waits costs memory for minutes, so there are only so many of
//! them, and nobody can use them up (`crate::fair_share`): those that wait for their login are counted by address, the others
//! by user. What is one too many is refused in words that have its client come back.
//!
//! Not here: how long a check may wait (`hold`).

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use crate::authn::network;
use crate::fair_share::{FairShares, Limits, Refused, Share, unless_ready};
use crate::model::{Denial, DenialKind};
use crate::telemetry::{Metrics, Repeats, WaitsFor};

/// Checks of one user that wait for their sessions at the same time. A notebook has a few, a JDBC tool one for each
/// connection that it opens.
const MOST_OF_USER: usize = 64;
/// What a check costs while it waits, with its HTTP/2 stream, its task and its part of a session; about as much is measured by
/// `tests/envoy/held_memory.rs`.
const BYTES_OF_EACH: usize = 32 << 10;
/// Of all checks that wait for their logins, with their credentials.
const MOST_BYTES_FOR_LOGINS: usize = 128 << 20;
/// Of all checks that wait for their sessions.
const MOST_BYTES_FOR_SESSIONS: usize = 128 << 20;
/// When a client should come back whose request was one too many.
const RETRY_AFTER: Duration = Duration::from_secs(5);

pub struct HeldChecks {
    /// By the network that the client is in, where that is known.
    logins: Arc<FairShares<Option<IpAddr>>>,
    /// By user.
    sessions: Arc<FairShares<String>>,
    /// Of whose requests some were refused.
    told: Repeats<Whose>,
}

#[derive(PartialEq, Eq, Hash)]
enum Whose {
    Address(Option<IpAddr>),
    User(String),
}

impl HeldChecks {
    pub fn new(metrics: &Metrics) -> Self {
        let gauge = |waits_for| metrics.held_checks.get_or_create_owned(&WaitsFor::of(waits_for));
        let logins = Limits { most: MOST_BYTES_FOR_LOGINS, shares_of_one: usize::MAX };
        let sessions = Limits { most: MOST_BYTES_FOR_SESSIONS, shares_of_one: MOST_OF_USER };
        Self {
            logins: FairShares::counted_by(gauge("login"), logins),
            sessions: FairShares::counted_by(gauge("session"), sessions),
            told: Repeats::default(),
        }
    }

    /// Waits for the login of a request from this address, which holds so many bytes meanwhile.
    pub async fn login<T>(
        &self,
        address: Option<IpAddr>,
        bytes: usize,
        login: impl Future<Output = Result<T, Denial>>,
    ) -> Result<T, Denial> {
        let outcome = self.logins.wait(|| address.map(network), BYTES_OF_EACH + bytes, login).await;
        outcome.unwrap_or_else(|_| {
            if self.told.note(Whose::Address(address.map(network)), Instant::now()).is_some() {
                tracing::warn!(?address, "too many requests wait for their logins: more are refused");
            }
            let message = "Too many requests wait for their logins at the moment, and this one was not looked at. Try again \
                           in a few seconds.";
            Err(too_many(message.to_owned()))
        })
    }

    /// For a request of this user, which takes its place when it has to wait.
    pub fn place<'a>(&'a self, user: &'a str) -> Place<'a> {
        Place { held: self, user, share: None }
    }
}

/// The place of a request among those that wait for their sessions, for as long as it lives.
pub struct Place<'a> {
    held: &'a HeldChecks,
    user: &'a str,
    share: Option<Share<String>>,
}

impl Place<'_> {
    /// Takes it, unless the request has it already.
    pub fn take(&mut self) -> Result<(), Denial> {
        if self.share.is_none() {
            let share = self.held.sessions.take(self.user.to_owned(), BYTES_OF_EACH);
            self.share = Some(share.map_err(|refused| self.refused(refused))?);
        }
        Ok(())
    }

    /// Takes it if the answer does not come at once.
    pub async fn wait<T>(&mut self, answer: impl Future<Output = T>) -> Result<T, Denial> {
        unless_ready(answer, || self.take()).await
    }

    fn refused(&self, refused: Refused) -> Denial {
        let user = self.user;
        if self.held.told.note(Whose::User(user.to_owned()), Instant::now()).is_some() {
            tracing::warn!(user, ?refused, "too many requests wait for their sessions: more are refused");
        }
        too_many(match refused {
            Refused::HasMost => format!(
                "User {user} has {MOST_OF_USER} requests waiting already, and no more may wait at the same time. Try again \
                 when some of them have been answered."
            ),
            Refused::TooLittleLeft => {
                "More requests wait for their sessions than the gateway has room for. Try again in a few seconds."
                    .to_owned()
            }
        })
    }
}

/// Counts a check for as long as it lives: Envoy may drop it at any time.
pub struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    pub fn new(count: &'a Gauge) -> Self {
        count.inc();
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn too_many(message: String) -> Denial {
    Denial { retry_after: Some(RETRY_AFTER), ..Denial::new(DenialKind::TooManyWaiting, message) }
}
