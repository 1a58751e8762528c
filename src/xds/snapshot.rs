use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use imbl::OrdMap;

use super::{Edition, Resources};

/// Everything Envoy is to have, at one moment. Equal when names and versions are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    clusters: Resources,
    secrets: Resources,
    listeners: Resources,
    routes: Resources,
}

impl Snapshot {
    pub fn insert(&mut self, kind: Kind, name: impl Into<String>, resource: Resource) {
        self.resources_mut(kind).insert(name.into(), Arc::new(resource));
    }

    pub fn remove(&mut self, kind: Kind, name: &str) {
        self.resources_mut(kind).remove(name);
    }

    pub fn clear(&mut self, kind: Kind) {
        *self.resources_mut(kind) = Resources::default();
    }

    pub fn of(&self, kind: Kind) -> &OrdMap<String, Arc<Resource>> {
        self.resources(kind).all()
    }

    pub fn resources(&self, kind: Kind) -> &Resources {
        match kind {
            Kind::Cluster => &self.clusters,
            Kind::Secret => &self.secrets,
            Kind::Listener => &self.listeners,
            Kind::Route => &self.routes,
        }
    }

    fn resources_mut(&mut self, kind: Kind) -> &mut Resources {
        match kind {
            Kind::Cluster => &mut self.clusters,
            Kind::Secret => &mut self.secrets,
            Kind::Listener => &mut self.listeners,
            Kind::Route => &mut self.routes,
        }
    }

    /// This, as what follows `before`: see [`Resources::succeeding`].
    pub(super) fn succeeding(self, before: &Self) -> Self {
        Self {
            clusters: self.clusters.succeeding(&before.clusters),
            secrets: self.secrets.succeeding(&before.secrets),
            listeners: self.listeners.succeeding(&before.listeners),
            routes: self.routes.succeeding(&before.routes),
        }
    }

    /// Of what is published, those of its resources.
    pub fn editions(&self) -> Editions {
        Editions(Kind::ALL.map(|kind| self.resources(kind).edition()))
    }
}

/// One of each type, in the order of [`Kind::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Editions(pub [Edition; Kind::ALL.len()]);

impl Editions {
    /// Whether none is older than in `other`.
    pub fn contain(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).all(|(edition, other)| *edition >= other)
    }
}

/// A resource as Envoy reads it.
#[derive(Clone)]
pub struct Resource {
    pub version: Version,
    pub body: Any,
}

/// Without the body, which may hold a private key.
impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource").field("version", &self.version).finish_non_exhaustive()
    }
}

/// By version alone: protobuf maps encode in random order, so equal resources may differ in bytes.
impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

impl Eq for Resource {}

/// Names the content of a resource: the same on every replica and after every restart, so that an Envoy
/// which reconnects is sent nothing it already has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(String);

impl Version {
    /// Hashes the domain objects from which a resource is made. Not the resource: its bytes are not
    /// canonical.
    pub fn of(input: &impl Hash) -> Self {
        let mut digest = Digest(blake3::Hasher::new());
        REVISION.hash(&mut digest);
        input.hash(&mut digest);
        Self(digest.0.finalize().to_hex().chars().take(16).collect())
    }

    /// A version as Envoy repeats it.
    pub fn reported(version: impl Into<String>) -> Self {
        Self(version.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Part of every version. Raise it with every change of what `translate` makes of the same input: an
/// Envoy that reconnects after an upgrade of the operator would otherwise keep the old form for ever.
/// The golden test refuses a changed body under an unchanged version.
const REVISION: u32 = 21;

/// `std::hash::Hash` into BLAKE3: `DefaultHasher`'s algorithm may change with the Rust release.
struct Digest(blake3::Hasher);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let mut head = [0; 8];
        self.0.finalize_xof().fill(&mut head);
        u64::from_le_bytes(head)
    }
}

/// The resource types that we serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Cluster,
    Secret,
    Listener,
    Route,
}

impl Kind {
    /// In the order in which one push goes out: what is referred to before what refers to it.
    pub const ALL: [Self; 4] = [Self::Cluster, Self::Secret, Self::Listener, Self::Route];

    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    pub fn from_type_url(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Secret => "secret",
            Self::Listener => "listener",
            Self::Route => "route configuration",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_same_in_every_process() {
        // A literal: if this changes, every Envoy is sent everything again. Harmless, but worth knowing.
        let mut digest = Digest(blake3::Hasher::new());
        ("a", 1_u32).hash(&mut digest);
        assert_eq!(digest.finish(), 871_434_966_527_760_795);
        assert_ne!(Version::of(&("a", 2_u32)), Version::of(&("a", 1_u32)));
    }

    #[test]
    fn kinds_are_known_by_their_type_urls() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_type_url(kind.type_url()), Some(kind));
        }
        assert_eq!(Kind::from_type_url("type.googleapis.com/google.protobuf.Empty"), None);
    }
}
