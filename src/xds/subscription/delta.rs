use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as WireResource,
};
use uuid::Uuid;

use super::{
    DiscoveryRequest, Due, Kind, Receipt, Refused, Rejection, Resources, Subscription, Verdict, WILDCARD,
    asks_for_all, on_the_wire,
};
use crate::xds::{Edition, Resource, Version};

/// The delta variant: requests and responses say what changes.
///
/// Rules, and the failure each avoids:
/// - A version counts as delivered when Envoy ACKs it, never when it is sent.
/// - A name that does not exist is not answered "removed": Envoy would fail the request that waits for it
///   (`on_demand`). It is remembered, and sent when it appears.
/// - Envoy refuses a whole response for one bad resource. After a NACK smaller responses follow, until
///   the culprit stands alone; that version is not sent again, and the others arrive.
/// - Work follows what changed, not what there is: `open` is what is left to look at.
#[derive(Debug)]
pub struct DeltaSubscription {
    kind: Kind,
    stream: Uuid,
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
    /// Those of `rejected` that are to be sent once more as they are.
    retry: BTreeSet<String>,
    /// Names to look at for the next response: all that are due or to be removed are among them. No others
    /// stay longer than until then, so that it does not grow with what comes and goes meanwhile.
    open: BTreeSet<String>,
    /// What `open` is complete for.
    seen: Edition,
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

impl Subscription for DeltaSubscription {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn new(kind: Kind, stream: Uuid) -> Self {
        Self {
            kind,
            stream,
            started: false,
            wildcard: false,
            names: BTreeSet::new(),
            delivered: BTreeMap::new(),
            resend: BTreeSet::new(),
            uncertain: BTreeSet::new(),
            rejected: BTreeMap::new(),
            retry: BTreeSet::new(),
            open: BTreeSet::new(),
            seen: Edition::default(),
            in_flight: None,
            owes_first_answer: false,
            batch: usize::MAX,
            sent: 0,
        }
    }

    fn receive(&mut self, request: DeltaDiscoveryRequest) -> Receipt {
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

    fn respond(&mut self, existing: &Resources) -> Due<DeltaDiscoveryResponse> {
        if !self.started {
            return Due::default();
        }
        self.look_at(existing);
        if self.in_flight.is_some() {
            return Due::default();
        }
        let (due, removed) = self.take_due(existing);
        if due.is_empty() && removed.is_empty() && !self.owes_first_answer {
            return Due::default();
        }

        self.sent += 1;
        let nonce = self.sent.to_string();
        let response = DeltaDiscoveryResponse {
            type_url: self.kind.type_url().to_owned(),
            nonce: nonce.clone(),
            resources: due.iter().map(|(name, resource)| self.wire_resource(name, resource)).collect(),
            removed_resources: removed.clone(),
            ..Default::default()
        };
        let resources: BTreeMap<String, Version> =
            due.into_iter().map(|(name, resource)| (name, resource.version.clone())).collect();
        self.owes_first_answer = false;
        self.resend.retain(|name| !resources.contains_key(name));
        self.retry.retain(|name| !resources.contains_key(name));
        self.in_flight = Some(InFlight { nonce, resources, removed: removed.clone() });
        Due { gained: Vec::new(), response: Some(response), removed }
    }

    fn rejected(&self) -> &BTreeMap<String, Refused> {
        &self.rejected
    }

    fn is_settled(&self, existing: &Resources) -> bool {
        if !self.started {
            return existing.all().is_empty();
        }
        self.seen == existing.edition()
            && self.open.is_empty()
            && self.in_flight.is_none()
            && (self.wildcard || asks_for_all(self.kind, existing, |name| self.wants(name)))
    }

    fn try_rejected_again(&mut self) {
        self.retry.extend(self.rejected.keys().cloned());
        self.open.extend(self.rejected.keys().cloned());
    }
}

impl DeltaSubscription {
    /// What Envoy has, by its own word.
    pub fn delivered(&self) -> &BTreeMap<String, Version> {
        &self.delivered
    }

    fn wire_resource(&self, name: &str, resource: &Resource) -> WireResource {
        WireResource {
            name: name.to_owned(),
            version: resource.version.as_str().to_owned(),
            resource: Some(on_the_wire(self.kind, resource, self.stream, self.sent)),
            ..Default::default()
        }
    }

