//! Lists of all objects of a kind, and why they are believed.
//!
//! A list says what there was at some moment after it was asked for. So it is newer than everything that was known before,
//! whatever the resource versions say: where etcd was restored from a backup they begin again at lower ones. Only what was
//! entered while the list was under way may be newer than the list, and there the versions decide.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{State, Stores, Touched};
use crate::model::{Kind, Object};

/// A list under way.
pub struct List {
    kind: Kind,
    /// How often the API server had been set back when it began.
    epoch: u64,
    /// It is the first one of its kind since then: versions that are the same may be those of other objects.
    anew: bool,
    /// Names of the objects that were known before.
    known: HashSet<String>,
    /// Names of the objects that are in it.
    listed: HashSet<String>,
    newest: u64,
    entered: Entered,
}

/// Names of the objects about which something else was entered meanwhile.
type Entered = Arc<Mutex<HashSet<String>>>;

/// Who has to hear of that. A list that was given up is in nobody's hands.
pub(super) type UnderWay = Vec<(Kind, Weak<Mutex<HashSet<String>>>)>;

impl List {
    /// An object that cannot be read, or is none of ours, is there all the same.
    pub fn has(&mut self, name: &str) {
        self.listed.insert(name.to_owned());
    }

    fn is_overtaken(&self, name: &str) -> bool {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

impl State {
    pub(super) fn entered(&mut self, kind: Kind, name: &str) {
        self.lists.retain(|(of, list)| {
            let Some(list) = list.upgrade() else { return false };
            if *of == kind {
                list.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
            }
            true
        });
    }
}

impl Stores {
    /// To be called before the list is asked for.
    pub fn list_begins(&self, kind: Kind) -> List {
        let mut state = self.lock_write();
        let entered = Entered::default();
        state.lists.push((kind, Arc::downgrade(&entered)));
        let (epoch, listed_in) = (state.epoch, state.listed_in.get(&kind).copied().unwrap_or_default());
        List {
            kind,
            epoch,
            anew: listed_in != epoch,
            known: state.inventory.names(kind),
            listed: HashSet::new(),
            newest: 0,
            entered,
        }
    }

    /// Enters an object of the list.
    pub fn listed(&self, list: &mut List, object: Object) {
        let (kind, version) = (list.kind, object.meta().resource_version);
        list.has(&object.meta().name);
        list.newest = list.newest.max(version);
        let mut is_older = false;
        self.change(|state| {
            if list.is_overtaken(&object.meta().name) {
                return state.answered(object);
            }
            let known = state.inventory.version(kind, &object.meta().name);
            is_older = known.is_some_and(|known| version < known);
            if known == Some(version) && !list.anew { Touched::default() } else { state.put(object) }
        });
        if is_older && !list.anew {
            self.history.doubt();
        }
    }

    /// Everything is listed. What was there before and is not in the list is gone.
    pub fn list_ends(&self, list: List) {
        for name in list.known.difference(&list.listed) {
            self.change(|state| {
                if list.is_overtaken(name) { Touched::default() } else { state.remove(list.kind, name) }
            });
        }
        let mut state = self.lock_write();
        if state.epoch != list.epoch {
            return;
        }
        let seen = state.seen.entry(list.kind).or_default();
        *seen = if list.anew { list.newest } else { list.newest.max(*seen) };
        state.listed_in.insert(list.kind, list.epoch);
    }

    /// The newest version of custom resources that is known. They are all in one etcd.
    pub fn newest_version(&self) -> u64 {
        let state = self.lock_read();
        let seen = [Kind::Pool, Kind::Session, Kind::Application].map(|kind| state.seen.get(&kind).copied());
        let seen = seen.into_iter().flatten().max().unwrap_or_default();
        seen.max(state.inventory.newest_version())
    }

    /// The API server knows an earlier state than was seen already. What is known stands until everything is listed anew.
    pub fn set_back(&self) {
        {
            let mut state = self.lock_write();
            state.epoch += 1;
            state.seen.clear();
        }
        self.history.set_back();
    }
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
