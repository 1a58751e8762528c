//! What a real API server makes of the custom resources: defaults, validation, selectable fields,
//! and who owns which field of a status. `tests/run integration` starts one for these tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in helpers, which clippy does not take for tests.

use std::time::{Duration, Instant};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use rstest::rstest;
use serde_json::{Value, json};
use spark_session_operator::api::{SparkInteractiveSession, SparkSessionPool, crds};
use tokio::sync::RwLock;

#[path = "api_server/apply.rs"]
mod apply;
#[path = "support/asking.rs"]
#[allow(dead_code, reason = "the benchmarks ask how long it takes")]
mod asking;
#[path = "api_server/bad_input.rs"]
mod bad_input;
#[path = "api_server/later_version.rs"]
mod later_version;
#[path = "support/namespace.rs"]
mod namespace;
#[path = "api_server/one_user.rs"]
mod one_user;
#[path = "envoy/operator.rs"]
#[allow(dead_code, reason = "other tests make it do more")]
mod operator;
#[path = "api_server/owners.rs"]
mod owners;
#[path = "support/padding.rs"]
mod padding;
#[path = "envoy/process.rs"]
#[allow(dead_code, reason = "other tests make it do more")]
mod process;
#[path = "api_server/running.rs"]
mod running;
#[path = "api_server/scale.rs"]
mod scale;
#[path = "stand_in/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests make it do more")]
mod stand_in;
#[path = "api_server/statuses.rs"]
mod statuses;
#[path = "api_server/template_warnings.rs"]
mod template_warnings;
#[path = "api_server/unwritable.rs"]
mod unwritable;
#[path = "envoy/wait.rs"]
mod wait;

use namespace::client;

const CONNECT_POOL: &str = include_str!("manifests/connect-pool.yaml");
const THRIFT_POOL: &str = include_str!("manifests/thrift-pool.yaml");
const SESSION: &str = include_str!("manifests/session.yaml");

/// A definition that changes ends every watch of its objects: whoever changes one is alone.
static DEFINITIONS: RwLock<()> = RwLock::const_new(());

async fn in_a_namespace(test: impl AsyncFnOnce(Client, String)) {
    let _as_they_are = DEFINITIONS.read().await;
    namespace::in_a_namespace("test", test).await;
}

async fn alone_in_a_namespace(test: impl AsyncFnOnce(Client, String)) {
    let _alone = DEFINITIONS.write().await;
    namespace::in_a_namespace("test", test).await;
}

fn manifest(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap()
}

/// Untyped, so that nothing is added or lost on this side.
fn objects<K: Resource<DynamicType = ()>>(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()))
}

async fn create<K: Resource<DynamicType = ()>>(
    client: &Client,
    namespace: &str,
    manifest: &Value,
) -> Result<DynamicObject, kube::Error> {
    let object: DynamicObject = serde_json::from_value(manifest.clone()).unwrap();
    objects::<K>(client, namespace).create(&PostParams::default(), &object).await
}

/// The manifest's value at this path replaced, or removed by null.
fn changed(yaml: &str, pointer: &str, value: Value) -> Value {
    let mut manifest = manifest(yaml);
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = manifest.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(key)
    } else {
        parent.insert(key.to_owned(), value)
    };
    manifest
}

#[track_caller]
fn assert_refused<T>(result: Result<T, kube::Error>, message: &str) {
    match result.map(drop) {
        Err(kube::Error::Api(status)) if status.code == 422 => {
            assert!(status.message.contains(message), "{}\ndoes not say: {message}", status.message);
            assert!(
                !status.message.contains("evaluating rule"),
                "a rule cannot be applied: {}",
                status.message
            );
        }
        other => panic!("not refused as invalid: {other:?}"),
    }
}

