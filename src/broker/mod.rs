//! Brings a request to its session: authenticates it, finds or creates the session, waits until an
//! instance serves it, and waits until the Envoy that asks knows that instance.
//!
//! The broker does not place sessions and does not count quotas for good: the planner does, on the
//! leader. Every replica answers requests. What to do is decided by [`decide`], which is pure; here
//! is only the waiting.

mod creations;
mod decide;
mod held;
mod held_handles;
mod hold;
mod named_clients;
mod refreshes;
mod session_confs;
mod thrift_sessions;
mod under_way;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::creations::{Created, Creations};
use self::decide::{Decision, Wait, decide};
use self::held::{Counted, HeldChecks, Place};
pub use self::hold::MaxHold;
use self::named_clients::{NamedClients, is_crowded};
use self::refreshes::Refreshes;
pub use self::thrift_sessions::ThriftSessions;
pub use self::writer::SessionWriter;
use crate::authn::{Authenticator, AuthnError, AuthnErrorKind, Origin};
use crate::edge::Checker;
use crate::model::{Call, Check, CredentialsError, Denial, DenialKind, Identity, Protocol, Route, Verdict};
use crate::operator::{Activity, ConnectionRecorder, SparkClients, Stores};
use crate::plan;
use crate::telemetry::audit::{self, Event, Record};
use crate::telemetry::{Causes, Metrics, Outcome, Repeats};
use crate::xds::{Programmed, Publisher};

/// How long an Envoy may take to acknowledge a cluster before the request goes on without: its
/// `on_demand` filter then asks for the cluster itself.
const ACK_PATIENCE: Duration = Duration::from_secs(2);
/// How much longer than a request may be held the API server has for what it was asked at the end: whatever else a request
/// waits for has words of its own.
const WRITE_GRACE: Duration = Duration::from_secs(1);
/// Refused users, with pool and session, that are told apart.
const REFUSED_TOLD_APART: usize = 10_000;
/// When a client that was told to wait should come back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Who writes what the broker decides.
pub struct Writers {
    pub sessions: SessionWriter,
    pub connections: ThriftSessions,
    /// Ends what single clients have on Spark.
    pub spark: SparkClients,
}

pub struct Broker {
    stores: Arc<Stores>,
    authenticator: Authenticator,
    publisher: Publisher,
    writer: SessionWriter,
    connections: ThriftSessions,
    creations: Creations,
    named_clients: NamedClients,
    max_hold: MaxHold,
    activity: Activity,
    client_connections: ConnectionRecorder,
    metrics: Arc<Metrics>,
    /// User, pool, session.
    refused: Repeats<(String, String, Option<String>)>,
    /// Pool and session.
    held_of: Repeats<(String, String)>,
    refreshes: Refreshes,
    held: HeldChecks,
    stop: CancellationToken,
}

/// Since when and until when a request may wait, and its place among those that do.
struct Hold<'a> {
    since: Timestamp,
    deadline: Instant,
    place: Place<'a>,
}

/// What a check leaves behind besides its answer.
pub struct Traces {
    pub activity: Activity,
    pub connections: ConnectionRecorder,
    pub metrics: Arc<Metrics>,
}

impl Checker for Broker {
    async fn check(&self, check: Check) -> Verdict {
        let started = Instant::now();
        let _in_flight = Counted::new(&self.metrics.checks_in_flight);
        // Held requests are let go when the operator stops: Envoy asks again, and another replica, or the next
        // process, holds them on.
        let verdict = tokio::select! {
            verdict = self.answer(check) => verdict.map_or_else(Verdict::Deny, Verdict::Route),
            () = self.stop.cancelled() => Verdict::AskAgain,
        };
        self.metrics.check_seconds.observe(started.elapsed().as_secs_f64());
        let outcome = match &verdict {
            Verdict::Route(_) => "Routed".to_owned(),
            Verdict::Deny(denial) => format!("{:?}", denial.kind),
            Verdict::AskAgain => "AskAgain".to_owned(),
        };
        self.metrics.checks.get_or_create(&Outcome { outcome }).inc();
        verdict
    }
}

