//! mTLS between Envoy and two replicas of the operator while certificates and CA are replaced. Neither Spark nor
//! Kubernetes is needed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use spark_session_operator::control_channel::{Certificates, Incoming, Peer, Reload, TlsFiles};
use spark_session_operator::model::{Endpoint, Protocol, Routing, VirtualHost};
use spark_session_operator::xds::{
    DiscoveryService, EnvoySettings, Programmed, Publisher, RequestRates, translate,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptorLayer;
use tonic::transport::Server;

use super::certificates::Authority;
use super::mutual_tls::MutualTls;
use super::process::free_port;
use super::proxy::Envoy;

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
        // Not of its health, about which Envoy asks all replicas.
        let discovery = Routes::from(discovery.into_axum_router().layer(notes_peer));
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_service_status("", tonic_health::ServingStatus::Serving).await;
        let incoming = Incoming::bind(address, Some(Arc::clone(&certificates))).await.unwrap();
        let address = incoming.local_addr().unwrap();
        let server = Server::builder().add_routes(discovery).add_service(health_service);
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
            request_rates: RequestRates::default(),
            ext_authz_timeout: Duration::from_secs(60),
            max_body_head: 8192,
            activity_report_interval: Duration::from_secs(15),
            control_cluster: "spark-session-operator".to_owned(),
        };
        self.publisher.publish(translate(&routing, &settings));
    }

    /// Waits until Envoy holds its stream here, and has acknowledged this instance's cluster.
    async fn programs(&self, envoy: &Envoy, instance: &str) {
        let acked = async {
            while self.publisher.programmed(Some(envoy.node()), instance).await != Programmed::Acked {
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

#[tokio::test(flavor = "multi_thread")]
async fn envoy_stays_with_its_operator_while_certificates_and_ca_are_replaced() {
    let old = Authority::new();
    let mounted = MutualTls::new(&old);
    let files = mounted.of_operator();
    let listen_addr = free_port();
    let any_port = ([127, 0, 0, 1], 0).into();
    let mut first = Replica::start(any_port, &files).await;
    let mut second = Replica::start(any_port, &files).await;
    for replica in [&first, &second] {
        replica.publish("one", listen_addr);
    }

    // A headless Service has an address for each replica.
    let addresses = [first.address, second.address];
    let mut envoy = Envoy::with_mutual_tls("control-channel", listen_addr, &addresses, &mounted);
    envoy.start();

    // Envoy's stream is at one of them.
    let came = timeout(PATIENCE, async {
        tokio::select! {
            peer = first.peers.recv() => (true, peer),
            peer = second.peers.recv() => (false, peer),
        }
    });
    let (at_first, peer) = came.await.expect("Envoy did not come: its log says why");
    assert_eq!(peer, Some(Peer { verified: true }));
    let (mut here, other) = if at_first { (first, second) } else { (second, first) };
    here.programs(&envoy, "one").await;

    // Both CAs are trusted, then certificates come from the new one, then the old one goes.
    let new = Authority::new();
    let both_authorities = format!("{}{}", old.pem(), new.pem());
    let steps = [
        (old.server(), old.client(), &both_authorities),
        (new.server(), new.client(), &both_authorities),
        (new.server(), new.client(), &new.pem()),
    ];
    for (server, client, authority) in &steps {
        mounted.replace(server, client, authority);
        for replica in [&here, &other] {
            assert!(matches!(replica.certificates.reload(), Reload::Replaced));
        }
    }
    // The stream is the same one, and works.
    here.publish("two", listen_addr);
    here.programs(&envoy, "two").await;
    assert!(here.peers.try_recv().is_err(), "Envoy has reconnected");

    // New connections are made with the new certificates alone: to the other replica, then back.
    let mut other = other;
    other.publish("three", listen_addr);
    let address = here.stop().await;
    other.programs(&envoy, "three").await;
    assert_eq!(other.peers.recv().await, Some(Peer { verified: true }));
    here = Replica::start(address, &files).await;
    here.publish("four", listen_addr);
    other.stop().await;
    here.programs(&envoy, "four").await;
    assert_eq!(here.peers.recv().await, Some(Peer { verified: true }));
}
