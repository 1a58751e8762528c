use rstest::rstest;

use super::*;
use crate::model::Object;
use crate::model::fixtures::{application, at, connect_pool, thrift_pool, time};
use crate::xds::{Refused, Snapshot, Version};

fn refusal(kind: Kind, resource: &str) -> Rejected {
    let why = Refused {
        version: Version::reported("v1"),
        message: "Proto constraint validation failed.".to_owned(),
    };
    Rejected { node: "envoy-0".to_owned(), kind, resource: resource.to_owned(), why }
}

/// A replica that began at this second with these Envoys, each `settled` or not.
fn here(began: i64, envoys: &[(&str, bool)]) -> Here {
    let envoy = |&(node, settled): &(&str, bool)| Connected { node: node.to_owned(), settled };
    Here { envoys: envoys.iter().map(envoy).collect(), began: at(began) }
}

/// The pool after its condition said this at second 100.
fn pool_that_says(status: bool, message: &str) -> Pool {
    let mut pool = connect_pool("p");
    pool.status.conditions = vec![Condition {
        type_: PROGRAMMED.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: "x".to_owned(),
        message: message.to_owned(),
        observed_generation: None,
        last_transition_time: time(100),
    }];
    pool
}

const COMPLAINT: &str = "Envoy envoy-0 refuses cluster p-0/u: bad. What it had before stays in use.";

#[rstest]
#[case::a_server_is_of_its_pool(Kind::Cluster, "p-0/uid", &["p"])]
#[case::a_server_that_is_gone_is_nobodys(Kind::Cluster, "gone-0/uid", &[])]
#[case::routes_are_everybodys(Kind::Route, "spark", &["p", "q"])]
#[case::the_listener_is_everybodys(Kind::Listener, "spark", &["p", "q"])]
#[case::a_certificate_nobody_uses(Kind::Secret, "other", &[])]
fn a_refusal_concerns(#[case] kind: Kind, #[case] resource: &str, #[case] pools: &[&str]) {
    let mut inventory = Inventory::default();
    inventory.put(Object::Pool(connect_pool("p")));
    inventory.put(Object::Pool(thrift_pool("q")));
    inventory.put(Object::Application(application("p-0")));
    let by_pool = refused_by_pool(&inventory, vec![refusal(kind, resource)]);
    assert_eq!(by_pool.keys().collect::<Vec<_>>(), pools);
}

#[test]
fn a_refusal_is_told_in_envoys_own_words() {
    let refused = [refusal(Kind::Cluster, "p-0/u"), refusal(Kind::Cluster, "p-1/u")];
    let told = finding(&connect_pool("p"), &refused, &here(0, &[("envoy-0", true)]), at(0)).unwrap();
    assert!(!told.status);
    assert_eq!(
        told.message,
        "Envoy envoy-0 refuses cluster p-0/u: Proto constraint validation failed. What it had before stays in use. \
         (1 more are refused.)"
    );
}

#[test]
fn what_is_said_already_is_not_said_again() {
    let refused = [refusal(Kind::Cluster, "p-0/u")];
    let told = finding(&connect_pool("p"), &refused, &here(0, &[]), at(0)).unwrap();
    assert_eq!(finding(&pool_that_says(false, &told.message), &refused, &here(0, &[]), at(0)), None);
    let fine = finding(&connect_pool("p"), &[], &here(0, &[("envoy-0", true)]), at(0)).unwrap();
    assert!(fine.status);
    assert_eq!(
        finding(&pool_that_says(true, &fine.message), &[], &here(0, &[("envoy-0", true)]), at(0)),
        None
    );
}

#[test]
fn before_an_envoy_has_answered_nobody_says_that_it_has_taken_everything() {
    let silent = here(0, &[("envoy-0", false), ("envoy-1", false)]);
    assert_eq!(finding(&connect_pool("p"), &[], &silent, at(1000)), None);
    let one_has = here(0, &[("envoy-0", false), ("envoy-1", true)]);
    assert!(finding(&connect_pool("p"), &[], &one_has, at(0)).unwrap().status);
}

#[rstest]
#[case::no_envoy_here_knows_better(0, &[], 10_000, false)]
#[case::the_envoy_that_complained_is_content(0, &[("envoy-0", true)], 101, true)]
#[case::it_is_back_and_has_not_answered(0, &[("envoy-0", false), ("envoy-1", true)], 10_000, false)]
#[case::another_envoys_content_says_nothing(0, &[("envoy-1", true)], 101, false)]
#[case::a_name_that_only_begins_alike(0, &[("envoy", true)], 101, false)]
#[case::the_envoy_that_complained_has_gone(0, &[("envoy-1", true)], 400, true)]
#[case::it_may_not_have_found_back_to_a_new_replica(350, &[("envoy-1", true)], 400, false)]
#[case::it_has_not_come_back_to_a_new_replica(350, &[("envoy-1", true)], 650, true)]
fn a_complaint_is_taken_back(
    #[case] began: i64,
    #[case] envoys: &[(&str, bool)],
    #[case] now: i64,
    #[case] taken_back: bool,
) {
    let told = finding(&pool_that_says(false, COMPLAINT), &[], &here(began, envoys), at(now));
    assert_eq!(told.is_some_and(|told| told.status), taken_back);
}

#[test]
fn a_pool_is_programmed_no_sooner_than_an_envoy_has_its_host() {
    let publisher = Publisher::new();
    publisher.publish(Snapshot::default());
    let envoy = publisher.register("envoy-0", true);
    let newest = publisher.watch().borrow().clone().unwrap();
    for kind in Kind::ALL {
        envoy.answered(kind, &BTreeMap::new(), Some(newest.resources(kind).edition()));
    }
    let stores = Stores::new();
    stores.shown(Object::Pool(connect_pool("p")));
    let (publishing, published) = watch::channel(Routing::default());
    let due = || due(&stores, &publisher, &published, at(0), at(0));
    assert!(due().is_empty(), "what the Envoy has is of the time before the pool");
    publishing.send_replace(stores.read(Inventory::routing));
    let [Action::UpdatePoolCondition { condition, .. }] = &due()[..] else {
        panic!("it is not told");
    };
    assert_eq!((condition.type_.as_str(), condition.status.as_str()), ("Programmed", "True"));
}
