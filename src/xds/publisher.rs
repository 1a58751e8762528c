use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, watch};

use super::{Edition, Editions, Kind, Refused, Snapshot};

/// The newest snapshot, and what each connected Envoy has of it. Clones share both.
#[derive(Clone, Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None` until the first snapshot: serving nothing is better than serving an empty world, on which
    /// Envoy would drop the clusters it has.
    snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    /// Touched when an Envoy has given an answer that it had not given yet.
    answers: watch::Sender<()>,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    /// By `node.id`.
    nodes: HashMap<String, Node>,
    next_stream: u64,
}

/// One Envoy. It has more than one stream for a moment when it reconnects, and for as long as it likes if its
/// bootstrap asks for a type on a stream of its own.
#[derive(Debug, Default)]
struct Node {
    streams: HashMap<u64, Known>,
    /// By cluster. Only those for which somebody waits.
    waiting: HashMap<String, Waiters>,
}

#[derive(Debug, Default)]
struct Known {
    /// Whether Envoy asks for clusters on it.
    carries_clusters: bool,
    clusters: HashSet<String>,
    refused: BTreeMap<Kind, BTreeMap<String, Refused>>,
    /// Of these Envoy has had, or refused, all there was in this edition, and in no newer one yet.
    settled: BTreeMap<Kind, Edition>,
}

#[derive(Debug, Default)]
struct Waiters {
    notify: Arc<Notify>,
    count: usize,
}

impl Node {
    fn carries_clusters(&self) -> bool {
        self.streams.values().any(|stream| stream.carries_clusters)
    }

    fn settled(&self) -> Editions {
        let newest =
            |kind| self.streams.values().filter_map(|stream| stream.settled.get(&kind)).max().copied();
        Editions(Kind::ALL.map(|kind| newest(kind).unwrap_or_default()))
    }
}

/// How [`Publisher::programmed`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programmed {
    /// That Envoy has the cluster: a request sent there will find it.
    Acked,
    /// That Envoy's stream for clusters is at another replica, or nowhere. Its `on_demand` filter has to do.
    NoStream,
}

/// A resource that an Envoy refuses in its present version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub node: String,
    pub kind: Kind,
    pub resource: String,
    pub why: Refused,
}

/// An Envoy at this replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Its `node.id`.
    pub node: String,
    /// The newest of which it has, or has refused, all there was. It may be busy with newer ones.
    pub settled: Editions,
}

