use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rstest::rstest;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::test_support::http;
use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server with a certificate of `authority` that says `{}` to everything -> its URL.
async fn serve(authority: &Authority) -> String {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust it ends the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0, "a request in one piece");
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn a_private_ca_is_trusted_if_it_was_given_and_no_other() {
    http();
    let (ours, another) = (authority("ours"), authority("another"));
    let url = serve(&ours).await;
    let trusting = client(Some(ours.pem().as_bytes())).unwrap();
    assert_eq!(get(&trusting, &url, "it").await.unwrap(), b"{}");
    for ca in [None, Some(another.pem())] {
        let client = client(ca.as_deref().map(str::as_bytes)).unwrap();
        let error = get(&client, &url, "it").await.unwrap_err().to_string();
        assert!(error.starts_with("the identity provider cannot be reached: "), "{error}");
        assert!(error.contains("certificate"), "{error}");
    }
}

#[rstest]
#[case::empty(b"", "--oidc-ca-file has no certificate")]
#[case::text(b"hello", "--oidc-ca-file has no certificate")]
#[case::broken(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "--oidc-ca-file is not PEM")]
fn a_file_without_certificates_is_told(#[case] pem: &[u8], #[case] words: &str) {
    http();
    assert_eq!(client(Some(pem)).unwrap_err().to_string(), words);
}
