//! What one Envoy wants and has of one resource type: the protocol's two variants without their transport.

mod delta;
mod sotw;
mod version_info;

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::Any;
use uuid::Uuid;

use super::secret::marked;
use super::{Kind, Resource, Resources, Version};

pub use delta::DeltaSubscription;
pub use sotw::SotwSubscription;

/// The name by which a client asks for everything.
const WILDCARD: &str = "*";

/// A resource as it goes out in the response `sent` of the stream `stream`.
fn on_the_wire(kind: Kind, resource: &Resource, stream: Uuid, sent: u64) -> Any {
    match kind {
        Kind::Secret => marked(&resource.body, &format!("{stream} {sent}")),
        Kind::Cluster | Kind::Listener | Kind::Route => resource.body.clone(),
    }
}

/// One variant of the protocol.
pub trait Subscription {
    type Request: DiscoveryRequest;
    type Response: Send + 'static;

    /// `stream` is a name that no other stream has, at any replica.
    fn new(kind: Kind, stream: Uuid) -> Self;

    /// Takes one request in: an ACK or NACK, a change of what is wanted, or both.
    fn receive(&mut self, request: Self::Request) -> Receipt;

    /// What is due now. Empty while a response is unanswered: one is in flight at a time, and what changes
    /// meanwhile goes into the next one, so that a slow Envoy costs no memory and skips intermediate states.
    fn respond(&mut self, existing: &Resources) -> Due<Self::Response>;

    /// Versions that Envoy refuses, and that are not tried again. They stay until Envoy has taken another.
    fn rejected(&self) -> &BTreeMap<String, Refused>;

    /// Whether Envoy has given its answer to all there is: what is not [`Self::rejected`], it has. Says so only
    /// after [`Self::respond`] had nothing to send.
    fn is_settled(&self, existing: &Resources) -> bool;

    /// Something else has changed that may have been the reason why Envoy refused them.
    fn try_rejected_again(&mut self);
}

/// Whether Envoy is to ask for all of them. Those that a listener needs it asks for only after it has the listener,
/// but of routes some may be there that none needs.
fn asks_for_all(kind: Kind, existing: &Resources, wants: impl Fn(&str) -> bool) -> bool {
    kind == Kind::Route || existing.all().keys().all(|name| wants(name))
}

/// Whether Envoy's message speaks of this resource, and not of one whose name has this one in it.
fn is_named(name: &str, message: &str) -> bool {
    let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '/';
    message.match_indices(name).any(|(at, _)| {
        let before = message.get(..at).and_then(|text| text.chars().next_back());
        let after = message.get(at + name.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(goes_on) && !after.is_some_and(goes_on)
    })
}

/// What both variants' requests have.
pub trait DiscoveryRequest: Send + 'static {
    fn type_url(&self) -> &str;
    fn node(&self) -> Option<&Node>;
}

/// What a request told us.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Names that Envoy now has, in any version.
    pub gained: Vec<String>,
    /// Names that Envoy no longer has, or no longer wants.
    pub lost: Vec<String>,
    /// Names that Envoy now has in another version than before, or that it had refused.
    pub renewed: Vec<String>,
    pub rejection: Option<Rejection>,
}

/// What follows from the resources that there are.
#[derive(Debug, PartialEq)]
pub struct Due<R> {
    /// Names that Envoy turns out to have, because it reports the very version that these make.
    pub gained: Vec<String>,
    pub response: Option<R>,
    /// Names that Envoy may drop at any moment once it is sent the response.
    pub removed: Vec<String>,
}

impl<R> Default for Due<R> {
    fn default() -> Self {
        Self { gained: Vec::new(), response: None, removed: Vec::new() }
    }
}

/// A version that Envoy does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub version: Version,
    /// In Envoy's words.
    pub message: String,
}

/// Envoy refused a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub kind: Kind,
    /// What in the response may be at fault.
    pub suspects: BTreeMap<String, Version>,
    pub verdict: Verdict,
    /// In Envoy's words.
    pub message: String,
}

/// What is made of a refused response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// These are at fault. They are not sent again in this version.
    Culprits(Vec<String>),
    /// Smaller responses will show who it is.
    TryingParts,
    /// Nobody can tell. Envoy is left with what it has until there is something else to send.
    Unknown,
}
