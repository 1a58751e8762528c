//! Token buckets by key, in bounded memory: how many failures are free, and when the next one is. Pure but for locks.
//!
//! Not `governor`: it can neither look without spending nor give back what was spent in advance, and its store grows
//! with every name that an attacker thinks up.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The longest unused keys go first. Making others go costs an attacker this many failures.
const MAX_KEYS: u64 = 100_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// How many at once.
    pub burst: u32,
    /// How long until another one is free.
    pub refill: Duration,
}

impl Rate {
    fn all(self) -> Duration {
        self.refill.saturating_mul(self.burst)
    }
}

pub(crate) struct Buckets<K> {
    rate: Rate,
    buckets: moka::sync::Cache<K, Arc<Mutex<Bucket>>>,
}

/// When it will be full again, as in the generic cell rate algorithm.
struct Bucket {
    full_at: Instant,
    told_until: Instant,
}

/// A bucket is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Empty {
    pub wait: Duration,
    /// Whether it was not told yet since it got empty.
    pub first: bool,
}

impl<K: Hash + Eq + Send + Sync + 'static> Buckets<K> {
    pub fn new(rate: Rate) -> Self {
        let buckets = moka::sync::Cache::builder()
            .max_capacity(MAX_KEYS)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            // By then it is full, which is what an unknown one is.
            .time_to_idle(rate.all())
            .build();
        Self { rate, buckets }
    }

    /// Whether one could be taken.
    pub fn look(&self, key: &K, now: Instant) -> Result<(), Empty> {
        let Some(bucket) = self.buckets.get(key) else { return Ok(()) };
        let mut bucket = lock(&bucket);
        self.wait(&mut bucket, now).map_or(Ok(()), Err)
    }

    /// The same without telling anybody.
    pub fn has_one(&self, key: &K, now: Instant) -> bool {
        self.buckets.get(key).is_none_or(|bucket| self.free_at(&lock(&bucket)).is_none_or(|at| at <= now))
    }

    /// Takes one, if there is one.
    pub fn take(&self, key: K, now: Instant) -> Result<(), Empty> {
        let bucket = self.bucket(key, now);
        let mut bucket = lock(&bucket);
        if let Some(empty) = self.wait(&mut bucket, now) {
            return Err(empty);
        }
        bucket.full_at = bucket.full_at.max(now) + self.rate.refill;
        Ok(())
    }

    pub fn give_back(&self, key: &K) {
        if let Some(bucket) = self.buckets.get(key) {
            let mut bucket = lock(&bucket);
            bucket.full_at = bucket.full_at.checked_sub(self.rate.refill).unwrap_or(bucket.full_at);
        }
    }

    fn bucket(&self, key: K, now: Instant) -> Arc<Mutex<Bucket>> {
        self.buckets.get_with(key, || Arc::new(Mutex::new(Bucket { full_at: now, told_until: now })))
    }

    /// `None`: before whatever the clock says.
    fn free_at(&self, bucket: &Bucket) -> Option<Instant> {
        (bucket.full_at + self.rate.refill).checked_sub(self.rate.all())
    }

    fn wait(&self, bucket: &mut Bucket, now: Instant) -> Option<Empty> {
        let free_at = self.free_at(bucket)?;
        if free_at <= now {
            return None;
        }
        let first = bucket.told_until <= now;
        bucket.told_until = bucket.told_until.max(free_at);
        Some(Empty { wait: free_at - now, first })
    }
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    // A panic leaves two times, each of them valid.
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn three_a_minute() -> (Buckets<u8>, Instant) {
        (Buckets::new(Rate { burst: 3, refill: seconds(60) }), Instant::now())
    }

    #[test]
    fn a_burst_is_free_and_then_one_at_a_time() {
        let (buckets, now) = three_a_minute();
        for _ in 0..3 {
            buckets.take(1, now).unwrap();
        }
        buckets.take(2, now).unwrap();
        assert_eq!(buckets.take(1, now + seconds(20)), Err(Empty { wait: seconds(40), first: true }));
        assert!(!buckets.has_one(&1, now + seconds(25)));
        assert_eq!(buckets.look(&1, now + seconds(25)), Err(Empty { wait: seconds(35), first: false }));
        buckets.take(1, now + seconds(60)).unwrap();
        assert_eq!(buckets.take(1, now + seconds(60)), Err(Empty { wait: seconds(60), first: true }));
        for _ in 0..3 {
            buckets.take(1, now + seconds(1000)).unwrap();
        }
        buckets.take(1, now + seconds(1000)).unwrap_err();
    }

    #[test]
    fn what_is_given_back_is_free_again() {
        let (buckets, now) = three_a_minute();
        for _ in 0..100 {
            buckets.take(1, now).unwrap();
            buckets.give_back(&1);
        }
        assert_eq!((buckets.look(&1, now), buckets.has_one(&1, now)), (Ok(()), true));
    }
}
