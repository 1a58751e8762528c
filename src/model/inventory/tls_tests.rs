use super::*;
use crate::model::fixtures::{connect_pool, empty_tls_secret, thrift_pool, tls_secret};
use crate::model::{CertificateProblem, Kind, Object, TlsOff, TlsPolicy};

const HOST: &str = "spark.example.com";

fn with_tls(tls: TlsPolicy) -> Inventory {
    Inventory::with_policy(Policy { tls, ..Policy::default() })
}

fn inventory(default_secret: Option<&str>, objects: impl IntoIterator<Item = Object>) -> Inventory {
    let default_secret = default_secret.map(str::to_owned);
    let mut inventory = with_tls(TlsPolicy { default_secret, off: None });
    for object in objects {
        inventory.put(object);
    }
    inventory
}

fn secret(name: &str) -> Object {
    Object::Secret(tls_secret(name, &[HOST]))
}

/// Hosts with their Secrets, the default one, and the names of all that Envoy gets.
fn served(inventory: &Inventory) -> (Vec<(String, String)>, Option<String>, Vec<String>) {
    let routing = inventory.routing();
    let hosts = routing.certificate_of_host.into_iter().collect();
    (hosts, routing.default_certificate, routing.certificates.keys().cloned().collect())
}

fn pair(host: &str, secret: &str) -> (String, String) {
    (host.to_owned(), secret.to_owned())
}

fn certificate_of(inventory: &Inventory, pool: &str) -> PoolCertificate {
    inventory.pool_view(pool).unwrap().certificate.unwrap()
}

#[test]
fn only_secrets_that_somebody_names_are_served() {
    let pool = Object::Pool(connect_pool("p").with_certificate_in("mine"));
    let inventory = inventory(Some("default"), [pool, secret("mine"), secret("default"), secret("other")]);
    let all = vec!["default".to_owned(), "mine".to_owned()];
    assert_eq!(served(&inventory), (vec![pair(HOST, "mine")], Some("default".to_owned()), all));
}

#[test]
fn without_a_listener_for_it_no_certificate_is_served_and_the_pool_hears_it() {
    let mut inventory =
        with_tls(TlsPolicy { default_secret: None, off: Some(TlsOff::UnverifiedControlChannel) });
    inventory.put(Object::Pool(connect_pool("p").with_certificate_in("mine")));
    inventory.put(Object::Pool(thrift_pool("plain")));
    inventory.put(secret("mine"));
    assert_eq!(served(&inventory), (Vec::new(), None, Vec::new()));
    assert_eq!(certificate_of(&inventory, "p").off, Some(TlsOff::UnverifiedControlChannel));
    assert_eq!(inventory.pool_view("plain").unwrap().certificate, None);
}

#[test]
fn a_bad_secret_leaves_the_other_pools_alone() {
    let bad = Object::Pool(connect_pool("bad").with_host("bad.example.com").with_certificate_in("empty"));
    let good = Object::Pool(connect_pool("good").with_certificate_in("mine"));
    let inventory = inventory(None, [bad, good, Object::Secret(empty_tls_secret("empty")), secret("mine")]);
    assert_eq!(served(&inventory), (vec![pair(HOST, "mine")], None, vec!["mine".to_owned()]));
    let told = certificate_of(&inventory, "bad");
    let empty = SecretProblem::Unusable(CertificateProblem::WithoutCertificate);
    assert_eq!((told.certificate, told.served), (Err(empty), None));
}

#[test]
fn the_default_certificate_stands_in_for_a_missing_one() {
    let pool = Object::Pool(connect_pool("p").with_certificate_in("missing"));
    let inventory = inventory(Some("default"), [pool, secret("default")]);
    let told = certificate_of(&inventory, "p");
    assert_eq!((told.certificate, told.by_default), (Err(SecretProblem::NotFound), false));
    assert_eq!(told.served.as_deref(), Some("default"));
}

#[test]
fn a_pool_without_a_secret_of_its_own_is_told_of_the_default() {
    let inventory = inventory(Some("default"), [Object::Pool(connect_pool("p")), secret("default")]);
    let told = certificate_of(&inventory, "p");
    assert_eq!((told.secret.as_str(), told.by_default), ("default", true));
    assert!(told.certificate.is_ok());
}

#[test]
fn a_host_with_two_pools_has_the_older_ones_certificate_as_long_as_it_is_usable() {
    let old = Object::Pool(thrift_pool("old").with_certificate_in("of-old"));
    let young = Object::Pool(connect_pool("young").created(9).with_certificate_in("of-young"));
    let mut inventory = inventory(None, [young, old, secret("of-young")]);
    assert_eq!(served(&inventory).0, [pair(HOST, "of-young")]);
    assert_eq!(certificate_of(&inventory, "old").served.as_deref(), Some("of-young"));
    assert_eq!(inventory.put(secret("of-old")), ["old", "young"], "both have to be planned");
    assert_eq!(served(&inventory).0, [pair(HOST, "of-old")]);
    assert_eq!(certificate_of(&inventory, "young").served.as_deref(), Some("of-old"));
}

#[test]
fn a_pool_that_does_not_have_its_host_has_nothing_to_do_with_certificates() {
    let old = Object::Pool(connect_pool("old"));
    let young = Object::Pool(connect_pool("young").created(9).with_certificate_in("mine"));
    let invalid = Object::Pool(connect_pool("invalid").with_host("*").with_certificate_in("mine"));
    let inventory = inventory(None, [old, young, invalid, secret("mine")]);
    assert_eq!(served(&inventory), (Vec::new(), None, Vec::new()));
    for pool in ["young", "invalid"] {
        assert_eq!(inventory.pool_view(pool).unwrap().certificate, None);
    }
}

#[test]
fn a_secret_touches_the_pools_that_show_it() {
    let mine = Object::Pool(connect_pool("mine").with_certificate_in("s"));
    let other = Object::Pool(connect_pool("other").with_host("other.example.com"));
    let mut inventory = inventory(Some("default"), [mine, other]);
    assert_eq!(inventory.put(secret("s")), ["mine"]);
    assert_eq!(inventory.put(secret("default")), ["mine", "other"]);
    assert_eq!(inventory.put(secret("nobodys")), [""; 0]);
    assert_eq!(inventory.remove(Kind::Secret, "s"), ["mine"]);
    assert_eq!(inventory.remove(Kind::Secret, "s"), [""; 0]);
    assert_eq!(certificate_of(&inventory, "mine").certificate, Err(SecretProblem::NotFound));
}

#[test]
fn a_pool_that_names_another_secret_touches_the_other_pool_of_its_host() {
    let (connect, thrift) = (connect_pool("c"), thrift_pool("t"));
    let mut inventory = inventory(None, [Object::Pool(connect.clone()), Object::Pool(thrift)]);
    assert_eq!(inventory.put(Object::Pool(connect.clone())), ["c"]);
    assert_eq!(inventory.put(Object::Pool(connect.with_certificate_in("s"))), ["c", "t"]);
    assert_eq!(inventory.remove(Kind::Pool, "c"), ["c", "t"]);
}
