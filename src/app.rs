//! The composition root: the only file that knows every part. It starts them, and stops them all
//! when one fails or the process is told to end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::authn::{self, Authenticator};
use crate::broker::{Broker, MaxHold, SessionWriter, ThriftSessions, Traces, Writers};
use crate::control_channel::{Certificates, Incoming, Streams};
use crate::edge;
use crate::model::{Policy, Routing, TlsOff, TlsPolicy};
use crate::operator::{
    AccessLogRecorders, Activity, ActivityWriter, Applier, Candidate, Clients, ConnectionRecorder,
    ConnectionWriter, DriverLogs, DriverMetrics, Events, Leadership, Liveness, PoolMetrics, Readiness,
    Reconciler, SessionPatch, SparkClients, Stores, Takeover, programmed, serving_status, watches,
};
use crate::settings::{LeaderElection, Settings};
use crate::telemetry::{self, Health, LostLines, Metrics};
use crate::xds::{DiscoveryService, EnvoySettings, Publisher, Snapshot, TlsListener, translate_after};

/// How long a stopping operator waits for requests that are being answered.
const DRAIN: Duration = Duration::from_secs(10);
/// First bytes of a request's body that Envoy shows.
const BODY_HEAD_BYTES: u32 = 8192;
/// Envoy waits that long to send its access log, so more often would tell no more.
const SHORTEST_REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The control plane's cluster in `envoy/bootstrap.yaml`.
const CONTROL_CLUSTER: &str = "spark-session-operator";
/// Checks that Envoy has taken back before they were looked at. It takes back the check of each request that its client
/// cancels, and all checks of one of its workers share a connection: with h2's own limit of 20, one client that cancels
/// many requests at once would end it, and interrupt the requests that are held for others. Envoy is trusted, and has no
/// more checks than this at a time (`envoy/bootstrap.yaml`).
const MAX_PENDING_RESETS: usize = 100_000;

