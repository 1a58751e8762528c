use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest as WireRequest, DiscoveryResponse};
use uuid::Uuid;

use super::version_info::{self, Held};
use super::{
    DiscoveryRequest, Due, Kind, Receipt, Refused, Rejection, Resources, Subscription, Verdict, WILDCARD,
    asks_for_all, is_named, on_the_wire,
};
use crate::xds::{Edition, Resource, Version};

/// The state-of-the-world variant: requests and responses say all there is.
///
/// Of clusters and listeners a response is the whole truth: what it lacks, Envoy drops. Of routes and
/// secrets it may be a part, and nothing can be taken away.
///
/// Rules, and the failure each avoids:
/// - A version counts as delivered when Envoy ACKs it, never when it is sent.
/// - Envoy refuses a whole response for one bad resource. After a NACK fewer new versions are tried at a
///   time, until the culprit is alone among what Envoy has taken before. In its place Envoy is sent the
///   last version that it took, so that nothing is dropped, and the others arrive.
/// - The same response is never sent again after a NACK: Envoy would refuse it for ever, at full speed.
/// - `version_info` names what a response holds. An Envoy that comes back with that of all clusters or
///   listeners there are is sent none; with that of all but one, which may be the one that it refused on its
///   last stream, it is known to have the others. Of routes and secrets it may have dropped some meanwhile
///   (the protocol's "Resource Type Instance Version"), so it is sent them again.
/// - What an Envoy that comes back with another version has, nobody knows: perhaps all but the culprit. If it
///   refuses the whole, the clusters that its message names are left out. If it names none, one small part
///   after the other is left out, until it takes the rest and is known to have that: of what works, a part
///   is gone for some round trips. Only if there are culprits in several parts is it told anew from nothing.
/// - Listeners are not left out for an Envoy that may have them: it keeps what it has until there is something
///   else to send.
#[derive(Debug)]
pub struct SotwSubscription {
    kind: Kind,
    stream: Uuid,
    started: bool,
    wildcard: bool,
    /// From the first name on, no names mean nothing; before, everything.
    has_named: bool,
    names: BTreeSet<String>,
    /// The `version_info` of Envoy's last stream, until it has taken something on this one.
    earlier: Option<String>,
    /// What Envoy has taken on this stream.
    accepted: Held,
    /// To be sent although `accepted` has them: asked for again, or in a refused response, of which Envoy
    /// may have taken a part.
    resend: BTreeSet<String>,
    rejected: BTreeMap<String, Refused>,
    in_flight: Option<InFlight>,
    /// The last response was refused, and this was its version.
    refused_version: Option<Version>,
    /// What is due was refused just so, and nobody knows for which of it.
    in_the_dark: bool,
    /// An answer is owed even if it says nothing: Envoy's start waits for one, also when nothing exists.
    owes_first_answer: bool,
    /// New versions per response: halved by every NACK, doubled by every ACK.
    batch: usize,
    search: Search,
    sent: u64,
    /// Nothing is due of this edition before the next request.
    seen: Edition,
}

/// How the culprit is looked for in what an Envoy refuses of which nobody knows what it has.
#[derive(Clone, Copy, Debug)]
enum Search {
    /// Not yet.
    Whole,
    /// In all but this part of what is new to Envoy.
    Without(usize),
    /// By `batch`, as if Envoy had nothing.
    FromNothing,
}

/// Into how many parts a search divides, at most. Each is a response that is refused as a whole, and that is
/// the share of clusters that Envoy may be without for a moment.
const PARTS: usize = 16;

#[derive(Debug)]
struct InFlight {
    version: Version,
    resources: Held,
    /// Those of them that Envoy had not taken before.
    suspects: BTreeMap<String, Version>,
    removed: Vec<String>,
}

impl Subscription for SotwSubscription {
    type Request = WireRequest;
    type Response = DiscoveryResponse;

    fn new(kind: Kind, stream: Uuid) -> Self {
        Self {
            kind,
            stream,
            started: false,
            wildcard: false,
            has_named: false,
            names: BTreeSet::new(),
            earlier: None,
            accepted: Held::new(),
            resend: BTreeSet::new(),
            rejected: BTreeMap::new(),
            in_flight: None,
            refused_version: None,
            in_the_dark: false,
            owes_first_answer: false,
            batch: usize::MAX,
            search: Search::Whole,
            sent: 0,
            seen: Edition::default(),
        }
    }

