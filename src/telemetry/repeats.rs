//! What clients can bring about as often as they like is told once, and then counted. Pure but for a lock.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a kind is counted before it is told again.
pub const REPEAT_AFTER: Duration = Duration::from_secs(10);
/// How many kinds are told apart, unless said otherwise; the rest is one number.
const MAX_KINDS: usize = 1_000;
/// How often at most all kinds are looked through for one that makes room: a client may come up with new ones for ever.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Repeats<K> {
    counted: Mutex<Counted<K>>,
    max_kinds: usize,
}

#[derive(Debug)]
struct Counted<K> {
    kinds: HashMap<K, Kind>,
    /// Of kinds for which there was no room.
    others: u64,
    swept_at: Option<Instant>,
}

#[derive(Debug)]
struct Kind {
    told_at: Instant,
    more: u64,
}

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Self::with_room_for(MAX_KINDS)
    }
}

impl<K> Repeats<K> {
    pub fn with_room_for(max_kinds: usize) -> Self {
        Self { counted: Mutex::new(Counted { kinds: HashMap::new(), others: 0, swept_at: None }), max_kinds }
    }
}

impl<K: Hash + Eq> Repeats<K> {
    /// Whether `kind` is to be told now, and how often it came since it was told last.
    pub fn note(&self, kind: K, now: Instant) -> Option<u64> {
        let mut guard = self.lock();
        let counted = &mut *guard;
        if let Some(known) = counted.kinds.get_mut(&kind) {
            if known.is_fresh(now) {
                known.more += 1;
                return None;
            }
            known.told_at = now;
            return Some(std::mem::take(&mut known.more));
        }
        if counted.kinds.len() >= self.max_kinds {
            counted.sweep(now);
        }
        if counted.kinds.len() >= self.max_kinds {
            counted.others += 1;
            return None;
        }
        counted.kinds.insert(kind, Kind { told_at: now, more: 0 });
        Some(0)
    }

    /// What has come meanwhile and is to be told by now, with `None` for the kinds that are not told apart. Kinds that
    /// have not come again are forgotten.
    pub fn due(&self, now: Instant) -> Vec<(Option<K>, u64)>
    where
        K: Clone,
    {
        let mut counted = self.lock();
        counted.kinds.retain(|_, kind| kind.is_fresh(now) || kind.more > 0);
        let mut due = Vec::new();
        for (name, kind) in &mut counted.kinds {
            if !kind.is_fresh(now) {
                due.push((Some(name.clone()), std::mem::take(&mut kind.more)));
                kind.told_at = now;
            }
        }
        match std::mem::take(&mut counted.others) {
            0 => {}
            others => due.push((None, others)),
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, Counted<K>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Counted<K> {
    /// Forgets kinds that have not come for a while.
    fn sweep(&mut self, now: Instant) {
        if self.swept_at.is_some_and(|swept_at| now.duration_since(swept_at) < SWEEP_EVERY) {
            return;
        }
        self.swept_at = Some(now);
        let others = &mut self.others;
        self.kinds.retain(|_, kind| {
            let stays = kind.is_fresh(now);
            *others += if stays { 0 } else { kind.more };
            stays
        });
    }
}

impl Kind {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.told_at) < REPEAT_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(began: Instant, seconds: u64) -> Instant {
        began + Duration::from_secs(seconds)
    }

    #[test]
    fn a_kind_is_told_once_and_then_how_often_it_came() {
        let (repeats, began) = (Repeats::default(), Instant::now());
        assert_eq!(repeats.note("a", began), Some(0));
        for _ in 0..4_312 {
            assert_eq!(repeats.note("a", at(began, 9)), None);
        }
        assert_eq!(repeats.note("b", at(began, 9)), Some(0));
        assert_eq!(repeats.due(at(began, 9)), []);
        assert_eq!(repeats.due(at(began, 10)), [(Some("a"), 4_312)]);
        assert_eq!(repeats.note("a", at(began, 11)), None, "it goes on");
        assert_eq!(repeats.due(at(began, 20)), [(Some("a"), 1)]);
        assert_eq!(repeats.due(at(began, 30)), []);
        assert_eq!(repeats.note("a", at(began, 31)), Some(0), "it was over");
    }

    #[test]
    fn where_nobody_asks_for_what_is_due_the_next_one_tells_it() {
        let (repeats, began) = (Repeats::default(), Instant::now());
        for second in 0..10 {
            repeats.note((), at(began, second));
        }
        assert_eq!(repeats.note((), at(began, 10)), Some(9));
        assert_eq!(repeats.note((), at(began, 11)), None);
    }

    #[test]
    fn more_kinds_than_there_is_room_for_are_one_number() {
        let (repeats, began) = (Repeats::default(), Instant::now());
        let told = (0..10_000).filter(|kind| repeats.note(*kind, began).is_some()).count();
        assert_eq!((told, repeats.lock().kinds.len()), (MAX_KINDS, MAX_KINDS));
        assert_eq!(repeats.due(at(began, 1)), [(None, 9_000)]);
        assert_eq!(repeats.note(10_001, at(began, 10)), Some(0), "there is room again");
    }
}
