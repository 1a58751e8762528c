//! What the operator itself does on Spark servers: it gives sessions their configuration, asks what runs in them, and
//! closes what is left of them there.
//!
//! When to do so is the planner's business, but for single clients of named sessions (`clients`). The Thrift Server's sessions are closed by the replicas that opened them
//! (`broker::ThriftSessions`): here they are only waited for.

mod asking;
mod clients;

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use futures::{FutureExt, TryFutureExt};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::activity::Activity;
use super::leadership::{Leadership, Term};
use super::stores::Stores;
use crate::api::SessionState;
use crate::model::{
    AppliedConf, Instance, Inventory, Preparation, Progress, Protocol, ReleaseOutcome, Session, TokenState,
    cluster_name,
};
use crate::spark::connect_client::{self, Caller, Server};
use crate::telemetry::panic_text;

pub use clients::{SparkClients, Unused};

/// Sessions at a time that Spark is called for; as many again for releases, which preparations shall not keep waiting.
const AT_A_TIME: usize = 64;
/// Of one session, when it is released: clients of a named one.
const IDS_AT_A_TIME: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A release has an outcome after this time, whatever it is.
const RELEASE_PATIENCE: Duration = Duration::from_secs(10);
/// For the replicas to close their connections.
const CONNECTIONS_PATIENCE: Duration = Duration::from_secs(8);

/// Works beside the plans, which do not wait for it: what came of it goes into the stores.
pub struct SparkSessions {
    stores: Arc<Stores>,
    leadership: Leadership,
    preparations: Work<(Term, String, Uuid, String)>,
    releases: Work<String>,
    questions: Work<(Term, String)>,
    activity: Activity,
}

/// Where a session of Spark Connect is, and whose it is.
struct Place {
    server: Server,
    user: String,
}

impl SparkSessions {
    /// `activity`: hears of sessions in which something runs.
    pub fn new(stores: Arc<Stores>, leadership: Leadership, activity: Activity) -> Self {
        let (preparations, releases) = (Work::new(AT_A_TIME), Work::new(AT_A_TIME));
        Self { stores, leadership, preparations, releases, questions: asking::work(), activity }
    }

    /// Sets the configuration, again and again until Spark has heard of it or the session is no longer there, and only
    /// as long as this replica leads: after the next leader has done it the user may have set something else.
    pub fn prepare(
        &self,
        session: String,
        uid: String,
        instance: String,
        spark_session_id: Uuid,
        conf: BTreeMap<String, String>,
    ) {
        let wanted = self.stores.read(|inventory| {
            let cluster = cluster_of(inventory, &session, &uid, &instance)?;
            let side = inventory.spark_side(&uid);
            let known = side.and_then(|side| side.prepared.get(&spark_session_id));
            let done = known
                .is_some_and(|known| known.cluster == cluster && matches!(known.progress, Progress::Done(_)));
            (!done).then_some(cluster)
        });
        // Gone or moved, or this replica leads no more: the next plan knows.
        let (Some(cluster), Some(term)) = (wanted, self.leadership.term()) else { return };
        let key = (term, uid.clone(), spark_session_id, cluster.clone());
        let (stores, leadership) = (Arc::clone(&self.stores), self.leadership.clone());
        let task =
            Preparing { stores, leadership, term, session, uid, instance, cluster, spark_session_id, conf };
        self.preparations.start(key, |permits| task.run(permits));
    }

    /// Closes what the session has on the instance.
    pub fn release(&self, session: String, uid: String, instance: String) {
        let stores = Arc::clone(&self.stores);
        if stores.read(|inventory| inventory.spark_side(&uid).is_some_and(|side| side.release.is_some())) {
            return;
        }
        self.releases.start(uid.clone(), |permits| async move {
            let work = AssertUnwindSafe(release(&stores, &session, &uid, &instance, &permits)).catch_unwind();
            let outcome = work.await.unwrap_or_else(|panic| {
                tracing::error!(session, panic = panic_text(&*panic), "the release of a session panicked");
                ReleaseOutcome::GaveUp(DEFECT.to_owned())
            });
            match &outcome {
                ReleaseOutcome::Released => tracing::info!(session, instance, "released on Spark"),
                ReleaseOutcome::GaveUp(reason) => {
                    tracing::warn!(session, instance, reason, "not released on Spark");
                }
            }
            stores.note_spark_side(&session, &uid, |side| side.release = Some(outcome));
        });
    }
}

