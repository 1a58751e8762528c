//! Where logins arrive: most are remembered, some wait for the same answer as others, few ask the provider.
//!
//! How a login is asked for is `one_login`'s business, what its outcome is worth `remembered`'s.

use std::sync::Arc;

use tokio::time::Instant;

use super::authority::Authority;
use super::flights::{Caller, Flights, Joined};
use super::limits::Failures;
use super::logins::{Key, Logins, Outcome, Remembered};
use super::one_login::OneLogin;
use super::outage::{Course, Outage};
use super::refusals::Refusals;
use super::remembered::Next;
use super::turns::Turns;
use super::{AuthnSettings, Origin, Warnings};
use crate::model::Credentials;

/// The provider, and what is known from asking it.
pub(super) struct Reception {
    pub authority: Authority,
    pub logins: Logins,
    pub flights: Flights,
    pub failures: Arc<Failures>,
    pub turns: Arc<Turns>,
    pub outage: Outage,
    pub refusals: Arc<Refusals>,
}

impl Reception {
    /// `None` without an issuer.
    pub fn new(settings: AuthnSettings, http: reqwest::Client, refusals: Arc<Refusals>) -> Option<Self> {
        let failures = Arc::new(Failures::new(settings.failure_limits));
        let warnings = Arc::<Warnings>::default();
        let authority = Authority::new(settings, http, &warnings)?;
        Some(Self {
            authority,
            logins: Logins::new(),
            flights: Flights::default(),
            turns: Arc::new(Turns::new(Arc::clone(&failures), warnings)),
            failures,
            outage: Outage::default(),
            refusals,
        })
    }

    /// The provider may forget logins whose password has to be shown again before they count.
    pub fn give_back_old_logins(&self, now: Instant) {
        self.logins.give_back_if(|proven| proven.is_past_refreshing(now, self.authority.terms));
    }

    pub async fn log_in(self: &Arc<Self>, credentials: &Credentials, origin: Origin<'_>) -> Outcome {
        let key = self.logins.key(credentials);
        if let Some(known) = self.logins.get(&key)
            && let Some(outcome) = self.settled(&known, Instant::now())
        {
            return outcome;
        }
        match self.begin(key, credentials, origin) {
            Begun::Done(outcome) => outcome,
            Begun::Asks(caller) => caller.outcome().await,
        }
    }

    /// What a login comes to without asking, if that can be told.
    fn settled(&self, known: &Remembered, now: Instant) -> Option<Outcome> {
        match known {
            Remembered::Refused(error) => Some(Err(error.clone())),
            Remembered::Proven(proven) => match proven.next(now, self.authority.terms) {
                Next::Nothing => Some(Ok(Arc::clone(&proven.identity))),
                Next::Refresh(_) | Next::LogIn => None,
            },
        }
    }

    /// Asks the provider, unless somebody does or did meanwhile, or it is known not to answer.
    fn begin(self: &Arc<Self>, key: Key, credentials: &Credentials, origin: Origin<'_>) -> Begun {
        let mut goes_on = None;
        let look = || {
            let now = Instant::now();
            let known = self.logins.get(&key);
            if let Some(outcome) = known.as_ref().and_then(|known| self.settled(known, now)) {
                return Ok(outcome);
            }
            let before = known.and_then(Remembered::proven);
            if let Some(before) = before.as_ref().filter(|before| before.outlasts_outage(now)) {
                match self.outage.course(now) {
                    Course::Ask => {}
                    Course::Leave => return Ok(Ok(Arc::clone(&before.identity))),
                    // Finds out whether the provider is back, and need not wait for that.
                    Course::Probe => goes_on = Some(Arc::clone(&before.identity)),
                }
            }
            Err(before)
        };
        let begin = |before, callers| {
            OneLogin::new(Arc::clone(self), key, credentials.clone(), before, origin, callers).run()
        };
        match (self.flights.join(key, look, begin), goes_on) {
            (Joined::Done(outcome), _) => Begun::Done(outcome),
            (Joined::UnderWay(_), Some(identity)) => Begun::Done(Ok(identity)),
            (Joined::UnderWay(caller), None) => Begun::Asks(caller),
        }
    }
}

enum Begun {
    Done(Outcome),
    Asks(Caller),
}
