use rstest::rstest;

use super::*;
use crate::model::Object;
use crate::model::fixtures::{application, at, connect_pool, thrift_pool, time};
use crate::xds::{Refused, Registration, Resource, Snapshot, Version};

fn refusal(kind: Kind, resource: &str) -> Rejected {
    let why = Refused {
        version: Version::reported("v1"),
        message: "Proto constraint validation failed.".to_owned(),
    };
    Rejected { node: "envoy-0".to_owned(), kind, resource: resource.to_owned(), why }
}

/// What was published once.
fn published() -> Editions {
    let publisher = Publisher::new();
    publisher.publish(Snapshot::default());
    publisher.editions()
}

/// A replica that began at this second with these Envoys, each of which has what was published or has not answered.
fn here(began: i64, envoys: &[(&str, bool)]) -> Here {
    let envoy = |&(node, settled): &(&str, bool)| Connected {
        node: node.to_owned(),
        settled: if settled { published() } else { Editions::default() },
    };
    Here { envoys: envoys.iter().map(envoy).collect(), began: at(began) }
}

/// The pool after its condition said this at second 100.
fn pool_that_says(status: bool, message: &str) -> Pool {
    let mut pool = connect_pool("p");
    pool.status.conditions = vec![Condition {
        type_: PROGRAMMED.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: if status { PROGRAMMED } else { REFUSED }.to_owned(),
        message: message.to_owned(),
        observed_generation: Some(pool.meta.generation),
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
    let told = super::refusal(&[refusal(Kind::Cluster, "p-0/u"), refusal(Kind::Cluster, "p-1/u")]);
    assert!(!told.status);
    assert_eq!(
        told.message,
        "Envoy envoy-0 refuses cluster p-0/u: Proto constraint validation failed. What it had before stays in use. \
         (1 more are refused.)"
    );
}

#[test]
fn what_is_said_already_of_this_generation_is_not_said_again() {
    let mut pool = pool_that_says(false, COMPLAINT);
    let complaint =
        Finding { type_: PROGRAMMED, status: false, reason: REFUSED, message: COMPLAINT.to_owned() };
    assert!(says(&pool, &complaint) && !says(&pool, &programmed()));
    assert_eq!(actions(&pool, programmed(), at(0)).len(), 1, "good news have no Event");
    pool.meta.generation += 1;
    assert!(!says(&pool, &complaint), "who waits for it after a change waits for ever");
    assert_eq!(actions(&pool, complaint, at(0)).len(), 1, "the Event was told");
}

#[test]
fn before_an_envoy_has_answered_nobody_says_that_it_has_taken_everything() {
    let (pool, wanted) = (connect_pool("p"), published());
    let silent = here(0, &[("envoy-0", false), ("envoy-1", false)]);
    assert!(!may_say_true(&pool, &wanted, &silent, at(1000)));
    let one_has = here(0, &[("envoy-0", false), ("envoy-1", true)]);
    assert!(may_say_true(&pool, &wanted, &one_has, at(0)));
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
    let pool = pool_that_says(false, COMPLAINT);
    assert_eq!(may_say_true(&pool, &published(), &here(began, envoys), at(now)), taken_back);
}

/// A replica with one pool, and one Envoy that has all there is.
struct Replica {
    stores: Arc<Stores>,
    publisher: Publisher,
    envoy: Registration,
    published: Routing,
    awaited: Awaited,
}

impl Replica {
    fn with(pool: Pool) -> Self {
        let publisher = Publisher::new();
        publisher.publish(Snapshot::default());
        let (envoy, stores) = (publisher.register("envoy-0", true), Stores::new());
        stores.shown(Object::Pool(pool));
        let replica =
            Self { stores, publisher, envoy, published: Routing::default(), awaited: Awaited::default() };
        replica.envoy_answers();
        replica
    }

    /// As the next snapshot: a route for each.
    fn publish(&mut self, routes: &[&str]) {
        let mut snapshot = Snapshot::default();
        for route in routes {
            let body = envoy_types::pb::google::protobuf::Any::default();
            snapshot.insert(Kind::Route, *route, Resource { version: Version::reported("1"), body });
        }
        self.publisher.publish(snapshot);
        self.published = self.stores.read(Inventory::routing);
    }

    fn envoy_answers(&self) {
        for (kind, edition) in Kind::ALL.into_iter().zip(self.publisher.editions().0) {
            self.envoy.answered(kind, &BTreeMap::new(), Some(edition));
        }
    }

    /// Status and reason that the condition gets now.
    fn told(&mut self) -> Option<(String, String)> {
        let due = self.awaited.due(&self.stores, &self.publisher, &self.published, at(0), at(0));
        let condition = due.into_iter().find_map(|action| match action {
            Action::UpdatePoolCondition { condition, .. } => Some(condition),
            _ => None,
        });
        condition.map(|it| (it.status, it.reason))
    }
}

fn true_() -> Option<(String, String)> {
    Some(("True".to_owned(), PROGRAMMED.to_owned()))
}

#[test]
fn a_pool_is_programmed_no_sooner_than_an_envoy_has_its_host() {
    let mut replica = Replica::with(connect_pool("p"));
    assert_eq!(replica.told(), None, "what the Envoy has is of the time before the pool");
    replica.publish(&["p"]);
    assert_eq!(replica.told(), None, "the Envoy has not answered");
    replica.envoy_answers();
    assert_eq!(replica.told(), true_());
}

#[test]
fn where_there_is_always_something_newer_a_pool_is_programmed_nevertheless() {
    let mut replica = Replica::with(connect_pool("p"));
    replica.publish(&["p"]);
    assert_eq!(replica.told(), None);
    replica.envoy_answers();
    replica.publish(&["p", "newer"]);
    assert_eq!(replica.told(), true_());
}

#[test]
fn a_changed_host_is_programmed_when_an_envoy_has_it() {
    let mut pool = pool_that_says(true, &programmed().message);
    (pool.spec.host, pool.meta.generation) = ("new.example.com".to_owned(), 2);
    let mut replica = Replica::with(pool);
    assert_eq!(replica.told(), None);
    replica.publish(&["p"]);
    assert_eq!(replica.told(), None, "the Envoy has not answered");
    replica.envoy_answers();
    assert_eq!(replica.told(), true_());
}

#[rstest]
#[case::taken("HostConflict", "spark.example.com")]
#[case::none("InvalidHost", "*.example.com")]
fn a_pool_that_nobody_reaches_is_not_programmed(#[case] reason: &str, #[case] host: &str) {
    let younger = connect_pool("younger").with_host(host).created(10);
    let mut replica = Replica::with(younger);
    replica.stores.shown(Object::Pool(pool_that_says(true, &programmed().message)));
    replica.publish(&["p"]);
    replica.envoy_answers();
    assert_eq!(replica.told(), Some(("False".to_owned(), reason.to_owned())));
}
