use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::subscription::DiscoveryRequest;
use super::{
    DiscoveryService, Due, Edition, Kind, Receipt, Registration, Rejection, Serves, Stream, Subscription,
    Unserved, Verdict, node,
};

pub type Responses<S> = mpsc::Sender<Result<<S as Subscription>::Response, Status>>;

/// One stream and the task that serves it.
struct Connection<S: Subscription> {
    node: String,
    stream: Stream<S>,
    registration: Registration,
    responses: Responses<S>,
    /// Whether it was told already that secrets are not for it.
    warned_of_secrets: bool,
}

/// How a stream ends, if not by itself.
enum End {
    /// In words for the log.
    Closed(String),
    /// With words for Envoy.
    Refused(Status),
}

/// Serves one stream until it ends.
pub async fn serve<S: Subscription>(
    service: DiscoveryService,
    serves: Serves,
    mut requests: Streaming<S::Request>,
    responses: Responses<S>,
) {
    let first = tokio::select! {
        () = service.shutdown.cancelled() => return,
        () = responses.closed() => return,
        first = requests.message() => first,
    };
    let first = match first {
        Ok(Some(first)) => first,
        Ok(None) => return,
        Err(error) => return debug!(%error, "an xDS stream ended before its first request"),
    };
    let node = match node::admit(first.node()) {
        Ok(node) => node,
        Err(refusal) => {
            if let Some(more) = service.refused.note((), Instant::now()) {
                let id = first.node().map(|node| node.id.chars().take(64).collect::<String>());
                warn!(node = ?id, reason = %refusal, more, "refused an Envoy");
            }
            // If it has gone already, nobody needs to hear it.
            let _ = responses.send(Err(refusal.into())).await;
            return;
        }
    };
    let only = serves.only.map(tracing::field::display);
    info!(node, only, "Envoy connected");
    let carries_clusters = serves.only.is_none_or(|kind| kind == Kind::Cluster);
    let mut connection = Connection::<S> {
        registration: service.publisher.register(&node, carries_clusters),
        node,
        stream: Stream::new(serves, Uuid::new_v4()),
        responses,
        warned_of_secrets: false,
    };
    let reason = match connection.run(first, requests, &service).await {
        End::Closed(reason) => reason,
        End::Refused(status) => {
            let reason = status.message().to_owned();
            let _ = connection.responses.send(Err(status)).await;
            reason
        }
    };
    info!(node = connection.node, reason, "Envoy disconnected");
}

impl<S: Subscription> Connection<S> {
    async fn run(
        &mut self,
        first: S::Request,
        mut requests: Streaming<S::Request>,
        service: &DiscoveryService,
    ) -> End {
        let closed = |reason: &str| End::Closed(reason.to_owned());
        let mut snapshots = service.publisher.watch();
        if let Err(refusal) = self.receive(first) {
            return End::Refused(refusal);
        }
        loop {
            let current = snapshots.borrow_and_update().clone();
            if let Some(snapshot) = current {
                for (kind, due) in self.stream.respond(&snapshot) {
                    let resources = snapshot.resources(kind);
                    let has_all = self.stream.subscription(kind).is_settled(resources);
                    let settled = has_all.then(|| resources.edition());
                    if self.send(kind, due, settled).await.is_err() {
                        return closed("Envoy closed the stream");
                    }
                }
            }
            tokio::select! {
                () = service.shutdown.cancelled() => return closed("this replica ends its streams"),
                () = self.responses.closed() => return closed("Envoy closed the stream"),
                changed = snapshots.changed() => if changed.is_err() {
                    return closed("nothing will be published any more");
                },
                request = requests.message() => match request {
                    Ok(Some(request)) => if let Err(refusal) = self.receive(request) {
                        return End::Refused(refusal);
                    },
                    Ok(None) => return closed("Envoy ended the stream"),
                    Err(error) => return closed(&error.to_string()),
                },
            }
        }
    }

    /// An error ends the stream.
    fn receive(&mut self, request: S::Request) -> Result<(), Status> {
        let type_url = request.type_url().to_owned();
        let (kind, receipt) = match self.stream.receive(request) {
            Ok(received) => received,
            Err(Unserved::UnknownType) => {
                debug!(node = self.node, type_url, "Envoy asks for a type that is not served");
                return Ok(());
            }
            Err(Unserved::OtherType(only)) => return Err(wrong_service(only, &type_url)),
            Err(Unserved::Secrets) => {
                self.warn_of_secrets();
                return Ok(());
            }
        };
        let Receipt { gained, lost, rejection, renewed: _ } = receipt;
        if let Some(rejection) = rejection {
            self.log(&rejection);
        }
        if kind == Kind::Cluster {
            self.registration.lost(&lost);
            self.registration.gained(gained);
        }
        Ok(())
    }

    fn log(&self, rejection: &Rejection) {
        let Rejection { kind, suspects, verdict, message } = rejection;
        let (node, count) = (&self.node, suspects.len());
        let some: Vec<&String> = suspects.keys().take(10).collect();
        match verdict {
            Verdict::Culprits(culprits) => warn!(node, %kind, resources = ?culprits, message,
                "Envoy refuses a resource; it is left with the version before until this one changes"),
            // Answers to the parts follow: one warning is enough.
            Verdict::TryingParts => info!(node, %kind, count, resources = ?some, message,
                "Envoy refused a response; trying its parts"),
            Verdict::Unknown => warn!(node, %kind, count, resources = ?some, message,
                "Envoy refuses a response and does not say for which resource; it is left with what it has \
                 until something changes"),
        }
    }

    fn warn_of_secrets(&mut self) {
        if !self.warned_of_secrets {
            self.warned_of_secrets = true;
            warn!(
                node = self.node,
                "Envoy asks for TLS keys over a connection that does not prove who it is; they are not sent. \
                 Give Envoy a client certificate for the operator's cluster in its bootstrap, and the operator \
                 the CA that signed it"
            );
        }
    }

    async fn send(&mut self, kind: Kind, due: Due<S::Response>, settled: Option<Edition>) -> Result<(), ()> {
        let Due { gained, response, removed } = due;
        if kind == Kind::Cluster {
            self.registration.lost(&removed);
            self.registration.gained(gained);
        }
        self.registration.answered(kind, self.stream.subscription(kind).rejected(), settled);
        let Some(response) = response else {
            return Ok(());
        };
        debug!(node = self.node, %kind, removed = removed.len(), "sending");
        self.responses.send(Ok(response)).await.map_err(|_| ())
    }
}

fn wrong_service(only: Kind, type_url: &str) -> Status {
    Status::invalid_argument(format!(
        "this service serves only the type {only}, not {type_url}: ask for that on the ADS stream, or from the \
         discovery service of its own type"
    ))
}
