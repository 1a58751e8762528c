//! The operator's control plane in this process: everything that Envoy talks to, without Kubernetes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use spark_session_operator::authn::{self, Authenticator, AuthnSettings};
use spark_session_operator::broker::{Broker, MaxHold, SessionWriter, ThriftSessions, Traces, Writers};
use spark_session_operator::edge;
use spark_session_operator::model::Routing;
use spark_session_operator::operator::{Activity, ConnectionRecorder, SparkClients, Stores};
use spark_session_operator::xds::{
    DiscoveryService, EnvoySettings, Publisher, RequestRates, Snapshot, translate_after,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::{Request, Response, Status};

use crate::domain::{free_port, loopback};

/// Serves until it is dropped.
pub struct ControlPlane {
    pub address: SocketAddr,
    /// Where its Envoys listen.
    pub listen: SocketAddr,
    pub publisher: Publisher,
    /// Where it runs: what the operator does in one process is to be timed on its threads.
    pub runtime: Handle,
    stop: CancellationToken,
    translated: Option<(Routing, Snapshot)>,
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl ControlPlane {
    /// With the real answer to checks: who asks, which session, which instance. Every login is believed.
    pub fn with_broker(stores: &Arc<Stores>) -> Self {
        Self::with_logins(stores, AuthnSettings { skip_validation: true, ..AuthnSettings::default() })
    }

    /// The same, with these logins.
    pub fn with_logins(stores: &Arc<Stores>, settings: AuthnSettings) -> Self {
        let stop = CancellationToken::new();
        let publisher = Publisher::new();
        // A warm check asks Kubernetes nothing: nobody serves what this client would send.
        let (service, _) = tower_test::mock::pair::<http::Request<kube::client::Body>, _>();
        let client = kube::Client::new::<_, kube::client::Body, _>(service, "spark-dev");
        let sessions = SessionWriter::new(&client, "spark-dev", stores.clone());
        let connections = ThriftSessions::new(stores.clone(), sessions.clone()).unwrap();
        let broker = Broker::new(
            stores.clone(),
            Authenticator::new(settings, authn::client_builder().no_proxy().build().unwrap()),
            publisher.clone(),
            Writers { sessions, connections, spark: SparkClients::new(stores.clone()) },
            MaxHold { connect: Duration::from_secs(60), thrift: Duration::from_secs(300) },
            Traces {
                activity: Activity::new(Duration::from_secs(60)),
                connections: ConnectionRecorder::default(),
                metrics: Arc::default(),
            },
            stop.clone(),
        );
        Self::serve(publisher, stop, |server| server.add_service(edge::service(Arc::new(broker))))
    }

    /// Says yes to every check, in the same words and at once: the least that an ext_authz on tonic can cost.
    pub fn with_no_op(answer: CheckResponse) -> Self {
        Self::serve(Publisher::new(), CancellationToken::new(), |server| {
            server.add_service(AuthorizationServer::new(NoOp(answer)))
        })
    }

    /// On two threads of its own, as many as the operator would have here.
    fn serve(publisher: Publisher, stop: CancellationToken, checks: impl FnOnce(Router) -> Router) -> Self {
        let address = loopback(free_port());
        let discovery = DiscoveryService::new(publisher.clone(), stop.clone()).into_routes();
        let stopped = stop.clone().cancelled_owned();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = {
            let _inside = runtime.enter();
            let incoming = TcpIncoming::bind(address).unwrap().with_nodelay(Some(true));
            checks(Server::builder().add_routes(discovery)).serve_with_incoming_shutdown(incoming, stopped)
        };
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(server));
        Self { address, listen: loopback(free_port()), publisher, runtime: handle, stop, translated: None }
    }

    pub fn settings(&self) -> EnvoySettings {
        EnvoySettings {
            listen_addr: Some(self.listen),
            tls: None,
            request_rates: RequestRates::default(),
            ext_authz_timeout: Duration::from_secs(315),
            max_body_head: 8192,
            activity_report_interval: Duration::from_secs(15),
            control_cluster: "spark-session-operator".to_owned(),
        }
    }

    /// As the operator does it: after what was translated before.
    pub fn translated(&mut self, stores: &Stores) -> Snapshot {
        let routing = stores.read(|inventory| inventory.routing());
        let snapshot = translate_after(self.translated.as_ref(), &routing, &self.settings());
        self.translated = Some((routing, snapshot.clone()));
        snapshot
    }
}

struct NoOp(CheckResponse);

#[tonic::async_trait]
impl Authorization for NoOp {
    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}
