//! A namespace with a pool, its sessions and its operator; what has to be true in the end; and what must never be.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use spark_session_operator::api::{
    SessionState, SparkApplication, SparkInteractiveSession, SparkSessionPool,
};
use spark_session_operator::operator::FIELD_MANAGER;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::namespace::in_a_namespace;
use super::operator::Operator;
use super::padding;
use super::process::{free_port, log_file};
use super::stand_in::StandIn;
use super::wait::until;
use super::{GOAL, LIMIT};

pub const POOL: &str = "lab";
pub const SESSIONS: usize = 50;
/// As many as all sessions need.
pub const INSTANCES: usize = 4;
/// Label of the sessions that are to be served.
const COUNTED: &str = "example.com/counted";
const PER_INSTANCE: usize = 13;
/// Then it has failed, and says what is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    pub client: Client,
    pub namespace: String,
    pub folder: TempDir,
    pub spark: StandIn,
    operator: Operator,
    /// Every SparkApplication that there ever was.
    made: JoinHandle<()>,
    ever: tokio::sync::watch::Receiver<BTreeSet<String>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.made.abort();
    }
}

/// They are about time, and one slows the other.
static ALONE: Mutex<()> = Mutex::const_new(());

pub async fn in_a_world(scenario: &str, test: impl AsyncFnOnce(World)) {
    let _alone = ALONE.lock().await;
    let in_world = async |client, namespace| test(World::new(client, namespace, &[]).await).await;
    in_a_namespace(&format!("chaos-{scenario}"), in_world).await;
}

/// The same on an API server that has nothing else to do, with these flags for the operator.
pub async fn on_a_server_of_its_own(client: Client, scenario: &str, flags: &[&str]) -> World {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let name = format!("chaos-{scenario}");
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.clone());
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    World::new(client, name, flags).await
}

/// Nothing that takes its time runs beside it.
pub async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

