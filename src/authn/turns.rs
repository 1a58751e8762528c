//! Whose turn it is to ask the provider. So many logins are asked for at the same time; the others wait, each address in
//! its turn, so that one address with thousands of guesses delays another one's login by no more than one turn.
//!
//! A new password costs a failure that is free at its address before it is shown (`limits`), and gets it back unless it
//! is wrong. While all free ones are out, the next ones of that address wait; when none will come back, they are refused.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::Warnings;
use super::error::AuthnError;
use super::fair_queue::{FairQueue, Full};
use super::limits::{Failures, Limited, network_name};

/// Hashing a password is the dearest thing that the provider does, and everybody comes at nine.
const MAX_AT_ONCE: usize = 32;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(20);
/// A waiting login has about a kilobyte.
const MAX_WAITING: usize = 10_000;
/// More than log in at nine from one office. Beyond it an address would wait for longer than [`PATIENCE`] in any case.
const MAX_FROM_ADDRESS: usize = 2_000;

/// Where a login waits. Addresses are networks as in `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Lane {
    /// Logins that the provider has confirmed before. Nobody can make them up: they have every second turn.
    Confirmed,
    /// New passwords, which may be guesses.
    Passwords(Option<IpAddr>),
    /// Tokens whose groups the provider is asked for.
    Tokens(Option<IpAddr>),
}

impl Lane {
    fn address(self) -> Option<IpAddr> {
        match self {
            Self::Confirmed => None,
            Self::Passwords(address) | Self::Tokens(address) => address,
        }
    }

    /// The address that pays if this login fails.
    fn guesses_from(self) -> Option<IpAddr> {
        match self {
            Self::Passwords(address) => address,
            Self::Confirmed | Self::Tokens(_) => None,
        }
    }
}

pub(super) struct Turns {
    state: Mutex<State>,
    failures: Arc<Failures>,
    warnings: Arc<Warnings>,
}

/// The right to ask the provider, until it is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    lane: Lane,
    wrong: bool,
}

type Waiter = oneshot::Sender<Result<Turn, Limited>>;

struct State {
    queue: FairQueue<Lane, Waiter>,
    in_flight: usize,
    /// How many of them are new passwords, by their address.
    guesses: HashMap<IpAddr, usize>,
    confirmed_was_last: bool,
    next_id: u64,
}

impl Turns {
    pub fn new(failures: Arc<Failures>, warnings: Arc<Warnings>) -> Self {
        let state = State {
            queue: FairQueue::new(MAX_WAITING),
            in_flight: 0,
            guesses: HashMap::new(),
            confirmed_was_last: false,
            next_id: 0,
        };
        Self { state: Mutex::new(state), failures, warnings }
    }

    /// Waits for a turn. Dropping the future leaves the queue.
    pub async fn take(self: &Arc<Self>, lane: Lane) -> Result<Turn, Limited> {
        let (waiter, turn) = oneshot::channel();
        let mut place = self.wait_in(lane, waiter)?;
        self.grant();
        let granted = timeout(PATIENCE, turn).await;
        place.left = granted.is_ok();
        match granted {
            Ok(Ok(granted)) => granted,
            // It gave way to a login from elsewhere.
            Ok(Err(_)) => Err(AuthnError::TooManyLogins.into()),
            Err(_) => {
                // Whoever waited in vain for failures that did not come back hears so.
                if let Some(address) = lane.guesses_from() {
                    self.failures.look(address, Instant::now())?;
                }
                if let Some(more) = self.warnings.note("no turn", Instant::now()) {
                    let at_once = MAX_AT_ONCE;
                    tracing::warn!(at_once, more, "a login did not get its turn at the identity provider");
                }
                Err(AuthnError::TooManyLogins.into())
            }
        }
    }

