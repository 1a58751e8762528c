//! What is kept up to date change by change is what the objects that are left give from the beginning.

use proptest::prelude::*;

use super::*;
use crate::model::fixtures::{application, connect_pool, driver, empty_tls_secret, thrift_pool, tls_secret};
use crate::model::{Kind, Object, Policy, TlsPolicy};

const HOSTS: [&str; 3] = ["a.example.com", "b.example.com", "*"];
const NAMES: [&str; 3] = ["x", "y", "z"];

#[derive(Clone, Debug)]
enum Change {
    Put(Box<Object>),
    Remove(Kind, String),
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES.as_slice())
}

fn pool() -> impl Strategy<Value = Object> {
    let tls = prop::option::of(name());
    let host = prop::sample::select(HOSTS.as_slice());
    (name(), any::<bool>(), host, tls, 1..4_i64).prop_map(|(name, connect, host, tls, created)| {
        let pool = if connect { connect_pool(name) } else { thrift_pool(name) };
        let pool = pool.with_host(host).created(created);
        Object::Pool(match tls {
            Some(secret) => pool.with_certificate_in(secret),
            None => pool,
        })
    })
}

fn instance() -> impl Strategy<Value = String> {
    (name(), 0..2).prop_map(|(pool, ordinal)| format!("{pool}-{ordinal}"))
}

fn an_application() -> impl Strategy<Value = Object> {
    (instance(), name(), any::<bool>()).prop_map(|(instance, pool, other_port)| {
        let application = application(&instance).of_pool(pool);
        Object::Application(match other_port {
            true => application.with_conf("spark.connect.grpc.binding.port", "15999"),
            false => application,
        })
    })
}

fn pod() -> impl Strategy<Value = Object> {
    (instance(), 0..3, any::<bool>(), 0..2_u8).prop_map(|(instance, ip, ended, uid)| {
        let pod = driver(&instance).with_uid(&uid.to_string());
        let pod = if ip == 0 { pod } else { pod.at_ip(&format!("10.0.0.{ip}")) };
        Object::Pod(if ended { pod.that_ended() } else { pod })
    })
}

fn secret() -> impl Strategy<Value = Object> {
    (name(), prop::sample::select(&HOSTS[..2]), 0..4).prop_map(|(name, host, kind)| {
        Object::Secret(if kind == 0 { empty_tls_secret(name) } else { tls_secret(name, &[host]) })
    })
}

fn change() -> impl Strategy<Value = Change> {
    let kinds = [Kind::Pool, Kind::Application, Kind::Pod, Kind::Secret];
    let gone =
        (prop::sample::select(kinds.to_vec()), name(), instance()).prop_map(|(kind, name, instance)| {
            Change::Remove(
                kind,
                match kind {
                    Kind::Application => instance,
                    Kind::Pod => format!("{instance}-driver"),
                    _ => name.to_owned(),
                },
            )
        });
    let put = prop_oneof![pool(), an_application(), pod(), secret()];
    prop_oneof![3 => put.prop_map(|object| Change::Put(Box::new(object))), 1 => gone]
}

fn inventory() -> Inventory {
    let tls = TlsPolicy { default_secret: Some("z".to_owned()), off: None };
    Inventory::with_policy(Policy { tls, ..Policy::default() })
}

/// The same objects, entered one by one.
fn anew(inventory: &Inventory) -> Inventory {
    let mut anew = self::inventory();
    let pools = inventory.pools.values().map(|pool| Object::Pool(pool.as_ref().clone()));
    let applications = inventory.applications.values().map(|a| Object::Application(a.as_ref().clone()));
    let pods = inventory.pods.values().map(|pod| Object::Pod(pod.as_ref().clone()));
    let secrets = inventory.secrets.values().map(|secret| Object::Secret(secret.as_ref().clone()));
    for object in secrets.chain(pods).chain(applications).chain(pools) {
        anew.put(object);
    }
    anew
}

proptest! {
    #[test]
    fn changes_in_any_order_lead_to_what_is_there(changes in prop::collection::vec(change(), 1..60)) {
        let mut inventory = inventory();
        for change in changes {
            match change {
                Change::Put(object) => inventory.put(*object),
                Change::Remove(kind, name) => inventory.remove(kind, &name),
            };
            prop_assert_eq!(inventory.routing(), anew(&inventory).routing());
        }
    }
}
