//! The operator's binary on the real API server, with a stand-in for Spark, asked as Envoy asks it.

use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use spark_session_operator::api::{SessionState, SparkInteractiveSession, SparkSessionPool};
use tokio::time::timeout;
use uuid::Uuid;

use super::asking::Asking;
use super::operator::Operator;
use super::process::free_port;
use super::stand_in::StandIn;
use super::{alone_in_a_namespace, create, in_a_namespace, objects};

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than the operator waits before it tries a plan again that it could not carry out.
const QUIET: Duration = Duration::from_secs(3);

pub const POOL: &str = "lab";
pub const HOST: &str = "lab.example.com";

pub struct Running {
    client: Client,
    namespace: String,
    pub asking: Asking,
    pub spark: StandIn,
    operator: Operator,
}

/// Runs the test in a namespace of its own with this pool in it.
pub async fn with_operator(pool: Value, test: impl AsyncFnOnce(Running)) {
    in_a_namespace(async |client, namespace| test(Running::start(client, namespace, pool).await).await).await;
}

/// The same while no other test runs, which may change the definitions.
pub async fn alone_with_operator(pool: Value, test: impl AsyncFnOnce(Running)) {
    alone_in_a_namespace(async |client, namespace| test(Running::start(client, namespace, pool).await).await)
        .await;
}

impl Running {
    async fn start(client: Client, namespace: String, pool: Value) -> Self {
        let spark = StandIn::start(client.clone(), &namespace);
        apply(&client, &namespace, &pool).await.unwrap();
        let mut operator = Operator::new(&namespace, "operator", &namespace, free_port(), &[]);
        operator.start();
        operator.until_ready().await;
        let asking = Asking::new(operator.grpc).await;
        Self { client, namespace, asking, spark, operator }
    }

    /// The pool as it is to be from now on, by who made it.
    pub async fn apply(&self, pool: &Value) -> Result<DynamicObject, kube::Error> {
        apply(&self.client, &self.namespace, pool).await
    }

    pub async fn create_session(&self, session: &Value) -> Result<(), kube::Error> {
        create::<SparkInteractiveSession>(&self.client, &self.namespace, session).await.map(drop)
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Untyped, so that nothing is lost on this side.
    pub fn objects<K: Resource<DynamicType = ()>>(&self) -> Api<DynamicObject> {
        objects::<K>(&self.client, &self.namespace)
    }

    pub fn sessions(&self) -> Api<SparkInteractiveSession> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until it is in this state. Returns it as it is then.
    pub async fn is(&self, session: &str, state: SessionState) -> SparkInteractiveSession {
        let is_so = move |session: Option<&SparkInteractiveSession>| {
            session.and_then(|session| session.status.as_ref()).is_some_and(|status| status.state == state)
        };
        match timeout(PATIENCE, await_condition(self.sessions(), session, is_so)).await {
            Ok(found) => found.unwrap().unwrap(),
            Err(_) => panic!(
                "{session} is not {state:?}: {:#?}",
                self.sessions().get(session).await.unwrap().status
            ),
        }
    }

    /// Nothing is written any more, and the operator still runs. Not at once: the pool's status follows its sessions'.
    pub async fn settles(&mut self) {
        let mut sessions = self.changes::<SparkInteractiveSession>();
        let mut pools = self.changes::<SparkSessionPool>();
        let settled = async {
            loop {
                let change = async {
                    tokio::select! { _ = sessions.recv() => {}, _ = pools.recv() => {} }
                };
                if timeout(QUIET, change).await.is_err() {
                    return;
                }
            }
        };
        timeout(PATIENCE, settled).await.expect("the operator goes on writing");
        // A process that was started anew would not know that it leads for so long.
        self.operator.until_ready().await;
    }

    /// A value for each change of an object of this kind, and for those that are there already.
    pub fn changes<K: Resource<DynamicType = ()>>(&self) -> tokio::sync::mpsc::Receiver<DynamicObject> {
        let resource = ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let (sender, receiver) = tokio::sync::mpsc::channel(10_000);
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).applied_objects());
            while let Ok(Some(object)) = events.try_next().await {
                if sender.send(object).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }
}

/// As `kubectl apply --server-side` does, which gives way to other owners of fields.
async fn apply(client: &Client, namespace: &str, pool: &Value) -> Result<DynamicObject, kube::Error> {
    let (pools, params) = (objects::<SparkSessionPool>(client, namespace), PatchParams::apply("kubectl"));
    pools.patch(POOL, &params, &Patch::Apply(pool)).await
}

/// Of Spark Connect, one instance for everybody.
pub fn pool() -> Value {
    json!({
        "apiVersion": "sparkinteractive.io/v1alpha1",
        "kind": "SparkSessionPool",
        "metadata": { "name": POOL },
        "spec": {
            "type": "connect",
            "host": HOST,
            "replicas": { "min": 0, "max": 1 },
            "sparkApplicationTemplate": { "spec": {
                "type": "Scala",
                "mode": "cluster",
                "sparkVersion": "4.1.4",
                "mainClass": "StandIn",
                "mainApplicationFile": "local:///stand-in",
                "driver": {},
                "executor": {},
            } },
        },
    })
}

/// Of the pool, with a Spark session id, as somebody may create it by hand.
pub fn session(name: &str, user: &str) -> Value {
    json!({
        "apiVersion": "sparkinteractive.io/v1alpha1",
        "kind": "SparkInteractiveSession",
        "metadata": { "name": name },
        "spec": { "user": user, "pool": POOL, "sessionId": Uuid::new_v4().to_string() },
    })
}

/// The reason and the message of the condition `Ready`.
pub fn told(session: &SparkInteractiveSession) -> (&str, &str) {
    let conditions = &session.status.as_ref().unwrap().conditions;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    (&ready.reason, &ready.message)
}
