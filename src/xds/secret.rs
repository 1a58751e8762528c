use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};
use secrecy::ExposeSecret;

use crate::model::Certificate;

/// A certificate with its key, as Envoy's TLS listener asks for it by name (SDS). Envoy shows the key nowhere:
/// `/config_dump` has `[redacted]` in its place.
pub fn secret(name: &str, certificate: &Certificate) -> Secret {
    let inline = |bytes: &str| DataSource {
        specifier: Some(data_source::Specifier::InlineBytes(bytes.as_bytes().to_vec())),
        ..Default::default()
    };
    Secret {
        name: name.to_owned(),
        r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: Some(inline(certificate.chain())),
            private_key: Some(inline(certificate.key().expose_secret())),
            ..Default::default()
        })),
    }
}
