//! Objects that the API server does not let the operator write: each hurts itself alone, and says so.

use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use spark_session_operator::api::{SessionState, SparkApplication, SparkSessionPool};
use uuid::Uuid;

use super::padding;
use super::running::{HOST, POOL, Running, pool, session, told, with_operator};

/// As many sessions as one user may have.
const LIMIT: usize = 5;

/// A session whose object is so large that nothing can be added to it.
async fn create_padded(running: &Running, mut padded: Value) {
    padding::until_full(&mut padded, async |padded| running.create_session(padded).await).await;
}

/// Reasons and notes of the Events of this session.
async fn events_of(running: &Running, session: &str) -> Vec<(String, String)> {
    let of_it = ListParams::default().fields(&format!("involvedObject.name={session}"));
    let events = running.api::<Event>().list(&of_it).await.unwrap();
    events.into_iter().map(|it| (it.reason.unwrap_or_default(), it.message.unwrap_or_default())).collect()
}

async fn until_told(running: &Running, session: &str, reason: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let events = events_of(running, session).await;
        if let Some((_, note)) = events.iter().find(|(told, _)| told == reason) {
            return note.clone();
        }
        assert!(Instant::now() < deadline, "no Event {reason}: {events:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_beyond_the_quota_whose_end_cannot_be_written_keeps_nobody_waiting() {
    with_operator(pool(), async |mut running| {
        for n in 0..LIMIT {
            running.create_session(&session(&format!("s-{n}"), "alice")).await.unwrap();
            running.is(&format!("s-{n}"), SessionState::Active).await;
        }
        create_padded(&running, session("padded", "alice")).await;
        let note = until_told(&running, "padded", "StatusTooLarge").await;
        assert!(note.starts_with("The status of this session cannot be written"), "{note}");

        let answer = running.asking.call(HOST, "bob", "Config", Uuid::new_v4());
        let took = tokio::time::timeout(Duration::from_secs(10), answer).await.expect("bob waits");
        assert!(took < Duration::from_secs(5), "{took:?}");
        let told: Vec<_> =
            events_of(&running, "padded").await.into_iter().map(|(reason, _)| reason).collect();
        assert_eq!(told, ["StatusTooLarge"], "nothing else has happened to it");
        running.settles().await;
    })
    .await;
}

/// With one place in the pool: whoever cannot be told that it has it does not keep it from others.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_place_cannot_be_written_gets_none() {
    let mut pool = pool();
    pool["spec"]["scaling"] = json!({ "maxSessionsPerInstance": 1 });
    with_operator(pool, async |mut running| {
        create_padded(&running, session("padded", "alice")).await;
        until_told(&running, "padded", "StatusTooLarge").await;
        let answer = running.asking.call(HOST, "bob", "Config", Uuid::new_v4());
        tokio::time::timeout(Duration::from_secs(10), answer).await.expect("bob waits");
        running.settles().await;
    })
    .await;
}

/// Denies such requests about objects that bear the label `denied`. Gone when it is dropped.
struct Denial {
    client: kube::Client,
    name: String,
}

impl Denial {
    async fn of(running: &Running, group: &str, resource: &str, operation: &str) -> Self {
        let (client, name) = (running.client(), format!("deny-{}", Uuid::new_v4()));
        // Of what is deleted there is only the old object.
        let object = if operation == "DELETE" { "oldObject" } else { "object" };
        let labelled = format!("{object}.metadata.?labels.?denied.orValue('') == '{}'", running.namespace());
        let policy = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": [group], "apiVersions": ["*"], "resources": [resource], "operations": [operation],
                }] },
                "matchConditions": [{ "name": "labelled", "expression": labelled }],
                "validations": [{ "expression": "false", "message": "the policy of the test says no" }],
            },
        }));
        let binding = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "policyName": name, "validationActions": ["Deny"] },
        }));
        let params = PostParams::default();
        Api::<ValidatingAdmissionPolicy>::all(client.clone())
            .create(&params, &policy.unwrap())
            .await
            .unwrap();
        Api::<ValidatingAdmissionPolicyBinding>::all(client.clone())
            .create(&params, &binding.unwrap())
            .await
            .unwrap();
        Self { client, name }
    }

    async fn lift(self) {
        let params = DeleteParams::default();
        let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(self.client.clone());
        bindings.delete(&self.name, &params).await.unwrap();
        Api::<ValidatingAdmissionPolicy>::all(self.client).delete(&self.name, &params).await.unwrap();
    }
}

