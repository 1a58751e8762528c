//! Whether the provider is known not to answer, so that not everybody waits for the same timeout. Pure but for a lock.
//!
//! What counts is no answer, or one that says the same to everybody (`AuthnError::stops_everybody`), not a provider that
//! refuses one user for a while. Who may go on meanwhile is `remembered`'s question.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::AuthnError;

/// Between two attempts of logged-in users, all of them together. New logins always ask.
const PROBE_EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Outage {
    /// When the provider was last asked in vain; `None` while it answers.
    last_attempt: Mutex<Option<Instant>>,
}

/// What a login that can wait should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// The provider answers, as far as is known.
    Ask,
    /// It does not, and it is this login's turn to find out whether that is over.
    Probe,
    /// It does not, and somebody has asked a moment ago.
    Leave,
}

impl Outage {
    pub fn course(&self, now: Instant) -> Course {
        match &mut *self.lock() {
            None => Course::Ask,
            Some(last) if now.duration_since(*last) < PROBE_EVERY => Course::Leave,
            Some(last) => {
                *last = now;
                Course::Probe
            }
        }
    }

    pub fn answered(&self) {
        if self.lock().take().is_some() {
            tracing::info!("the identity provider answers for users again");
        }
    }

    /// Once in an outage it is told, and why.
    pub fn unanswered(&self, now: Instant, error: &AuthnError) {
        if self.lock().replace(now).is_none() {
            let reason = error.reason();
            tracing::warn!(
                reason,
                "the identity provider does not answer, or says nothing about users; who is logged in goes on for a \
                 while"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last_attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_an_outage_one_asks_every_few_seconds() {
        let (outage, began) = (Outage::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(outage.course(at(0)), Course::Ask);
        outage.unanswered(at(1), &AuthnError::Provider);
        assert_eq!(outage.course(at(5)), Course::Leave);
        assert_eq!(outage.course(at(6)), Course::Probe);
        assert_eq!(outage.course(at(6)), Course::Leave, "one of them");
        outage.answered();
        assert_eq!(outage.course(at(7)), Course::Ask);
    }
}
