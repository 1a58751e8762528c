use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use super::{Kind, Receipt, Snapshot, Subscription};

/// One ADS stream: a subscription for each resource type we serve.
#[derive(Debug)]
pub struct Stream {
    subscriptions: [Subscription; Kind::ALL.len()],
}

impl Default for Stream {
    fn default() -> Self {
        Self { subscriptions: Kind::ALL.map(Subscription::new) }
    }
}

impl Stream {
    /// Takes a request in. `None` for a type that we do not serve: it is left unanswered, because Envoy
    /// takes the end of the stream as the end of all types.
    pub fn receive(&mut self, request: DeltaDiscoveryRequest) -> Option<(Kind, Receipt)> {
        let kind = Kind::from_type_url(&request.type_url)?;
        let [cluster, secret, listener, route] = &mut self.subscriptions;
        let subscription = match kind {
            Kind::Cluster => cluster,
            Kind::Secret => secret,
            Kind::Listener => listener,
            Kind::Route => route,
        };
        Some((kind, subscription.receive(request)))
    }

    /// The responses now due, clusters first. No type waits for another's ACK: after a reconnect Envoy
    /// may ask for routes before clusters (istio#25495), and our routes name no cluster anyway.
    pub fn respond(&mut self, snapshot: &Snapshot) -> Vec<(Kind, DeltaDiscoveryResponse)> {
        let due = Kind::ALL.iter().zip(&mut self.subscriptions);
        due.filter_map(|(&kind, subscription)| Some((kind, subscription.respond(snapshot.of(kind))?)))
            .collect()
    }

    pub fn subscription(&self, kind: Kind) -> &Subscription {
        let [cluster, secret, listener, route] = &self.subscriptions;
        match kind {
            Kind::Cluster => cluster,
            Kind::Secret => secret,
            Kind::Listener => listener,
            Kind::Route => route,
        }
    }
}