impl Broker {
    pub fn new(
        stores: Arc<Stores>,
        authenticator: Authenticator,
        publisher: Publisher,
        Writers { sessions: writer, connections, spark }: Writers,
        max_hold: MaxHold,
        Traces { activity, connections: client_connections, metrics }: Traces,
        stop: CancellationToken,
    ) -> Self {
        let creations = Creations::new(writer.clone(), Arc::clone(&stores));
        let (refreshes, held) = (Refreshes::new(writer.clone()), HeldChecks::new(&metrics));
        let named_clients = NamedClients::new(writer.clone(), spark);
        Self {
            stores,
            authenticator,
            publisher,
            writer,
            connections,
            creations,
            named_clients,
            max_hold,
            activity,
            client_connections,
            metrics,
            refused: Repeats::with_room_for(REFUSED_TOLD_APART),
            held_of: Repeats::default(),
            refreshes,
            held,
            stop,
        }
    }

    async fn answer(&self, check: Check) -> Result<Route, Denial> {
        let protocol = match &check.call {
            Call::Connect { .. } => Protocol::Connect,
            Call::Thrift { .. } => Protocol::Thrift,
            Call::Malformed { protocol, .. } => *protocol,
            Call::Other { .. } => return Err(self.unknown_path(&check)),
        };
        let now = Timestamp::now();
        let since = check.since.unwrap_or(now);
        let deadline = Instant::now() + self.max_hold.left(protocol, since, now);
        let login = self.log_in(protocol, &check, deadline);
        let (pool, identity) = self.held.login(check.peer, check.length(), login).await?;
        let check = check.without_login();
        let arrived = Instant::now();
        let mut hold = Hold { since, deadline, place: self.held.place(&identity.user) };
        let session = self.find_session(&pool, protocol, &identity, &check, &mut hold);
        let found = tokio::time::timeout_at(deadline + WRITE_GRACE, session).await;
        let (route, held) = found.unwrap_or_else(|_| {
            let held = self.max_hold.of(protocol).as_secs();
            let message = format!(
                "The session in pool {pool} could not be looked up or written within {held} s, because the Kubernetes API \
                 does not answer. Try again."
            );
            Err(retryable(message))
        })?;
        hold.place.wait(self.until_programmed(check.node.as_deref(), &route)).await?;
        if held {
            let held_ms = arrived.elapsed().as_millis();
            tracing::info!(session = route.session, cluster = route.cluster, held_ms, "request released");
        }
        Ok(route)
    }

    /// The pool that the request is for, and who asks.
    async fn log_in(
        &self,
        protocol: Protocol,
        check: &Check,
        deadline: Instant,
    ) -> Result<(String, Arc<Identity>), Denial> {
        if tokio::time::timeout_at(deadline, self.stores.until_synced()).await.is_err() {
            let message =
                "The operator is starting: the Kubernetes API has not told it the pools yet. Try again.";
            return Err(retryable(message.to_owned()));
        }
        let pool = self.stores.read(|inventory| match inventory.pool_for(&check.host, protocol) {
            Some(pool) => Ok(pool.meta.name.clone()),
            None => Err(decide::unknown_host(inventory, &check.host, protocol, &check.call)),
        })?;
        let identity = self.authenticate(check, &pool).await?;
        Ok((pool, identity))
    }

    fn unknown_path(&self, check: &Check) -> Denial {
        let message = if self.stores.read(|inventory| inventory.serves_host(&check.host)) {
            format!(
                "Nothing is served at {}. Spark Connect clients use sc://{}:PORT, JDBC clients \
                 jdbc:hive2://{}:PORT/default;transportMode=http;httpPath=cliservice.",
                check.path, check.host, check.host
            )
        } else {
            format!("No pool has host {}. Check the host name in the connection URL.", check.host)
        };
        Denial::new(DenialKind::UnknownPath, message)
    }

    async fn authenticate(&self, check: &Check, pool: &str) -> Result<Arc<Identity>, Denial> {
        let origin = Origin { address: check.peer, pool: Some(pool) };
        let outcome = match (&check.credentials, &check.user_id_credentials) {
            (Ok(credentials), _) => self.authenticator.log_in(credentials, origin).await,
            (Err(CredentialsError::Missing), Some(credentials)) if self.authenticator.takes_user_id() => {
                self.authenticator.log_in(credentials, origin).await
            }
            (Err(CredentialsError::Missing), Some(_)) => {
                Err(CredentialsError::InUserId { host: check.host.clone() }.into())
            }
            (Err(error), _) => Err(AuthnError::from(error.clone())),
        };
        outcome.map_err(|error| {
            let kind = match error.kind() {
                AuthnErrorKind::Rejected => DenialKind::Unauthenticated,
                AuthnErrorKind::Unavailable => DenialKind::Unavailable,
                AuthnErrorKind::Misconfigured => DenialKind::Internal,
                AuthnErrorKind::Limited => DenialKind::LoginsLimited,
            };
            self.authenticator.refusals().log(&check.host, check.peer, &error);
            let retry_after = match &error {
                AuthnError::Limited { wait, .. } => Some(*wait),
                _ => None,
            };
            Denial { retry_after, ..Denial::new(kind, error.to_string()) }
        })
    }

