use std::collections::BTreeMap;
use std::sync::Arc;

use super::Resource;

/// All resources of one type at one moment. Clones share them.
///
/// One that was published also knows how it differs from the one published before, so that a stream which
/// has dealt with that one looks at the difference only: with 5,000 clusters and one added, at one.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    all: Arc<BTreeMap<String, Arc<Resource>>>,
    edition: Edition,
    /// Names that were added, changed or removed since the edition before this one.
    changed: Arc<[String]>,
}

/// Counts what was published of one type. The default is of resources that were not published yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edition(u64);

impl Resources {
    pub fn insert(&mut self, name: String, resource: Arc<Resource>) {
        Arc::make_mut(&mut self.all).insert(name, resource);
        (self.edition, self.changed) = (Edition::default(), Arc::default());
    }

    pub fn all(&self) -> &BTreeMap<String, Arc<Resource>> {
        &self.all
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.all.get(name)
    }

    pub fn edition(&self) -> Edition {
        self.edition
    }

    /// Numbers these as what follows `before`; the same edition again if nothing differs. Resources that
    /// stayed the same are shared with it from here on.
    pub fn succeeding(mut self, before: &Self) -> Self {
        let mut changed = Vec::new();
        let mut old = before.all.iter().peekable();
        for (name, resource) in Arc::make_mut(&mut self.all) {
            while let Some((gone, _)) = old.next_if(|(other, _)| *other < name) {
                changed.push(gone.clone());
            }
            match old.next_if(|(other, _)| *other == name) {
                Some((_, same)) if same.version == resource.version => *resource = Arc::clone(same),
                _ => changed.push(name.clone()),
            }
        }
        changed.extend(old.map(|(gone, _)| gone.clone()));
        if changed.is_empty() && before.is_published() {
            return before.clone();
        }
        Self { all: self.all, edition: Edition(before.edition.0 + 1), changed: changed.into() }
    }

    /// The names to look at for who has dealt with the edition `seen`. `None`: all of them.
    pub fn changed_since(&self, seen: Edition) -> Option<&[String]> {
        if !self.is_published() {
            None
        } else if seen == self.edition {
            Some(&[])
        } else if seen.0 + 1 == self.edition.0 && seen != Edition::default() {
            Some(&self.changed)
        } else {
            None
        }
    }

    fn is_published(&self) -> bool {
        self.edition != Edition::default()
    }
}

/// Equal when names and versions are.
impl PartialEq for Resources {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.all, &other.all) || self.all == other.all
    }
}

impl Eq for Resources {}

#[cfg(test)]
#[path = "resources_tests.rs"]
mod tests;
