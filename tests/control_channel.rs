//! The real Envoy on the control channel by mTLS, with two replicas of the operator behind it, while
//! certificates and CA are replaced. Spark and Kubernetes are not needed.
//!
//! Envoy: `$ENVOY`, or the one that `deploy/local/up` has brought into the cache.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in helpers, which clippy does not take for tests.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use spark_session_operator::control_channel::{Certificates, Incoming, Peer, Reload, TlsFiles};
use spark_session_operator::model::{Endpoint, Protocol, Routing, VirtualHost};
use spark_session_operator::xds::{DiscoveryService, EnvoySettings, Programmed, Publisher, translate};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptorLayer;
use tonic::transport::Server;

#[path = "support/certificates.rs"]
mod certificates;

use certificates::{Authority, OPERATOR, mount};

const NODE: &str = "envoy-0";
const PATIENCE: Duration = Duration::from_secs(30);

/// One replica, reduced to what Envoy sees of it.
struct Replica {
    address: SocketAddr,
    certificates: Arc<Certificates>,
    publisher: Publisher,
    /// Who opened a stream.
    peers: mpsc::UnboundedReceiver<Peer>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Replica {
    async fn start(address: SocketAddr, files: &TlsFiles) -> Self {
        let certificates = Certificates::load(files.clone()).unwrap();
        let (publisher, stop) = (Publisher::new(), CancellationToken::new());
        let (came, peers) = mpsc::unbounded_channel();
        let notes_peer = InterceptorLayer::new(move |request: tonic::Request<()>| {
            came.send(Peer::of(&request)).unwrap();
            Ok(request)
        });
        let discovery = DiscoveryService::new(publisher.clone(), stop.clone()).into_routes();
        let incoming = Incoming::bind(address, Some(Arc::clone(&certificates))).await.unwrap();
        let address = incoming.local_addr().unwrap();
        let server = Server::builder().layer(notes_peer).add_routes(discovery);
        let stopped = stop.clone().cancelled_owned();
        let served = tokio::spawn(server.serve_with_incoming_shutdown(incoming.into_stream(), stopped));
        Self { address, certificates, publisher, peers, stop, served }
    }

    /// Serves a listener and, as a cluster, this instance.
    fn publish(&self, instance: &str, listen_addr: SocketAddr) {
        let mut routing = Routing::default();
        let host = VirtualHost { connect: Some("p".to_owned()), thrift: None };
        routing.hosts.insert("spark.example.com".to_owned(), host);
        let endpoint = Endpoint { protocol: Protocol::Connect, address: ([127, 0, 0, 1], 15002).into() };
        routing.endpoints.insert(instance.to_owned(), endpoint);
        let settings = EnvoySettings {
            listen_addr: Some(listen_addr),
            tls: None,
            rate_limit: None,
            ext_authz_timeout: Duration::from_secs(60),
            max_body_head: 8192,
            control_cluster: "spark-session-operator".to_owned(),
        };
        self.publisher.publish(translate(&routing, &settings));
    }

    /// Waits until Envoy holds its stream here, and has acknowledged this instance's cluster.
    async fn programs(&self, instance: &str) {
        let acked = async {
            while self.publisher.programmed(Some(NODE), instance).await != Programmed::Acked {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, acked).await.expect("Envoy did not acknowledge the cluster");
    }

    async fn stop(self) -> SocketAddr {
        self.stop.cancel();
        timeout(PATIENCE, self.served).await.expect("it does not stop").unwrap().unwrap();
        self.address
    }
}

/// Ended with the test, however that ends.
struct Envoy(Child);

impl Envoy {
    fn start(folder: &Path, bootstrap: &str) -> Self {
        let file = folder.join("bootstrap.yaml");
        fs::write(&file, bootstrap).unwrap();
        let log = fs::File::create(folder.join("envoy.log")).unwrap();
        let mut command = Command::new(envoy_binary());
        command.arg("-c").arg(file).args(["--concurrency", "1", "--disable-hot-restart"]);
        command.arg("--reject-unknown-dynamic-fields");
        Self(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn envoy_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ENVOY") {
        return path.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let below = |folder: PathBuf, prefix: &str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let fitting = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        fitting.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let environments =
        cache.into_iter().flat_map(|cache| below(cache.join("spark-session-operator"), "python-"));
    environments
        .flat_map(|environment| below(environment.join("lib"), "python3"))
        .map(|python| python.join("site-packages/envoy/_bin/envoy"))
        .find(|path| path.exists())
        .expect("no Envoy: set ENVOY to its path, or run deploy/local/up once")
}

/// Fills in a file of `envoy/`, as `envsubst` does.
fn filled_in(name: &str, values: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy").join(name);
    let text = fs::read_to_string(path).unwrap();
    let text = values.iter().fold(text, |text, (key, value)| text.replace(&format!("${{{key}}}"), value));
    // Only comments may still talk of variables.
    let left = text.lines().find(|line| !line.trim_start().starts_with('#') && line.contains("${"));
    assert_eq!(left, None, "{name} has a variable that its README does not know");
    text
}

fn folder(of: &TempDir, name: &str) -> PathBuf {
    let folder = of.path().join(name);
    fs::create_dir(&folder).unwrap();
    folder
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_stays_with_its_operator_while_certificates_and_ca_are_replaced() {
    let state = TempDir::new().unwrap();
    let (operators, envoys, sds) =
        (folder(&state, "operator"), folder(&state, "envoy"), folder(&state, "sds"));
    let old = Authority::new();
    mount(&operators, &old.server(), &old.pem());
    mount(&envoys, &old.client(), &old.pem());
    let files = TlsFiles {
        certificate: operators.join("tls.crt"),
        key: operators.join("tls.key"),
        client_ca: Some(operators.join("ca.crt")),
    };
    let listen_addr = free_address().await;
    let any_port = ([127, 0, 0, 1], 0).into();
    let mut first = Replica::start(any_port, &files).await;
    let mut second = Replica::start(any_port, &files).await;
    for replica in [&first, &second] {
        replica.publish("one", listen_addr);
    }

    let values = [("TLS_DIR", envoys.to_str().unwrap()), ("SDS_DIR", sds.to_str().unwrap())];
    for name in ["sds-certificate.yaml", "sds-ca.yaml"] {
        fs::write(sds.join(name), filled_in(name, &values)).unwrap();
    }
    let port = first.address.port().to_string();
    let bootstrap = filled_in(
        "bootstrap-mtls.yaml",
        &[
            ("SDS_DIR", sds.to_str().unwrap()),
            ("OPERATOR_HOST", "127.0.0.1"),
            ("OPERATOR_PORT", &port),
            ("OPERATOR_NAME", OPERATOR),
            ("ADMIN_HOST", "127.0.0.1"),
            ("ADMIN_PORT", "0"),
            ("NODE_ID", NODE),
        ],
    );
    // A headless Service has an address for each replica.
    let endpoint = format!(
        "        - endpoint:\n            address:\n              socket_address: {{address: \"127.0.0.1\", port_value: {port}}}\n"
    );
    assert!(bootstrap.contains(&endpoint), "{bootstrap}");
    let both = format!("{endpoint}{}", endpoint.replace(&port, &second.address.port().to_string()));
    let _envoy = Envoy::start(state.path(), &bootstrap.replace(&endpoint, &both));

    // Envoy's stream is at one of them.
    let came = timeout(PATIENCE, async {
        tokio::select! {
            peer = first.peers.recv() => (true, peer),
            peer = second.peers.recv() => (false, peer),
        }
    });
    let Ok((at_first, Some(peer))) = came.await else {
        panic!("Envoy did not come:\n{}", fs::read_to_string(state.path().join("envoy.log")).unwrap())
    };
    assert_eq!(peer, Peer { verified: true });
    let (mut here, other) = if at_first { (first, second) } else { (second, first) };
    here.programs("one").await;

    // Both CAs are trusted, then certificates come from the new one, then the old one goes.
    let new = Authority::new();
    let both_authorities = format!("{}{}", old.pem(), new.pem());
    let steps = [
        (old.server(), old.client(), &both_authorities),
        (new.server(), new.client(), &both_authorities),
        (new.server(), new.client(), &new.pem()),
    ];
    for (server, client, authority) in &steps {
        mount(&operators, server, authority);
        mount(&envoys, client, authority);
        for replica in [&here, &other] {
            assert!(matches!(replica.certificates.reload(), Reload::Replaced));
        }
    }
    // The stream is the same one, and works.
    here.publish("two", listen_addr);
    here.programs("two").await;
    assert!(here.peers.try_recv().is_err(), "Envoy has reconnected");

    // New connections are made with the new certificates alone: to the other replica, then back.
    let mut other = other;
    other.publish("three", listen_addr);
    let address = here.stop().await;
    other.programs("three").await;
    assert_eq!(other.peers.recv().await, Some(Peer { verified: true }));
    here = Replica::start(address, &files).await;
    here.publish("four", listen_addr);
    other.stop().await;
    here.programs("four").await;
    assert_eq!(here.peers.recv().await, Some(Peer { verified: true }));
}

/// So that nobody changes the one and forgets the other.
#[test]
fn the_two_bootstraps_differ_in_tls_alone() {
    let read = |name: &str| -> Value {
        serde_saphyr::from_str(&filled_in(
            name,
            &[
                ("SDS_DIR", "/sds"),
                ("OPERATOR_HOST", "operator"),
                ("OPERATOR_PORT", "1"),
                ("OPERATOR_NAME", "name"),
                ("ADMIN_HOST", "localhost"),
                ("ADMIN_PORT", "2"),
                ("NODE_ID", "node"),
            ],
        ))
        .unwrap()
    };
    let (plain, mut tls) = (read("bootstrap.yaml"), read("bootstrap-mtls.yaml"));
    let cluster = tls.pointer_mut("/static_resources/clusters/0").unwrap().as_object_mut().unwrap();
    assert!(cluster.remove("transport_socket").is_some());
    assert_eq!(plain, tls);
}