/// Everything that was written is there; what was not may be there too.
fn assert_holds(actual: &Value, written: &Value, path: &str) {
    match (actual, written) {
        (Value::Object(actual), Value::Object(written)) => {
            for (key, value) in written {
                let found = actual.get(key).unwrap_or_else(|| panic!("{path}.{key} is lost"));
                assert_holds(found, value, &format!("{path}.{key}"));
            }
        }
        _ => assert_eq!(actual, written, "{path}"),
    }
}

#[tokio::test]
async fn the_definitions_are_accepted_and_established() {
    let api: Api<CustomResourceDefinition> = Api::all(client().await);
    for (_, yaml) in crds::manifests().unwrap() {
        let definition = manifest(&yaml);
        let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
        let params = PatchParams::apply("test").force().dry_run();
        api.patch(&name, &params, &Patch::Apply(&definition)).await.unwrap();

        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_established(&api.get(&name).await.unwrap()) {
            assert!(Instant::now() < deadline, "{name} is not established");
            tokio::task::yield_now().await;
        }
    }
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Established" && c.status == "True")
}

#[tokio::test]
async fn manifests_of_the_go_operator_apply_unchanged() {
    in_a_namespace(async |client, namespace| {
        let pool = manifest(CONNECT_POOL);
        let created = create::<SparkSessionPool>(&client, &namespace, &pool).await.unwrap();
        assert_holds(&created.data["spec"], &pool["spec"], "spec");
        let session = manifest(SESSION);
        let created = create::<SparkInteractiveSession>(&client, &namespace, &session).await.unwrap();
        assert_eq!(created.data["spec"], session["spec"]);
    })
    .await;
}

#[tokio::test]
async fn a_short_pool_gets_the_defaults() {
    in_a_namespace(async |client, namespace| {
        let written = manifest(THRIFT_POOL);
        let created = create::<SparkSessionPool>(&client, &namespace, &written).await.unwrap();
        let expected = json!({
            "type": "thrift",
            "host": "sql.spark.example.org",
            "replicas": { "min": 0, "max": 5 },
            "scaling": {
                "metrics": { "type": "activeSessions" },
                "scaleUpThreshold": "0.8",
                "scaleDownThreshold": "0.3",
                "cooldownSeconds": 300,
                "drainBeforeScaleDown": true,
            },
            "sparkApplicationTemplate": written["spec"]["sparkApplicationTemplate"],
            "sessionPolicy": {
                "maxSessionsPerUser": 5,
                "maxTotalSessions": 200,
                "idleTimeoutMinutes": 720,
                "runningQueriesKeepSessions": true,
            },
            "sharing": "Pool",
            "identity": "Enforced",
        });
        assert_eq!(created.data["spec"], expected);
    })
    .await;
}

