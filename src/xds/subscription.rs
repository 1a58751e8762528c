use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as WireResource,
};

use super::{Kind, Resource, Version};

/// The name by which a client asks for everything.
const WILDCARD: &str = "*";

/// What one Envoy wants and has of one resource type: the delta protocol without its transport.
///
/// Rules, and the failure each avoids:
/// - A version counts as delivered when Envoy ACKs it, never when it is sent.
/// - One response is in flight at a time; what changes meanwhile goes into the next one, so that a slow
///   Envoy costs no memory and skips intermediate states.
/// - A name that does not exist is not answered "removed": Envoy would fail the request that waits for it
///   (`on_demand`). It is remembered, and sent when it appears.
/// - Envoy refuses a whole response for one bad resource. After a NACK smaller responses follow, until
///   the culprit stands alone; that version is not sent again, and the others arrive.
#[derive(Debug)]
pub struct Subscription {
    kind: Kind,
    started: bool,
    wildcard: bool,
    names: BTreeSet<String>,
    /// What Envoy has, by its own word.
    delivered: BTreeMap<String, Version>,
    /// To be sent whatever `delivered` says, because Envoy asked for it again.
    resend: BTreeSet<String>,
    /// Resources and removals of refused responses, which Envoy may have taken in part. What `delivered`
    /// says of them counts for nothing until Envoy acknowledges a response with them.
    uncertain: BTreeSet<String>,
    rejected: BTreeMap<String, Refused>,
    in_flight: Option<InFlight>,
    /// An answer is owed even if it says nothing: Envoy's start waits for one, also when nothing exists.
    owes_first_answer: bool,
    /// Resources per response: halved by every NACK, doubled by every ACK.
    batch: usize,
    sent: u64,
}

#[derive(Debug)]
struct InFlight {
    nonce: String,
    resources: BTreeMap<String, Version>,
    removed: Vec<String>,
}

/// What a request told us.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Names that Envoy now has, in any version.
    pub gained: Vec<String>,
    /// Names that Envoy no longer has, or no longer wants.
    pub lost: Vec<String>,
    pub rejection: Option<Rejection>,
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
    /// All that the response held. The culprit is known only when there is one.
    pub resources: BTreeMap<String, Version>,
    /// In Envoy's words.
    pub message: String,
}

impl Rejection {
    /// Whether this settles which resource is at fault.
    pub fn is_final(&self) -> bool {
        self.resources.len() == 1
    }
}

