//! Tells the provider which logins are not needed any more (RFC 7009), so that they do not stay there until they expire:
//! each password login is a session at the provider, which lists it, limits how many there are, and keeps it in memory.
//!
//! Nobody waits for it. What cannot be told is given up after a while: such a login expires at the provider by itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::discovery::Discovery;
use super::oauth_client::OauthClient;
use super::passwords::Passwords;
use super::reception::Reception;
use super::{provider, token_answer};
use crate::telemetry::Outcome;

/// Refresh tokens that wait; each has about a kilobyte. Beyond, the oldest is given up.
const MAX_WAITING: usize = 4096;
const MAX_AT_ONCE: usize = 4;
/// While the provider does not answer, it is asked that often.
const PAUSE: Duration = Duration::from_secs(20);
const MAX_ATTEMPTS: u32 = 3;
/// How often it is looked for logins that are over.
const TIDY_EVERY: Duration = Duration::from_secs(10);
/// At the end of the process. Less than the time for which the process waits for its servers.
const FAREWELL: Duration = Duration::from_secs(6);
const MAX_AT_FAREWELL: usize = 16;

/// Refresh tokens that nobody needs any more.
#[derive(Default)]
pub(super) struct Revocations {
    waiting: Mutex<Waiting>,
    added: Notify,
}

#[derive(Default)]
struct Waiting {
    tokens: VecDeque<Revocation>,
    /// How many were given up for want of room since that was last asked.
    given_up: u64,
}

struct Revocation {
    token: SecretString,
    attempts: u32,
}

impl Revocations {
    pub fn add(&self, token: SecretString) {
        self.lock().push(Revocation { token, attempts: 0 });
        self.added.notify_one();
    }

    async fn next(&self) -> Revocation {
        loop {
            if let Some(next) = self.lock().tokens.pop_front() {
                return next;
            }
            self.added.notified().await;
        }
    }

    #[cfg(test)]
    pub fn waiting(&self) -> Vec<String> {
        self.lock().tokens.iter().map(|waiting| waiting.token.expose_secret().to_owned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, revocation: Revocation) {
        if self.tokens.len() >= MAX_WAITING {
            self.tokens.pop_front();
            self.given_up += 1;
        }
        self.tokens.push_back(revocation);
    }
}

/// Where the provider is told.
pub(super) struct RevocationEndpoint {
    pub discovery: Arc<Discovery>,
    pub client: Arc<OauthClient>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Revoked,
    /// The provider answers, and another attempt would bring the same.
    Refused,
    Unanswered,
    /// The provider has no such endpoint.
    Unsupported,
}

impl RevocationEndpoint {
    async fn tell(&self, token: &SecretString) -> Told {
        let Ok(metadata) = self.discovery.get().await else { return Told::Unanswered };
        let Some(endpoint) = &metadata.revocation_endpoint else { return Told::Unsupported };
        let form = [("token", token.expose_secret()), ("token_type_hint", "refresh_token")];
        let methods = match metadata.revocation_endpoint_auth_methods_supported.as_slice() {
            [] => &metadata.token_endpoint_auth_methods_supported,
            _ => &metadata.revocation_endpoint_auth_methods_supported,
        };
        match provider::send(self.client.post(endpoint, methods, &form)).await {
            Ok((status, body)) => {
                let told = read(status, &body);
                tracing::debug!(%status, ?told, "the identity provider was told that a login is not needed");
                told
            }
            Err(error) => {
                tracing::debug!(%error, "a login could not be given back to the identity provider");
                Told::Unanswered
            }
        }
    }
}

/// Only an error in OAuth's own form, which is not about the client, would come again: the others are those of an ingress,
/// or of a secret that is being rotated.
fn read(status: StatusCode, body: &[u8]) -> Told {
    if status.is_success() {
        return Told::Revoked;
    }
    match token_answer::error_code(body).as_str() {
        "" | "invalid_client" => Told::Unanswered,
        _ if provider::is_outage(status) => Told::Unanswered,
        _ => Told::Refused,
    }
}

async fn attempt(passwords: Arc<Passwords>, revocation: Revocation) -> (Revocation, Told) {
    let told = passwords.revocation_endpoint.tell(&revocation.token).await;
    (revocation, told)
}

/// The task that tells the provider.
pub struct Revoker {
    reception: Arc<Reception>,
    passwords: Arc<Passwords>,
    outcomes: Family<Outcome, Counter>,
}

impl Revoker {
    /// `None` if there are no password logins.
    pub(super) fn new(reception: Arc<Reception>, outcomes: Family<Outcome, Counter>) -> Option<Self> {
        let passwords = reception.authority.passwords.clone()?;
        Some(Self { reception, passwords, outcomes })
    }

