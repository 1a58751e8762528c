use std::sync::{Arc, Weak};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{BuildVersion, Node, node::UserAgentVersionType};
use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_types::pb::envoy::r#type::v3::SemanticVersion;
use envoy_types::pb::google::protobuf::Any;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Server};

use super::*;
use crate::xds::{Programmed, Resource, Snapshot, Version};

/// An operator, and a connection to it.
struct Setup {
    publisher: Publisher,
    shutdown: CancellationToken,
    channel: Channel,
}

impl Setup {
    async fn new() -> Self {
        Self::with_peer(Peer::default()).await
    }

    async fn with_peer(peer: Peer) -> Self {
        let (publisher, shutdown) = (Publisher::new(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let routes = DiscoveryService::new(publisher.clone(), shutdown.clone()).into_routes();
        // In the operator the control channel's TLS says this.
        let says_who = tonic::service::InterceptorLayer::new(move |mut request: Request<()>| {
            request.extensions_mut().insert(peer);
            Ok(request)
        });
        let server = Server::builder().layer(says_who).add_routes(routes);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        Self { publisher, shutdown, channel }
    }

    fn ads(&self) -> AggregatedDiscoveryServiceClient<Channel> {
        AggregatedDiscoveryServiceClient::new(self.channel.clone())
    }

    /// An Envoy on delta ADS.
    async fn connect(&self, first: DeltaDiscoveryRequest) -> DeltaEnvoy {
        let (requests, receiver) = talking(first).await;
        let stream = self.ads().delta_aggregated_resources(receiver).await.unwrap();
        Envoy { requests, responses: stream.into_inner() }
    }

    /// An Envoy on state-of-the-world ADS.
    async fn connect_sotw(&self, first: DiscoveryRequest) -> Envoy<DiscoveryRequest, DiscoveryResponse> {
        let (requests, receiver) = talking(first).await;
        let stream = self.ads().stream_aggregated_resources(receiver).await.unwrap();
        Envoy { requests, responses: stream.into_inner() }
    }

    /// An Envoy that asks for clusters on a stream of their own.
    async fn connect_cds(&self, first: DeltaDiscoveryRequest) -> DeltaEnvoy {
        let (requests, receiver) = talking(first).await;
        let mut client = ClusterDiscoveryServiceClient::new(self.channel.clone());
        Envoy { requests, responses: client.delta_clusters(receiver).await.unwrap().into_inner() }
    }

    /// An Envoy that asks for secrets on a stream of their own.
    async fn connect_sds(&self, first: DeltaDiscoveryRequest) -> DeltaEnvoy {
        let (requests, receiver) = talking(first).await;
        let mut client = SecretDiscoveryServiceClient::new(self.channel.clone());
        Envoy { requests, responses: client.delta_secrets(receiver).await.unwrap().into_inner() }
    }
}

async fn talking<T>(first: T) -> (mpsc::Sender<T>, ReceiverStream<T>) {
    let (requests, receiver) = mpsc::channel(8);
    assert!(requests.send(first).await.is_ok());
    (requests, ReceiverStream::new(receiver))
}

struct Envoy<Q, R> {
    requests: mpsc::Sender<Q>,
    responses: Streaming<R>,
}

type DeltaEnvoy = Envoy<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

impl<Q, R: std::fmt::Debug> Envoy<Q, R> {
    async fn hears(&mut self) -> Result<Option<R>, Status> {
        timeout(Duration::from_secs(20), self.responses.message()).await.expect("an answer in time")
    }

    async fn hears_nothing(&mut self) {
        let heard = timeout(Duration::from_millis(50), self.responses.message()).await;
        assert!(heard.is_err(), "heard {heard:?}");
    }
}

fn node() -> Option<Node> {
    Some(Node { id: "envoy".to_owned(), ..Default::default() })
}

fn asks_for(kind: Kind) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { node: node(), type_url: kind.type_url().to_owned(), ..Default::default() }
}

fn asks_for_clusters() -> DeltaDiscoveryRequest {
    asks_for(Kind::Cluster)
}

fn asks_for_the_world_of_clusters() -> DiscoveryRequest {
    DiscoveryRequest { node: node(), type_url: Kind::Cluster.type_url().to_owned(), ..Default::default() }
}

fn acks(response: DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url,
        response_nonce: response.nonce,
        ..Default::default()
    }
}