impl World {
    async fn new(client: Client, namespace: String, flags: &[&str]) -> Self {
        let spark = StandIn::start(client.clone(), &namespace);
        let operator = Operator::new(&namespace, "operator", &namespace, free_port(), flags);
        let (sender, ever) = tokio::sync::watch::channel(BTreeSet::new());
        let api: Api<SparkApplication> = Api::namespaced(client.clone(), &namespace);
        let made = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).applied_objects());
            // It ends with its API server, where that is the test's own.
            while let Ok(Some(application)) = events.try_next().await {
                sender.send_modify(|ever| {
                    ever.insert(application.metadata.uid.unwrap_or_default());
                });
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let world = Self { client, namespace, folder, spark, operator, made, ever };
        let pool = serde_json::from_value(pool()).unwrap();
        world.pools().create(&PostParams::default(), &pool).await.unwrap();
        world
    }

    /// With this way to the API server.
    pub async fn start_operator(&mut self, kubeconfig: &Path) {
        self.operator.start_with_kubeconfig(kubeconfig);
        self.operator.until_it_leads().await;
    }

    pub async fn create_sessions(&self, numbers: Range<usize>) {
        let sessions = self.sessions();
        stream::iter(numbers)
            .for_each_concurrent(8, |n| {
                let session = serde_json::from_value(session(n)).unwrap();
                let sessions = sessions.clone();
                async move { drop(sessions.create(&PostParams::default(), &session).await.unwrap()) }
            })
            .await;
    }

    /// Until so many sessions are served, and nothing more is said of the others than that they are there.
    pub async fn until_served(&self, count: usize) {
        until(&format!("{count} sessions are served"), async || {
            let sessions = self.sessions().list(&ListParams::default()).await.ok()?.items;
            let served = sessions
                .iter()
                .filter(|it| it.status.as_ref().is_some_and(|status| status.state == SessionState::Active));
            (served.count() == count).then_some(())
        })
        .await;
    }

    /// Everything is as it should be at last. Returns how long that took from now on.
    pub async fn until_right(&self, what: &str) -> Duration {
        let began = Instant::now();
        while let Some(wrong) = self.wrong().await {
            assert!(began.elapsed() < PATIENCE, "{what}: {wrong}");
        }
        began.elapsed()
    }

    /// What the operator has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_file(&self.namespace, "operator")).unwrap()
    }

    /// Sessions of which nothing can be written: their objects are as large as any can be.
    pub async fn create_padded_sessions(&self, count: usize) {
        for n in 0..count {
            let mut padded = session(1_000 + n);
            padded["metadata"] = json!({ "name": format!("padded-{n}") });
            padding::until_full(&mut padded, async |padded| {
                let padded = serde_json::from_value(padded.clone()).unwrap();
                self.sessions().create(&PostParams::default(), &padded).await.map(drop)
            })
            .await;
        }
    }

    /// As a leader leaves it whose clock was ahead by a day.
    pub async fn write_times_of_tomorrow(&self) {
        let tomorrow = Timestamp::now() + SignedDuration::from_hours(24);
        let tomorrow = json!(Time(Timestamp::from_second(tomorrow.as_second()).unwrap()));
        let ready = json!({
            "type": "Ready", "status": "False", "reason": "Queued", "message": "", "lastTransitionTime": tomorrow,
        });
        // Each field has its owner, who may remove it.
        let params = PatchParams::apply(FIELD_MANAGER).force();
        for name in names(&self.sessions()).await {
            let wait = json!({ "phase": "Queued", "asOf": tomorrow });
            let status = json!({ "createdAt": tomorrow, "wait": wait, "conditions": [ready] });
            let status = patch("SparkInteractiveSession", &status);
            self.sessions().patch_status(&name, &params, &Patch::Apply(status)).await.unwrap();
        }
        let window = json!({ "from": 1, "since": tomorrow, "to": 0 });
        let status = json!({ "lastScaleTime": tomorrow, "scaleDown": window, "conditions": [ready] });
        let status = patch("SparkSessionPool", &status);
        self.pools().patch_status(POOL, &params, &Patch::Apply(status)).await.unwrap();
    }

    /// Statuses that have a time in the future, but for what is expected.
    pub async fn times_of_tomorrow(&self) -> Vec<String> {
        let tomorrow = (Timestamp::now() + SignedDuration::from_hours(12)).to_string();
        let is_later = |status: Value| {
            let text = status.to_string();
            let mut times = text.split('"').filter(|word| word.parse::<Timestamp>().is_ok());
            times.any(|time| *time > *tomorrow)
        };
        let sessions = self.sessions().list(&ListParams::default().labels(COUNTED)).await.unwrap().items;
        let statuses = sessions.into_iter().map(|it| (it.name_any(), json!(it.status)));
        let pool = self.pools().get(POOL).await.unwrap();
        let statuses = statuses.chain([(POOL.to_owned(), json!(pool.status))]);
        statuses.filter(|(_, status)| is_later(status.clone())).map(|(name, _)| name).collect()
    }

    /// Until the operator has begun with what there is.
    pub async fn until_it_begins(&self) {
        until("there are instances", async || (!self.applications().await.is_empty()).then_some(())).await;
    }

    /// Everything is as it should be within [`LIMIT`] of this moment, and stays so.
    pub async fn is_right_after(&mut self, what: &str, recovered: Instant) {
        let began = Instant::now();
        let right = loop {
            let looked = Instant::now();
            let Some(wrong) = self.wrong().await else { break looked };
            assert!(began.elapsed() < PATIENCE, "{what}: {wrong}");
        };
        let took = right.saturating_duration_since(recovered);
        let (reached, millis) = (if took < GOAL { "reached" } else { "MISSED" }, took.as_millis());
        println!("{what}: every status right {millis} ms after recovery, goal < {GOAL:?} {reached}");
        // Whatever would come late comes now.
        tokio::time::sleep(3 * GOAL).await;
        assert_eq!(self.wrong().await, None, "{what}");
        assert_eq!(self.ever.borrow().len(), INSTANCES, "{what}: instances were doubled");
        self.operator.until_ready().await;
        assert!(took < LIMIT, "{what}: {took:?}");
    }

    /// What is not yet, or not any more, as it should be.
    async fn wrong(&self) -> Option<String> {
        let applications = self.applications().await;
        if applications.len() != INSTANCES {
            return Some(format!("instances: {applications:?}"));
        }
        let sessions = self.sessions().list(&ListParams::default().labels(COUNTED)).await.unwrap().items;
        if sessions.len() != SESSIONS {
            return Some(format!("{} sessions", sessions.len()));
        }
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for session in sessions {
            let status = session.status.unwrap_or_default().status;
            let instance = status.assigned_instance.unwrap_or_default();
            let served = status.state == SessionState::Active && applications.contains(&instance);
            if !served || status.observed_generation != session.metadata.generation {
                return Some(format!("{:?}: {:?} on {instance}", session.metadata.name, status.state));
            }
            *places.entry(instance).or_default() += 1;
        }
        let pool = self.pools().get(POOL).await.unwrap().status.unwrap_or_default().status;
        let told: BTreeMap<_, _> = pool
            .instances
            .iter()
            .filter(|instance| instance.active_sessions > 0)
            .map(|instance| (instance.name.clone(), usize::try_from(instance.active_sessions).unwrap()))
            .collect();
        let totals = (pool.total_active_sessions, pool.pending_sessions, pool.ready_replicas);
        if told != places || totals != (50, 0, 4) {
            return Some(format!("the pool says {told:?} and {totals:?}, sessions say {places:?}"));
        }
        None
    }

    async fn applications(&self) -> BTreeSet<String> {
        let api: Api<SparkApplication> = Api::namespaced(self.client.clone(), &self.namespace);
        names(&api).await
    }

    pub fn sessions(&self) -> Api<SparkInteractiveSession> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn pools(&self) -> Api<SparkSessionPool> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

pub async fn names<K>(api: &Api<K>) -> BTreeSet<String>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let all = api.list_metadata(&ListParams::default()).await.unwrap();
    all.into_iter().filter_map(|object| object.metadata.name).collect()
}

fn patch(kind: &str, status: &Value) -> Value {
    json!({ "apiVersion": "sparkinteractive.io/v1alpha1", "kind": kind, "status": status })
}

fn session(number: usize) -> Value {
    json!({
        "apiVersion": "sparkinteractive.io/v1alpha1",
        "kind": "SparkInteractiveSession",
        "metadata": { "name": format!("s-{number}"), "labels": { COUNTED: "" } },
        "spec": { "user": format!("user-{number}"), "pool": POOL, "sessionId": Uuid::new_v4().to_string() },
    })
}

fn pool() -> Value {
    json!({
        "apiVersion": "sparkinteractive.io/v1alpha1",
        "kind": "SparkSessionPool",
        "metadata": { "name": POOL },
        "spec": {
            "type": "connect",
            "host": "lab.example.com",
            "replicas": { "min": 0, "max": INSTANCES },
            "scaling": { "metrics": { "type": "activeSessions", "targetPerInstance": PER_INSTANCE } },
            "sparkApplicationTemplate": { "spec": {
                "type": "Scala",
                "mode": "cluster",
                "sparkVersion": "4.1.4",
                "mainClass": "org.apache.spark.sql.connect.service.SparkConnectServer",
                "mainApplicationFile": "local:///opt/spark/spark-internal",
                "sparkConf": { "spark.connect.grpc.binding.port": free_port().port().to_string() },
                "driver": {},
                "executor": {},
            } },
        },
    })
}
