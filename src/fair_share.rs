//! A bounded amount of something that many want, shared so that nobody can use it up: whoever has some is given more only
//! while as much as they would then have is left for others. One who asks for all gets half, a second one half of the rest,
//! and somebody who has nothing yet is the last to be refused. (It is the dynamic threshold by which switches share their
//! buffers.)
//!
//! Pure but for a lock and a gauge. Whoever has given everything back is forgotten, so that no more is remembered than is
//! given out.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use prometheus_client::metrics::gauge::Gauge;

/// What there is, and who has how much of it.
pub struct FairShares<K> {
    limits: Limits,
    state: Mutex<State<K>>,
    /// Counts shares.
    gauge: Gauge,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of all together.
    pub most: usize,
    /// How many shares one may have at the same time, whatever their size.
    pub shares_of_one: usize,
}

struct State<K> {
    given: usize,
    holders: HashMap<K, Holder>,
}

#[derive(Default)]
struct Holder {
    given: usize,
    shares: usize,
}

/// Why a share was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Who asks has as many shares as one may have.
    HasMost,
    /// Too little is left for others.
    TooLittleLeft,
}

impl<K: Clone + Eq + Hash> FairShares<K> {
    pub fn new(limits: Limits) -> Arc<Self> {
        Self::counted_by(Gauge::default(), limits)
    }

    /// The same, with a gauge that tells how many shares there are.
    pub fn counted_by(gauge: Gauge, limits: Limits) -> Arc<Self> {
        let state = State { given: 0, holders: HashMap::new() };
        Arc::new(Self { limits, state: Mutex::new(state), gauge })
    }

    /// Awaits `answer`, with a share for as long as it does not come. One that comes at once needs none.
    pub async fn wait<T>(
        self: &Arc<Self>,
        who: impl FnOnce() -> K,
        amount: usize,
        answer: impl Future<Output = T>,
    ) -> Result<T, Refused> {
        unless_ready(answer, || self.take(who(), amount)).await
    }

    /// Gives `amount` to `who` until the share is dropped.
    pub fn take(self: &Arc<Self>, who: K, amount: usize) -> Result<Share<K>, Refused> {
        let mut state = self.lock();
        let has = state.holders.get(&who);
        if has.is_some_and(|has| has.shares >= self.limits.shares_of_one) {
            return Err(Refused::HasMost);
        }
        let would_have = has.map_or(0, |has| has.given).saturating_add(amount);
        if would_have > self.limits.most.saturating_sub(state.given) {
            return Err(Refused::TooLittleLeft);
        }
        state.given += amount;
        let holder = state.holders.entry(who.clone()).or_default();
        holder.given += amount;
        holder.shares += 1;
        drop(state);
        self.gauge.inc();
        Ok(Share { shares: Arc::clone(self), who, amount })
    }

    fn give_back(&self, who: &K, amount: usize) {
        self.gauge.dec();
        let mut state = self.lock();
        state.given -= amount;
        let Some(holder) = state.holders.get_mut(who) else { return };
        holder.given -= amount;
        holder.shares -= 1;
        if holder.shares == 0 {
            state.holders.remove(who);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // A panic while the lock was held leaves numbers that are whole: nothing in between can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Awaits `answer`. One that does not come at once needs what `take` gives, for as long as it does not come.
pub async fn unless_ready<T, S, E>(
    answer: impl Future<Output = T>,
    take: impl FnOnce() -> Result<S, E>,
) -> Result<T, E> {
    let mut answer = pin!(answer);
    if let Poll::Ready(answer) = futures::poll!(answer.as_mut()) {
        return Ok(answer);
    }
    let _taken = take()?;
    Ok(answer.await)
}

/// Somebody's share, for as long as it lives.
pub struct Share<K: Clone + Eq + Hash> {
    shares: Arc<FairShares<K>>,
    who: K,
    amount: usize,
}

impl<K: Clone + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        self.shares.give_back(&self.who, self.amount);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(most: usize, shares_of_one: usize) -> Arc<FairShares<u8>> {
        FairShares::new(Limits { most, shares_of_one })
    }

    /// As many shares of one each as `who` is given.
    fn all_of(shares: &Arc<FairShares<u8>>, who: u8) -> Vec<Share<u8>> {
        std::iter::from_fn(|| shares.take(who, 1).ok()).collect()
    }

    #[test]
    fn one_gets_half_and_the_next_half_of_the_rest() {
        let shares = shares(1000, usize::MAX);
        let counts: Vec<_> = (0..3).map(|who| all_of(&shares, who)).collect();
        assert_eq!(counts.iter().map(Vec::len).collect::<Vec<_>>(), [500, 250, 125]);
        assert_eq!(shares.take(0, 1).err(), Some(Refused::TooLittleLeft));
        assert!(shares.take(9, 1).is_ok(), "somebody who has nothing yet");
    }

    #[test]
    fn nobody_has_more_shares_than_one_may_have() {
        let shares = shares(1000, 3);
        let mut held = all_of(&shares, 1);
        assert_eq!((held.len(), shares.take(1, 1).err()), (3, Some(Refused::HasMost)));
        held.pop();
        assert!(shares.take(1, 1).is_ok(), "one was given back");
    }

    #[test]
    fn who_asks_for_more_than_is_left_gets_nothing() {
        let shares = shares(10, 3);
        assert_eq!(shares.take(1, 11).err(), Some(Refused::TooLittleLeft));
        assert!(shares.lock().holders.is_empty());
    }

    #[tokio::test]
    async fn only_who_waits_takes_a_share() {
        let shares = shares(1, 1);
        let waits = shares.wait(|| 1, 1, std::future::pending::<()>());
        let mut waits = pin!(waits);
        assert!(futures::poll!(waits.as_mut()).is_pending());
        assert_eq!(shares.gauge.get(), 1);
        assert_eq!(shares.wait(|| 2, 1, async { "at once" }).await, Ok("at once"));
        assert_eq!(shares.wait(|| 2, 1, std::future::pending::<()>()).await, Err(Refused::TooLittleLeft));
    }

    proptest! {
        #[test]
        fn never_more_is_given_than_there_is_and_all_comes_back(
            steps in prop::collection::vec((0..5_u8, 0..40_usize, any::<bool>()), 0..200)
        ) {
            let shares = shares(100, 4);
            let mut held = Vec::new();
            for (who, amount, gives_back) in steps {
                if gives_back {
                    held.pop();
                } else {
                    held.extend(shares.take(who, amount).ok());
                }
                let state = shares.lock();
                let given: usize = held.iter().map(|share: &Share<u8>| share.amount).sum();
                prop_assert!(given <= 100 && state.given == given);
                prop_assert!(state.holders.values().all(|holder| (1..=4).contains(&holder.shares)));
            }
            held.clear();
            let state = shares.lock();
            prop_assert!(state.given == 0 && state.holders.is_empty());
        }
    }
}
