//! A TLS certificate with its key, read from a Secret and checked as far as that goes without a clock.

use std::fmt;
use std::hash::{Hash, Hasher};

use jiff::Timestamp;
use pem::{EncodeConfig, LineEnding, Pem};
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use secrecy::SecretString;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY;
use x509_parser::prelude::FromDer;

/// A chain of certificates and the key of its first one, which fit together. Whether it is valid now, and for
/// which host, is another question: such a certificate is served nevertheless.
///
/// Equal, and of equal hash, when chain and key are. `Debug` shows neither.
#[derive(Clone)]
pub struct Certificate {
    chain: String,
    key: SecretString,
    leaf: CertificateDer<'static>,
    names: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
    fingerprint: [u8; 32],
}

/// Why what a Secret holds cannot be served. The texts go into conditions and never hold any of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    #[error("tls.crt holds no certificate (PEM, BEGIN CERTIFICATE)")]
    WithoutCertificate,
    #[error("tls.key holds no private key that can be read without a passphrase (PEM, BEGIN PRIVATE KEY)")]
    WithoutKey,
    #[error("{0}")]
    Invalid(&'static str),
}

impl Certificate {
    /// `chain` and `key` are PEM, as `tls.crt` and `tls.key` of a Secret of type kubernetes.io/tls.
    pub fn parse(chain: &[u8], key: &[u8]) -> Result<Self, CertificateProblem> {
        let ders = certificates(chain)?;
        let leaf = ders.first().cloned().ok_or(CertificateProblem::WithoutCertificate)?;
        let parsed = ders.iter().map(|der| x509(der)).collect::<Result<Vec<_>, _>>()?;
        let leaf_fields = parsed.first().ok_or(CertificateProblem::WithoutCertificate)?;
        check_key(key, leaf_fields)?;
        check_that_envoy_takes(leaf_fields)?;
        let key = std::str::from_utf8(key).map_err(|_| CertificateProblem::WithoutKey)?;
        let validity = leaf_fields.validity();
        let chain = encode(&ders);
        Ok(Self {
            fingerprint: fingerprint(&chain, key),
            names: names(leaf_fields),
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
            key: SecretString::from(key),
            leaf,
            chain,
        })
    }

    /// PEM. Only certificates, whatever else the Secret's `tls.crt` held: of what is here Envoy makes no secret.
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// PEM.
    pub fn key(&self) -> &SecretString {
        &self.key
    }

    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The subject alternative names: hosts, wildcards and IP addresses.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether a client that calls this host finds it in the certificate, wildcards included.
    pub fn covers(&self, host: &str) -> bool {
        let (Ok(parsed), Ok(name)) = (ParsedCertificate::try_from(&self.leaf), ServerName::try_from(host))
        else {
            return false;
        };
        verify_server_name(&parsed, &name).is_ok()
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateProblem> {
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let sections = sections.map_err(|_| CertificateProblem::Invalid("tls.crt is not readable as PEM"))?;
    let certificates = sections.into_iter().filter(|(kind, _)| *kind == SectionKind::Certificate);
    Ok(certificates.map(|(_, der)| CertificateDer::from(der)).collect())
}

fn x509<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateProblem> {
    const UNREADABLE: CertificateProblem =
        CertificateProblem::Invalid("tls.crt holds something that is not an X.509 certificate");
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(UNREADABLE),
    }
}

/// Envoy refuses a Secret whose key it does not support or which is another certificate's, too.
fn check_key(pem: &[u8], leaf: &X509Certificate<'_>) -> Result<(), CertificateProblem> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => CertificateProblem::WithoutKey,
        _ => CertificateProblem::Invalid("tls.key is not readable as PEM"),
    })?;
    if has_public_key_in_it(&key) {
        return Err(CertificateProblem::Invalid(
            "the key in tls.key is in a form that Envoy does not read (PKCS #8 with the public key in it): use one as \
             openssl genpkey or cert-manager make it",
        ));
    }
    let key = any_supported_type(&key).map_err(|_| {
        CertificateProblem::Invalid(
            "the key in tls.key is of a kind that is not supported: use RSA with at least 2048 bits, or ECDSA \
             with P-256, P-384 or P-521",
        )
    })?;
    match key.public_key() {
        Some(public) if public.as_ref() == leaf.public_key().raw => Ok(()),
        _ => Err(CertificateProblem::Invalid(
            "the key in tls.key does not belong to the first certificate in tls.crt",
        )),
    }
}