const DEFECT: &str = "the operator failed; its log has the details";

/// Things that are under way, each once.
struct Work<K> {
    under_way: Arc<Mutex<HashSet<K>>>,
    permits: Arc<Semaphore>,
}

impl<K: Hash + Eq + Clone + Send + 'static> Work<K> {
    fn new(at_a_time: usize) -> Self {
        Self { under_way: Arc::default(), permits: Arc::new(Semaphore::new(at_a_time)) }
    }

    /// Its own panics are the work's to catch: here they would leave the key behind.
    fn start<F>(&self, key: K, work: impl FnOnce(Arc<Semaphore>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if !lock(&self.under_way).insert(key.clone()) {
            return;
        }
        let (under_way, work) = (Arc::clone(&self.under_way), work(Arc::clone(&self.permits)));
        tokio::spawn(async move {
            work.await;
            lock(&under_way).remove(&key);
        });
    }
}

fn lock<K>(under_way: &Mutex<HashSet<K>>) -> std::sync::MutexGuard<'_, HashSet<K>> {
    // A panic while the lock was held leaves data that is whole: every edit is a set operation.
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Preparing {
    stores: Arc<Stores>,
    leadership: Leadership,
    term: Term,
    session: String,
    uid: String,
    instance: String,
    cluster: String,
    spark_session_id: Uuid,
    conf: BTreeMap<String, String>,
}

