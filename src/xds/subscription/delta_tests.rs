use std::sync::Arc;

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc::Status;
use envoy_types::util::pack_any;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::model::Certificate;

const STREAM: Uuid = Uuid::from_u128(1);

fn world(resources: &[(&str, &str)]) -> Resources {
    let mut world = Resources::default();
    for (name, version) in resources {
        let resource = Resource { version: Version::reported(*version), body: Any::default() };
        world.insert((*name).to_owned(), Arc::new(resource));
    }
    world
}

fn asks_for(names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

fn acks(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { response_nonce: response.nonce.clone(), ..Default::default() }
}

fn nacks(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    let error = Status { message: "field-invalid".to_owned(), ..Default::default() };
    DeltaDiscoveryRequest { error_detail: Some(error), ..acks(response) }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

/// A client that has asked for everything.
fn wildcard() -> DeltaSubscription {
    let mut subscription = DeltaSubscription::new(Kind::Cluster, STREAM);
    subscription.receive(asks_for(&[]));
    subscription
}

fn respond(subscription: &mut DeltaSubscription, world: &Resources) -> DeltaDiscoveryResponse {
    subscription.respond(world).response.expect("a response is due")
}

#[test]
fn nothing_is_sent_to_who_has_asked_for_nothing() {
    assert!(DeltaSubscription::new(Kind::Cluster, STREAM).respond(&world(&[("a", "1")])).response.is_none());
}

#[test]
fn a_resource_counts_as_delivered_when_it_is_acknowledged() {
    let mut subscription = wildcard();
    let response = respond(&mut subscription, &world(&[("a", "1")]));
    assert_eq!(names(&response), ["a"]);
    assert!(subscription.delivered().is_empty());

    let receipt = subscription.receive(acks(&response));

    assert_eq!(receipt.gained, ["a"]);
    assert!(subscription.delivered().contains_key("a"));
    assert!(subscription.respond(&world(&[("a", "1")])).response.is_none());
}

#[test]
fn an_empty_world_is_answered_too_because_envoys_start_waits_for_it() {
    let response = respond(&mut wildcard(), &Resources::default());
    assert!(response.resources.is_empty() && response.removed_resources.is_empty());
}

#[test]
fn changes_during_a_response_go_into_the_next_one_together() {
    let mut subscription = wildcard();
    let first = respond(&mut subscription, &world(&[("a", "1")]));
    assert!(subscription.respond(&world(&[("a", "2")])).response.is_none());

    subscription.receive(acks(&first));
    let next = respond(&mut subscription, &world(&[("a", "3"), ("b", "1")]));

    assert_eq!(names(&next), ["a", "b"]);
}

#[test]
fn a_name_that_does_not_exist_is_remembered_and_sent_when_it_appears() {
    let mut subscription = wildcard();
    let response = respond(&mut subscription, &Resources::default());
    subscription.receive(acks(&response));

    subscription.receive(asks_for(&["late"]));
    assert!(subscription.respond(&Resources::default()).response.is_none());

    assert_eq!(names(&respond(&mut subscription, &world(&[("late", "1")]))), ["late"]);
}

#[test]
fn an_explicit_name_brings_no_others() {
    let mut subscription = DeltaSubscription::new(Kind::Route, STREAM);
    subscription.receive(asks_for(&["a"]));
    let response = respond(&mut subscription, &world(&[("a", "1"), ("b", "1")]));
    assert_eq!(names(&response), ["a"]);
}

#[test]
fn what_disappears_is_removed() {
    let mut subscription = wildcard();
    let response = respond(&mut subscription, &world(&[("a", "1")]));
    subscription.receive(acks(&response));

    let response = respond(&mut subscription, &Resources::default());

    assert_eq!(response.removed_resources, ["a"]);
    subscription.receive(acks(&response));
    assert!(subscription.delivered().is_empty());
    assert!(subscription.respond(&Resources::default()).response.is_none());
}

#[test]
fn a_reconnecting_envoy_is_sent_only_what_changed_meanwhile() {
    let mut subscription = DeltaSubscription::new(Kind::Cluster, STREAM);
    let versions = [("same", "1"), ("changed", "1"), ("gone", "1")];
    let initial_resource_versions =
        versions.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect();
    let mut receipt =
        subscription.receive(DeltaDiscoveryRequest { initial_resource_versions, ..asks_for(&["*"]) });
    receipt.gained.sort();
    assert_eq!(receipt.gained, ["changed", "gone", "same"]);

    let response = respond(&mut subscription, &world(&[("same", "1"), ("changed", "2")]));

    assert_eq!(names(&response), ["changed"]);
    assert_eq!(response.removed_resources, ["gone"]);
}

#[test]
fn a_name_asked_for_again_is_sent_again() {
    let mut subscription = wildcard();
    let response = respond(&mut subscription, &world(&[("a", "1")]));
    subscription.receive(acks(&response));

    let receipt = subscription.receive(asks_for(&["a"]));

    assert_eq!(receipt, Receipt::default());
    assert_eq!(names(&respond(&mut subscription, &world(&[("a", "1")]))), ["a"]);
}

#[test]
fn a_name_no_longer_wanted_is_lost() {
    let mut subscription = DeltaSubscription::new(Kind::Cluster, STREAM);
    subscription.receive(asks_for(&["a"]));
    let response = respond(&mut subscription, &world(&[("a", "1")]));
    subscription.receive(acks(&response));

    let resource_names_unsubscribe = vec!["a".to_owned()];
    let receipt =
        subscription.receive(DeltaDiscoveryRequest { resource_names_unsubscribe, ..Default::default() });

    assert_eq!(receipt.lost, ["a"]);
    assert!(subscription.respond(&world(&[("a", "2")])).response.is_none());
}

#[test]
fn an_unknown_nonce_acknowledges_nothing() {
    let mut subscription = wildcard();
    respond(&mut subscription, &world(&[("a", "1")]));
    let stale =
        DeltaDiscoveryRequest { response_nonce: "of another stream".to_owned(), ..Default::default() };
    assert_eq!(subscription.receive(stale), Receipt::default());
    assert!(subscription.delivered().is_empty());
}

#[test]
fn a_rejected_version_is_not_sent_again_but_its_successor_is() {
    let mut subscription = wildcard();
    let response = respond(&mut subscription, &world(&[("bad", "1")]));
    let rejection = subscription.receive(nacks(&response)).rejection.expect("a rejection");
    assert_eq!(rejection.verdict, Verdict::Culprits(vec!["bad".to_owned()]));
    assert_eq!(rejection.message, "field-invalid");
    assert!(subscription.respond(&world(&[("bad", "1")])).response.is_none());
    assert!(subscription.rejected().contains_key("bad"));

    let successor = respond(&mut subscription, &world(&[("bad", "2")]));
    assert_eq!(names(&successor), ["bad"]);
    assert!(
        subscription.rejected().contains_key("bad"),
        "until Envoy has said what it thinks of the successor"
    );
    subscription.receive(acks(&successor));
    assert!(subscription.rejected().is_empty());
}

#[test]
fn what_goes_back_to_before_it_was_refused_is_sent_again() {
    let mut subscription = wildcard();
    for (version, answer) in [("1", acks as fn(&_) -> _), ("2", nacks), ("1", acks)] {
        let response = respond(&mut subscription, &world(&[("a", version)]));
        subscription.receive(answer(&response));
    }
    assert!(subscription.rejected().is_empty());
    assert!(subscription.respond(&world(&[("a", "1")])).response.is_none());
}

#[test]
fn what_is_refused_is_tried_again_when_the_reason_may_have_gone() {
    let mut subscription = wildcard();
    let world = world(&[("a", "1")]);
    let refused = respond(&mut subscription, &world);
    subscription.receive(nacks(&refused));
    assert!(subscription.respond(&world).response.is_none());
    subscription.try_rejected_again();
    let again = respond(&mut subscription, &world);
    assert_eq!(names(&again), ["a"]);
    assert!(subscription.rejected().contains_key("a"), "until Envoy has said what it thinks of it now");
    subscription.receive(acks(&again));
    assert!(subscription.rejected().is_empty());
}

#[test]
fn all_is_settled_when_envoy_has_it_or_refuses_it() {
    let world = world(&[("a", "1"), ("bad", "1")]);
    let mut subscription = DeltaSubscription::new(Kind::Secret, STREAM);
    let settled_after = |subscription: &mut DeltaSubscription, request: Option<DeltaDiscoveryRequest>| {
        if let Some(request) = request {
            subscription.receive(request);
        }
        (subscription.respond(&world).response, subscription.is_settled(&world))
    };
    assert_eq!(settled_after(&mut subscription, None), (None, false), "it has not asked for them yet");
    let (both, settled) = settled_after(&mut subscription, Some(asks_for(&["a", "bad"])));
    assert!(!settled, "it has not answered");
    let (half, settled) = settled_after(&mut subscription, Some(nacks(&both.unwrap())));
    assert!(!settled, "one of them is good");
    let (other, settled) = settled_after(&mut subscription, Some(acks(&half.unwrap())));
    assert!(!settled);
    assert_eq!(settled_after(&mut subscription, Some(nacks(&other.unwrap()))), (None, true));
    assert!(subscription.is_settled(&world));
    let more = super::tests::world(&[("a", "1"), ("bad", "1"), ("new", "1")]);
    assert!(subscription.respond(&more).response.is_none() && !subscription.is_settled(&more), "it will ask");
}

#[test]
fn who_has_not_asked_for_a_type_has_not_answered_it() {
    for kind in Kind::ALL {
        let subscription = DeltaSubscription::new(kind, STREAM);
        assert!(subscription.is_settled(&world(&[])), "there is nothing to ask for");
        assert!(!subscription.is_settled(&world(&[("a", "1")])), "{kind}");
    }
}

#[test]
fn a_secret_that_comes_again_comes_in_other_bytes() {
    let key = rcgen::KeyPair::generate().unwrap();
    let chain =
        rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    let certificate = Certificate::parse(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let secret = |name: &str| {
        let body = pack_any(crate::xds::secret::secret(name, &certificate));
        (name.to_owned(), Arc::new(Resource { version: Version::reported("1"), body }))
    };
    let mut world = Resources::default();
    for (name, secret) in ["a", "b"].map(secret) {
        world.insert(name, secret);
    }
    let chain_of_a = |response: &DeltaDiscoveryResponse| {
        let secret =
            Secret::decode(response.resources[0].resource.as_ref().unwrap().value.as_slice()).unwrap();
        let Some(secret::Type::TlsCertificate(certificate)) = secret.r#type else { panic!("{secret:?}") };
        let Some(DataSource { specifier: Some(Specifier::InlineBytes(chain)), .. }) =
            certificate.certificate_chain
        else {
            panic!("no chain")
        };
        String::from_utf8(chain).unwrap()
    };
    let mut subscription = DeltaSubscription::new(Kind::Secret, STREAM);
    subscription.receive(asks_for(&["a", "b"]));
    let both = respond(&mut subscription, &world);
    subscription.receive(nacks(&both));
    let alone = respond(&mut subscription, &world);
    let mut elsewhere = DeltaSubscription::new(Kind::Secret, Uuid::from_u128(2));
    elsewhere.receive(asks_for(&["a", "b"]));
    let elsewhere = respond(&mut elsewhere, &world);

    let sent = [&both, &alone, &elsewhere].map(chain_of_a);
    assert!(sent[0] != sent[1] && sent[1] != sent[2] && sent[2] != sent[0], "{sent:?}");
    for sent in sent {
        let again = Certificate::parse(sent.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        assert_eq!(again, certificate);
    }
}

#[test]
fn one_bad_resource_does_not_keep_the_others_away() {
    let all: Vec<String> = (0..100).map(|n| format!("c{n:03}")).collect();
    let world = world(&all.iter().map(|name| (name.as_str(), "1")).collect::<Vec<_>>());
    let mut subscription = wildcard();
    let mut responses = 0;
    while let Some(response) = subscription.respond(&world).response {
        responses += 1;
        let bad = names(&response).contains(&"c042");
        subscription.receive(if bad { nacks(&response) } else { acks(&response) });
    }
    assert_eq!(subscription.delivered().len(), 99);
    assert_eq!(subscription.rejected().keys().collect::<Vec<_>>(), ["c042"]);
    assert!(responses < 30, "{responses} responses");
}

#[test]
fn what_envoy_took_of_a_refused_response_is_removed_even_after_a_later_version_was_refused_too() {
    let mut envoy = Envoy::default();
    let mut subscription = envoy.connect();
    for world in [world(&[("a", "1"), ("b", BAD)]), world(&[("a", BAD)]), Resources::default()] {
        while let Some(response) = subscription.respond(&world).response {
            subscription.receive(envoy.take(&response, true));
            if world.all().len() == 2 {
                break;
            }
        }
    }
    assert!(envoy.has.is_empty(), "left behind: {:?}", envoy.has);
}

#[test]
fn what_envoy_may_have_removed_with_a_refused_response_is_sent_again() {
    let mut envoy = Envoy::default();
    let mut subscription = envoy.connect();
    for world in [world(&[("b", "3")]), world(&[("a", "1"), ("c", BAD)]), world(&[("b", BAD)])] {
        let response = respond(&mut subscription, &world);
        subscription.receive(envoy.take(&response, true));
    }
    while let Some(response) = subscription.respond(&world(&[("b", "3")])).response {
        subscription.receive(envoy.take(&response, true));
    }
    assert_eq!(envoy.has, HashMap::from([("b".to_owned(), "3".to_owned())]));
}

#[test]
fn what_was_removed_with_a_refused_response_counts_again_when_it_comes_back() {
    let mut subscription = wildcard();
    let first = respond(&mut subscription, &world(&[("a", "1")]));
    subscription.receive(acks(&first));
    let second = respond(&mut subscription, &world(&[("b", BAD)]));
    assert_eq!(second.removed_resources, ["a"]);
    subscription.receive(nacks(&second));

    let third = respond(&mut subscription, &world(&[("a", "1"), ("b", BAD)]));
    assert_eq!(names(&third), ["a"]);
    assert_eq!(subscription.receive(acks(&third)).gained, ["a"]);
}

#[test]
fn what_goes_and_comes_back_while_its_removal_is_on_the_way_is_sent_again() {
    let published = world(&[("a", "1")]).succeeding(&Resources::default());
    let mut subscription = wildcard();
    let first = respond(&mut subscription, &published);
    subscription.receive(acks(&first));
    let gone = Resources::default().succeeding(&published);
    let removal = respond(&mut subscription, &gone);
    let back = world(&[("a", "1")]).succeeding(&gone);
    assert!(subscription.respond(&back).response.is_none());

    subscription.receive(acks(&removal));
    assert_eq!(names(&respond(&mut subscription, &back)), ["a"]);
}

#[test]
fn what_comes_and_goes_while_envoy_is_stuck_costs_no_memory() {
    let mut subscription = wildcard();
    let mut now = world(&[("a", "1")]).succeeding(&Resources::default());
    respond(&mut subscription, &now);
    for n in 0..1000 {
        now = world(&[("a", "1"), (&format!("short-lived-{n}"), "1")]).succeeding(&now);
        assert!(subscription.respond(&now).response.is_none());
    }
    assert_eq!(subscription.open.len(), 2);
}

/// Envoy, as far as it matters here: takes a response as a whole or not at all.
#[derive(Debug, Default)]
struct Envoy {
    has: HashMap<String, String>,
}

impl Envoy {
    fn connect(&self) -> DeltaSubscription {
        let mut subscription = DeltaSubscription::new(Kind::Cluster, STREAM);
        let initial_resource_versions = self.has.clone();
        subscription.receive(DeltaDiscoveryRequest { initial_resource_versions, ..Default::default() });
        subscription
    }

    /// `partly`: an error of a single resource, found only when it is built. The others stay.
    fn take(&mut self, response: &DeltaDiscoveryResponse, partly: bool) -> DeltaDiscoveryRequest {
        let bad = |resource: &WireResource| resource.version == BAD;
        let refused = response.resources.iter().any(bad);
        if !refused || partly {
            for resource in response.resources.iter().filter(|resource| !bad(resource)) {
                self.has.insert(resource.name.clone(), resource.version.clone());
            }
            for name in &response.removed_resources {
                self.has.remove(name);
            }
        }
        if refused { nacks(response) } else { acks(response) }
    }
}

const BAD: &str = "bad";

#[derive(Clone, Debug)]
enum Step {
    Publish(Resources),
    Send,
    Answer { partly: bool },
    Ask(String),
    Reconnect,
}

fn any_world() -> impl Strategy<Value = Resources> {
    let version = prop_oneof![Just("1"), Just("2"), Just("3"), Just(BAD)];
    proptest::collection::btree_map("[a-f]", version, 0..6).prop_map(|versions| {
        world(&versions.iter().map(|(name, version)| (name.as_str(), *version)).collect::<Vec<_>>())
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any_world().prop_map(Step::Publish),
        4 => Just(Step::Send),
        4 => any::<bool>().prop_map(|partly| Step::Answer { partly }),
        1 => "[a-h]".prop_map(Step::Ask),
        1 => Just(Step::Reconnect),
    ]
}

proptest! {
    // A counterexample becomes a test of its own above, not a file of seeds.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]
    #[test]
    fn any_history_ends_with_the_snapshot_less_what_envoy_refuses(
        steps in proptest::collection::vec(any_step(), 0..60),
        last in any_world(),
        partly in any::<bool>(),
        published in any::<bool>(),
    ) {
        let mut envoy = Envoy::default();
        let mut subscription = envoy.connect();
        let mut now = Resources::default();
        let mut pending: Option<DeltaDiscoveryResponse> = None;
        let publish = |world: Resources, now: &Resources| if published { world.succeeding(now) } else { world };
        for step in steps {
            match step {
                Step::Publish(world) => now = publish(world, &now),
                Step::Send => if let Some(response) = subscription.respond(&now).response {
                    prop_assert!(pending.replace(response).is_none(), "two responses in flight");
                },
                Step::Answer { partly } => if let Some(response) = pending.take() {
                    subscription.receive(envoy.take(&response, partly));
                },
                Step::Ask(name) => {
                    subscription.receive(asks_for(&[&name]));
                }
                Step::Reconnect => {
                    pending = None;
                    subscription = envoy.connect();
                }
            }
        }

        if let Some(response) = pending {
            subscription.receive(envoy.take(&response, partly));
        }
        let last = publish(last, &now);
        let mut rounds = 0;
        while let Some(response) = subscription.respond(&last).response {
            rounds += 1;
            prop_assert!(rounds < 50, "does not come to rest");
            subscription.receive(envoy.take(&response, partly));
        }

        for (name, resource) in last.all() {
            if resource.version.as_str() == BAD {
                prop_assert!(subscription.rejected().contains_key(name));
            } else {
                prop_assert_eq!(envoy.has.get(name).map(String::as_str), Some(resource.version.as_str()));
                prop_assert_eq!(subscription.delivered().get(name), Some(&resource.version));
            }
        }
        let stale: Vec<_> = envoy.has.keys().filter(|name| last.get(name).is_none()).collect();
        prop_assert!(stale.is_empty(), "left behind: {stale:?}");
    }
}