    fn receive(&mut self, request: WireRequest) -> Receipt {
        let mut receipt = Receipt::default();
        // It crossed a response on the way. Envoy's answer to that one repeats all the names.
        if self.sent > 0 && request.response_nonce != self.sent.to_string() {
            return receipt;
        }
        self.seen = Edition::default();
        if let Some(answered) = self.in_flight.take() {
            match &request.error_detail {
                None => self.accept(answered, &mut receipt),
                Some(error) => self.refuse(answered, &error.message, &mut receipt),
            }
        }
        self.subscribe(request.resource_names, &mut receipt);
        if !self.started {
            self.started = true;
            self.owes_first_answer = self.wildcard;
            self.earlier = Some(request.version_info).filter(|version| !version.is_empty());
        }
        receipt
    }

    fn respond(&mut self, existing: &Resources) -> Due<DiscoveryResponse> {
        let unchanged = existing.changed_since(self.seen).is_some_and(<[String]>::is_empty);
        if !self.started || self.in_flight.is_some() || unchanged {
            return Due::default();
        }
        self.seen = existing.edition();
        self.in_the_dark = false;
        self.forget_refusals_of_what_is_gone(existing);

        let gained = self.resume(existing);
        let nothing = |gained| Due { gained, ..Due::default() };
        let whole = is_whole(self.kind);
        let (resources, suspects) = if whole { self.whole(existing) } else { self.part(existing) };
        let removed = if whole { self.lacking(&resources) } else { Vec::new() };
        // Until Envoy has taken something, nobody knows what of its last stream is to go.
        let may_have_more = !removed.is_empty() || !self.resend.is_empty() || self.earlier.is_some();
        let changes = !suspects.is_empty() || (whole && may_have_more);
        if !changes && !self.owes_first_answer {
            return nothing(gained);
        }
        let version = version_info::of(&resources);
        let sent_in_vain = self.refused_version.as_ref() == Some(&version);
        if sent_in_vain && suspects.len() > 1 && !matches!(self.search, Search::Whole) {
            self.search_on(suspects.len());
            self.seen = Edition::default();
            return self.respond(existing);
        }
        self.in_the_dark = sent_in_vain && !suspects.is_empty();
        if sent_in_vain || self.would_take_unseen(&resources, existing) {
            return nothing(gained);
        }

        self.sent += 1;
        self.owes_first_answer = false;
        let on_the_wire = |resource: &Arc<Resource>| on_the_wire(self.kind, resource, self.stream, self.sent);
        let response = DiscoveryResponse {
            version_info: version.as_str().to_owned(),
            type_url: self.kind.type_url().to_owned(),
            nonce: self.sent.to_string(),
            resources: resources.values().map(on_the_wire).collect(),
            ..Default::default()
        };
        self.in_flight = Some(InFlight { version, resources, suspects, removed: removed.clone() });
        Due { gained, response: Some(response), removed }
    }

    fn rejected(&self) -> &BTreeMap<String, Refused> {
        &self.rejected
    }

    fn is_settled(&self, existing: &Resources) -> bool {
        if !self.started {
            return existing.all().is_empty();
        }
        self.seen == existing.edition()
            && self.in_flight.is_none()
            && !self.in_the_dark
            && (self.wildcard || asks_for_all(self.kind, existing, |name| self.wants(name)))
    }

    fn try_rejected_again(&mut self) {
        self.rejected.clear();
        self.refused_version = None;
    }
}

impl SotwSubscription {
    /// Or is again what Envoy has. What is replaced is tried under its new version, and only Envoy's answer to
    /// that says something else.
    fn forget_refusals_of_what_is_gone(&mut self, existing: &Resources) {
        let before = self.rejected.len();
        self.rejected.retain(|name, at| {
            let taken = self.accepted.get(name).map(|taken| &taken.version);
            existing.get(name).is_some_and(|now| now.version == at.version || taken != Some(&now.version))
        });
        if self.rejected.len() < before {
            self.refused_version = None;
        }
    }