impl Subscription {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            started: false,
            wildcard: false,
            names: BTreeSet::new(),
            delivered: BTreeMap::new(),
            resend: BTreeSet::new(),
            uncertain: BTreeSet::new(),
            rejected: BTreeMap::new(),
            in_flight: None,
            owes_first_answer: false,
            batch: usize::MAX,
            sent: 0,
        }
    }

    /// Takes one request in: an ACK or NACK, a change of what is wanted, or both.
    pub fn receive(&mut self, request: DeltaDiscoveryRequest) -> Receipt {
        let mut receipt = Receipt::default();
        self.settle(&request, &mut receipt);
        if self.started {
            self.subscribe_again(request.resource_names_subscribe);
        } else {
            self.start(request.resource_names_subscribe, request.initial_resource_versions, &mut receipt);
        }
        self.unsubscribe(request.resource_names_unsubscribe, &mut receipt);
        receipt
    }

    /// The next response, if one is due. Names in its `removed_resources` are not Envoy's any more from
    /// here on: Envoy may drop them at any moment.
    pub fn respond(&mut self, existing: &BTreeMap<String, Resource>) -> Option<DeltaDiscoveryResponse> {
        if !self.started || self.in_flight.is_some() {
            return None;
        }
        // What is gone or replaced may be tried again under its new version.
        self.rejected.retain(|name, at| existing.get(name).is_some_and(|now| now.version == at.version));

        let due: Vec<(&String, &Resource)> =
            existing.iter().filter(|(name, resource)| self.is_due(name, resource)).take(self.batch).collect();
        let removed = self.removed(existing);
        if due.is_empty() && removed.is_empty() && !self.owes_first_answer {
            return None;
        }

        self.sent += 1;
        let nonce = self.sent.to_string();
        let resources: BTreeMap<String, Version> =
            due.iter().map(|(name, resource)| ((*name).clone(), resource.version.clone())).collect();
        let response = DeltaDiscoveryResponse {
            type_url: self.kind.type_url().to_owned(),
            nonce: nonce.clone(),
            resources: due.into_iter().map(|(name, resource)| on_the_wire(name, resource)).collect(),
            removed_resources: removed.clone(),
            ..Default::default()
        };
        self.owes_first_answer = false;
        self.resend.retain(|name| !resources.contains_key(name));
        self.in_flight = Some(InFlight { nonce, resources, removed });
        Some(response)
    }

    /// What Envoy has, by its own word.
    pub fn delivered(&self) -> &BTreeMap<String, Version> {
        &self.delivered
    }

    /// Versions that Envoy refused, each sent alone, and that are not tried again.
    pub fn rejected(&self) -> &BTreeMap<String, Refused> {
        &self.rejected
    }

    fn settle(&mut self, request: &DeltaDiscoveryRequest, receipt: &mut Receipt) {
        // Of an earlier stream, or a change of subscriptions that answers nothing.
        let Some(answered) = self.in_flight.take_if(|sent| sent.nonce == request.response_nonce) else {
            return;
        };
        match &request.error_detail {
            None => self.accept(answered, receipt),
            Some(error) => self.refuse(answered, &error.message, receipt),
        }
    }

    fn accept(&mut self, answered: InFlight, receipt: &mut Receipt) {
        self.batch = self.batch.saturating_mul(2);
        for name in answered.removed {
            self.forget(&name);
        }
        for (name, version) in answered.resources {
            self.uncertain.remove(&name);
            // Unsubscribed while it was on its way: Envoy has dropped it again.
            if self.wants(&name) && self.delivered.insert(name.clone(), version).is_none() {
                receipt.gained.push(name);
            }
        }
    }

    /// Envoy does not have it any more.
    fn forget(&mut self, name: &str) {
        self.delivered.remove(name);
        self.resend.remove(name);
        self.uncertain.remove(name);
    }

    fn refuse(&mut self, answered: InFlight, message: &str, receipt: &mut Receipt) {
        if !answered.resources.is_empty() {
            self.uncertain.extend(answered.removed.iter().cloned());
        }
        match answered.resources.len() {
            // Nothing in it can be at fault but the removals, and those are not worth a loop.
            0 => {
                for name in &answered.removed {
                    self.forget(name);
                }
            }
            1 => self.rejected.extend(answered.resources.iter().map(|(name, version)| {
                (name.clone(), Refused { version: version.clone(), message: message.to_owned() })
            })),
            several => {
                self.batch = several.div_ceil(2);
                let (wildcard, names) = (self.wildcard, &self.names);
                let wanted = answered.resources.keys().filter(|name| wildcard || names.contains(*name));
                self.uncertain.extend(wanted.cloned());
            }
        }
        receipt.rejection =
            Some(Rejection { kind: self.kind, resources: answered.resources, message: message.to_owned() });
    }

    fn start(
        &mut self,
        subscribe: Vec<String>,
        versions: impl IntoIterator<Item = (String, String)>,
        receipt: &mut Receipt,
    ) {
        self.started = true;
        // No names at all in the first request of a type mean all of them.
        self.wildcard = subscribe.is_empty();
        for name in subscribe {
            self.add(name);
        }
        for (name, version) in versions {
            receipt.gained.push(name.clone());
            self.delivered.insert(name, Version::reported(version));
        }
        self.owes_first_answer = self.wildcard && self.delivered.is_empty();
    }

    /// A name asked for again must be answered again, even if Envoy seems to have it.
    fn subscribe_again(&mut self, names: Vec<String>) {
        for name in names {
            let on_its_way = self.in_flight.as_ref().is_some_and(|sent| sent.resources.contains_key(&name));
            if self.delivered.contains_key(&name) || on_its_way {
                self.resend.insert(name.clone());
            }
            self.add(name);
        }
    }

    fn unsubscribe(&mut self, names: Vec<String>, receipt: &mut Receipt) {
        for name in names {
            if name == WILDCARD {
                self.wildcard = false;
                self.owes_first_answer = false;
            } else if self.names.remove(&name) && self.wildcard && self.delivered.contains_key(&name) {
                // Still wanted by the wildcard, which Envoy cannot know before it is told.
                self.resend.insert(name);
            }
        }
        if !self.wildcard {
            self.resend.retain(|name| self.names.contains(name));
            self.uncertain.retain(|name| self.names.contains(name));
            let unwanted = self.delivered.extract_if(.., |name, _| !self.names.contains(name));
            receipt.lost.extend(unwanted.map(|(name, _)| name));
        }
    }

    fn add(&mut self, name: String) {
        if name == WILDCARD {
            self.wildcard = true;
        } else {
            self.names.insert(name);
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    fn is_due(&self, name: &str, resource: &Resource) -> bool {
        self.wants(name)
            && self.rejected.get(name).is_none_or(|refused| refused.version != resource.version)
            && (self.resend.contains(name)
                || self.uncertain.contains(name)
                || self.delivered.get(name) != Some(&resource.version))
    }

    fn removed(&self, existing: &BTreeMap<String, Resource>) -> Vec<String> {
        let had: BTreeSet<&String> =
            self.delivered.keys().chain(&self.resend).chain(&self.uncertain).collect();
        had.into_iter().filter(|name| !existing.contains_key(*name)).cloned().collect()
    }
}

fn on_the_wire(name: &str, resource: &Resource) -> WireResource {
    WireResource {
        name: name.to_owned(),
        version: resource.version.as_str().to_owned(),
        resource: Some(resource.body.clone()),
        ..Default::default()
    }
}

#[cfg(test)]
#[path = "subscription_tests.rs"]
mod tests;