/// The API server learns of a policy somewhat after it was created: until a dry run is denied.
async fn until_denied<K>(api: &Api<K>, name: &str, subresource: bool)
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let nothing = Patch::Merge(json!({ "status": {} }));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let outcome = if subresource {
            api.patch_status(name, &params, &nothing).await.map(drop)
        } else {
            api.delete(name, &DeleteParams { dry_run: true, ..DeleteParams::default() }).await.map(drop)
        };
        match outcome {
            Err(kube::Error::Api(status)) if status.message.contains("says no") => return,
            Ok(()) => assert!(Instant::now() < deadline, "the policy is not in force"),
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_a_policy_denies_waits_alone_and_goes_on_when_it_may() {
    let mut pool = pool();
    pool["spec"]["scaling"] = json!({ "maxSessionsPerInstance": 2 });
    with_operator(pool, async |mut running| {
        running.create_session(&session("first", "alice")).await.unwrap();
        running.is("first", SessionState::Active).await;
        let denial =
            Denial::of(&running, "sparkinteractive.io", "sparkinteractivesessions/status", "UPDATE").await;
        let labels = json!({ "metadata": { "labels": { "denied": running.namespace() } } });
        let (params, label) = (PatchParams::default(), Patch::Merge(labels.clone()));
        running.sessions().patch_metadata("first", &params, &label).await.unwrap();
        until_denied(&running.sessions(), "first", true).await;

        let mut denied = session("denied", "alice");
        denied["metadata"]["labels"] = labels["metadata"]["labels"].clone();
        running.create_session(&denied).await.unwrap();
        let note = until_told(&running, "denied", "StatusRefused").await;
        assert!(note.contains("the policy of the test says no"), "{note}");
        let answer = running.asking.call(HOST, "bob", "Config", Uuid::new_v4());
        tokio::time::timeout(Duration::from_secs(10), answer).await.expect("bob waits");

        // Its client goes, and its Spark session is ended, though nobody may write that.
        running.sessions().delete("first", &DeleteParams::default()).await.unwrap();
        let uid = uid_of(&running, "first").await;
        let gone = kube::runtime::wait::conditions::is_deleted(&uid);
        let gone = kube::runtime::wait::await_condition(running.sessions(), "first", gone);
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it is still there").unwrap();

        denial.lift().await;
        running.is("denied", SessionState::Active).await;
        running.settles().await;
    })
    .await;
}

async fn uid_of(running: &Running, session: &str) -> String {
    running.sessions().get_opt(session).await.unwrap().and_then(|it| it.metadata.uid).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_whose_status_a_policy_denies_serves_on_and_says_so() {
    with_operator(pool(), async |mut running| {
        running.asking.call(HOST, "alice", "Config", Uuid::new_v4()).await;
        let denial = Denial::of(&running, "sparkinteractive.io", "sparksessionpools/status", "UPDATE").await;
        let pools = running.api::<SparkSessionPool>();
        let label = Patch::Merge(json!({ "metadata": { "labels": { "denied": running.namespace() } } }));
        pools.patch_metadata(POOL, &PatchParams::default(), &label).await.unwrap();
        until_denied(&pools, POOL, true).await;

        let answer = running.asking.call(HOST, "bob", "Config", Uuid::new_v4());
        tokio::time::timeout(Duration::from_secs(10), answer).await.expect("bob waits");
        let note = until_told(&running, POOL, "StatusRefused").await;
        assert!(note.contains("the policy of the test says no"), "{note}");
        let more = json!({ "spec": { "replicas": { "min": 2, "max": 2 } } });
        pools.patch(POOL, &PatchParams::default(), &Patch::Merge(more)).await.unwrap();
        denial.lift().await;
        let grown = |pool: Option<&SparkSessionPool>| {
            pool.and_then(|pool| pool.status.as_ref()).is_some_and(|status| status.ready_replicas == 2)
        };
        let grown = kube::runtime::wait::await_condition(pools, POOL, grown);
        tokio::time::timeout(Duration::from_secs(120), grown)
            .await
            .expect("the pool stays as it was")
            .unwrap();
        running.settles().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_cannot_be_deleted_keeps_nobody_waiting() {
    let mut pool = pool();
    pool["spec"]["replicas"] = json!({ "min": 1, "max": 2 });
    with_operator(pool, async |mut running| {
        running.asking.call(HOST, "alice", "Config", Uuid::new_v4()).await;
        let applications = running.api::<SparkApplication>();
        let denial = Denial::of(&running, "sparkoperator.k8s.io", "sparkapplications", "DELETE").await;
        let first = format!("{POOL}-0");
        let label = Patch::Merge(json!({ "metadata": { "labels": { "denied": running.namespace() } } }));
        applications.patch_metadata(&first, &PatchParams::default(), &label).await.unwrap();
        until_denied(&applications, &first, false).await;
        let failed = Patch::Merge(json!({ "status": { "applicationState": { "state": "FAILED" } } }));
        applications.patch_status(&first, &PatchParams::default(), &failed).await.unwrap();

        let answer = running.asking.call(HOST, "bob", "Config", Uuid::new_v4());
        tokio::time::timeout(Duration::from_secs(40), answer).await.expect("bob waits");
        tokio::time::sleep(Duration::from_secs(12)).await;
        let told = events_of(&running, POOL).await;
        assert!(told.iter().all(|(reason, _)| reason != "InstanceRemoved"), "{told:?}");
        denial.lift().await;
        until_told(&running, POOL, "InstanceRemoved").await;
    })
    .await;
}

/// There is no kubelet that would confirm that the Pod has ended: here a finalizer stands for the lost node.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_never_ends_its_deletion_makes_room_in_a_pool_of_one() {
    with_operator(pool(), async |mut running| {
        running.asking.call(HOST, "alice", "Config", Uuid::new_v4()).await;
        let (pods, driver) = (running.api::<Pod>(), format!("{POOL}-0-driver"));
        let held = Patch::Merge(json!({ "metadata": { "finalizers": ["example.com/lost-node"] } }));
        pods.patch(&driver, &PatchParams::default(), &held).await.unwrap();
        pods.delete(&driver, &DeleteParams::default()).await.unwrap();

        let answer = running.asking.call(HOST, "bob", "Config", Uuid::new_v4());
        tokio::time::timeout(Duration::from_secs(40), answer).await.expect("bob waits");
        let failed = until_told(&running, POOL, "InstanceFailed").await;
        assert!(failed.contains("is still there: its node is lost, most likely"), "{failed}");
        let gone =
            async || running.api::<SparkApplication>().get_opt(&format!("{POOL}-0")).await.unwrap().is_none();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !gone().await {
            assert!(Instant::now() < deadline, "its SparkApplication stays");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(pods.get_opt(&driver).await.unwrap().is_some(), "nobody has forced it");
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        pods.patch(&driver, &PatchParams::default(), &free).await.unwrap();
    })
    .await;
}

/// Its container is never created, or its JVM hangs.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_never_answers_is_replaced() {
    let mut pool = pool();
    pool["spec"]["sessionPolicy"] = json!({ "startTimeoutSeconds": 15 });
    with_operator(pool, async |mut running| {
        running.spark.hold_starts();
        running.create_session(&session("early", "alice")).await.unwrap();
        let failed = running.is("early", SessionState::Failed).await;
        assert_eq!(told(&failed).0, "StartTimeout");
        let note = until_told(&running, POOL, "InstanceFailed").await;
        let words =
            "Instance lab-0 failed: it did not answer in time (sessionPolicy.startTimeoutSeconds: 15): ";
        assert!(note.starts_with(words), "{note}");
        running.spark.let_start();
        // The first one could start now; it was given up.
        let answer = running.asking.call(HOST, "bob", "Config", Uuid::new_v4());
        tokio::time::timeout(Duration::from_secs(40), answer).await.expect("bob waits");
        let sessions = running.sessions().list(&ListParams::default()).await.unwrap();
        let bobs = sessions.iter().find(|it| it.spec.user == "bob").and_then(|it| it.status.clone()).unwrap();
        assert_eq!(bobs.assigned_instance.as_deref(), Some("lab-1"));
    })
    .await;
}