impl Preparing {
    async fn run(self, permits: Arc<Semaphore>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let attempt = AssertUnwindSafe(self.attempt(&permits)).catch_unwind();
            let Some(attempt) = self.leadership.while_leading(self.term, attempt).await else { return };
            let attempt = attempt.unwrap_or_else(|panic| {
                let panic = panic_text(&*panic);
                tracing::error!(session = self.session, panic, "the preparation of a session panicked");
                Some(Err(DEFECT.to_owned()))
            });
            let progress = match attempt {
                None => return,
                Some(Ok(outcome)) => Progress::Done(outcome),
                Some(Err(reason)) => Progress::Failing(reason),
            };
            let done = matches!(progress, Progress::Done(_));
            self.note(progress);
            if done {
                return;
            }
            if self.leadership.while_leading(self.term, tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// `None` if the session is not to be prepared any more, or not here.
    async fn attempt(&self, permits: &Semaphore) -> Option<Result<AppliedConf, String>> {
        // Closed by nobody.
        let _permit = permits.acquire().await.ok()?;
        let place = self.stores.read(|inventory| {
            let cluster = cluster_of(inventory, &self.session, &self.uid, &self.instance)?;
            let session = inventory.session(&self.session)?;
            let wanted = cluster == self.cluster && !self.is_told(session);
            wanted.then(|| place(inventory, session, &self.instance))
        })?;
        let place = match place? {
            Ok(place) => place,
            Err(reason) => return Some(Err(reason)),
        };
        let caller = Caller { user: place.user, session_id: self.spark_session_id };
        let outcome = connect_client::set_conf(&place.server, &caller, &self.conf).await;
        Some(outcome.map_err(|error| error.to_string()))
    }

    /// Its status says that it is done on this very server, by whomever: the user may have set something else since then.
    fn is_told(&self, session: &Session) -> bool {
        let driver = session.status.driver_uid.as_deref();
        let told = driver.is_some_and(|uid| self.cluster == cluster_name(&self.instance, uid));
        told && session.is_prepared(self.spark_session_id)
    }

    fn note(&self, progress: Progress) {
        if let Progress::Failing(reason) = &progress {
            tracing::warn!(session = self.session, instance = self.instance, reason, "configuration not set");
        }
        let preparation = Preparation { cluster: self.cluster.clone(), progress };
        self.stores.note_spark_side(&self.session, &self.uid, |side| {
            side.prepared.insert(self.spark_session_id, preparation);
        });
    }
}

async fn release(
    stores: &Stores,
    session: &str,
    uid: &str,
    instance: &str,
    permits: &Semaphore,
) -> ReleaseOutcome {
    let deadline = Instant::now() + RELEASE_PATIENCE;
    let found = stores.read(|inventory| {
        let session = inventory.session(session).filter(|session| session.meta.uid == uid)?;
        let pool = inventory.pool(&session.spec.pool)?;
        let cluster = inventory.instance(instance)?.cluster()?;
        Some((Arc::clone(session), pool.protocol(), cluster, place(inventory, session, instance)?))
    });
    // The session, its pool or its instance is gone, and what was there with it.
    let Some((session, protocol, cluster, place)) = found else { return ReleaseOutcome::Released };
    let tries = async {
        match protocol {
            Protocol::Thrift => connections_closed(stores, &session, instance).await,
            Protocol::Connect => {
                let place = place?;
                let _permit = permits.acquire().await;
                // Once more: the server may just have closed a connection.
                release_ids(&place, &session).or_else(|_| release_ids(&place, &session)).await
            }
        }
    };
    let outcome = timeout_at(deadline, tries)
        .await
        .unwrap_or_else(|_| Err(format!("Spark has not answered within {} s", RELEASE_PATIENCE.as_secs())));
    match outcome {
        Ok(()) => ReleaseOutcome::Released,
        Err(_) if !stores.read(|inventory| is_there(inventory, instance, &cluster)) => {
            ReleaseOutcome::Released
        }
        Err(reason) => ReleaseOutcome::GaveUp(reason),
    }
}

/// Still this very server, and not on its way out.
fn is_there(inventory: &Inventory, instance: &str, cluster: &str) -> bool {
    let instance = inventory.instance(instance).filter(Instance::is_alive);
    instance.and_then(|instance| instance.cluster()).as_deref() == Some(cluster)
}

/// Of a named session: of every client that is there, whatever Spark says of the others.
async fn release_ids(place: &Place, session: &Session) -> Result<(), String> {
    let calls = session.spark_session_ids().map(|session_id| async move {
        let caller = Caller { user: place.user.clone(), session_id };
        connect_client::release_session(&place.server, &caller).await.map_err(|error| error.to_string())
    });
    let outcomes: Vec<_> = stream::iter(calls).buffer_unordered(IDS_AT_A_TIME).collect().await;
    outcomes.into_iter().collect()
}

async fn connections_closed(stores: &Stores, session: &Session, instance: &str) -> Result<(), String> {
    // Subscribed before the first look, so that no change falls between look and wait.
    let mut changes = stores.changes(&session.spec.pool);
    let deadline = Instant::now() + CONNECTIONS_PATIENCE;
    loop {
        changes.mark_unchanged();
        let open = stores.read(|inventory| {
            let now = inventory.session(session.name()).filter(|now| now.meta.uid == session.meta.uid);
            let gone = inventory.instance(instance).and_then(|instance| instance.cluster()).is_none();
            let connections = now.filter(|_| !gone).map(|now| now.status.connections.as_slice());
            connections.unwrap_or_default().iter().filter(|open| open.instance == instance).count()
        });
        if open == 0 {
            return Ok(());
        }
        if timeout_at(deadline, changes.changed()).await.is_err() {
            let connections = if open == 1 { "1 connection" } else { &format!("{open} connections") };
            return Err(format!(
                "{connections} could not be closed: the replica that opened them is gone, or the Thrift Server does \
                 not answer; the Thrift Server's own timeout ends them"
            ));
        }
    }
}

/// Envoy's name of the server that the session is assigned to, while the session is to stay there.
fn cluster_of(inventory: &Inventory, session: &str, uid: &str, instance: &str) -> Option<String> {
    let session = inventory.session(session)?;
    let stays = session.meta.uid == uid
        && !session.is_finished()
        && session.status.state != SessionState::Terminating
        && session.status.assigned_instance.as_deref() == Some(instance);
    inventory.instance(instance).filter(|_| stays)?.cluster()
}

/// `None` where there is no server.
fn place(inventory: &Inventory, session: &Session, instance: &str) -> Option<Result<Place, String>> {
    let instance = inventory.instance(instance)?;
    let address = instance.endpoint?;
    let token = match instance.token {
        TokenState::NotAsked => None,
        _ => match inventory.token(&instance.name) {
            Some(token) => Some(token.clone()),
            None => return Some(Err(format!("the token of instance {} is not known", instance.name))),
        },
    };
    Some(Ok(Place { server: Server { address, token }, user: session.spec.user.clone() }))
}

#[cfg(test)]
#[path = "spark_sessions_tests.rs"]
mod tests;