#[rstest]
#[case::no_host("/spec/host", Value::Null, "spec.host: Required value")]
#[case::an_empty_host("/spec/host", json!(""), "spec.host")]
#[case::a_host_in_capitals("/spec/host", json!("Spark.example.org"), "spec.host: Invalid value")]
#[case::a_host_with_a_port("/spec/host", json!("spark.example.org:443"), "spec.host: Invalid value")]
#[case::a_wildcard("/spec/host", json!("*.example.org"), "spec.host: Invalid value")]
#[case::a_dot_at_the_end("/spec/host", json!("spark.example.org."), "spec.host: Invalid value")]
#[case::an_unknown_type("/spec/type", json!("livy"), "spec.type: Unsupported value: \"livy\"")]
#[case::min_above_max(
    "/spec/replicas",
    json!({ "min": 3, "max": 2 }),
    "replicas.min must not be greater than replicas.max"
)]
#[case::min_above_the_default_max("/spec/replicas", json!({ "min": 6 }), "replicas.min must not be greater")]
#[case::no_instances_at_all("/spec/replicas", json!({ "max": 0 }), "spec.replicas.max")]
#[case::thresholds_the_wrong_way_round(
    "/spec/scaling",
    json!({ "scaleUpThreshold": "0.4", "scaleDownThreshold": "0.4" }),
    "scaling.scaleDownThreshold must be less than scaling.scaleUpThreshold"
)]
#[case::a_threshold_above_one("/spec/scaling", json!({ "scaleUpThreshold": "1.5" }), "spec.scaling.scaleUpThreshold")]
#[case::a_threshold_in_percent("/spec/scaling", json!({ "scaleUpThreshold": "80%" }), "spec.scaling.scaleUpThreshold")]
#[case::no_template(
    "/spec/sparkApplicationTemplate",
    Value::Null,
    "spec.sparkApplicationTemplate: Required value"
)]
#[case::a_template_that_is_no_object(
    "/spec/sparkApplicationTemplate",
    json!({ "spec": "x" }),
    "spec.sparkApplicationTemplate.spec"
)]
#[case::a_quota_for_nobody(
    "/spec/sessionPolicy",
    json!({ "quotas": [{ "match": {}, "maxSessionsPerUser": 1 }] }),
    "a quota has to name users or groups"
)]
#[case::a_quota_with_empty_lists(
    "/spec/sessionPolicy",
    json!({ "quotas": [{ "match": { "users": [], "groups": [] } }] }),
    "a quota has to name users or groups"
)]
#[case::access_for_nobody("/spec/access", json!({}), "access has to name users or groups")]
#[case::access_with_empty_lists("/spec/access", json!({ "groups": [] }), "access has to name users or groups")]
#[case::unknown_sharing("/spec/sharing", json!("Team"), "spec.sharing: Unsupported value")]
#[case::a_long_name(
    "/metadata/name",
    json!("x".repeat(41)),
    "the name of a pool may have at most 40 characters, so that the names made from it fit into labels"
)]
#[tokio::test]
async fn a_pool_is_refused_for(#[case] pointer: &str, #[case] value: Value, #[case] message: &str) {
    let (pool, message) = (changed(THRIFT_POOL, pointer, value), message.to_owned());
    in_a_namespace(async |client, namespace| {
        assert_refused(create::<SparkSessionPool>(&client, &namespace, &pool).await, &message);
    })
    .await;
}

#[rstest]
#[case::no_user("/spec/user", Value::Null, "spec.user: Required value")]
#[case::an_empty_user("/spec/user", json!(""), "spec.user")]
#[case::an_empty_pool("/spec/pool", json!(""), "spec.pool")]
#[case::a_pool_that_no_pool_can_be_called("/spec/pool", json!("x".repeat(41)), "spec.pool: Too long")]
#[case::a_session_id_that_is_no_uuid("/spec/sessionId", json!("42"), "spec.sessionId: Invalid value")]
#[case::too_many_keys(
    "/spec/sparkConf",
    (0..=1000).map(|n| (format!("spark.k{n}"), json!("v"))).collect(),
    "spec.sparkConf: Too many: 1001: must have at most 1000 items"
)]
#[case::a_value_that_fills_the_object(
    "/spec/sparkConf",
    json!({ "spark.a": "x".repeat(131_059) }),
    "sparkConf may have at most 131072 characters, keys counted twice: set what is larger in a file or in the pool"
)]
#[case::a_value_that_is_larger_than_all_may_be(
    "/spec/sparkConf",
    json!({ "spark.a": "x".repeat(1_400_000) }),
    "spec.sparkConf.spark.a: Too long: may not be more than 131072"
)]
#[case::keys_that_fill_the_object(
    "/spec/sparkConf",
    (0..1000).map(|n| (format!("spark.{n:0>60}"), json!("v"))).collect(),
    "sparkConf may have at most 131072 characters"
)]
#[case::groups_that_fill_the_object(
    "/spec/groups",
    json!(vec!["g".repeat(82); 1000]),
    "groups may have at most 81920 characters together"
)]
#[case::a_name_that_fits_into_no_path("/spec/name", json!("a/b"), "spec.name: Invalid value")]
#[tokio::test]
async fn a_session_is_refused_for(#[case] pointer: &str, #[case] value: Value, #[case] message: &str) {
    let (session, message) = (changed(SESSION, pointer, value), message.to_owned());
    in_a_namespace(async |client, namespace| {
        assert_refused(create::<SparkInteractiveSession>(&client, &namespace, &session).await, &message);
    })
    .await;
}

