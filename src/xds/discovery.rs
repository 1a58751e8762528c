use std::pin::Pin;
use std::sync::Arc;

use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_server::{
    ClusterDiscoveryService, ClusterDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::listener::v3::listener_discovery_service_server::{
    ListenerDiscoveryService, ListenerDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::route::v3::route_discovery_service_server::{
    RouteDiscoveryService, RouteDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use futures::Stream as FutureStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::{DeltaSubscription, Kind, Publisher, Serves, SotwSubscription, Subscription, connection};
use crate::control_channel::{Peer, Streams};
use crate::telemetry::Repeats;

/// An Envoy that reconnects names every resource it has with its version, in one request. tonic's default
/// of 4 MiB would end that stream, again and again, at some tens of thousands of clusters.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// Envoy's configuration services: ADS for all types on one stream, and a service for each type, each in the
/// delta and the state-of-the-world variant. Delta suits better: only what changes is sent.
#[derive(Clone, Debug)]
pub struct DiscoveryService {
    pub(super) publisher: Publisher,
    /// Ends the stream that it serves.
    pub(super) shutdown: CancellationToken,
    pub(super) refused: Arc<Repeats<()>>,
    streams: Streams,
}

impl DiscoveryService {
    /// When its streams end, Envoy connects to another replica and keeps what it has meanwhile.
    pub fn new(publisher: Publisher, streams: impl Into<Streams>) -> Self {
        let streams = streams.into();
        Self { publisher, shutdown: streams.end(), refused: Arc::default(), streams }
    }

    /// Ready to be added to a tonic server.
    pub fn into_routes(self) -> Routes {
        let max = MAX_REQUEST_BYTES;
        Routes::new(AggregatedDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(ClusterDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(ListenerDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(RouteDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(SecretDiscoveryServiceServer::new(self).max_decoding_message_size(max))
    }

    /// Of one type `only`, or of all.
    fn open<S>(&self, request: Request<Streaming<S::Request>>, only: Option<Kind>) -> Opened<S::Response>
    where
        S: Subscription + Send + 'static,
    {
        // At most one response per type waits for an ACK, so sending into this never blocks.
        let (responses, receiver) = mpsc::channel(Kind::ALL.len());
        let serves = Serves { only, secrets: Peer::of(&request).verified };
        let service = Self { shutdown: self.streams.end(), ..self.clone() };
        tokio::spawn(connection::serve::<S>(service, serves, request.into_inner(), responses));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

type ResponseStream<T> = Pin<Box<dyn FutureStream<Item = Result<T, Status>> + Send>>;
type Opened<T> = Result<Response<ResponseStream<T>>, Status>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for DiscoveryService {
    type StreamAggregatedResourcesStream = ResponseStream<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = ResponseStream<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Opened<DiscoveryResponse> {
        self.open::<SotwSubscription>(request, None)
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Opened<DeltaDiscoveryResponse> {
        self.open::<DeltaSubscription>(request, None)
    }
}

/// The service of one type: the same under other names.
macro_rules! serve_one_type {
    ($service:ident, $kind:expr,
     $sotw:ident -> $sotw_stream:ident, $delta:ident -> $delta_stream:ident, $fetch:ident) => {
        #[tonic::async_trait]
        impl $service for DiscoveryService {
            type $sotw_stream = ResponseStream<DiscoveryResponse>;
            type $delta_stream = ResponseStream<DeltaDiscoveryResponse>;

            async fn $sotw(
                &self,
                request: Request<Streaming<DiscoveryRequest>>,
            ) -> Opened<DiscoveryResponse> {
                self.open::<SotwSubscription>(request, Some($kind))
            }

            async fn $delta(
                &self,
                request: Request<Streaming<DeltaDiscoveryRequest>>,
            ) -> Opened<DeltaDiscoveryResponse> {
                self.open::<DeltaSubscription>(request, Some($kind))
            }

            async fn $fetch(
                &self,
                _: Request<DiscoveryRequest>,
            ) -> Result<Response<DiscoveryResponse>, Status> {
                Err(no_polling())
            }
        }
    };
}

serve_one_type!(ClusterDiscoveryService, Kind::Cluster,
    stream_clusters -> StreamClustersStream, delta_clusters -> DeltaClustersStream, fetch_clusters);
serve_one_type!(ListenerDiscoveryService, Kind::Listener,
    stream_listeners -> StreamListenersStream, delta_listeners -> DeltaListenersStream, fetch_listeners);
serve_one_type!(RouteDiscoveryService, Kind::Route,
    stream_routes -> StreamRoutesStream, delta_routes -> DeltaRoutesStream, fetch_routes);
serve_one_type!(SecretDiscoveryService, Kind::Secret,
    stream_secrets -> StreamSecretsStream, delta_secrets -> DeltaSecretsStream, fetch_secrets);

fn no_polling() -> Status {
    Status::unimplemented(
        "polling is not served: set api_type to DELTA_GRPC (or GRPC) instead of REST in Envoy's bootstrap",
    )
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
