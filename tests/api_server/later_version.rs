//! After a rollback: objects that hold words of a later version, whose definitions are still there.

use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, CustomResourceExt, Resource, ResourceExt};
use serde_json::{Value, json};
use spark_session_operator::api::{
    SessionState, SparkApplication, SparkInteractiveSession, SparkSessionPool,
};

use super::namespace::client;
use super::running::{POOL, Running, alone_with_operator, pool, session};

const PATIENCE: Duration = Duration::from_secs(60);

/// The definition takes this word, too, where its status has an enumeration.
async fn takes<K: CustomResourceExt>(field: &str, word: &str) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client().await);
    let name = K::crd_name();
    let mut definition = serde_json::to_value(definitions.get(name).await.unwrap()).unwrap();
    let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/{field}/enum");
    let words = definition.pointer_mut(&path).unwrap().as_array_mut().unwrap();
    // An earlier run on the same API server may have put it there.
    if !words.contains(&json!(word)) {
        words.push(json!(word));
    }
    let later = serde_json::from_value(definition).unwrap();
    definitions.replace(name, &PostParams::default(), &later).await.unwrap();
}

/// As the later version did, once its definition is in effect.
async fn wrote<K>(running: &Running, name: &str, status: Value) -> DynamicObject
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    let (objects, deadline) = (running.objects::<K>(), Instant::now() + PATIENCE);
    let patch = Patch::Merge(json!({ "status": status }));
    loop {
        match objects.patch_status(name, &PatchParams::default(), &patch).await {
            Ok(written) => return written,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_of_a_later_version_cost_nobody_their_place() {
    alone_with_operator(pool(), async |mut running| {
        running.create_session(&session("mine", "alice")).await.unwrap();
        let before = running.is("mine", SessionState::Active).await.status.unwrap().status;
        running.settles().await;
        let uids = |all: Vec<SparkApplication>| all.iter().map(ResourceExt::uid).collect::<Vec<_>>();
        let applications = running.api::<SparkApplication>();
        let drivers = uids(applications.list(&Default::default()).await.unwrap().items);
        assert_eq!(drivers.len(), 1);

        takes::<SparkInteractiveSession>("state", "Suspended").await;
        takes::<SparkSessionPool>("instances/items/properties/state", "Hibernating").await;
        let state = json!({ "state": "Suspended" });
        let suspended = wrote::<SparkInteractiveSession>(&running, "mine", state).await;
        assert_eq!(suspended.data["status"]["state"], "Suspended");
        let instances = json!({ "instances": [{ "name": format!("{POOL}-0"), "state": "Hibernating" }] });
        wrote::<SparkSessionPool>(&running, POOL, instances).await;

        let after = running.is("mine", SessionState::Active).await.status.unwrap().status;
        let known = |pool: Option<&DynamicObject>| {
            pool.is_some_and(|pool| pool.data["status"]["instances"][0]["state"] == "Running")
        };
        let pools = running.objects::<SparkSessionPool>();
        let written = kube::runtime::wait::await_condition(pools, POOL, known);
        tokio::time::timeout(PATIENCE, written)
            .await
            .expect("the pool's status is not written anew")
            .unwrap();
        running.settles().await;
        assert_eq!(after.assigned_instance, before.assigned_instance);
        let left = uids(applications.list(&Default::default()).await.unwrap().items);
        assert_eq!(left, drivers, "no driver was given up, and none started");
    })
    .await;
}
