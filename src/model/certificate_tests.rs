use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_RSA_SHA256, SanType, SignatureAlgorithm,
    date_time_ymd,
};
use rstest::rstest;
use secrecy::ExposeSecret;

use super::*;

/// A self-signed certificate for these hosts, valid in 2026, and its key.
fn pair(hosts: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn parse(chain: &str, key: &str) -> Result<Certificate, CertificateProblem> {
    Certificate::parse(chain.as_bytes(), key.as_bytes())
}

fn problem(chain: &str, key: &str) -> String {
    parse(chain, key).unwrap_err().to_string()
}

#[test]
fn a_certificate_tells_its_names_and_its_time() {
    let (chain, key) = pair(&["spark.example.com", "*.bi.example.com", "10.0.0.1"]);
    let certificate = parse(&chain, &key).unwrap();
    assert_eq!(certificate.names(), ["spark.example.com", "*.bi.example.com", "10.0.0.1"]);
    assert_eq!(certificate.not_before().to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(certificate.not_after().to_string(), "2027-01-01T00:00:00Z");
}

#[test]
fn a_certificate_covers_its_hosts_and_one_label_for_a_wildcard() {
    let (chain, key) = pair(&["spark.example.com", "*.bi.example.com", "10.0.0.1"]);
    let certificate = parse(&chain, &key).unwrap();
    for host in ["spark.example.com", "a.bi.example.com", "10.0.0.1"] {
        assert!(certificate.covers(host), "{host}");
    }
    for host in ["example.com", "bi.example.com", "a.b.bi.example.com", "10.0.0.2", "no host"] {
        assert!(!certificate.covers(host), "{host}");
    }
}

#[test]
fn of_a_file_with_more_in_it_only_the_certificates_are_shown() {
    let (leaf, key) = pair(&["spark.example.com"]);
    let (issuer, _) = pair(&["issuer.example.com"]);
    let file = format!("Bag Attributes\r\n{key}\n# leaf\n{leaf}\n{issuer}");
    let certificate = parse(&file, &key).unwrap();
    assert_eq!(certificate.names(), ["spark.example.com"]);
    assert_eq!(certificate.chain().matches("BEGIN CERTIFICATE").count(), 2);
    assert!(!certificate.chain().contains("PRIVATE"), "{}", certificate.chain());
    assert_eq!(parse(certificate.chain(), &key).unwrap(), certificate);
}

/// A certificate for a host with a key of this kind, changed by `change`.
fn changed(
    kind: &'static SignatureAlgorithm,
    change: impl FnOnce(&mut CertificateParams),
) -> Result<Certificate, CertificateProblem> {
    let key = KeyPair::generate_for(kind).unwrap();
    let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    parse(&params.self_signed(&key).unwrap().pem(), &key.serialize_pem())
}

#[rstest]
#[case::p384(&PKCS_ECDSA_P384_SHA384)]
#[case::p521(&PKCS_ECDSA_P521_SHA512)]
#[case::rsa(&PKCS_RSA_SHA256)]
fn a_key_of_another_kind_is_fine(#[case] kind: &'static SignatureAlgorithm) {
    changed(kind, |_| {}).unwrap();
}

fn requires_feature(params: &mut CertificateParams, features: &[u8]) {
    let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], features.to_vec());
    params.custom_extensions.push(extension);
}

fn common_name(params: &mut CertificateParams, name: &str) {
    params.distinguished_name.push(DnType::CommonName, name);
}

#[rstest]
#[case::stapling(
    |params: &mut CertificateParams| requires_feature(params, &[0x30, 3, 2, 1, 5]),
    "the certificate in tls.crt requires OCSP stapling (the TLS feature status_request), and Envoy is given no OCSP \
     response to staple: have it issued without that extension"
)]
#[case::no_signatures(
    |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyAgreement],
    "the certificate in tls.crt has an ECDSA key and a key usage without digitalSignature, and Envoy refuses that: have \
     it issued with digitalSignature"
)]
#[case::an_empty_name(
    |params: &mut CertificateParams| common_name(params, ""),
    "the certificate in tls.crt has an empty common name, and Envoy refuses that: have it issued without a common name \
     or with one that is not empty"
)]
#[case::no_name(
    |params: &mut CertificateParams| params.subject_alt_names.clear(),
    "the certificate in tls.crt names nobody, and Envoy refuses that: have it issued with its host as DNS name"
)]
#[case::only_a_name_that_envoy_does_not_count(
    |params: &mut CertificateParams| params.subject_alt_names = vec![SanType::Rfc822Name("a@a.test".try_into().unwrap())],
    "the certificate in tls.crt names nobody, and Envoy refuses that: have it issued with its host as DNS name"
)]
fn what_envoy_refuses_is_said(#[case] change: fn(&mut CertificateParams), #[case] said: &str) {
    assert_eq!(changed(&PKCS_ECDSA_P384_SHA384, change).unwrap_err().to_string(), said);
}