    /// Brings `open` up to `existing`.
    fn look_at(&mut self, existing: &Resources) {
        // What is gone, or again what Envoy has, is refused no more. What is replaced is tried under its new
        // version, and only Envoy's answer to that says something else.
        let mut rejected = mem::take(&mut self.rejected);
        rejected.retain(|name, at| {
            existing.get(name).is_some_and(|now| now.version == at.version || self.is_due(name, now))
        });
        self.rejected = rejected;
        self.retry.retain(|name| self.rejected.contains_key(name));
        let mut open = mem::take(&mut self.open);
        if let Some(changed) = existing.changed_since(self.seen) {
            for name in changed {
                if self.is_open(name, existing) {
                    open.insert(name.clone());
                } else {
                    open.remove(name);
                }
            }
        } else {
            let had = self.delivered.keys().chain(&self.resend).chain(&self.uncertain);
            let all = had.chain(existing.all().keys());
            open = all.filter(|name| self.is_open(name, existing)).cloned().collect();
        }
        self.open = open;
        self.seen = existing.edition();
    }

    /// What to send and what to remove. Settles what turns out to need neither.
    fn take_due(&mut self, existing: &Resources) -> (Vec<(String, Arc<Resource>)>, Vec<String>) {
        let (mut due, mut removed) = (Vec::new(), Vec::new());
        let mut open = mem::take(&mut self.open);
        open.retain(|name| {
            let still = self.is_open(name, existing);
            match existing.get(name) {
                _ if !still => {}
                None => removed.push(name.clone()),
                Some(resource) if due.len() < self.batch => due.push((name.clone(), Arc::clone(resource))),
                Some(_) => {}
            }
            still
        });
        self.open = open;
        (due, removed)
    }

    fn settle(&mut self, request: &DeltaDiscoveryRequest, receipt: &mut Receipt) {
        // Of an earlier stream, or a change of subscriptions that answers nothing.
        let Some(answered) = self.in_flight.take_if(|sent| sent.nonce == request.response_nonce) else {
            return;
        };
        self.open.extend(answered.resources.keys().chain(&answered.removed).cloned());
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
            let was_uncertain = self.uncertain.remove(&name);
            let was_refused = self.rejected.remove(&name).is_some();
            // Unsubscribed while it was on its way: Envoy has dropped it again.
            if !self.wants(&name) {
                continue;
            }
            let before = self.delivered.insert(name.clone(), version.clone());
            if was_refused || before.as_ref().is_some_and(|before| *before != version) {
                receipt.renewed.push(name.clone());
            }
            if before.is_none() || was_uncertain {
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
        let verdict = match answered.resources.len() {
            // Nothing in it can be at fault but the removals, and those are not worth a loop.
            0 => {
                for name in &answered.removed {
                    self.forget(name);
                }
                Verdict::Unknown
            }
            1 => {
                let refused =
                    |version: &Version| Refused { version: version.clone(), message: message.to_owned() };
                let culprits =
                    answered.resources.iter().map(|(name, version)| (name.clone(), refused(version)));
                self.rejected.extend(culprits);
                // It may be half-way to what it refused: a secret is used as it was, but kept as it came.
                let had = answered.resources.keys().filter(|name| self.delivered.contains_key(*name));
                self.uncertain.extend(had.cloned());
                Verdict::Culprits(answered.resources.keys().cloned().collect())
            }
            several => {
                self.batch = several.div_ceil(2);
                let (wildcard, names) = (self.wildcard, &self.names);
                let wanted = answered.resources.keys().filter(|name| wildcard || names.contains(*name));
                self.uncertain.extend(wanted.cloned());
                let tried_again = answered.resources.keys().filter(|name| self.rejected.contains_key(*name));
                self.retry.extend(tried_again.cloned());
                Verdict::TryingParts
            }
        };
        let (kind, message) = (self.kind, message.to_owned());
        receipt.rejection = Some(Rejection { kind, suspects: answered.resources, verdict, message });
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
            self.open.insert(name.clone());
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
                self.resend.insert(name.clone());
                self.open.insert(name);
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
            self.seen = Edition::default();
        } else {
            self.names.insert(name);
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    fn is_due(&self, name: &str, resource: &Resource) -> bool {
        self.wants(name)
            && self
                .rejected
                .get(name)
                .is_none_or(|refused| refused.version != resource.version || self.retry.contains(name))
            && (self.resend.contains(name)
                || self.uncertain.contains(name)
                || self.delivered.get(name) != Some(&resource.version))
    }

    /// Whether Envoy has to be sent something of it.
    fn is_open(&self, name: &str, existing: &Resources) -> bool {
        match existing.get(name) {
            Some(resource) => self.is_due(name, resource),
            None => {
                self.delivered.contains_key(name)
                    || self.resend.contains(name)
                    || self.uncertain.contains(name)
            }
        }
    }
}

impl DiscoveryRequest for DeltaDiscoveryRequest {
    fn type_url(&self) -> &str {
        &self.type_url
    }

    fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }
}

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
