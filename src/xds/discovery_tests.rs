use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::google::protobuf::Any;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::{Channel, Server};

use super::*;
use crate::xds::{Programmed, Resource, Snapshot, Version};

/// An operator, and a connection to it.
struct Setup {
    publisher: Publisher,
    shutdown: CancellationToken,
    client: AggregatedDiscoveryServiceClient<Channel>,
}

impl Setup {
    async fn new() -> Self {
        let (publisher, shutdown) = (Publisher::new(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let service = AdsService::new(publisher.clone(), shutdown.clone()).into_server();
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let client = AggregatedDiscoveryServiceClient::connect(address).await.unwrap();
        Self { publisher, shutdown, client }
    }

    async fn connect(&mut self, first: DeltaDiscoveryRequest) -> Envoy {
        let (requests, receiver) = mpsc::channel(8);
        requests.send(first).await.unwrap();
        let stream = self.client.delta_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap();
        Envoy { requests, responses: stream.into_inner() }
    }
}

struct Envoy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Envoy {
    async fn hears(&mut self) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        timeout(Duration::from_secs(5), self.responses.message()).await.expect("an answer in time")
    }

    async fn hears_nothing(&mut self) {
        let heard = timeout(Duration::from_millis(50), self.responses.message()).await;
        assert!(heard.is_err(), "heard {heard:?}");
    }
}

fn asks_for_clusters() -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node { id: "envoy".to_owned(), ..Default::default() }),
        type_url: Kind::Cluster.type_url().to_owned(),
        ..Default::default()
    }
}

fn one_cluster() -> Snapshot {
    let mut snapshot = Snapshot::default();
    let resource = Resource { version: Version::of(&"a"), body: Any::default() };
    snapshot.insert(Kind::Cluster, "a", resource);
    snapshot
}

#[tokio::test]
async fn an_envoy_is_served_and_its_ack_releases_who_waits_for_it() {
    let mut setup = Setup::new().await;
    let mut envoy = setup.connect(asks_for_clusters()).await;
    // Before anything is published, silence: an empty world would take Envoy's clusters away.
    envoy.hears_nothing().await;

    setup.publisher.publish(one_cluster());
    let response = envoy.hears().await.unwrap().unwrap();
    assert_eq!(response.resources[0].name, "a");
    let early = timeout(Duration::from_millis(50), setup.publisher.programmed(Some("envoy"), "a")).await;
    assert!(early.is_err(), "sent is not delivered");

    let ack = DeltaDiscoveryRequest { response_nonce: response.nonce, ..asks_for_clusters() };
    envoy.requests.send(ack).await.unwrap();
    assert_eq!(setup.publisher.programmed(Some("envoy"), "a").await, Programmed::Acked);
}

#[tokio::test]
async fn types_that_are_not_served_are_left_unanswered_without_harm() {
    let mut setup = Setup::new().await;
    setup.publisher.publish(one_cluster());
    let endpoints = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment".to_owned();
    let mut envoy = setup.connect(DeltaDiscoveryRequest { type_url: endpoints, ..asks_for_clusters() }).await;
    envoy.hears_nothing().await;

    envoy.requests.send(asks_for_clusters()).await.unwrap();
    assert_eq!(envoy.hears().await.unwrap().unwrap().resources.len(), 1);
}

#[tokio::test]
async fn an_envoy_without_a_name_is_refused_in_words() {
    let mut setup = Setup::new().await;
    let mut envoy = setup.connect(DeltaDiscoveryRequest { node: None, ..asks_for_clusters() }).await;
    let refusal = envoy.hears().await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("node.id"), "{}", refusal.message());
}

#[tokio::test]
async fn state_of_the_world_is_refused_with_the_setting_to_change() {
    let mut setup = Setup::new().await;
    let requests = tokio_stream::empty::<DiscoveryRequest>();
    let refusal = setup.client.stream_aggregated_resources(requests).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unimplemented);
    assert!(refusal.message().contains("DELTA_GRPC"));
}

#[tokio::test]
async fn shutdown_ends_streams_cleanly_and_forgets_them() {
    let mut setup = Setup::new().await;
    setup.publisher.publish(one_cluster());
    let mut envoy = setup.connect(asks_for_clusters()).await;
    envoy.hears().await.unwrap();
    assert_eq!(setup.publisher.streams(), 1);

    setup.shutdown.cancel();

    assert_eq!(envoy.hears().await.unwrap(), None);
    assert_eq!(setup.publisher.programmed(Some("envoy"), "a").await, Programmed::NoStream);
}