fn snapshot(kind: Kind, names: &[&str]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for name in names {
        snapshot.insert(kind, *name, Resource { version: Version::of(name), body: Any::default() });
    }
    snapshot
}

fn one_cluster() -> Snapshot {
    snapshot(Kind::Cluster, &["a"])
}

#[tokio::test]
async fn an_envoy_is_served_and_its_ack_releases_who_waits_for_it() {
    let setup = Setup::new().await;
    let mut envoy = setup.connect(asks_for_clusters()).await;
    // Before anything is published, silence: an empty world would take Envoy's clusters away.
    envoy.hears_nothing().await;

    setup.publisher.publish(one_cluster());
    let response = envoy.hears().await.unwrap().unwrap();
    assert_eq!(response.resources[0].name, "a");
    let early = timeout(Duration::from_millis(50), setup.publisher.programmed(Some("envoy"), "a")).await;
    assert!(early.is_err(), "sent is not delivered");

    envoy.requests.send(acks(response)).await.unwrap();
    assert_eq!(setup.publisher.programmed(Some("envoy"), "a").await, Programmed::Acked);
}

#[tokio::test]
async fn an_envoy_on_state_of_the_world_is_served_alike_and_needs_nothing_when_it_comes_back() {
    let setup = Setup::new().await;
    let mut envoy = setup.connect_sotw(asks_for_the_world_of_clusters()).await;
    envoy.hears_nothing().await;

    setup.publisher.publish(one_cluster());
    let response = envoy.hears().await.unwrap().unwrap();
    assert_eq!(response.resources.len(), 1);
    let version_info = response.version_info;
    let ack = DiscoveryRequest {
        response_nonce: response.nonce,
        version_info: version_info.clone(),
        ..asks_for_the_world_of_clusters()
    };
    envoy.requests.send(ack).await.unwrap();
    assert_eq!(setup.publisher.programmed(Some("envoy"), "a").await, Programmed::Acked);

    drop(envoy);
    let returns = DiscoveryRequest { version_info, ..asks_for_the_world_of_clusters() };
    let mut envoy = setup.connect_sotw(returns).await;
    envoy.hears_nothing().await;
    assert_eq!(setup.publisher.programmed(Some("envoy"), "a").await, Programmed::Acked);
}

#[tokio::test]
async fn types_that_are_not_served_are_left_unanswered_without_harm() {
    let setup = Setup::new().await;
    setup.publisher.publish(one_cluster());
    let endpoints = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment".to_owned();
    let mut envoy = setup.connect(DeltaDiscoveryRequest { type_url: endpoints, ..asks_for_clusters() }).await;
    envoy.hears_nothing().await;

    envoy.requests.send(asks_for_clusters()).await.unwrap();
    assert_eq!(envoy.hears().await.unwrap().unwrap().resources.len(), 1);
}

#[tokio::test]
async fn secrets_are_for_an_envoy_that_has_proved_who_it_is() {
    let setup = Setup::with_peer(Peer { verified: true }).await;
    setup.publisher.publish(snapshot(Kind::Secret, &["key"]));
    for mut envoy in
        [setup.connect(asks_for(Kind::Secret)).await, setup.connect_sds(asks_for(Kind::Secret)).await]
    {
        assert_eq!(envoy.hears().await.unwrap().unwrap().resources[0].name, "key");
    }
}

#[tokio::test]
async fn secrets_are_kept_from_any_other_which_is_served_the_rest() {
    let setup = Setup::new().await;
    let mut all = one_cluster();
    all.insert(Kind::Secret, "key", Resource { version: Version::of(&1), body: Any::default() });
    setup.publisher.publish(all);
    let mut envoy = setup.connect(asks_for(Kind::Secret)).await;
    let mut sds = setup.connect_sds(asks_for(Kind::Secret)).await;
    envoy.hears_nothing().await;
    sds.hears_nothing().await;

    envoy.requests.send(asks_for_clusters()).await.unwrap();
    assert_eq!(envoy.hears().await.unwrap().unwrap().type_url, Kind::Cluster.type_url());
}