    /// All that Envoy is to have, in the newest version, in the last that it took, or not at all; and which
    /// of it is new to Envoy.
    fn whole(&mut self, existing: &Resources) -> (Held, BTreeMap<String, Version>) {
        let is_due = |name: &str, newest: &Arc<Resource>| {
            let taken = self.accepted.get(name);
            taken.is_none_or(|taken| taken.version != newest.version) && !self.refuses(name, newest)
        };
        let wanted = existing.all().iter().filter(|(name, _)| self.wants(name));
        let taken = |name: &String| Some((name.clone(), Arc::clone(self.accepted.get(name)?)));
        let mut resources: Held = wanted.clone().filter_map(|(name, _)| taken(name)).collect();
        let mut due: Vec<_> = wanted.filter(|(name, newest)| is_due(name, newest)).collect();
        let (count, parts) = (due.len(), due.len().min(PARTS));
        if let Search::Without(part) = self.search {
            if part < parts && count > 1 {
                let mut at = 0..count;
                due.retain(|_| at.next().is_none_or(|at| at * parts / count != part));
            } else {
                (self.search, self.batch) = (Search::FromNothing, count.div_ceil(2).max(1));
            }
        }
        due.truncate(self.batch);
        let suspects = due.iter().map(|(name, newest)| ((*name).clone(), newest.version.clone())).collect();
        resources.extend(due.into_iter().map(|(name, newest)| (name.clone(), Arc::clone(newest))));
        (resources, suspects)
    }

    /// What is wanted and new to Envoy, or to be sent again.
    fn part(&self, existing: &Resources) -> (Held, BTreeMap<String, Version>) {
        let is_due = |name: &String, resource: &Arc<Resource>| {
            let taken = self.accepted.get(name).map(|taken| &taken.version);
            !self.refuses(name, resource) && (self.resend.contains(name) || taken != Some(&resource.version))
        };
        let wanted = self.names.iter().filter_map(|name| existing.all().get_key_value(name));
        let due = wanted.filter(|(name, resource)| is_due(name, resource)).take(self.batch);
        let resources: Held = due.map(|(name, resource)| (name.clone(), Arc::clone(resource))).collect();
        let suspects = resources.iter().map(|(name, resource)| (name.clone(), resource.version.clone()));
        let suspects = suspects.collect();
        (resources, suspects)
    }

    fn refuses(&self, name: &str, resource: &Resource) -> bool {
        self.rejected.get(name).is_some_and(|refused| refused.version == resource.version)
    }

    fn lacking(&self, resources: &Held) -> Vec<String> {
        self.accepted.keys().filter(|name| !resources.contains_key(*name)).cloned().collect()
    }

    /// If Envoy comes from another stream with all there is, or with all but one, that is what it has. Tells
    /// the names.
    fn resume(&mut self, existing: &Resources) -> Vec<String> {
        let wants_all_and_no_answer = is_whole(self.kind) && self.wildcard && self.names.is_empty();
        let earlier = self.earlier.as_deref().filter(|_| self.sent == 0 && wants_all_and_no_answer);
        let Some(had) = earlier.and_then(|version| version_info::held_by(version, existing.all())) else {
            return Vec::new();
        };
        self.earlier = None;
        self.owes_first_answer = false;
        self.accepted = had;
        self.accepted.keys().cloned().collect()
    }

    /// Whether this leaves out something refused of which Envoy may have an older version that works, from
    /// an earlier stream. A cluster's name means one address for ever, so there hardly is one; but to take
    /// away all of them is never right.
    fn would_take_unseen(&self, resources: &Held, existing: &Resources) -> bool {
        let leaves_out =
            || existing.all().keys().any(|name| self.wants(name) && !resources.contains_key(name));
        let dispensable = self.kind == Kind::Cluster && !resources.is_empty();
        self.earlier.is_some() && is_whole(self.kind) && !dispensable && leaves_out()
    }

