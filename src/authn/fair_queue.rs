//! Who is next, where many wait in lanes: each lane in its turn, and in a lane whoever came first. Pure.
//!
//! Bounded by lane and in all. When all places are taken, the newest of the longest lane gives way to the first of a
//! shorter one: whoever fills the queue fills it for themselves.
//!
//! Knows neither time nor what is waited for: `turns` does.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

pub(super) struct FairQueue<L, W> {
    lanes: HashMap<L, VecDeque<(u64, W)>>,
    /// Lanes in which somebody waits; the first one is next.
    order: VecDeque<L>,
    by_length: BTreeSet<(usize, L)>,
    waiting: usize,
    max_waiting: usize,
}

/// A place could not be given.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The lane has as many as it may have.
    Lane,
    /// All places are taken, and no lane is longer.
    All,
}

impl<L: Clone + Ord + Hash, W> FairQueue<L, W> {
    pub fn new(max_waiting: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            order: VecDeque::new(),
            by_length: BTreeSet::new(),
            waiting: 0,
            max_waiting,
        }
    }

    pub fn lane_len(&self, lane: &L) -> usize {
        self.lanes.get(lane).map_or(0, VecDeque::len)
    }

    /// Puts `waiter` last into its lane. Returns the one that had to give way.
    pub fn push(&mut self, lane: L, max_in_lane: usize, id: u64, waiter: W) -> Result<Option<W>, Full> {
        let length = self.lane_len(&lane);
        if length >= max_in_lane {
            return Err(Full::Lane);
        }
        let gives_way =
            if self.waiting < self.max_waiting { None } else { Some(self.take_from_longest(length)?) };
        if length == 0 {
            self.order.push_back(lane.clone());
        }
        self.lanes.entry(lane.clone()).or_default().push_back((id, waiter));
        self.waiting += 1;
        self.resized(lane, length, length + 1);
        Ok(gives_way)
    }

    fn take_from_longest(&mut self, than: usize) -> Result<W, Full> {
        let longest =
            self.by_length.last().filter(|(length, _)| *length > than + 1).map(|(_, lane)| lane.clone());
        longest.and_then(|lane| self.take_at(&lane, usize::MAX)).ok_or(Full::All)
    }

    /// The lane whose turn it is. It goes to the end of the round.
    pub fn next_lane(&mut self) -> Option<L> {
        let lane = self.order.pop_front()?;
        self.order.push_back(lane.clone());
        Some(lane)
    }

    /// In how many lanes somebody waits.
    pub fn lanes(&self) -> usize {
        self.order.len()
    }

    /// Whoever waits longest in `lane`.
    pub fn pop(&mut self, lane: &L) -> Option<W> {
        self.take_at(lane, 0)
    }

    /// Nobody waits for it any more.
    pub fn remove(&mut self, lane: &L, id: u64) -> Option<W> {
        let at = self.lanes.get(lane)?.iter().position(|(other, _)| *other == id)?;
        self.take_at(lane, at)
    }

    /// The one at this place, or the last.
    fn take_at(&mut self, lane: &L, at: usize) -> Option<W> {
        let waiters = self.lanes.get_mut(lane)?;
        let length = waiters.len();
        let (_, waiter) = waiters.remove(at.min(length.checked_sub(1)?))?;
        self.waiting -= 1;
        if length == 1 {
            self.lanes.remove(lane);
            self.order.retain(|other| other != lane);
        }
        self.resized(lane.clone(), length, length - 1);
        Some(waiter)
    }

    fn resized(&mut self, lane: L, before: usize, now: usize) {
        self.by_length.remove(&(before, lane.clone()));
        if now > 0 {
            self.by_length.insert((now, lane));
        }
    }
}

#[cfg(test)]
#[path = "fair_queue_tests.rs"]
mod tests;
