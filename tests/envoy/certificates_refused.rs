//! What `model::certificate` says that Envoy refuses, it refuses; and what is taken nearby, it takes.

use std::process::Command;

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_RSA_SHA256, SanType,
    SignatureAlgorithm,
};
use rstest::rstest;
use serde_json::json;
use spark_session_operator::model::Certificate;

type Change = fn(&mut CertificateParams);

#[rstest]
#[case::p256(&PKCS_ECDSA_P256_SHA256, |_: &mut CertificateParams| {})]
#[case::p384(&PKCS_ECDSA_P384_SHA384, |_: &mut CertificateParams| {})]
#[case::p521(&PKCS_ECDSA_P521_SHA512, |_: &mut CertificateParams| {})]
#[case::rsa(&PKCS_RSA_SHA256, |_: &mut CertificateParams| {})]
#[case::rsa_without_signatures(&PKCS_RSA_SHA256, |it: &mut CertificateParams| uses(it, KeyUsagePurpose::KeyEncipherment))]
#[case::ecdsa_with_signatures(&PKCS_ECDSA_P256_SHA256, |it: &mut CertificateParams| uses(it, KeyUsagePurpose::DigitalSignature))]
#[case::another_feature_beside_stapling(&PKCS_ECDSA_P521_SHA512, |it: &mut CertificateParams| requires(it, &[0x30, 6, 2, 1, 5, 2, 1, 17]))]
#[case::only_a_common_name(&PKCS_ECDSA_P521_SHA512, |it: &mut CertificateParams| { has(it, &[]); common_name(it, "a.test") })]
#[case::only_a_uri(&PKCS_ECDSA_P521_SHA512, |it: &mut CertificateParams| has(it, &[SanType::URI("spiffe://a".try_into().unwrap())]))]
fn envoy_takes(#[case] kind: &'static SignatureAlgorithm, #[case] change: Change) {
    let (chain, key) = pair(kind, change);
    Certificate::parse(chain.as_bytes(), key.as_bytes()).unwrap();
    assert_eq!(refusal(&chain, &key), None);
}

#[test]
fn envoy_takes_an_ed25519_key_unless_its_public_key_is_in_it() {
    let both = include_str!("../support/ed25519.pem");
    Certificate::parse(both.as_bytes(), both.as_bytes()).unwrap();
    assert_eq!(refusal(both, both), None);
    let (chain, key) = pair(&rcgen::PKCS_ED25519, |_| {});
    Certificate::parse(chain.as_bytes(), key.as_bytes()).unwrap_err();
    assert_eq!(
        refusal(&chain, &key).as_deref(),
        Some(
            "Failed to load private key from <inline>, Cause: error:0c0000a8:ASN.1 encoding \
             routines:OPENSSL_internal:SEQUENCE_LENGTH_MISMATCH"
        )
    );
}

const UNNAMED: &str = "Invalid TLS context has neither subject CN nor SAN names";

#[rstest]
#[case::stapling(
    |it: &mut CertificateParams| requires(it, &[0x30, 3, 2, 1, 5]),
    "OCSP response is required for must-staple certificate"
)]
#[case::ecdsa_without_signatures(
    |it: &mut CertificateParams| uses(it, KeyUsagePurpose::KeyAgreement),
    "Failed to load certificate chain from <inline>"
)]
#[case::an_empty_common_name(
    |it: &mut CertificateParams| common_name(it, ""),
    "Invalid TLS context has an empty subject CN"
)]
#[case::no_name(|it: &mut CertificateParams| has(it, &[]), UNNAMED)]
#[case::only_a_name_that_it_does_not_count(
    |it: &mut CertificateParams| has(it, &[SanType::Rfc822Name("a@a.test".try_into().unwrap())]),
    UNNAMED
)]
fn envoy_refuses(#[case] change: Change, #[case] words: &str) {
    let (chain, key) = pair(&PKCS_ECDSA_P256_SHA256, change);
    Certificate::parse(chain.as_bytes(), key.as_bytes()).unwrap_err();
    assert_eq!(refusal(&chain, &key).as_deref(), Some(words));
}

#[rstest]
#[case::rsa_of_1024_bits(
    include_str!("../support/rsa-1024.pem"),
    "Failed to load certificate chain from <inline>, only RSA certificates with 2048-bit or larger keys are supported"
)]
#[case::another_curve(include_str!("../support/ec-p224.pem"), "Failed to load certificate chain from <inline>")]
#[case::rsa_for_pss_alone(include_str!("../support/rsa-pss.pem"), "Failed to load certificate chain from <inline>")]
fn envoy_refuses_the_key(#[case] both: &str, #[case] words: &str) {
    Certificate::parse(both.as_bytes(), both.as_bytes()).unwrap_err();
    assert_eq!(refusal(both, both).as_deref(), Some(words));
}

fn pair(kind: &'static SignatureAlgorithm, change: Change) -> (String, String) {
    let key = KeyPair::generate_for(kind).unwrap();
    let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn uses(params: &mut CertificateParams, usage: KeyUsagePurpose) {
    params.key_usages = vec![usage];
}

/// TLS features (RFC 7633), as DER.
fn requires(params: &mut CertificateParams, features: &[u8]) {
    let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], features.to_vec());
    params.custom_extensions.push(extension);
}

fn has(params: &mut CertificateParams, names: &[SanType]) {
    params.subject_alt_names = names.to_vec();
}

fn common_name(params: &mut CertificateParams, name: &str) {
    params.distinguished_name.push(DnType::CommonName, name);
}

/// In Envoy's words, if it does not make a listener with this certificate.
fn refusal(chain: &str, key: &str) -> Option<String> {
    let certificate =
        json!({ "certificate_chain": { "inline_string": chain }, "private_key": { "inline_string": key } });
    let tls = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": { "tls_certificates": [certificate] },
    });
    let listener = json!({
        "name": "listener",
        "address": { "socket_address": { "address": "127.0.0.1", "port_value": 1 } },
        "filter_chains": [{ "transport_socket": { "name": "tls", "typed_config": tls } }],
    });
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(file.path(), json!({ "static_resources": { "listeners": [listener] } }).to_string())
        .unwrap();
    let envoy = std::env::var("ENVOY_BINARY").expect("ENVOY_BINARY: use `tests/run envoy`, which knows");
    let arguments = ["--mode", "validate", "--log-level", "critical", "-c"];
    let output = Command::new(envoy).args(arguments).arg(file.path()).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return None;
    }
    let told = log.lines().find_map(|line| line.split_once(".json': "));
    Some(told.unwrap_or_else(|| panic!("not refused for its configuration: {log}")).1.to_owned())
}
