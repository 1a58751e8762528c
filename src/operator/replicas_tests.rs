//! What two replicas make of the same objects, which their watches showed in different orders.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::Stores;
use crate::model::Object;
use crate::model::fixtures::{application, connect_pool, driver, thrift_pool};
use crate::xds::{EnvoySettings, Kind, RequestRates, Snapshot, translate};

fn objects() -> Vec<Object> {
    let on = |pool: &str, instance: &str, ip: &str| {
        let uid = format!("uid-of-driver-of-{instance}");
        [
            Object::Application(application(instance).of_pool(pool)),
            Object::Pod(driver(instance).called(&format!("{instance}-driver")).with_uid(&uid).at_ip(ip)),
        ]
    };
    let mut objects = vec![
        Object::Pool(connect_pool("p").with_host("spark.example.com")),
        Object::Pool(thrift_pool("sql").with_host("spark.example.com")),
        Object::Pool(connect_pool("lab").with_host("lab.example.com")),
        // Claims a host that an older pool has.
        Object::Pool(connect_pool("late").with_host("lab.example.com").created(60)),
    ];
    objects.extend(on("p", "p-1", "10.0.0.1"));
    objects.extend(on("p", "p-2", "10.0.0.2"));
    objects.extend(on("p", "p-3", "10.0.0.3"));
    objects
}

fn seen_by_a_replica(objects: &[Object]) -> Arc<Stores> {
    let stores = Stores::new();
    for object in objects {
        stores.shown(object.clone());
    }
    for (pod_uid, _) in stores.read(|inventory| inventory.servers_to_probe()) {
        stores.server_answers(&pod_uid);
    }
    stores
}

fn versions(stores: &Stores) -> Vec<(Kind, String, String)> {
    let settings = EnvoySettings {
        listen_addr: Some(([0, 0, 0, 0], 10_000).into()),
        tls: None,
        request_rates: RequestRates::default(),
        ext_authz_timeout: Duration::from_secs(60),
        max_body_head: 8192,
        activity_report_interval: Duration::from_secs(15),
        control_cluster: "operator".to_owned(),
    };
    let snapshot: Snapshot = translate(&stores.read(|inventory| inventory.routing()), &settings);
    let of = |kind| {
        snapshot.of(kind).iter().map(move |(name, it)| (kind, name.clone(), it.version.as_str().to_owned()))
    };
    Kind::ALL.into_iter().flat_map(of).collect()
}

#[test]
fn every_server_of_the_case_is_known_to_envoy() {
    let versions = versions(&seen_by_a_replica(&objects()));
    let clusters = versions.iter().filter(|(kind, ..)| *kind == Kind::Cluster);
    assert_eq!(clusters.count(), 3, "{versions:?}");
}

proptest! {
    #[test]
    fn every_replica_gives_the_same_versions(order in Just(objects()).prop_shuffle(), again in 0..10_usize) {
        let mut order = order;
        // One watch was interrupted, and showed some objects twice.
        let repeated = order[..again.min(order.len())].to_vec();
        order.extend(repeated);
        prop_assert_eq!(versions(&seen_by_a_replica(&order)), versions(&seen_by_a_replica(&objects())));
    }
}