#[rstest]
#[case::another_feature_beside_stapling(
    &PKCS_ECDSA_P521_SHA512,
    |params: &mut CertificateParams| requires_feature(params, &[0x30, 6, 2, 1, 5, 2, 1, 17])
)]
#[case::rsa_without_signatures(
    &PKCS_RSA_SHA256,
    |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]
)]
#[case::ecdsa_with_signatures(
    &PKCS_ECDSA_P384_SHA384,
    |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]
)]
#[case::only_a_common_name(
    &PKCS_ECDSA_P521_SHA512,
    |params: &mut CertificateParams| { params.subject_alt_names.clear(); common_name(params, "a.test") }
)]
#[case::only_a_uri(
    &PKCS_ECDSA_P521_SHA512,
    |params: &mut CertificateParams| params.subject_alt_names = vec![SanType::URI("spiffe://a".try_into().unwrap())]
)]
fn what_envoy_takes_is_taken(
    #[case] kind: &'static SignatureAlgorithm,
    #[case] change: fn(&mut CertificateParams),
) {
    changed(kind, change).unwrap();
}

#[test]
fn an_ed25519_key_is_fine_unless_its_public_key_is_in_it() {
    let pair = include_str!("../../tests/support/ed25519.pem");
    parse(pair, pair).unwrap();
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let chain = CertificateParams::new(["a.test".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    assert_eq!(
        problem(&chain, &key.serialize_pem()),
        "the key in tls.key is in a form that Envoy does not read (PKCS #8 with the public key in it): use one as \
         openssl genpkey or cert-manager make it"
    );
}

#[rstest]
#[case::an_rsa_key_of_1024_bits(include_str!("../../tests/support/rsa-1024.pem"))]
#[case::a_key_on_another_curve(include_str!("../../tests/support/ec-p224.pem"))]
#[case::an_rsa_key_for_pss_alone(include_str!("../../tests/support/rsa-pss.pem"))]
fn a_key_that_envoy_refuses_is_said(#[case] pair: &str) {
    assert_eq!(
        problem(pair, pair),
        "the key in tls.key is of a kind that is not supported: use RSA with at least 2048 bits, or ECDSA with P-256, \
         P-384 or P-521"
    );
}

#[test]
fn what_is_missing_or_wrong_is_said() {
    let (chain, key) = pair(&["spark.example.com"]);
    let (_, other) = pair(&["spark.example.com"]);
    let garbage = "-----BEGIN CERTIFICATE-----\nMTIz\n-----END CERTIFICATE-----\n";
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMTIz\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let bad_key = "-----BEGIN PRIVATE KEY-----\nMTIz\n-----END PRIVATE KEY-----\n";
    let no_certificate = "tls.crt holds no certificate (PEM, BEGIN CERTIFICATE)";
    let no_key =
        "tls.key holds no private key that can be read without a passphrase (PEM, BEGIN PRIVATE KEY)";
    let cases = [
        ("", key.as_str(), no_certificate),
        (&key, &key, no_certificate),
        (&chain[..chain.len() - 40], &key, "tls.crt is not readable as PEM"),
        (garbage, &key, "tls.crt holds something that is not an X.509 certificate"),
        (&chain, "", no_key),
        (&chain, &chain, no_key),
        (&chain, encrypted, no_key),
        (&chain, &key[..key.len() - 30], "tls.key is not readable as PEM"),
        (&chain, &other, "the key in tls.key does not belong to the first certificate in tls.crt"),
    ];
    for (chain, key, expected) in cases {
        assert_eq!(problem(chain, key), expected);
    }
    assert!(problem(&chain, bad_key).starts_with("the key in tls.key is of a kind that is not supported"));
    assert!(problem(&format!("{chain}{garbage}"), &key).contains("not an X.509 certificate"));
}

#[test]
fn a_certificate_is_another_when_its_key_or_its_chain_is() {
    let (chain, key) = pair(&["spark.example.com"]);
    let (other_chain, other_key) = pair(&["spark.example.com"]);
    assert_eq!(parse(&chain, &key), parse(&chain, &key));
    assert_ne!(parse(&chain, &key), parse(&other_chain, &other_key));
    assert_ne!(parse(&chain, &key), parse(&format!("{chain}{other_chain}"), &key));
}

#[test]
fn the_key_does_not_show() {
    let (chain, key) = pair(&["spark.example.com"]);
    let certificate = parse(&chain, &key).unwrap();
    let shown = format!("{certificate:?}");
    assert_eq!(certificate.key().expose_secret(), key);
    for line in key.lines().chain(chain.lines()).filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(line), "{shown}");
    }
}
