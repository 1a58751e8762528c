//! What a pool says of its TLS certificate, and when it says something else.

use std::sync::Arc;

use super::cluster::Cluster;
use crate::model::fixtures::{certificate, connect_pool, failed};
use crate::model::{Certificate, CertificateProblem, PoolCertificate, SecretProblem, TlsOff};

const HOST: &str = "spark.example.com";
const DAY: i64 = 86_400;

fn asked(certificate: Result<Arc<Certificate>, SecretProblem>) -> PoolCertificate {
    let served = certificate.is_ok().then(|| "mine".to_owned());
    PoolCertificate { secret: "mine".to_owned(), by_default: false, certificate, served, off: None }
}

fn cluster(certificate: PoolCertificate) -> Cluster {
    let mut cluster = Cluster::of(connect_pool("p"));
    cluster.certificate = Some(certificate);
    cluster
}

fn told(certificate: PoolCertificate) -> (bool, String, String) {
    let cluster = cluster(certificate).settled();
    let (status, reason, message) = cluster.condition("CertificateReady");
    (status, reason.to_owned(), message.to_owned())
}

fn expect(certificate: PoolCertificate, status: bool, reason: &str, message: &str) {
    assert_eq!(told(certificate), (status, reason.to_owned(), message.to_owned()));
}

/// Valid from day 0 to day 90.
fn good() -> Arc<Certificate> {
    certificate(&[HOST], 0, 90 * DAY)
}

#[test]
fn a_certificate_in_order_is_served() {
    expect(
        asked(Ok(good())),
        true,
        "CertificateServed",
        "The certificate in Secret mine is served for spark.example.com. It is valid until 2027-04-15T08:00:00Z.",
    );
}

#[test]
fn the_default_certificate_is_called_so() {
    let (_, _, message) = told(PoolCertificate { by_default: true, ..asked(Ok(good())) });
    assert!(
        message.starts_with("The certificate in Secret mine (the default of all pools) is served"),
        "{message}"
    );
}

#[test]
fn a_secret_that_does_not_exist_is_named_with_the_command_that_makes_it() {
    expect(
        asked(Err(SecretProblem::NotFound)),
        false,
        "SecretNotFound",
        "Secret mine of type kubernetes.io/tls does not exist in this namespace. Create it with kubectl create secret \
         tls mine --cert=FILE --key=FILE. Until then TLS connections to spark.example.com are refused.",
    );
}

#[test]
fn what_stands_in_for_an_unusable_certificate_is_named() {
    let unusable = SecretProblem::Unusable(CertificateProblem::WithoutKey);
    expect(
        PoolCertificate { served: Some("default".to_owned()), ..asked(Err(unusable)) },
        false,
        "SecretWithoutKey",
        "Secret mine cannot be used: tls.key holds no private key that can be read without a passphrase (PEM, BEGIN \
         PRIVATE KEY). Until then clients see the certificate of Secret default.",
    );
}

#[test]
fn every_problem_of_a_secret_has_its_reason() {
    let reason = |problem| told(asked(Err(SecretProblem::Unusable(problem)))).1;
    assert_eq!(reason(CertificateProblem::WithoutCertificate), "SecretWithoutCertificate");
    assert_eq!(reason(CertificateProblem::WithoutKey), "SecretWithoutKey");
    assert_eq!(reason(CertificateProblem::Invalid("the key is another's")), "CertificateInvalid");
}

#[test]
fn a_certificate_for_another_host_is_served_but_not_in_order() {
    expect(
        asked(Ok(certificate(&["a.example.com", "*.b.example.com"], 0, 90 * DAY))),
        false,
        "HostNotInCertificate",
        "The certificate in Secret mine is for a.example.com, *.b.example.com and not for spark.example.com. It is \
         served nevertheless; clients that verify it refuse the connection.",
    );
}

#[test]
fn a_certificate_without_names_says_so() {
    let (_, reason, message) = told(asked(Ok(certificate(&[], 0, 90 * DAY))));
    assert_eq!(reason, "HostNotInCertificate");
    assert!(message.starts_with("The certificate in Secret mine names no host and so not"), "{message}");
}

#[test]
fn the_certificate_of_the_hosts_other_pool_wins_and_is_named() {
    expect(
        PoolCertificate { served: Some("theirs".to_owned()), ..asked(Ok(good())) },
        false,
        "CertificateConflict",
        "Clients of spark.example.com see the certificate of Secret theirs, which the other pool with this host names: \
         a host has one certificate, the older pool's. Name the same Secret in both pools.",
    );
}

#[test]
fn where_tls_is_off_the_pool_says_what_to_do() {
    let off = |off| told(PoolCertificate { off: Some(off), ..asked(Ok(good())) });
    assert!(off(TlsOff::NoListener).2.contains("--envoy-tls-listen-addr 0"));
    let (status, reason, message) = off(TlsOff::UnverifiedControlChannel);
    assert_eq!((status, reason.as_str()), (false, "TLSOff"));
    assert!(message.contains("Set up mTLS between Envoy and the operator."), "{message}");
}

#[test]
fn a_certificate_ages_without_anything_happening() {
    let mut cluster = cluster(asked(Ok(certificate(&[HOST], 10 * DAY, 90 * DAY))));
    let mut story = Vec::new();
    for _ in 0..4 {
        cluster.settle();
        let (status, reason, message) = cluster.condition("CertificateReady");
        story.push(format!("day {}: {status} {reason}: {message}", cluster.now / DAY));
        cluster.now = cluster.wakes_at().unwrap_or(cluster.now);
    }
    assert_eq!(
        story,
        [
            "day 0: false CertificateNotYetValid: The certificate in Secret mine is not valid before \
             2027-01-25T08:00:00Z. It is served nevertheless; clients that verify it refuse the connection.",
            "day 10: true CertificateServed: The certificate in Secret mine is served for spark.example.com. It is \
             valid until 2027-04-15T08:00:00Z.",
            "day 76: true CertificateExpiresSoon: The certificate in Secret mine expires at 2027-04-15T08:00:00Z. \
             Renew it before.",
            "day 90: false CertificateExpired: The certificate in Secret mine expired at 2027-04-15T08:00:00Z. It is \
             served nevertheless; clients that verify it refuse the connection.",
        ]
    );
    assert_eq!(cluster.wakes_at(), None, "nothing more can happen to it");
    let events: Vec<_> = cluster.events.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(events, ["CertificateNotYetValid", "CertificateExpiresSoon", "CertificateExpired"]);
}

#[test]
fn a_bad_certificate_is_an_event_once() {
    let mut cluster = cluster(asked(Err(SecretProblem::NotFound))).settled();
    cluster = cluster.instance(failed("p-0", "OOM")).settled();
    let count =
        |cluster: &Cluster| cluster.events.iter().filter(|(reason, _)| *reason == "SecretNotFound").count();
    assert_eq!(count(&cluster), 1);
    cluster.certificate = Some(asked(Ok(good())));
    cluster.settle();
    cluster.certificate = Some(asked(Err(SecretProblem::NotFound)));
    cluster.settle();
    assert_eq!(count(&cluster), 2, "it became bad again");
}

#[test]
fn a_pool_that_asks_for_no_certificate_any_more_says_nothing_of_one() {
    let mut cluster = cluster(asked(Err(SecretProblem::NotFound))).settled();
    cluster.certificate = None;
    cluster.settle();
    let types: Vec<_> = cluster.pool.status.conditions.iter().map(|it| it.type_.as_str()).collect();
    assert_eq!(types, ["Accepted", "IdentityEnforced", "Ready", "Scaled", "UpToDate"]);
}
