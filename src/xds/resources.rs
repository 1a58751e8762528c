use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::Resource;

/// All resources of one type at one moment. Clones share them, also with what is made of them by a few changes.
///
/// One that was published also knows how it differs from the one published before, so that a stream which
/// has dealt with that one looks at the difference only: with 5,000 clusters and one added, at one.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    all: OrdMap<String, Arc<Resource>>,
    edition: Edition,
    /// Names that were added, changed or removed since the edition before this one.
    changed: Arc<[String]>,
}

/// Counts what was published of one type. The default is of resources that were not published yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edition(u64);

impl Resources {
    pub fn insert(&mut self, name: String, resource: Arc<Resource>) {
        self.all.insert(name, resource);
        (self.edition, self.changed) = (Edition::default(), Arc::default());
    }

    pub fn remove(&mut self, name: &str) {
        self.all.remove(name);
        (self.edition, self.changed) = (Edition::default(), Arc::default());
    }

    pub fn all(&self) -> &OrdMap<String, Arc<Resource>> {
        &self.all
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.all.get(name)
    }

    pub fn edition(&self) -> Edition {
        self.edition
    }

    /// Numbers these as what follows `before`; the same edition again if nothing differs.
    pub fn succeeding(self, before: &Self) -> Self {
        let changed: Arc<[String]> = before.all.diff(&self.all).map(|item| name_of(&item).clone()).collect();
        if changed.is_empty() && before.is_published() {
            return before.clone();
        }
        Self { all: self.all, edition: Edition(before.edition.0 + 1), changed }
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
        self.all.diff(&other.all).next().is_none()
    }
}

impl Eq for Resources {}

fn name_of<'a>(difference: &DiffItem<'a, 'a, String, Arc<Resource>>) -> &'a String {
    match difference {
        DiffItem::Add(name, _) | DiffItem::Remove(name, _) | DiffItem::Update { new: (name, _), .. } => name,
    }
}

#[cfg(test)]
#[path = "resources_tests.rs"]
mod tests;