    fn wait_in(self: &Arc<Self>, lane: Lane, waiter: Waiter) -> Result<Place, Limited> {
        let most = match lane.address() {
            Some(_) if self.failures.limits_addresses() => MAX_FROM_ADDRESS,
            // Behind a load balancer that hides addresses, everybody has the same one.
            _ => MAX_WAITING,
        };
        let (id, gave_way) = {
            let mut state = self.lock();
            state.refuse_hopeless(lane, &self.failures)?;
            state.next_id += 1;
            let id = state.next_id;
            (id, state.queue.push(lane, most, id, waiter))
        };
        match (gave_way, lane.address()) {
            (Ok(_), _) => Ok(Place { turns: Arc::clone(self), lane, id, left: false }),
            (Err(Full::Lane), Some(address)) => {
                Err(AuthnError::TooManyFrom { address: network_name(address) }.into())
            }
            (Err(Full::Lane | Full::All), _) => Err(AuthnError::TooManyLogins.into()),
        }
    }

    /// Gives all turns that are free. Their owners are told without the lock: the turn of one that has gone is dropped
    /// here, which takes it.
    fn grant(self: &Arc<Self>) {
        let granted = self.lock().grant(&self.failures, Instant::now());
        for (waiter, granted) in granted {
            let turns = Arc::clone(self);
            let _ = waiter.send(granted.map(|lane| Turn { turns, lane, wrong: false }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic can lose a turn, not give one too many.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// No failure is free at this address, and none can come back: there is nothing to wait for.
    fn refuse_hopeless(&self, lane: Lane, failures: &Failures) -> Result<(), Limited> {
        match lane.guesses_from() {
            Some(address) if self.queue.lane_len(&lane) == 0 && !self.guesses.contains_key(&address) => {
                failures.look(address, Instant::now())
            }
            _ => Ok(()),
        }
    }

    fn grant(&mut self, failures: &Failures, now: Instant) -> Vec<(Waiter, Result<Lane, Limited>)> {
        let (mut granted, mut passed_over) = (Vec::new(), 0);
        while self.in_flight < MAX_AT_ONCE && passed_over < self.queue.lanes() {
            let Some(lane) = self.next_lane() else { break };
            let outcome = match lane.guesses_from() {
                // It waits for answers to others of the same address.
                Some(address) if self.guesses.contains_key(&address) && !failures.has_free(address, now) => {
                    passed_over += 1;
                    continue;
                }
                Some(address) => failures.reserve(address, now),
                None => Ok(()),
            };
            let Some(waiter) = self.queue.pop(&lane) else { break };
            passed_over = 0;
            if outcome.is_ok() {
                self.in_flight += 1;
                if let Some(address) = lane.guesses_from() {
                    *self.guesses.entry(address).or_default() += 1;
                }
            }
            granted.push((waiter, outcome.map(|()| lane)));
        }
        granted
    }

    fn next_lane(&mut self) -> Option<Lane> {
        if !self.confirmed_was_last && self.queue.lane_len(&Lane::Confirmed) > 0 {
            self.confirmed_was_last = true;
            return Some(Lane::Confirmed);
        }
        self.confirmed_was_last = false;
        self.queue.next_lane()
    }

    fn ended(&mut self, lane: Lane) {
        self.in_flight -= 1;
        if let Some(address) = lane.guesses_from()
            && let Some(guesses) = self.guesses.get_mut(&address)
        {
            *guesses -= 1;
            if *guesses == 0 {
                self.guesses.remove(&address);
            }
        }
    }
}

impl Turn {
    /// The password was wrong: the failure that was free at its address is used up.
    pub fn was_wrong(&mut self) {
        self.wrong = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let (Some(address), false) = (self.lane.guesses_from(), self.wrong) {
            self.turns.failures.release(address);
        }
        self.turns.lock().ended(self.lane);
        self.turns.grant();
    }
}

/// A place in the queue.
struct Place {
    turns: Arc<Turns>,
    lane: Lane,
    id: u64,
    /// It was called.
    left: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.left {
            let waiter = self.turns.lock().queue.remove(&self.lane, self.id);
            drop(waiter);
        }
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