/// PKCS #8 in its second version (RFC 5958), as some libraries write Ed25519 keys.
fn has_public_key_in_it(key: &PrivateKeyDer<'_>) -> bool {
    let PrivateKeyDer::Pkcs8(key) = key else { return false };
    // A SEQUENCE, its length in one byte or in the number of bytes that the first one says, and the version.
    let body = match key.secret_pkcs8_der() {
        [0x30, 0..0x80, body @ ..] => Some(body),
        [0x30, long, rest @ ..] => rest.get(usize::from(long & 0x7f)..),
        _ => None,
    };
    body.is_some_and(|body| body.starts_with(&[2, 1, 1]))
}

/// What Envoy (1.40) refuses beside keys, as far as that is known: its own words name neither the Secret nor a way out,
/// and come only when an Envoy is connected. `tests/envoy/certificates_refused.rs` holds this against the real one.
fn check_that_envoy_takes(leaf: &X509Certificate<'_>) -> Result<(), CertificateProblem> {
    let is_ecdsa = leaf.public_key().algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY;
    let usage = leaf.key_usage().ok().flatten().map(|extension| extension.value);
    let problem = if requires_stapling(leaf) {
        "the certificate in tls.crt requires OCSP stapling (the TLS feature status_request), and Envoy is given no OCSP \
         response to staple: have it issued without that extension"
    } else if is_ecdsa && usage.is_some_and(|usage| !usage.digital_signature()) {
        "the certificate in tls.crt has an ECDSA key and a key usage without digitalSignature, and Envoy refuses that: \
         have it issued with digitalSignature"
    } else if leaf.subject().iter_common_name().next().is_some_and(|name| name.attr_value().data.is_empty()) {
        "the certificate in tls.crt has an empty common name, and Envoy refuses that: have it issued without a common \
         name or with one that is not empty"
    } else if leaf.subject().iter_common_name().next().is_none() && !has_alternative_name(leaf) {
        "the certificate in tls.crt names nobody, and Envoy refuses that: have it issued with its host as DNS name"
    } else {
        return Ok(());
    };
    Err(CertificateProblem::Invalid(problem))
}

/// RFC 7633. With another feature beside it, Envoy does not recognize it.
fn requires_stapling(leaf: &X509Certificate<'_>) -> bool {
    const TLS_FEATURE: &str = "1.3.6.1.5.5.7.1.24";
    // A SEQUENCE of the INTEGER 5, which is the extension status_request.
    const STATUS_REQUEST: [u8; 5] = [0x30, 3, 2, 1, 5];
    let feature = leaf.extensions().iter().find(|extension| extension.oid.to_id_string() == TLS_FEATURE);
    feature.is_some_and(|extension| extension.value == STATUS_REQUEST)
}

/// Of a kind that Envoy counts.
fn has_alternative_name(leaf: &X509Certificate<'_>) -> bool {
    let Ok(Some(extension)) = leaf.subject_alternative_name() else { return false };
    let counts = |name: &GeneralName<'_>| {
        matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_) | GeneralName::URI(_))
    };
    extension.value.general_names.iter().any(counts)
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => ip(bytes),
        _ => None,
    });
    names.collect()
}

fn ip(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| std::net::Ipv4Addr::from(octets).to_string());
    let v6 = <[u8; 16]>::try_from(bytes).map(|octets| std::net::Ipv6Addr::from(octets).to_string());
    v4.or(v6).ok()
}

fn encode(chain: &[CertificateDer<'_>]) -> String {
    let sections: Vec<Pem> = chain.iter().map(|der| Pem::new("CERTIFICATE", der.as_ref())).collect();
    pem::encode_many_config(&sections, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

fn time(unix_seconds: i64) -> Timestamp {
    let farthest = if unix_seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(unix_seconds).unwrap_or(farthest)
}

fn fingerprint(chain: &str, key: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    // The length keeps a byte of the one from passing for a byte of the other.
    hasher.update(&(chain.len() as u64).to_le_bytes());
    hasher.update(chain.as_bytes());
    hasher.update(key.as_bytes());
    hasher.finalize().into()
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Certificate {}

impl Hash for Certificate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Certificate");
        shown.field("names", &self.names).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
