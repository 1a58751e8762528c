//! Failed password logins, counted per user and per address: guessing ends here, not at the provider. Pure but for the
//! counters.
//!
//! Counted are different passwords: a notebook that repeats an old one for days is one failure. Where a user has
//! logged in within a day, failures are counted apart from those of the rest of the world, so that nobody locks
//! others out of the place where they work. A replica counts what it sees itself.
//!
//! Every failure is spent in advance and given back unless the password was wrong, so that guesses side by side do not
//! slip through: a user's when the login comes, an address's when its turn has come (`turns`), since many users may log
//! in from one address at the same time.
//!
//! Addresses are those of Envoy's clients. Behind a load balancer that hides them, all users share one.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::bucket::{Buckets, Empty, Rate};
use super::error::AuthnError;
use super::logins::Key;

const USER_REFILL: Duration = Duration::from_secs(60);
const ADDRESS_REFILL: Duration = Duration::from_secs(1);
const HOME_TTL: Duration = Duration::from_secs(24 * 3600);
/// For how long the same wrong password is the same failure.
const COUNTED_TTL: Duration = Duration::from_secs(24 * 3600);
const MAX_REMEMBERED: u64 = 100_000;

/// How many failures are free. `None`: any number.
#[derive(Clone, Copy, Debug)]
pub struct FailureLimits {
    /// One more each minute.
    pub per_user: Option<NonZeroU32>,
    /// One more each second.
    pub per_address: Option<NonZeroU32>,
}

impl Default for FailureLimits {
    fn default() -> Self {
        Self { per_user: NonZeroU32::new(10), per_address: NonZeroU32::new(100) }
    }
}

pub(super) struct Failures {
    users: Option<Buckets<User>>,
    addresses: Option<Buckets<IpAddr>>,
    homes: moka::sync::Cache<(String, IpAddr), ()>,
    counted: moka::sync::Cache<Key, ()>,
}

/// Whose failures are counted together: those of a user from everywhere, or from one place that is theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct User {
    name: String,
    home: Option<IpAddr>,
}

/// A login is refused without asking.
#[derive(Debug)]
pub(super) struct Limited {
    pub error: AuthnError,
    /// Whether this is news.
    pub first: bool,
}

impl From<AuthnError> for Limited {
    fn from(error: AuthnError) -> Self {
        Self { error, first: false }
    }
}

/// A login that may be tried. Dropped without more, it did not count.
pub(super) struct Attempt {
    failures: Arc<Failures>,
    user: User,
    /// From which network.
    address: Option<IpAddr>,
    spent: bool,
}

impl Failures {
    pub fn new(limits: FailureLimits) -> Self {
        let rate = |burst: NonZeroU32, refill| Rate { burst: burst.get(), refill };
        let lru = moka::policy::EvictionPolicy::lru;
        Self {
            users: limits.per_user.map(|burst| Buckets::new(rate(burst, USER_REFILL))),
            addresses: limits.per_address.map(|burst| Buckets::new(rate(burst, ADDRESS_REFILL))),
            homes: moka::sync::Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_live(HOME_TTL)
                .eviction_policy(lru())
                .build(),
            counted: moka::sync::Cache::builder()
                .max_capacity(MAX_REMEMBERED)
                .time_to_idle(COUNTED_TTL)
                .eviction_policy(lru())
                .build(),
        }
    }

    /// Before the provider is asked. `address` is a network.
    pub fn admit(
        self: &Arc<Self>,
        user: &str,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Attempt, Limited> {
        // Providers do not agree on whether case and space around names matter.
        let name = user.trim().to_lowercase();
        let home = address.filter(|address| self.homes.contains_key(&(name.clone(), *address)));
        let counted_as = User { name, home };
        if let Some(buckets) = &self.users {
            buckets
                .take(counted_as.clone(), now)
                .map_err(|empty| limited(format!("for user {user}"), empty))?;
        }
        Ok(Attempt { failures: Arc::clone(self), user: counted_as, address, spent: false })
    }

    pub fn limits_addresses(&self) -> bool {
        self.addresses.is_some()
    }

    /// Whether [`Self::reserve`] would find a free failure.
    pub fn has_free(&self, address: IpAddr, now: Instant) -> bool {
        self.addresses.as_ref().is_none_or(|buckets| buckets.has_one(&address, now))
    }

    /// Refuses as [`Self::reserve`] does, and spends nothing.
    pub fn look(&self, address: IpAddr, now: Instant) -> Result<(), Limited> {
        let Some(buckets) = &self.addresses else { return Ok(()) };
        buckets.look(&address, now).map_err(|empty| limited_from(address, empty))
    }

    /// Spends a failure of this network in advance.
    pub fn reserve(&self, address: IpAddr, now: Instant) -> Result<(), Limited> {
        let Some(buckets) = &self.addresses else { return Ok(()) };
        buckets.take(address, now).map_err(|empty| limited_from(address, empty))
    }

    /// The password was not wrong.
    pub fn release(&self, address: IpAddr) {
        if let Some(buckets) = &self.addresses {
            buckets.give_back(&address);
        }
    }
}

impl Attempt {
    /// The provider said that the password is wrong. `key` stands for name and password. Whether it counts: the same
    /// one does not twice.
    pub fn failed(mut self, key: Key) -> bool {
        self.spent = self.failures.counted.entry(key).or_insert(()).is_fresh();
        self.spent
    }

    pub fn succeeded(self) {
        if let Some(address) = self.address {
            self.failures.homes.insert((self.user.name.clone(), address), ());
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let (Some(users), false) = (&self.failures.users, self.spent) {
            users.give_back(&self.user);
        }
    }
}

fn limited_from(address: IpAddr, empty: Empty) -> Limited {
    limited(format!("from {}", network_name(address)), empty)
}

fn limited(whose: String, empty: Empty) -> Limited {
    // Rounded up, so that who waits that long is let in.
    let seconds = empty.wait.as_secs() + u64::from(empty.wait.subsec_nanos() > 0);
    let wait = Duration::from_secs(seconds);
    Limited { error: AuthnError::Limited { whose, wait }, first: empty.first }
}

/// Of IPv6, whoever has one address has 2^64 of them.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

pub(super) fn network_name(network: IpAddr) -> String {
    if network.is_ipv6() { format!("{network}/64") } else { network.to_string() }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