    /// A client that was refused goes on trying: it is told once in a while.
    fn tell_refusal(&self, pool: &str, session: Option<String>, identity: &Identity, check: &Check) {
        let kind = (identity.user.clone(), pool.to_owned(), session.clone());
        if let Some(more) = self.refused.note(kind, Instant::now()) {
            let record = Record {
                user: Some(&identity.user),
                pool: Some(pool),
                session: session.as_deref(),
                address: check.peer,
                reason: Some(if session.is_some() { "AnotherUsersSession" } else { "PoolAccess" }),
                more,
            };
            audit::record(Event::SessionRefused, record);
        }
    }

    /// The session's route, and whether the request had to wait for it.
    async fn find_session(
        &self,
        pool: &str,
        protocol: Protocol,
        identity: &Arc<Identity>,
        check: &Check,
        hold: &mut Hold<'_>,
    ) -> Result<(Route, bool), Denial> {
        let Hold { since, deadline, ref mut place } = *hold;
        let mut wait = Wait { since, session: None, refreshed: false };
        let mut waits_for = None;
        // Subscribed before the first look, so that no change falls between look and wait.
        let mut changes = self.stores.changes(pool);
        let closed = || Denial::new(DenialKind::SessionClosed, "The session has ended.");
        loop {
            changes.mark_unchanged();
            let (decision, connects, crowded) = self.stores.read(|inventory| {
                let decision = match inventory.pool(pool) {
                    Some(pool) => decide(inventory, pool, identity, &check.call, &wait, Timestamp::now()),
                    None => {
                        let message = format!("Pool {pool} was deleted.");
                        Decision::Deny(Denial::new(DenialKind::UnknownHost, message))
                    }
                };
                let session = decision.session_in_use().and_then(|name| inventory.session(name));
                let connects = check.connection.as_ref().filter(|used| {
                    protocol == Protocol::Connect
                        && session.is_some_and(|session| !session.is_connected_over(&used.connection))
                });
                let crowded = session.filter(|session| is_crowded(session)).cloned();
                (decision, connects, crowded)
            });
            if let (Some(session), Call::Connect { head, .. }) = (crowded, &check.call) {
                self.named_clients.used(&session, head.session_id);
            }
            if let Some(session) = decision.session_in_use() {
                if check.call.counts_as_activity() {
                    self.activity.note(session, Timestamp::now());
                }
                if let Some(used) = connects {
                    self.client_connections.used(session, used.clone());
                }
            }
            // Before anything is written for it: one request too many leaves nothing behind.
            if !is_answer(&decision) {
                place.take()?;
            }
            match decision {
                Decision::Route(route) if opens_connection(&check.call) => {
                    let under_way = &self.connections.under_way;
                    if under_way.let_through(&route.session, Instant::now()) {
                        return Ok((route, wait.session.is_some()));
                    }
                    // Its last connection was closed at this moment: the client gets the session after it.
                    place.take()?;
                    let ended = under_way.until_ended(&route.session);
                    if tokio::time::timeout_at(deadline, ended).await.is_err() {
                        let message =
                            format!("The last session in pool {pool} is being released. Try again.");
                        return Err(retryable(message));
                    }
                    continue;
                }
                Decision::Route(route) => return Ok((route, wait.session.is_some())),
                Decision::Deny(denial) => return Err(denial),
                Decision::Refuse { denial, session } => {
                    self.tell_refusal(pool, session, identity, check);
                    return Err(denial);
                }
                Decision::Release { session, route } => {
                    let writer = self.writer.clone();
                    detached(async move { writer.release(&session, Timestamp::now()).await }).await?;
                    return route.map(|route| (route, false)).ok_or_else(closed);
                }
                Decision::Leave { session, session_id, route } => {
                    self.named_clients.leave(&session, session_id, Timestamp::now()).await?;
                    return route.map(|route| (route, false)).ok_or_else(closed);
                }
                Decision::Close { session, connection, route } => {
                    let connections = self.connections.clone();
                    let close = async move {
                        connections.client_closes(&session, connection, Timestamp::now()).await;
                        Ok(())
                    };
                    detached(close).await?;
                    return Ok((route, false));
                }
                Decision::Create(draft) => {
                    if let Created::LookAgain = self.creations.create(draft, None, check.peer).await? {
                        continue;
                    }
                }
                Decision::Replace { uid, draft } => {
                    if let Created::LookAgain = self.creations.create(draft, Some(uid), check.peer).await? {
                        continue;
                    }
                }
                Decision::Claim { session, resource_version, session_id } => {
                    let (writer, client) = (self.writer.clone(), check.peer);
                    let claim =
                        async move { writer.claim(&session, resource_version, session_id, client).await };
                    detached(claim).await?;
                    continue;
                }
                Decision::Join { session, joining } => {
                    self.named_clients.join(&session, joining).await?;
                    continue;
                }
                Decision::Refresh => {
                    self.refreshes.refresh(pool, &identity.user).await?;
                    wait.refreshed = true;
                    continue;
                }
                Decision::Wait { session, uid, explanation } => {
                    let begins = waits_for.is_none() || wait.session != uid;
                    // A client may send any number of requests: those of one session are told together.
                    if begins
                        && self.held_of.note((pool.to_owned(), session.clone()), Instant::now()).is_some()
                    {
                        tracing::info!(session, pool, user = identity.user, "request is held");
                    }
                    wait.session = uid;
                    waits_for = Some((session, explanation));
                }
            }
            // After a write the stores know its outcome, or the watch brings it.
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                let reason = waits_for
                    .map_or("the API server has not shown it yet".to_owned(), |waits_for| {
                        self.what_it_waits_for(pool, waits_for)
                    });
                let held = self.max_hold.of(protocol).as_secs();
                let message =
                    format!("The session in pool {pool} is not ready after {held} s: {reason}. Try again.");
                return Err(retryable(message));
            }
        }
    }

    /// Exact, where the session's own words follow the queue a little later.
    fn what_it_waits_for(&self, pool: &str, (session, explanation): (String, String)) -> String {
        let now = Timestamp::now();
        let view = self.stores.read(|inventory| inventory.pool_view(pool));
        let waiting = view.and_then(|view| plan::waiting(&view, &session, now));
        let words = waiting.map(|waiting| waiting.words(now));
        words.unwrap_or_else(|| explanation.trim_end_matches('.').to_owned())
    }

    /// Envoy must know the cluster before it hears its name, or it answers 503.
    async fn until_programmed(&self, node: Option<&str>, route: &Route) {
        let programmed = self.publisher.programmed(node, &route.cluster);
        match tokio::time::timeout(ACK_PATIENCE, programmed).await {
            Ok(Programmed::Acked) => {}
            Ok(Programmed::NoStream) => {
                tracing::debug!(
                    node,
                    cluster = route.cluster,
                    "the Envoy has no ADS stream here, it will ask on demand"
                );
            }
            Err(_) => tracing::warn!(node, cluster = route.cluster, "Envoy has not acknowledged the cluster"),
        }
    }
}

