use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS12;
use rustls::{ClientConfig, ClientConnection, DEFAULT_VERSIONS, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Endpoint;
use tower::service_fn;

use super::certificates::{Authority, Issued};
use super::connect_client::ConnectClient;
use super::thrift_client::ThriftClient;

/// Clients of Envoy's TLS listener, which believe this authority alone.
pub struct TlsClients {
    envoy: SocketAddr,
    authority: String,
}

impl TlsClients {
    pub fn new(envoy: SocketAddr, authority: &Authority) -> Self {
        Self { envoy, authority: authority.pem() }
    }

    /// The certificate that the host shows to new connections.
    pub async fn certificate_of(&self, host: &str) -> io::Result<CertificateDer<'static>> {
        let stream = handshake(self.envoy, host.to_owned(), self.config(b"h2")).await?;
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        Ok(shown.first().expect("a server shows a certificate").clone().into_owned())
    }

    /// Whether a client that asks for exactly this name, which ends in a dot, is shown the certificate. rustls takes the dot
    /// off, so it asks for a name of the same length here, and its first message is corrected. That the server answers to
    /// another message than rustls knows of matters only after the certificate, which TLS 1.2 sends in the clear.
    pub async fn shows_with_dot(&self, name: &str, certificate: &CertificateDer<'_>) -> bool {
        let other = name.strip_suffix('.').map(|name| format!("{name}x")).expect("a dot");
        let config = self.config_of(&[&TLS12], b"h2");
        let mut hello = Vec::new();
        let server = ServerName::try_from(other.clone()).unwrap();
        ClientConnection::new(config, server).unwrap().write_tls(&mut hello).unwrap();
        let at = hello.windows(other.len()).position(|window| window == other.as_bytes()).expect("the name");
        hello[at..at + name.len()].copy_from_slice(name.as_bytes());

        let mut server = TcpStream::connect(self.envoy).await.unwrap();
        server.write_all(&hello).await.unwrap();
        let mut answer = Vec::new();
        let shown = |answer: &[u8]| answer.windows(certificate.len()).any(|window| window == &**certificate);
        while !shown(&answer) {
            if !server.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {
                return false;
            }
        }
        true
    }

    pub async fn connect(&self, host: &str, user: &str) -> ConnectClient {
        let (envoy, config, name) = (self.envoy, self.config(b"h2"), host.to_owned());
        let endpoint = Endpoint::from_shared(format!("http://{envoy}")).unwrap();
        let endpoint = endpoint.origin(format!("https://{host}").parse().unwrap());
        let connector = service_fn(move |_| {
            let (config, name) = (Arc::clone(&config), name.clone());
            async move { handshake(envoy, name, config).await.map(TokioIo::new) }
        });
        let channel = endpoint.connect_with_connector(connector).await.expect("a TLS connection");
        ConnectClient::on(channel, user)
    }

    pub fn thrift(&self, host: &str, user: &str) -> ThriftClient {
        let authority = reqwest::Certificate::from_pem(self.authority.as_bytes()).unwrap();
        let http = reqwest::Client::builder().no_proxy().http1_only().tls_certs_only([authority]);
        let http = http.resolve(host, self.envoy).build().unwrap();
        ThriftClient::on(http, &format!("https://{host}:{}", self.envoy.port()), user)
    }

    fn config(&self, protocol: &[u8]) -> Arc<ClientConfig> {
        self.config_of(DEFAULT_VERSIONS, protocol)
    }

    fn config_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocol: &[u8],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_owned()];
        Arc::new(config)
    }
}

/// As it is in a handshake.
pub fn der(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()
}

async fn handshake(
    address: SocketAddr,
    host: String,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host).unwrap();
    TlsConnector::from(config).connect(name, TcpStream::connect(address).await?).await
}
