use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use rstest::rstest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tonic::transport::server::Connected;

use super::incoming::handshake;
use super::*;

#[path = "../../tests/support/certificates.rs"]
mod certificates;

use certificates::{Authority, Issued, OPERATOR, mount};

/// The operator's files and the CA that signed everything in them.
struct Mounted {
    folder: TempDir,
    authority: Authority,
}

impl Mounted {
    fn new() -> Self {
        let mounted = Self { folder: TempDir::new().unwrap(), authority: Authority::new() };
        mount(mounted.path(), &mounted.authority.server(), &mounted.authority.pem());
        mounted
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn files(&self) -> TlsFiles {
        TlsFiles {
            certificate: self.path().join("tls.crt"),
            key: self.path().join("tls.key"),
            client_ca: Some(self.path().join("ca.crt")),
        }
    }

    fn load(&self) -> Arc<Certificates> {
        Certificates::load(self.files()).unwrap()
    }
}

/// A client as Envoy is one: HTTP/2, and this certificate.
fn client(trusts: &Authority, shows: Option<&Issued>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusts.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shows {
        None => builder.with_no_client_auth(),
        Some(issued) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn connect(address: SocketAddr, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(OPERATOR).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

/// What the operator says of a client that does this with its socket.
async fn refused<T>(certificates: &Certificates, does: impl AsyncFnOnce(TcpStream) -> T) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(certificates.current());
    let accepted = async {
        let (stream, from) = listener.accept().await.unwrap();
        handshake(acceptor, stream, from).await
    };
    let client = async { does(TcpStream::connect(address).await.unwrap()).await };
    let (outcome, _) = tokio::join!(accepted, client);
    outcome.map(|connection| connection.connect_info()).unwrap_err().why
}

async fn shakes_hands(stream: TcpStream, config: ClientConfig) -> io::Result<()> {
    let name = ServerName::try_from(OPERATOR).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    // With TLS 1.3 the client is done before the server has seen its certificate.
    stream.read(&mut [0]).await.map(drop)
}

struct Server {
    address: SocketAddr,
    connections: Pin<Box<dyn Stream<Item = Result<Connection, std::convert::Infallible>> + Send>>,
}

impl Server {
    async fn start(certificates: Option<Arc<Certificates>>) -> Self {
        Self::of(Incoming::bind(([127, 0, 0, 1], 0).into(), certificates).await.unwrap())
    }

    fn of(incoming: Incoming) -> Self {
        Self { address: incoming.local_addr().unwrap(), connections: Box::pin(incoming.into_stream()) }
    }

    async fn next(&mut self) -> Connection {
        let Ok(connection) = self.connections.next().await.unwrap();
        connection
    }

    /// Both ends of a connection of this client.
    async fn meets(&mut self, config: ClientConfig) -> (Connection, TlsStream<TcpStream>) {
        let address = self.address;
        let (connection, client) = tokio::join!(self.next(), connect(address, config));
        (connection, client.unwrap())
    }
}

async fn carries(from: &mut TlsStream<TcpStream>, to: &mut Connection, text: &[u8]) -> bool {
    let mut heard = vec![0; text.len()];
    from.write_all(text).await.unwrap();
    to.read_exact(&mut heard).await.unwrap();
    to.write_all(text).await.unwrap();
    to.flush().await.unwrap();
    from.read_exact(&mut heard).await.unwrap();
    heard == text
}

#[tokio::test]
async fn a_client_with_a_certificate_of_the_ca_is_verified() {
    let mounted = Mounted::new();
    let mut server = Server::start(Some(mounted.load())).await;
    let envoy = client(&mounted.authority, Some(&mounted.authority.client()));
    let (mut connection, mut stream) = server.meets(envoy).await;
    assert_eq!(connection.connect_info(), Peer { verified: true });
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert!(carries(&mut stream, &mut connection, b"over TLS").await);
}

#[tokio::test]
async fn without_a_client_ca_there_is_tls_and_nobody_is_verified() {
    let mounted = Mounted::new();
    let files = TlsFiles { client_ca: None, ..mounted.files() };
    let mut server = Server::start(Some(Certificates::load(files).unwrap())).await;
    let shown = mounted.authority.client();
    for envoy in [client(&mounted.authority, None), client(&mounted.authority, Some(&shown))] {
        let (connection, _stream) = server.meets(envoy).await;
        assert_eq!(connection.connect_info(), Peer { verified: false });
    }
}

#[tokio::test]
async fn over_plaintext_nobody_is_verified() {
    let mut server = Server::start(None).await;
    let address = server.address;
    let (connection, _stream) = tokio::join!(server.next(), TcpStream::connect(address));
    assert_eq!(connection.connect_info(), Peer { verified: false });
    assert_eq!(Peer::of(&Request::new(())), Peer { verified: false });
}

#[tokio::test]
async fn who_is_refused_hears_it_and_the_log_says_why() {
    let mounted = Mounted::new();
    let certificates = mounted.load();
    let (ours, other) = (&mounted.authority, Authority::new());
    let refuses = async |config: ClientConfig| {
        let mut heard = None;
        let why = refused(&certificates, async |stream: TcpStream| {
            heard = Some(shakes_hands(stream, config).await);
        });
        let why = why.await;
        assert!(heard.unwrap().is_err(), "the client was not told");
        why.unwrap()
    };
    assert_eq!(
        refuses(client(ours, None)).await,
        "it shows no client certificate: start that Envoy with envoy/bootstrap-mtls.yaml"
    );
    assert_eq!(
        refuses(client(ours, Some(&other.client()))).await,
        "no CA in --grpc-client-ca-file has signed its client certificate"
    );
    assert_eq!(
        refuses(client(ours, Some(&ours.expired_client()))).await,
        "its client certificate has expired"
    );
    assert_eq!(
        refuses(client(&other, Some(&ours.client()))).await,
        "it refuses the operator's certificate (TLS alert UnknownCA)"
    );
    let mut http1 = client(ours, Some(&ours.client()));
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert_eq!(refuses(http1).await, "it does not offer HTTP/2 (ALPN h2)");
}

#[tokio::test]
async fn plaintext_is_refused_where_tls_is_spoken() {
    let mounted = Mounted::new();
    let certificates = mounted.load();
    let why = refused(&certificates, async |mut stream: TcpStream| {
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        // A TLS alert or a reset: nothing that HTTP/2 is.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(&[0, 0, 18, 4]), "HTTP/2 settings were sent");
    });
    assert_eq!(why.await.unwrap(), "it does not speak TLS: start that Envoy with envoy/bootstrap-mtls.yaml");
}

#[tokio::test]
async fn who_only_looks_whether_the_port_is_open_is_no_matter_for_a_warning() {
    let mounted = Mounted::new();
    assert_eq!(refused(&mounted.load(), async |stream: TcpStream| drop(stream)).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_given_up_after_a_while() {
    let mounted = Mounted::new();
    let silent = async |stream: TcpStream| {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        drop(stream);
    };
    assert_eq!(refused(&mounted.load(), silent).await.unwrap(), "no TLS handshake within 10s");
}

#[tokio::test]
async fn silent_clients_keep_nobody_out() {
    let mounted = Mounted::new();
    let mut incoming = Incoming::bind(([127, 0, 0, 1], 0).into(), Some(mounted.load())).await.unwrap();
    incoming.max_handshakes = 3;
    let mut server = Server::of(incoming);
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let (connection, _stream) =
        server.meets(client(&mounted.authority, Some(&mounted.authority.client()))).await;
    assert!(connection.connect_info().verified);
    // The first ones had to make room.
    assert_eq!(silent[0].read(&mut [0]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_new_server_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let mounted = Mounted::new();
    let certificates = mounted.load();
    let mut server = Server::start(Some(Arc::clone(&certificates))).await;
    let envoy = client(&mounted.authority, Some(&mounted.authority.client()));
    let shown = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].clone();

    let (mut connection, mut before) = server.meets(envoy.clone()).await;
    mount(mounted.path(), &mounted.authority.server(), &mounted.authority.pem());
    assert!(matches!(certificates.reload(), Reload::Replaced));
    let (_connection, after) = server.meets(envoy).await;

    assert_ne!(shown(&before), shown(&after));
    assert!(carries(&mut before, &mut connection, b"still here").await);
    assert!(matches!(certificates.reload(), Reload::Unchanged));
}

#[tokio::test]
async fn a_new_client_ca_counts_for_new_connections() {
    let mounted = Mounted::new();
    let certificates = mounted.load();
    let mut server = Server::start(Some(Arc::clone(&certificates))).await;
    let next = Authority::new();
    let (old, new) = (mounted.authority.client(), next.client());
    let trusts = &mounted.authority;
    let (mut connection, mut before) = server.meets(client(trusts, Some(&old))).await;

    // As a CA is replaced in practice: first both, then the new one alone.
    let both = format!("{}{}", mounted.authority.pem(), next.pem());
    mount(mounted.path(), &mounted.authority.server(), &both);
    assert!(matches!(certificates.reload(), Reload::Replaced));
    for shown in [&old, &new] {
        let (connection, _stream) = server.meets(client(trusts, Some(shown))).await;
        assert!(connection.connect_info().verified);
    }
    mount(mounted.path(), &mounted.authority.server(), &next.pem());
    assert!(matches!(certificates.reload(), Reload::Replaced));
    let why = refused(&certificates, async |stream| shakes_hands(stream, client(trusts, Some(&old))).await);
    assert_eq!(why.await.unwrap(), "no CA in --grpc-client-ca-file has signed its client certificate");
    let (new_connection, _stream) = server.meets(client(trusts, Some(&new))).await;
    assert!(new_connection.connect_info().verified);
    assert!(carries(&mut before, &mut connection, b"still here").await);
}

#[rstest]
#[case::half_a_certificate("tls.crt", |text: String| text[..text.len() / 2].to_owned(), "--grpc-tls-cert-file", "is no whole PEM file")]
#[case::no_certificate("tls.crt", |_| String::new(), "--grpc-tls-cert-file", "holds no certificate")]
#[case::half_a_key("tls.key", |text: String| text[..text.len() / 2].to_owned(), "--grpc-tls-key-file", "holds no private key")]
#[case::another_ones_key("tls.key", |_| Authority::new().server().key, "--grpc-tls-key-file", "do not go together")]
#[case::no_ca("ca.crt", |_| "\n".to_owned(), "--grpc-client-ca-file", "holds no certificate")]
#[tokio::test]
async fn bad_files_are_told_of_once_and_change_nothing(
    #[case] file: &str,
    #[case] spoilt: fn(String) -> String,
    #[case] flag: &str,
    #[case] said: &str,
) {
    let mounted = Mounted::new();
    let certificates = mounted.load();
    let path = mounted.path().join(file);
    let good = fs::read_to_string(&path).unwrap();

    fs::write(&path, spoilt(good.clone())).unwrap();
    let Reload::Kept(error) = certificates.reload() else { panic!("bad files were taken") };
    let error = format!("{error:#}");
    assert!(error.contains(flag) && error.contains(said), "{error}");
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    assert!(matches!(certificates.reload(), Reload::Unchanged));
    let at_the_start = format!("{:#}", Certificates::load(mounted.files()).unwrap_err());
    assert_eq!(at_the_start, error);

    let mut server = Server::start(Some(Arc::clone(&certificates))).await;
    let envoy = client(&mounted.authority, Some(&mounted.authority.client()));
    assert!(server.meets(envoy).await.0.connect_info().verified);
    fs::write(&path, good).unwrap();
    assert!(matches!(certificates.reload(), Reload::Replaced));
}

#[test]
fn a_missing_file_is_named() {
    let mounted = Mounted::new();
    let certificates = mounted.load();
    fs::remove_file(mounted.path().join("tls.key")).unwrap();
    let Reload::Kept(error) = certificates.reload() else { panic!("a missing key was taken") };
    assert!(format!("{error:#}").starts_with("--grpc-tls-key-file "), "{error:#}");
    assert!(format!("{error:#}").contains("tls.key cannot be read: No such file"), "{error:#}");
}

#[tokio::test(start_paused = true)]
async fn the_files_are_followed_without_being_asked() {
    let mounted = Mounted::new();
    let certificates = mounted.load();
    let before = certificates.current();
    let following = tokio::spawn(Arc::clone(&certificates).follow());
    mount(mounted.path(), &mounted.authority.server(), &mounted.authority.pem());
    let mut changes = certificates.changes();
    tokio::time::timeout(Duration::from_secs(60), changes.changed()).await.unwrap().unwrap();
    assert!(!Arc::ptr_eq(&before, &certificates.current()));
    following.abort();
}