    fn accept(&mut self, answered: InFlight, receipt: &mut Receipt) {
        self.batch = self.batch.saturating_mul(2);
        self.search = Search::Whole;
        self.refused_version = None;
        self.earlier = None;
        let InFlight { resources, suspects, .. } = answered;
        let no_longer: BTreeMap<_, _> =
            self.rejected.extract_if(.., |name, _| suspects.contains_key(name)).collect();
        let other = |name: &String, now: &Resource| {
            let before = self.accepted.get(name);
            no_longer.contains_key(name) || before.is_some_and(|before| before.version != now.version)
        };
        let renewed = resources.iter().filter(|(name, now)| other(name, now));
        receipt.renewed.extend(renewed.map(|(name, _)| name.clone()));
        let new = |name: &&String| !self.accepted.contains_key(*name) || self.resend.contains(*name);
        receipt.gained.extend(resources.keys().filter(new).cloned());
        if is_whole(self.kind) {
            self.resend.clear();
            self.accepted = resources;
        } else {
            self.resend.retain(|name| !resources.contains_key(name));
            self.accepted.extend(resources);
        }
    }

    fn refuse(&mut self, answered: InFlight, message: &str, receipt: &mut Receipt) {
        let InFlight { version, suspects, removed, .. } = answered;
        self.refused_version = Some(version);
        let all_new = self.earlier.is_some() && is_whole(self.kind);
        let mut named = suspects.keys().filter(|name| all_new && is_named(name, message)).peekable();
        let verdict = match suspects.len() {
            0 => Verdict::Unknown,
            1 => Verdict::Culprits(suspects.keys().cloned().collect()),
            _ if named.peek().is_some() => Verdict::Culprits(named.cloned().collect()),
            _ if all_new && self.kind == Kind::Listener => Verdict::Unknown,
            several => {
                if all_new && matches!(self.search, Search::Whole) {
                    self.search = Search::Without(0);
                } else {
                    self.search_on(several);
                }
                Verdict::TryingParts
            }
        };
        if let Verdict::Culprits(culprits) = &verdict {
            if !matches!(self.search, Search::FromNothing) {
                self.search = Search::Whole;
            }
            for (name, version) in culprits.iter().filter_map(|name| suspects.get_key_value(name)) {
                let refused = Refused { version: version.clone(), message: message.to_owned() };
                self.rejected.insert(name.clone(), refused);
            }
        }
        // Envoy may have taken all but the culprit. What was one in another version may be none now.
        let culprit = |name: &str, version: &Version| {
            self.rejected.get(name).is_some_and(|refused| refused.version == *version)
        };
        let others = suspects.iter().filter(|(name, version)| !culprit(name, version)).map(|(name, _)| name);
        self.resend.extend(others.chain(&removed).cloned());
        let (kind, message) = (self.kind, message.to_owned());
        receipt.rejection = Some(Rejection { kind, suspects, verdict, message });
    }

    /// After a response with that many suspects.
    fn search_on(&mut self, suspects: usize) {
        match self.search {
            Search::Without(part) => self.search = Search::Without(part + 1),
            Search::Whole | Search::FromNothing => self.batch = suspects.div_ceil(2),
        }
    }

    fn subscribe(&mut self, names: Vec<String>, receipt: &mut Receipt) {
        self.has_named |= !names.is_empty();
        let mut names: BTreeSet<String> = names.into_iter().collect();
        self.wildcard = is_whole(self.kind) && (names.remove(WILDCARD) || !self.has_named);
        let before = mem::replace(&mut self.names, names);
        // A name asked for anew must be answered, also if Envoy has it by the wildcard.
        let asked_anew = self.names.difference(&before).filter(|name| self.accepted.contains_key(*name));
        self.resend.extend(asked_anew.cloned());
        if !self.wildcard {
            let names = &self.names;
            self.resend.retain(|name| names.contains(name));
            let unwanted: Vec<String> =
                self.accepted.keys().filter(|name| !names.contains(*name)).cloned().collect();
            for name in &unwanted {
                self.accepted.remove(name);
            }
            receipt.lost.extend(unwanted);
            receipt.gained.retain(|name| names.contains(name));
            self.owes_first_answer = false;
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}

/// Whether Envoy drops what a response of this type lacks.
fn is_whole(kind: Kind) -> bool {
    matches!(kind, Kind::Cluster | Kind::Listener)
}

impl DiscoveryRequest for WireRequest {
    fn type_url(&self) -> &str {
        &self.type_url
    }

    fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }
}

#[cfg(test)]
#[path = "sotw_tests.rs"]
mod tests;
