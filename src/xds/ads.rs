use std::pin::Pin;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
};
use futures::Stream as FutureStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use super::{Kind, Publisher, Receipt, Registration, Stream};

/// An Envoy that reconnects names every resource it has with its version, in one request. tonic's default
/// of 4 MiB would end that stream, again and again, at some tens of thousands of clusters.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// Envoy's configuration service: incremental ADS.
#[derive(Clone, Debug)]
pub struct AdsService {
    publisher: Publisher,
    shutdown: CancellationToken,
}

impl AdsService {
    /// Streams end when `shutdown` is cancelled; Envoy then connects to another replica and keeps what it
    /// has meanwhile.
    pub fn new(publisher: Publisher, shutdown: CancellationToken) -> Self {
        Self { publisher, shutdown }
    }

    /// Ready to be added to a tonic server.
    pub fn into_server(self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES)
    }
}

type ResponseStream<T> = Pin<Box<dyn FutureStream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for AdsService {
    type StreamAggregatedResourcesStream = ResponseStream<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = ResponseStream<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented(
            "state-of-the-world ADS is not served: set dynamic_resources.ads_config.api_type to DELTA_GRPC \
             in Envoy's bootstrap",
        ))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        // At most one response per type waits for an ACK, so sending into this never blocks.
        let (responses, receiver) = mpsc::channel(Kind::ALL.len());
        let service = self.clone();
        tokio::spawn(service.serve(request.into_inner(), responses));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

type Responses = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;

impl AdsService {
    async fn serve(self, mut requests: Streaming<DeltaDiscoveryRequest>, responses: Responses) {
        let first = tokio::select! {
            () = self.shutdown.cancelled() => return,
            () = responses.closed() => return,
            first = requests.message() => first,
        };
        let first = match first {
            Ok(Some(first)) => first,
            Ok(None) => return,
            Err(error) => return debug!(%error, "an ADS stream ended before its first request"),
        };
        let node = first.node.as_ref().map(|node| node.id.clone()).unwrap_or_default();
        if node.is_empty() {
            warn!("refused an Envoy that does not say who it is: its bootstrap lacks node.id");
            let refusal = Status::invalid_argument(
                "the first request on an ADS stream must carry node.id: set node.id in Envoy's bootstrap, \
                 or start Envoy with --service-node",
            );
            // If it has gone already, nobody needs to hear it.
            let _ = responses.send(Err(refusal)).await;
            return;
        }
        info!(node, "Envoy connected");
        let mut connection = Connection {
            registration: self.publisher.register(&node),
            node,
            stream: Stream::default(),
            responses,
        };
        let reason = connection.run(first, requests, &self).await;
        info!(node = connection.node, reason, "Envoy disconnected");
    }
}

/// One stream and the task that serves it.
struct Connection {
    node: String,
    stream: Stream,
    registration: Registration,
    responses: Responses,
}

impl Connection {
    /// Serves until one side ends the stream. Says why.
    async fn run(
        &mut self,
        first: DeltaDiscoveryRequest,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        service: &AdsService,
    ) -> String {
        let mut snapshots = service.publisher.watch();
        self.receive(first);
        loop {
            let current = snapshots.borrow_and_update().clone();
            if let Some(snapshot) = current {
                for (kind, response) in self.stream.respond(&snapshot) {
                    if self.send(kind, response).await.is_err() {
                        return "Envoy closed the stream".to_owned();
                    }
                }
            }
            tokio::select! {
                () = service.shutdown.cancelled() => return "the operator shuts down".to_owned(),
                () = self.responses.closed() => return "Envoy closed the stream".to_owned(),
                changed = snapshots.changed() => if changed.is_err() {
                    return "nothing will be published any more".to_owned();
                },
                request = requests.message() => match request {
                    Ok(Some(request)) => self.receive(request),
                    Ok(None) => return "Envoy ended the stream".to_owned(),
                    Err(error) => return error.to_string(),
                },
            }
        }
    }

    fn receive(&mut self, request: DeltaDiscoveryRequest) {
        let type_url = request.type_url.clone();
        let Some((kind, receipt)) = self.stream.receive(request) else {
            return debug!(node = self.node, type_url, "Envoy asks for a type that is not served");
        };
        let Receipt { gained, lost, rejection } = receipt;
        if let Some(rejection) = rejection {
            let resources: Vec<&String> = rejection.resources.keys().take(10).collect();
            let (count, settled) = (rejection.resources.len(), rejection.is_final());
            // The answer to a whole batch is followed by answers to its parts: one warning is enough.
            if settled {
                warn!(node = self.node, %kind, ?resources, message = rejection.message,
                    "Envoy refuses a resource; it is left out until it changes");
            } else {
                info!(node = self.node, %kind, count, ?resources, message = rejection.message,
                    "Envoy refused a response; trying its parts");
            }
        }
        if kind == Kind::Cluster {
            self.registration.lost(&lost);
            self.registration.gained(gained);
        }
        self.registration.refused(kind, self.stream.subscription(kind).rejected());
    }

    async fn send(&self, kind: Kind, response: DeltaDiscoveryResponse) -> Result<(), ()> {
        debug!(
            node = self.node,
            %kind,
            nonce = response.nonce,
            resources = response.resources.len(),
            removed = response.removed_resources.len(),
            "sending"
        );
        if kind == Kind::Cluster {
            self.registration.lost(&response.removed_resources);
        }
        self.responses.send(Ok(response)).await.map_err(|_| ())
    }
}

#[cfg(test)]
#[path = "ads_tests.rs"]
mod tests;