    /// Runs until `stop`, and then gives all logins back for at most six seconds, since nobody can refresh them after
    /// the end of the process.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let revocations = &self.passwords.revocations;
        let mut under_way = JoinSet::new();
        let mut tidy = interval(TIDY_EVERY);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut resumes_at = Instant::now();
        loop {
            let next = async {
                sleep_until(resumes_at).await;
                revocations.next().await
            };
            tokio::select! {
                () = stop.cancelled() => break,
                _ = tidy.tick() => {
                    self.reception.give_back_old_logins(Instant::now());
                    self.count_given_up();
                }
                revocation = next, if under_way.len() < MAX_AT_ONCE => {
                    under_way.spawn(attempt(Arc::clone(&self.passwords), revocation));
                }
                Some(attempted) = under_way.join_next() => {
                    if let Some(again) = self.again(attempted?) {
                        resumes_at = Instant::now() + PAUSE;
                        revocations.lock().push(again);
                    }
                }
            }
        }
        self.reception.logins.give_back_if(|_| true);
        let mut left = std::mem::take(&mut revocations.lock().tokens);
        if timeout(FAREWELL, self.say_farewell(&mut left, under_way)).await.is_err() {
            let logins = left.len();
            tracing::warn!(
                logins,
                "logins could not be given back to the identity provider, and expire there"
            );
        }
        Ok(())
    }

    /// What has to be tried again, if anything.
    fn again(&self, (mut revocation, told): (Revocation, Told)) -> Option<Revocation> {
        revocation.attempts += 1;
        if told == Told::Unanswered && revocation.attempts < MAX_ATTEMPTS {
            return Some(revocation);
        }
        if told != Told::Unsupported {
            self.count(&format!("{told:?}"), 1);
        }
        None
    }

    /// One attempt for each, since there is no time for more.
    async fn say_farewell(
        &self,
        left: &mut VecDeque<Revocation>,
        mut under_way: JoinSet<(Revocation, Told)>,
    ) {
        loop {
            while under_way.len() < MAX_AT_FAREWELL
                && let Some(mut next) = left.pop_front()
            {
                next.attempts = MAX_ATTEMPTS;
                under_way.spawn(attempt(Arc::clone(&self.passwords), next));
            }
            match under_way.join_next().await {
                Some(Ok(attempted)) => drop(self.again(attempted)),
                Some(Err(_)) => {}
                None => return,
            }
        }
    }

    fn count_given_up(&self) {
        let given_up = std::mem::take(&mut self.passwords.revocations.lock().given_up);
        if given_up > 0 {
            tracing::warn!(
                logins = given_up,
                "more logins ended than the identity provider takes back; the oldest of them expire there"
            );
            self.count("GivenUp", given_up);
        }
    }

    fn count(&self, outcome: &str, number: u64) {
        self.outcomes.get_or_create(&Outcome { outcome: outcome.to_owned() }).inc_by(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::done(200, "", Told::Revoked)]
    #[case::not_of_this_kind(400, r#"{"error": "unsupported_token_type"}"#, Told::Refused)]
    #[case::not_ours(403, r#"{"error": "invalid_grant"}"#, Told::Refused)]
    #[case::secret_rotated(401, r#"{"error": "invalid_client"}"#, Told::Unanswered)]
    #[case::an_ingress(404, "<html>", Told::Unanswered)]
    #[case::a_login_page(302, "", Told::Unanswered)]
    #[case::empty(400, "", Told::Unanswered)]
    #[case::down(503, r#"{"error": "server_error"}"#, Told::Unanswered)]
    #[case::busy(429, r#"{"error": "slow_down"}"#, Told::Unanswered)]
    fn an_answer_is_read(#[case] status: u16, #[case] body: &str, #[case] expected: Told) {
        assert_eq!(read(StatusCode::from_u16(status).unwrap(), body.as_bytes()), expected);
    }

    #[test]
    fn the_oldest_gives_way() {
        let revocations = Revocations::default();
        for number in 0..MAX_WAITING + 2 {
            revocations.add(number.to_string().into());
        }
        let waiting = revocations.waiting();
        assert_eq!((waiting.len(), waiting[0].as_str()), (MAX_WAITING, "2"));
        assert_eq!(revocations.lock().given_up, 2);
    }
}
