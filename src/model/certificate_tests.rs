use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, date_time_ymd};
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

#[test]
fn a_key_of_another_kind_is_fine() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let chain = CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    parse(&chain, &key.serialize_pem()).unwrap();
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
