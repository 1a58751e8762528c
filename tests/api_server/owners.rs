//! SparkApplications with an instance's name that the pool does not own.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};
use spark_session_operator::api::{SessionState, SparkApplication, SparkSessionPool};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::running::{POOL, Running, pool, session, with_operator};

const FIRST: &str = "lab-0";

/// What a restored backup, or somebody else, leaves under the name of the pool's first instance.
async fn leave(running: &Running, labels: Value) {
    let application: SparkApplication = serde_json::from_value(json!({
        "apiVersion": "sparkoperator.k8s.io/v1beta2",
        "kind": "SparkApplication",
        "metadata": { "name": FIRST, "labels": labels },
        "spec": pool()["spec"]["sparkApplicationTemplate"]["spec"],
    }))
    .unwrap();
    running.api::<SparkApplication>().create(&PostParams::default(), &application).await.unwrap();
}

async fn until(
    changes: &mut Receiver<DynamicObject>,
    is_it: impl Fn(&DynamicObject) -> bool,
) -> DynamicObject {
    let found = async {
        loop {
            let object = changes.recv().await.expect("the watch goes on");
            if is_it(&object) {
                return object;
            }
        }
    };
    timeout(Duration::from_secs(60), found).await.expect("it comes within a minute")
}

#[tokio::test]
async fn an_instance_whose_name_somebody_else_has_gets_the_next_one() {
    with_operator(pool(), async |running| {
        leave(&running, json!({ "team": "other" })).await;
        let mut events = running.changes::<Event>();
        running.create_session(&session("s", "alice")).await.unwrap();
        let session = running.is("s", SessionState::Active).await;
        assert_eq!(session.status.unwrap().assigned_instance.as_deref(), Some("lab-1"));
        let told = until(&mut events, |event| event.data["reason"] == "NameTaken").await;
        let note = "SparkApplication lab-0 belongs to somebody else and is left alone; the instance gets the next name.";
        assert_eq!((&told.data["note"], &told.data["type"]), (&json!(note), &json!("Warning")));
        assert_eq!(told.data["regarding"]["name"], POOL);
        let others = running.api::<SparkApplication>().get(FIRST).await.unwrap();
        assert_eq!(others.metadata.owner_references, None);
    })
    .await;
}

#[tokio::test]
async fn an_instance_that_a_restored_backup_left_without_an_owner_is_adopted() {
    let mut trusting = pool();
    trusting["spec"]["identity"] = json!("Trusted");
    with_operator(trusting, async |running| {
        let mut applications = running.changes::<SparkApplication>();
        leave(&running, json!({ "sparkinteractive.io/pool": POOL })).await;
        let owned = |application: &DynamicObject| application.metadata.owner_references.is_some();
        let adopted = until(&mut applications, owned).await;
        let uid = running.api::<SparkSessionPool>().get(POOL).await.unwrap().metadata.uid;
        let owners = adopted.metadata.owner_references.unwrap();
        assert_eq!(adopted.metadata.name.as_deref(), Some(FIRST));
        assert_eq!((owners.len(), owners[0].controller, Some(&owners[0].uid)), (1, Some(true), uid.as_ref()));
    })
    .await;
}
