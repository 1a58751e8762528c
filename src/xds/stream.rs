use uuid::Uuid;

use super::{Due, Kind, Receipt, Snapshot, Subscription, subscription::DiscoveryRequest};

/// One stream: a subscription for each resource type that it may ask for.
#[derive(Debug)]
pub struct Stream<S> {
    subscriptions: [S; Kind::ALL.len()],
    serves: Serves,
}

/// What may be asked for on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serves {
    /// The type of the service at which the stream was opened; `None` is ADS: all types.
    pub only: Option<Kind>,
    /// Private keys are only for an Envoy that has proved who it is.
    pub secrets: bool,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// We do not have this type. Envoy takes the end of the stream as the end of all types, so it goes on.
    UnknownType,
    /// The stream is for another type: its configuration is wrong, which somebody has to be told.
    OtherType(Kind),
    /// Secrets are not for this peer. The stream goes on.
    Secrets,
}

impl<S: Subscription> Stream<S> {
    /// `id` is a name that no other stream has, at any replica.
    pub fn new(serves: Serves, id: Uuid) -> Self {
        Self { subscriptions: Kind::ALL.map(|kind| S::new(kind, id)), serves }
    }

    /// Takes a request in.
    pub fn receive(&mut self, request: S::Request) -> Result<(Kind, Receipt), Unserved> {
        let kind = self.serves.kind_of(request.type_url())?;
        let receipt = self.subscription_mut(kind).receive(request);
        // Envoy makes a changed listener with the secrets that it holds, and refuses all of it for a bad one. Secrets
        // that come for the first time are no reason: a listener that is tried again may ask for them again.
        if kind == Kind::Secret && !receipt.renewed.is_empty() {
            self.subscription_mut(Kind::Listener).try_rejected_again();
        }
        Ok((kind, receipt))
    }

    /// What is due now, clusters first. No type waits for another's ACK: after a reconnect Envoy may ask
    /// for routes before clusters (istio#25495), and our routes name no cluster anyway.
    pub fn respond(&mut self, snapshot: &Snapshot) -> [(Kind, Due<S::Response>); Kind::ALL.len()] {
        Kind::ALL.map(|kind| (kind, self.subscription_mut(kind).respond(snapshot.resources(kind))))
    }

    pub fn subscription(&self, kind: Kind) -> &S {
        let [cluster, secret, listener, route] = &self.subscriptions;
        match kind {
            Kind::Cluster => cluster,
            Kind::Secret => secret,
            Kind::Listener => listener,
            Kind::Route => route,
        }
    }

    fn subscription_mut(&mut self, kind: Kind) -> &mut S {
        let [cluster, secret, listener, route] = &mut self.subscriptions;
        match kind {
            Kind::Cluster => cluster,
            Kind::Secret => secret,
            Kind::Listener => listener,
            Kind::Route => route,
        }
    }
}

impl Serves {
    fn kind_of(self, type_url: &str) -> Result<Kind, Unserved> {
        let kind = match (self.only, Kind::from_type_url(type_url)) {
            // A service of one type says it all.
            (Some(only), _) if type_url.is_empty() => only,
            (Some(only), asked) if asked != Some(only) => return Err(Unserved::OtherType(only)),
            (_, Some(kind)) => kind,
            (_, None) => return Err(Unserved::UnknownType),
        };
        if kind == Kind::Secret && !self.secrets { Err(Unserved::Secrets) } else { Ok(kind) }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

    #[rstest]
    #[case::ads_serves_every_type(None, true, ROUTE, Ok(Kind::Route))]
    #[case::ads_serves_secrets_to_who_may_have_them(None, true, SECRET, Ok(Kind::Secret))]
    #[case::ads_keeps_secrets_from_others(None, false, SECRET, Err(Unserved::Secrets))]
    #[case::ads_needs_a_type(None, true, "", Err(Unserved::UnknownType))]
    #[case::we_have_no_endpoints(None, true, ENDPOINT, Err(Unserved::UnknownType))]
    #[case::a_service_serves_its_type(Some(Kind::Route), false, ROUTE, Ok(Kind::Route))]
    #[case::a_service_needs_no_type(Some(Kind::Route), false, "", Ok(Kind::Route))]
    #[case::a_service_serves_no_other(
        Some(Kind::Cluster),
        true,
        ROUTE,
        Err(Unserved::OtherType(Kind::Cluster))
    )]
    #[case::nor_an_unknown(Some(Kind::Cluster), true, ENDPOINT, Err(Unserved::OtherType(Kind::Cluster)))]
    #[case::sds_keeps_secrets_too(Some(Kind::Secret), false, "", Err(Unserved::Secrets))]
    fn a_stream_serves(
        #[case] only: Option<Kind>,
        #[case] secrets: bool,
        #[case] type_url: &str,
        #[case] expected: Result<Kind, Unserved>,
    ) {
        assert_eq!(Serves { only, secrets }.kind_of(type_url), expected);
    }
}
