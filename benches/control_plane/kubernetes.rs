//! Pools and sessions in the real API server that `benches/run` has started.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use spark_session_operator::api::{SparkApplication, SparkInteractiveSession, SparkSessionPool};
use uuid::Uuid;

use crate::domain;

/// `deploy/local` makes it, with the operator's rights in it.
pub const NAMESPACE: &str = "spark-dev";
/// Requests to the API server at the same time.
pub const WIDTH: usize = 32;

/// As administrator: the operator itself has the rights of production.
pub async fn admin() -> Client {
    Client::try_default().await.expect("KUBECONFIG cannot be used: use benches/run")
}

pub fn api<K>(client: &Client) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), NAMESPACE)
}

/// Pools that start an instance when somebody comes, and give it up as soon as nobody is there. Their servers listen on
/// `port`, each on an address of its own.
pub async fn create_pools(client: &Client, count: usize, port: u16) {
    let pools: Api<SparkSessionPool> = api(client);
    stream::iter(0..count)
        .map(|n| {
            let pool = pool(&name(n), port);
            let pools = pools.clone();
            async move { pools.create(&PostParams::default(), &pool).await }
        })
        .buffer_unordered(WIDTH)
        .try_for_each(async |_| Ok(()))
        .await
        .unwrap();
}

pub fn name(pool: usize) -> String {
    format!("pool-{pool}")
}

pub fn pool(name: &str, port: u16) -> SparkSessionPool {
    serde_json::from_value(json!({
        "apiVersion": "sparkinteractive.io/v1alpha1",
        "kind": "SparkSessionPool",
        "metadata": { "name": name },
        "spec": {
            "type": "connect",
            "host": domain::host(name),
            "replicas": { "min": 0, "max": 2 },
            "scaling": { "cooldownSeconds": 0, "metrics": { "type": "activeSessions", "targetPerInstance": 20 } },
            "sparkApplicationTemplate": { "spec": {
                "type": "Scala",
                "mode": "cluster",
                "image": "spark",
                "sparkVersion": "4.1.4",
                "mainClass": "org.apache.spark.sql.connect.service.SparkConnectServer",
                "mainApplicationFile": "local:///opt/spark/spark-internal",
                "sparkConf": { "spark.connect.grpc.binding.port": port.to_string() },
                "driver": { "cores": 1, "memory": "1g" },
                "executor": { "instances": 1, "cores": 1, "memory": "1g" },
            } },
        },
    }))
    .unwrap()
}

/// One session of each of these pools, for a user who is new there. Returns their names in the order of the pools.
pub async fn create_sessions(client: &Client, pools: impl Iterator<Item = usize>) -> Vec<String> {
    let sessions: Api<SparkInteractiveSession> = api(client);
    stream::iter(pools)
        .map(|pool| {
            let id = Uuid::new_v4();
            let session: SparkInteractiveSession = serde_json::from_value(json!({
                "apiVersion": "sparkinteractive.io/v1alpha1",
                "kind": "SparkInteractiveSession",
                "metadata": { "name": format!("{}-{id}", name(pool)) },
                "spec": { "user": format!("user-{id}"), "pool": name(pool), "sessionId": id.to_string() },
            }))
            .unwrap();
            let sessions = sessions.clone();
            async move { sessions.create(&PostParams::default(), &session).await }
        })
        .buffered(WIDTH)
        .map_ok(|session| session.metadata.name.unwrap())
        .try_collect()
        .await
        .unwrap()
}

/// Deletes what an earlier part has left, and waits until it is gone. No operator runs meanwhile that would let go of it.
pub async fn clear(client: &Client) {
    let_go::<SparkInteractiveSession>(client).await;
    let_go::<SparkSessionPool>(client).await;
    delete_all::<SparkInteractiveSession>(client).await;
    delete_all::<SparkApplication>(client).await;
    delete_all::<SparkSessionPool>(client).await;
    delete_all::<k8s_openapi::api::core::v1::Pod>(client).await;
}

/// Takes off all finalizers.
async fn let_go<K>(client: &Client)
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned,
{
    let objects: Api<K> = api(client);
    let none = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    for object in objects.list_metadata(&ListParams::default()).await.unwrap() {
        match objects.patch_metadata(&object.name_any(), &PatchParams::default(), &none).await {
            Ok(_) => {}
            // It was on its way out.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub async fn delete_all<K>(client: &Client)
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned,
{
    let objects: Api<K> = api(client);
    objects.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    until_count::<K>(client, 0).await;
}

/// Waits until there are that many.
pub async fn until_count<K>(client: &Client, count: usize)
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned,
{
    until_selected::<K>(client, "", count).await;
}

/// Waits until that many match the field selector.
pub async fn until_selected<K>(client: &Client, selector: &str, count: usize)
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned,
{
    let objects: Api<K> = api(client);
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        let found = objects.list_metadata(&ListParams::default().fields(selector)).await.unwrap().items.len();
        if found == count {
            return;
        }
        let kind = K::kind(&());
        assert!(Instant::now() < deadline, "{found} objects of kind {kind} {selector}, and not {count}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until the operator has written for the present spec of every session.
pub async fn until_observed(client: &Client) {
    let objects: Api<SparkInteractiveSession> = api(client);
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        let all = objects.list(&ListParams::default()).await.unwrap();
        let behind = |session: &SparkInteractiveSession| {
            session.status.as_ref().and_then(|status| status.observed_generation)
                != session.metadata.generation
        };
        if !all.items.iter().any(behind) {
            return;
        }
        assert!(Instant::now() < deadline, "the operator does not look at every session");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
