use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;
use prost::Message;
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

/// The same certificate and key, in bytes that differ with every `mark`: it is a comment behind the certificates.
///
/// Envoy (1.40) compares a secret with the last that came, whether it took that or not, and acknowledges one that is
/// the same without looking at it. A refused one that comes again, on the same stream, on the next, or from another
/// replica, would pass for taken.
pub fn marked(body: &Any, mark: &str) -> Any {
    let Ok(mut secret) = Secret::decode(body.value.as_slice()) else { return body.clone() };
    if let Some(secret::Type::TlsCertificate(certificate)) = &mut secret.r#type
        && let Some(DataSource { specifier: Some(data_source::Specifier::InlineBytes(chain)), .. }) =
            &mut certificate.certificate_chain
    {
        chain.extend_from_slice(format!("# {mark}\n").as_bytes());
    }
    pack_any(secret)
}