/// `lost` counts what is logged and cannot be written.
pub async fn run(settings: Settings, lost: LostLines) -> anyhow::Result<()> {
    if settings.authn.skip_validation {
        tracing::warn!("{}", authn::SKIP_VALIDATION_WARNING);
    }
    if settings.authn.client_secret_in_arguments {
        tracing::warn!("{}", authn::SECRET_IN_ARGUMENTS_WARNING);
    }
    let certificates = settings.grpc_tls.clone().map(Certificates::load).transpose()?;
    let cluster = kube::Config::infer().await.context("no access to a Kubernetes cluster")?;
    let Clients { prompt, patient } = Clients::new(cluster)?;
    let http = authn::client(settings.authn.ca_pem.as_deref())?;
    let stop = CancellationToken::new();
    let identity_jar = match settings.identity.jar.clone() {
        Some(jar) => Some((jar.load()?, jar)),
        None => None,
    };
    let policy = Policy { tls: tls_policy(&settings), identity_jar_url: settings.identity.jar_url.clone() };
    let stores = Stores::with_policy(policy);
    let publisher = Publisher::new();
    let metrics =
        Metrics::new(&stores.queue.metrics).with(PoolMetrics::new(stores.clone())).with(lost.clone());
    let metrics = Arc::new(metrics);
    // What runs for ever, and what ends by itself when it is told to stop.
    let mut background = JoinSet::new();
    let mut servers = JoinSet::new();

    background.spawn(lost.tell());
    watches::spawn(&prompt, &settings.namespace, &stores, &mut background);
    background.spawn(Readiness::new(stores.clone()).run());
    background.spawn(DriverLogs::new(&patient, &settings.namespace, stores.clone()).run());
    let activity = Activity::new(settings.activity_interval);
    let connections = ConnectionRecorder::default();
    let patch = SessionPatch::new(&patient, &settings.namespace, stores.clone());
    background.spawn(ActivityWriter::new(patch.clone(), stores.clone(), activity.clone()).run());
    background.spawn(ConnectionWriter::new(patch, stores.clone(), connections.clone()).run());
    let (reporter, grpc_health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let streams = Streams::from(stop.clone());
    let leadership = match settings.leader_election.clone() {
        Some(election) => {
            let (leadership, reached) =
                stand_for_election(&prompt, election, &stores, &metrics, &stop, &mut servers);
            let (probed, reporter, streams) = (stores.clone(), reporter.clone(), streams.clone());
            background.spawn(async move {
                probed.until_probed().await;
                serving_status::follow(reached, reporter, streams).await
            });
            leadership
        }
        None => {
            metrics.leader.set(1);
            Leadership::always()
        }
    };
    background.spawn(Liveness::new(&prompt, stores.clone(), leadership.clone()).run());
    let driver_metrics = DriverMetrics::new(&prompt, &settings.namespace, stores.clone(), leadership.clone());
    background.spawn(driver_metrics.run());
    let events = Events::new(&patient, &settings.namespace);
    let applier = Applier::new(
        &prompt,
        &settings.namespace,
        stores.clone(),
        leadership.clone(),
        activity.clone(),
        events,
    );
    let applier = Arc::new(applier);
    let (publishing, published) = watch::channel(Routing::default());
    background.spawn(programmed::follow(stores.clone(), publisher.clone(), published, applier.clone()));
    let takeover = Takeover::new(&prompt, &settings.namespace);
    Reconciler::new(stores.clone(), applier, takeover, leadership, activity.clone()).spawn(&mut background);
    background.spawn(publish_routing(
        stores.clone(),
        publisher.clone(),
        publishing,
        envoy_settings(&settings),
    ));

    let writer = SessionWriter::new(&patient, &settings.namespace, stores.clone());
    let thrift_sessions = ThriftSessions::new(stores.clone(), writer.clone())?;
    background.spawn(thrift_sessions.clone().run());
    let authenticator = Authenticator::new(settings.authn, http);
    if let Some(revoker) = authenticator.revoker(metrics.login_revocations.clone()) {
        servers.spawn(revoker.run(stop.clone()));
    }
    background.spawn(Arc::clone(authenticator.refusals()).run());
    let broker = Broker::new(
        stores.clone(),
        authenticator,
        publisher.clone(),
        Writers {
            sessions: writer,
            connections: thrift_sessions.clone(),
            spark: SparkClients::new(stores.clone()),
        },
        settings.max_hold,
        Traces { activity: activity.clone(), connections: connections.clone(), metrics: metrics.clone() },
        stop.clone(),
    );
    let grpc = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .add_routes(DiscoveryService::new(publisher.clone(), streams.clone()).into_routes())
        .add_service(grpc_health)
        .add_service(edge::service(Arc::new(broker)))
        .add_service(edge::open_session_service(Arc::new(thrift_sessions)))
        .add_service(edge::access_log_service(
            AccessLogRecorders { activity, connections, stores: stores.clone() },
            metrics.access_log_entries.clone(),
            streams,
        ));
    if let Some(certificates) = &certificates {
        background.spawn(Arc::clone(certificates).follow());
    }
    let incoming = Incoming::bind(settings.grpc_addr, certificates).await?.into_stream();
    let stopping = stop.clone();
    servers.spawn(async move {
        Ok(grpc.serve_with_incoming_shutdown(incoming, stopping.cancelled_owned()).await?)
    });

    let readiness =
        Arc::new(Ready { stores: stores.clone(), publisher: publisher.clone(), stop: stop.clone() });
    servers.spawn(telemetry::serve_health(settings.health_addr, readiness, stop.clone()));
    if let Some((bytes, jar)) = identity_jar {
        servers.spawn(jar.serve(bytes, stop.clone()));
    }
    if let Some(address) = settings.metrics_addr {
        servers.spawn(telemetry::serve_metrics(address, metrics, stop.clone()));
    }
    let control_channel_verified = settings.control_channel_verified;
    tracing::info!(
        namespace = settings.namespace,
        grpc = %settings.grpc_addr,
        control_channel_verified,
        "started"
    );
    until_stopped(background, servers, stop).await
}

/// Among the servers, since the Lease is to be given back before the process ends. Returns also when the API server last
/// answered.
fn stand_for_election(
    client: &kube::Client,
    election: LeaderElection,
    stores: &Arc<Stores>,
    metrics: &Metrics,
    stop: &CancellationToken,
    servers: &mut JoinSet<anyhow::Result<()>>,
) -> (Leadership, watch::Receiver<Instant>) {
    let leads = metrics.leader.clone();
    let (candidate, leadership) = Candidate::new(client, election.lease, election.timing, leads);
    let candidate = candidate.woken_by(stores.api_server.recoveries()).doubting(stores.history.clone());
    let reached = candidate.reached();
    let (stores, stop) = (stores.clone(), stop.clone());
    servers.spawn(candidate.run(async move { stores.until_probed().await }, stop));
    (leadership, reached)
}

/// Keys go only to an Envoy that shows who it is.
fn tls_policy(settings: &Settings) -> TlsPolicy {
    let off = if settings.envoy_tls_listen_addr.is_none() {
        Some(TlsOff::NoListener)
    } else if !settings.control_channel_verified {
        Some(TlsOff::UnverifiedControlChannel)
    } else {
        None
    };
    TlsPolicy { default_secret: settings.tls_default_secret.clone(), off }
}

fn envoy_settings(settings: &Settings) -> EnvoySettings {
    let MaxHold { connect, thrift } = settings.max_hold;
    EnvoySettings {
        listen_addr: settings.envoy_listen_addr,
        tls: settings
            .envoy_tls_listen_addr
            .filter(|_| settings.control_channel_verified)
            .map(|listen_addr| TlsListener { listen_addr }),
        request_rates: settings.request_rates,
        ext_authz_timeout: connect.max(thrift) + MaxHold::MARGIN,
        max_body_head: BODY_HEAD_BYTES,
        activity_report_interval: (settings.activity_interval / 4).max(SHORTEST_REPORT_INTERVAL),
        control_cluster: CONTROL_CLUSTER.to_owned(),
    }
}

/// Translates and publishes whenever hosts or servers change, and then tells `published` of it. Bursts become one
/// snapshot.
async fn publish_routing(
    stores: Arc<Stores>,
    publisher: Publisher,
    published: watch::Sender<Routing>,
    settings: EnvoySettings,
) -> anyhow::Result<()> {
    stores.until_synced().await;
    let mut last: Option<(Routing, Snapshot)> = None;
    loop {
        let routing = stores.read(|inventory| inventory.routing());
        if last.as_ref().is_none_or(|(before, _)| *before != routing) {
            let snapshot = translate_after(last.as_ref(), &routing, &settings);
            publisher.publish(snapshot.clone());
            published.send_replace(routing.clone());
            last = Some((routing, snapshot));
        }
        stores.routing_changed.notified().await;
    }
}

struct Ready {
    stores: Arc<Stores>,
    publisher: Publisher,
    stop: CancellationToken,
}

impl Health for Ready {
    fn missing(&self) -> Option<String> {
        if self.stop.is_cancelled() {
            Some("stopping".to_owned())
        } else if !self.stores.is_synced() {
            Some(
                "waiting for the Kubernetes API to list pools, sessions, applications, Pods and Secrets"
                    .to_owned(),
            )
        } else if !self.publisher.is_published() {
            Some("nothing is published to Envoy yet".to_owned())
        } else {
            None
        }
    }
}

/// Ends when a task fails or a signal comes. Requests that are being answered get a while to end.
async fn until_stopped(
    mut background: JoinSet<anyhow::Result<()>>,
    mut servers: JoinSet<anyhow::Result<()>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        Some(ended) = background.join_next() => Err(why_ended(ended)),
        Some(ended) = servers.join_next() => Err(why_ended(ended)),
    };
    tracing::info!("stopping");
    stop.cancel();
    let drained = async {
        while let Some(ended) = servers.join_next().await {
            if !matches!(ended, Ok(Ok(()))) {
                tracing::warn!(error = %why_ended(ended), "while stopping");
            }
        }
    };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("some requests were still being answered after {DRAIN:?}");
    }
    outcome
}

fn why_ended(ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("a part of the operator ended"),
        Ok(Err(error)) => error,
        Err(error) => anyhow::Error::new(error).context("a part of the operator failed"),
    }
}