fn is_answer(decision: &Decision) -> bool {
    matches!(decision, Decision::Route(_) | Decision::Deny(_) | Decision::Refuse { .. })
}

fn opens_connection(call: &Call) -> bool {
    matches!(call, Call::Thrift { head: Some(head), .. } if head.method == "OpenSession")
}

fn retryable(message: String) -> Denial {
    Denial { retry_after: Some(RETRY_AFTER), ..Denial::new(DenialKind::NotReady, message) }
}

/// Runs a write to its end even if the client goes away: it may have happened already.
async fn detached<T: Send + 'static>(
    write: impl Future<Output = Result<T, kube::Error>> + Send + 'static,
) -> Result<T, Denial> {
    match tokio::spawn(write).await {
        Ok(Ok(written)) => Ok(written),
        Ok(Err(error)) => {
            tracing::warn!(error = %Causes(&error), "the session could not be written");
            Err(refused_write(&error))
        }
        Err(error) => {
            tracing::error!(%error, "writing a session failed");
            Err(Denial::new(
                DenialKind::Internal,
                "The session could not be created; the operator's log says why.",
            ))
        }
    }
}

fn refused_write(error: &kube::Error) -> Denial {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => Denial::new(
            DenialKind::StartFailed,
            format!("The session was refused by Kubernetes: {}", status.message),
        ),
        _ => Denial::new(
            DenialKind::Unavailable,
            "The session could not be created, because the Kubernetes API does not answer. Try again in a minute.",
        ),
    }
}

#[cfg(test)]
mod refused_logins_tests;
#[cfg(test)]
mod tests;