impl Default for Publisher {
    fn default() -> Self {
        let shared = Shared {
            snapshot: watch::Sender::new(None),
            answers: watch::Sender::new(()),
            connections: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Publisher {
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `snapshot` what every Envoy is to have. Costs the streams nothing if it is what they have.
    pub fn publish(&self, snapshot: Snapshot) {
        self.shared.snapshot.send_if_modified(|current| {
            let before = current.clone().unwrap_or_default();
            let snapshot = snapshot.succeeding(&before);
            let changed = current.is_none() || snapshot.editions() != before.editions();
            if changed {
                *current = Some(Arc::new(snapshot));
            }
            changed
        });
    }

    /// Whether anything was published yet: before that, no Envoy is served.
    pub fn is_published(&self) -> bool {
        self.shared.snapshot.borrow().is_some()
    }

    /// Waits until the Envoy `node` has `cluster`. Does not end by itself while that Envoy is connected
    /// without having it (the cluster may not exist yet, or be refused): the caller sets the limit.
    /// Dropping the future is fine.
    pub async fn programmed(&self, node: Option<&str>, cluster: &str) -> Programmed {
        let Some(node) = node else {
            return Programmed::NoStream;
        };
        loop {
            match self.look(node, cluster) {
                Looked::Settled(answer) => return answer,
                Looked::Waits(_guard, woken) => woken.await,
            }
        }
    }

    /// What connected Envoys refuse at present, for the pools' conditions.
    pub fn rejected(&self) -> Vec<Rejected> {
        let connections = self.connections();
        let mut all: Vec<Rejected> = Vec::new();
        for (node, state) in &connections.nodes {
            for (&kind, refused) in state.streams.values().flat_map(|stream| &stream.refused) {
                all.extend(refused.iter().map(|(resource, why)| Rejected {
                    node: node.clone(),
                    kind,
                    resource: resource.clone(),
                    why: why.clone(),
                }));
            }
        }
        all.sort_by(|a, b| (&a.node, a.kind, &a.resource).cmp(&(&b.node, b.kind, &b.resource)));
        // An Envoy may refuse it on two streams.
        all.dedup();
        all
    }

    /// Hears when an Envoy refuses something else than before, and when it has dealt with all there is.
    pub fn answers(&self) -> watch::Receiver<()> {
        self.shared.answers.subscribe()
    }

    /// All Envoys with a stream at this replica, in the order of their names.
    pub fn connected(&self) -> Vec<Connected> {
        let connections = self.connections();
        let of = |(node, state): (&String, &Node)| Connected { node: node.clone(), settled: state.settled() };
        let mut connected: Vec<Connected> = connections.nodes.iter().map(of).collect();
        connected.sort_by(|a, b| a.node.cmp(&b.node));
        connected
    }

    /// How many xDS streams this replica serves.
    pub fn streams(&self) -> usize {
        self.connections().nodes.values().map(|node| node.streams.len()).sum()
    }

    /// Of what was published last. Those of nothing if nothing was.
    pub fn editions(&self) -> Editions {
        self.shared.snapshot.borrow().as_ref().map(|snapshot| snapshot.editions()).unwrap_or_default()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.shared.snapshot.subscribe()
    }

    /// Enters a stream of the Envoy `node`; it is known until the registration is dropped. Only one that
    /// `carries_clusters` is waited for.
    pub fn register(&self, node: &str, carries_clusters: bool) -> Registration {
        let mut connections = self.connections();
        let stream = connections.next_stream;
        connections.next_stream += 1;
        let known = Known { carries_clusters, ..Known::default() };
        connections.nodes.entry(node.to_owned()).or_default().streams.insert(stream, known);
        Registration { publisher: self.clone(), node: node.to_owned(), stream }
    }

    fn look(&self, node: &str, cluster: &str) -> Looked {
        let mut connections = self.connections();
        let Some(state) = connections.nodes.get_mut(node).filter(|node| node.carries_clusters()) else {
            return Looked::Settled(Programmed::NoStream);
        };
        if state.streams.values().any(|stream| stream.clusters.contains(cluster)) {
            return Looked::Settled(Programmed::Acked);
        }
        let waiters = state.waiting.entry(cluster.to_owned()).or_default();
        waiters.count += 1;
        let notify = Arc::clone(&waiters.notify);
        // Made under the lock: it hears every wake-up from here on, so no ACK falls between.
        let woken = Arc::clone(&notify).notified_owned();
        let guard =
            Waiter { publisher: self.clone(), node: node.to_owned(), cluster: cluster.to_owned(), notify };
        Looked::Waits(guard, woken)
    }

    /// A panic elsewhere cannot leave these maps half-written, so a poisoned lock is as good as any.
    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Looked {
    Settled(Programmed),
    Waits(Waiter, OwnedNotified),
}

/// One caller of `programmed`. Gone with its future, so that abandoned checks leave nothing behind.
struct Waiter {
    publisher: Publisher,
    node: String,
    cluster: String,
    notify: Arc<Notify>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut connections = self.publisher.connections();
        let Some(state) = connections.nodes.get_mut(&self.node) else {
            return;
        };
        // Already woken ones are no longer in the map, or others are, in their place.
        let Some(waiters) =
            state.waiting.get_mut(&self.cluster).filter(|w| Arc::ptr_eq(&w.notify, &self.notify))
        else {
            return;
        };
        waiters.count -= 1;
        if waiters.count == 0 {
            state.waiting.remove(&self.cluster);
        }
    }
}

/// What the publisher knows of one stream.
#[derive(Debug)]
pub struct Registration {
    publisher: Publisher,
    node: String,
    stream: u64,
}

impl Registration {
    /// Envoy has these clusters.
    pub fn gained(&self, clusters: Vec<String>) {
        for cluster in &clusters {
            tracing::debug!(node = self.node, cluster, "Envoy acknowledged a cluster");
        }
        self.update(|stream, waiting| {
            for cluster in clusters {
                if let Some(waiters) = waiting.remove(&cluster) {
                    waiters.notify.notify_waiters();
                }
                stream.clusters.insert(cluster);
            }
        });
    }

    /// Envoy has these clusters no more, or is about to drop them.
    pub fn lost<'a>(&self, clusters: impl IntoIterator<Item = &'a String>) {
        self.update(|stream, _| {
            for cluster in clusters {
                stream.clusters.remove(cluster);
            }
        });
    }

    /// Of this kind, Envoy refuses these and no others; all others of the edition `settled` it has.
    pub fn answered(&self, kind: Kind, refused: &BTreeMap<String, Refused>, settled: Option<Edition>) {
        let mut changed = false;
        self.update(|stream, _| {
            let before = settled.and_then(|edition| stream.settled.insert(kind, edition));
            let known = stream.refused.entry(kind).or_default();
            let refuses_other = known != refused;
            if refuses_other {
                known.clone_from(refused);
            }
            changed = refuses_other || settled.is_some() && settled != before;
        });
        if changed {
            self.publisher.shared.answers.send_replace(());
        }
    }

    fn update(&self, change: impl FnOnce(&mut Known, &mut HashMap<String, Waiters>)) {
        let mut connections = self.publisher.connections();
        let Some(node) = connections.nodes.get_mut(&self.node) else {
            return;
        };
        if let Some(stream) = node.streams.get_mut(&self.stream) {
            change(stream, &mut node.waiting);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut connections = self.publisher.connections();
        let Some(node) = connections.nodes.get_mut(&self.node) else {
            return;
        };
        let gone = node.streams.remove(&self.stream);
        if !node.carries_clusters() {
            // Whoever waits looks again, and finds no stream.
            for waiters in node.waiting.drain().map(|(_, waiters)| waiters) {
                waiters.notify.notify_waiters();
            }
        }
        if node.streams.is_empty() {
            connections.nodes.remove(&self.node);
        }
        drop(connections);
        if gone.is_some_and(|stream| stream.refused.values().any(|refused| !refused.is_empty())) {
            self.publisher.shared.answers.send_replace(());
        }
    }
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