#[tokio::test]
async fn a_pool_name_of_forty_characters_is_accepted() {
    in_a_namespace(async |client, namespace| {
        let pool = changed(THRIFT_POOL, "/metadata/name", json!("x".repeat(40)));
        create::<SparkSessionPool>(&client, &namespace, &pool).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_network_policy_of_drivers_is_accepted() {
    in_a_namespace(async |client, namespace| {
        let policy = manifest(include_str!("../deploy/network-policy.yaml"));
        let created = create::<NetworkPolicy>(&client, &namespace, &policy).await.unwrap();
        assert_holds(&serde_json::to_value(created).unwrap(), &policy, "");
    })
    .await;
}

#[tokio::test]
async fn what_makes_a_pool_or_a_session_itself_cannot_change() {
    in_a_namespace(async |client, namespace| {
        create::<SparkSessionPool>(&client, &namespace, &manifest(CONNECT_POOL)).await.unwrap();
        create::<SparkInteractiveSession>(&client, &namespace, &manifest(SESSION)).await.unwrap();
        let pools = objects::<SparkSessionPool>(&client, &namespace);
        let sessions = objects::<SparkInteractiveSession>(&client, &namespace);
        let patch = |spec: Value| Patch::Merge(json!({ "spec": spec }));
        let params = PatchParams::default();

        let of_type = pools.patch("notebooks", &params, &patch(json!({ "type": "thrift" }))).await;
        assert_refused(of_type, "the type of a pool cannot change: create another pool");
        let of_user = sessions.patch("nightly-report", &params, &patch(json!({ "user": "eve" }))).await;
        assert_refused(of_user, "the user of a session cannot change");
        let of_pool = sessions.patch("nightly-report", &params, &patch(json!({ "pool": "sql" }))).await;
        assert_refused(of_pool, "the pool of a session cannot change");
        pools.patch("notebooks", &params, &patch(json!({ "host": "other.example.org" }))).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn sessions_are_selected_by_user_pool_and_state() {
    in_a_namespace(async |client, namespace| {
        let users = ["alice", "a@b.c", "Jürgen", "DOMAIN\\carol"];
        for (n, user) in users.iter().enumerate() {
            let mut session = changed(SESSION, "/spec/user", json!(user));
            session["metadata"]["name"] = json!(format!("s{n}"));
            session["spec"]["pool"] = json!(if n == 0 { "first" } else { "others" });
            create::<SparkInteractiveSession>(&client, &namespace, &session).await.unwrap();
        }
        let sessions = objects::<SparkInteractiveSession>(&client, &namespace);
        let found = async |selector: String| -> Vec<String> {
            let list = sessions.list(&ListParams::default().fields(&selector)).await.unwrap();
            list.items.into_iter().map(|session| session.metadata.name.unwrap()).collect()
        };
        for (n, user) in users.iter().enumerate() {
            // In a selector a backslash escapes what follows.
            let selector = format!("spec.user={}", user.replace('\\', "\\\\"));
            assert_eq!(found(selector).await, [format!("s{n}")], "{user}");
        }
        assert_eq!(found("spec.pool=others".to_owned()).await, ["s1", "s2", "s3"]);
        let idle = Patch::Merge(json!({ "status": { "state": "Idle" } }));
        sessions.patch_status("s2", &PatchParams::default(), &idle).await.unwrap();
        assert_eq!(found("status.state=Idle".to_owned()).await, ["s2"]);
    })
    .await;
}