#[tokio::test]
async fn clusters_on_a_stream_of_their_own_release_who_waits_for_them() {
    let setup = Setup::new().await;
    setup.publisher.publish(one_cluster());
    let _ads = setup.connect(asks_for(Kind::Listener)).await;
    let mut cds =
        setup.connect_cds(DeltaDiscoveryRequest { type_url: String::new(), ..asks_for_clusters() }).await;
    let response = cds.hears().await.unwrap().unwrap();
    cds.requests.send(acks(response)).await.unwrap();
    assert_eq!(setup.publisher.programmed(Some("envoy"), "a").await, Programmed::Acked);
}

#[tokio::test]
async fn a_service_of_one_type_refuses_others_in_words() {
    let setup = Setup::new().await;
    let mut envoy = setup.connect_cds(asks_for(Kind::Route)).await;
    let refusal = envoy.hears().await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert_eq!(
        refusal.message(),
        "this service serves only the type cluster, not \
         type.googleapis.com/envoy.config.route.v3.RouteConfiguration: ask for that on the ADS stream, or from \
         the discovery service of its own type"
    );
}

#[tokio::test]
async fn polling_is_refused_with_the_setting_to_change() {
    let setup = Setup::new().await;
    let mut client = ClusterDiscoveryServiceClient::new(setup.channel.clone());
    let refusal = client.fetch_clusters(asks_for_the_world_of_clusters()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unimplemented);
    assert!(refusal.message().contains("api_type"), "{}", refusal.message());
}

#[tokio::test]
async fn an_envoy_without_a_name_is_refused_in_words() {
    let setup = Setup::new().await;
    let mut envoy = setup.connect(DeltaDiscoveryRequest { node: None, ..asks_for_clusters() }).await;
    let refusal = envoy.hears().await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("node.id"), "{}", refusal.message());
}

#[tokio::test]
async fn an_envoy_that_is_too_old_is_refused_in_words() {
    let setup = Setup::new().await;
    let version = Some(SemanticVersion { major_number: 1, minor_number: 22, patch: 0 });
    let version = UserAgentVersionType::UserAgentBuildVersion(BuildVersion { version, metadata: None });
    let node = node().map(|node| Node { user_agent_version_type: Some(version), ..node });
    let mut envoy = setup.connect(DeltaDiscoveryRequest { node, ..asks_for_clusters() }).await;
    let refusal = envoy.hears().await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert!(refusal.message().contains("Envoy 1.22.0 is too old"), "{}", refusal.message());
    assert_eq!(setup.publisher.streams(), 0);
}

#[tokio::test]
async fn an_envoy_that_never_reads_slows_no_other_and_keeps_nothing_alive() {
    let setup = Setup::new().await;
    let mut stuck = setup.connect(asks_for_clusters()).await;
    let stuck_world = setup.connect_sotw(asks_for_the_world_of_clusters()).await;
    let mut brisk = setup.connect(asks_for_clusters()).await;
    let mut published: Vec<Weak<Resource>> = Vec::new();
    for n in 0..1000 {
        setup.publisher.publish(snapshot(Kind::Cluster, &["stays", &format!("short-lived-{n}")]));
        let current = setup.publisher.watch().borrow().clone().unwrap();
        published.extend(current.of(Kind::Cluster).values().map(Arc::downgrade));
        let response = brisk.hears().await.unwrap().unwrap();
        assert!(response.resources.iter().any(|resource| resource.name == format!("short-lived-{n}")));
        brisk.requests.send(acks(response)).await.unwrap();
    }

    published.retain(|resource| resource.strong_count() > 0);
    published.dedup_by(|a, b| a.ptr_eq(b));
    // The present two, and what each of the stuck was sent at first.
    assert!(published.len() <= 2 + 2 + 1, "{} resources are kept", published.len());

    let first = stuck.hears().await.unwrap().unwrap();
    stuck.hears_nothing().await;
    stuck.requests.send(acks(first)).await.unwrap();
    let newest = stuck.hears().await.unwrap().unwrap();
    assert_eq!(newest.resources[0].name, "short-lived-999");
    drop(stuck_world);
}

#[tokio::test]
async fn shutdown_ends_streams_cleanly_and_forgets_them() {
    let setup = Setup::new().await;
    setup.publisher.publish(one_cluster());
    let mut envoy = setup.connect(asks_for_clusters()).await;
    envoy.hears().await.unwrap();
    assert_eq!(setup.publisher.streams(), 1);

    setup.shutdown.cancel();

    assert_eq!(envoy.hears().await.unwrap(), None);
    assert_eq!(setup.publisher.programmed(Some("envoy"), "a").await, Programmed::NoStream);
}
