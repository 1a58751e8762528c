//! Who writes which field of a status, and into which object.

use std::time::Duration;

use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};
use spark_session_operator::api::{
    SessionState, SparkInteractiveSession, SparkInteractiveSessionStatus, SparkSessionPool,
    SparkSessionPoolStatus,
};
use spark_session_operator::broker::SessionWriter;
use spark_session_operator::operator::{Activity, Applier, ApplyError, Events, Leadership, Stores, Watched};
use spark_session_operator::plan::{About, Action};
use uuid::Uuid;

use super::{CONNECT_POOL, SESSION, changed, create, in_a_namespace, manifest};

/// A session in the cluster, and those who write its status.
struct Written {
    sessions: Api<SparkInteractiveSession>,
    uid: String,
    planner: Applier,
    broker: SessionWriter,
}

impl Written {
    async fn new(client: &Client, namespace: &str) -> Self {
        Self::of(client, namespace, &manifest(SESSION)).await
    }

    async fn of(client: &Client, namespace: &str, session: &Value) -> Self {
        let created = create::<SparkInteractiveSession>(client, namespace, session).await.unwrap();
        let stores = Stores::new();
        let typed: SparkInteractiveSession = created.clone().try_parse().unwrap();
        stores.shown(typed.into_domain().unwrap());
        Self {
            sessions: Api::namespaced(client.clone(), namespace),
            uid: created.metadata.uid.unwrap(),
            planner: Applier::new(
                client,
                namespace,
                stores.clone(),
                Leadership::always(),
                Activity::new(Duration::from_secs(60)),
                Events::new(client, namespace),
            ),
            broker: SessionWriter::new(client, namespace, stores),
        }
    }

    async fn plan(&self, state: SessionState, instance: Option<&str>) {
        let status = SparkInteractiveSessionStatus {
            state,
            assigned_instance: instance.map(str::to_owned),
            ..SparkInteractiveSessionStatus::default()
        };
        self.planner.apply(self.update(status)).await.unwrap();
    }

    fn update(&self, status: SparkInteractiveSessionStatus) -> Action {
        let (session, uid) = ("nightly-report".to_owned(), self.uid.clone());
        Action::UpdateSessionStatus { session, uid, status: Box::new(status) }
    }

    async fn claim(&self, id: Uuid) {
        let version = self.read().await.metadata.resource_version.unwrap().parse().unwrap();
        self.broker.claim("nightly-report", version, id, None).await.unwrap();
    }

    async fn read(&self) -> SparkInteractiveSession {
        self.sessions.get("nightly-report").await.unwrap()
    }

    async fn status(&self) -> (SessionState, Option<String>, Option<String>) {
        let status = self.read().await.status.unwrap().status;
        (status.state, status.assigned_instance, status.session_id)
    }
}

#[tokio::test]
async fn planner_and_broker_leave_each_others_fields_of_a_status_alone() {
    in_a_namespace(async |client, namespace| {
        let id = Uuid::from_u128(7);
        let (instance, spark_id) = (Some("p-0".to_owned()), Some(id.to_string()));
        let session = Written::new(&client, &namespace).await;
        session.claim(id).await;
        assert_eq!(session.status().await, (SessionState::Pending, None, spark_id.clone()));
        session.plan(SessionState::Active, Some("p-0")).await;
        assert_eq!(session.status().await, (SessionState::Active, instance.clone(), spark_id.clone()));
        session.claim(id).await;
        assert_eq!(session.status().await, (SessionState::Active, instance, spark_id.clone()));
        session.plan(SessionState::Pending, None).await;
        assert_eq!(session.status().await, (SessionState::Pending, None, spark_id));
    })
    .await;
}

#[tokio::test]
async fn what_others_hold_a_session_by_stays() {
    in_a_namespace(async |client, namespace| {
        const OTHER: &str = "example.com/audit";
        let held = changed(SESSION, "/metadata/finalizers", json!([OTHER]));
        let session = Written::of(&client, &namespace, &held).await;
        for (hold, finalizers) in [(true, vec![OTHER, "sparkinteractive.io/release"]), (false, vec![OTHER])] {
            let about = About::Session { name: "nightly-report".to_owned(), uid: session.uid.clone() };
            session.planner.apply(Action::SetFinalizer { about, hold }).await.unwrap();
            assert_eq!(session.read().await.metadata.finalizers.unwrap(), finalizers);
        }
        let removed = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        session.sessions.patch("nightly-report", &PatchParams::default(), &removed).await.unwrap();
        let about = About::Session { name: "nightly-report".to_owned(), uid: session.uid.clone() };
        let outdated = session.planner.apply(Action::SetFinalizer { about, hold: true }).await.unwrap_err();
        assert!(
            matches!(outdated, ApplyError::Outdated(_)),
            "what is known is not written over what is there"
        );
        assert_eq!(session.read().await.metadata.finalizers, None);
    })
    .await;
}

#[tokio::test]
async fn a_claim_on_a_session_that_has_changed_meanwhile_does_nothing() {
    in_a_namespace(async |client, namespace| {
        let session = Written::new(&client, &namespace).await;
        let version = session.read().await.metadata.resource_version.unwrap().parse().unwrap();
        session.plan(SessionState::Active, Some("p-0")).await;
        session.broker.claim("nightly-report", version, Uuid::from_u128(7), None).await.unwrap();
        assert_eq!(session.status().await.2, None);
    })
    .await;
}

#[rstest]
#[case::a_session(true)]
#[case::a_pool(false)]
#[tokio::test]
async fn the_status_of_an_earlier_object_is_not_written_into_its_namesake(#[case] into_session: bool) {
    in_a_namespace(async move |client, namespace| {
        let session = Written::new(&client, &namespace).await;
        create::<SparkSessionPool>(&client, &namespace, &manifest(CONNECT_POOL)).await.unwrap();
        let uid = Uuid::new_v4().to_string();
        let action = if into_session {
            let status = Box::new(SparkInteractiveSessionStatus::default());
            Action::UpdateSessionStatus { session: "nightly-report".to_owned(), uid, status }
        } else {
            let status = Box::new(SparkSessionPoolStatus::default());
            Action::UpdatePoolStatus { pool: "notebooks".to_owned(), uid, status }
        };
        let error = session.planner.apply(action).await.expect_err("it is another object").to_string();
        assert!(error.starts_with("the object has changed meanwhile: "), "{error}");
    })
    .await;
}

#[tokio::test]
async fn deleting_an_earlier_object_leaves_its_namesake_alone() {
    in_a_namespace(async |client, namespace| {
        let session = Written::new(&client, &namespace).await;
        let (name, uid) = ("nightly-report".to_owned(), Uuid::new_v4().to_string());
        session.broker.delete(&name, &uid).await.unwrap();
        session.planner.apply(Action::DeleteSession { name, uid }).await.unwrap();
        assert_eq!(session.read().await.metadata.uid.as_ref(), Some(&session.uid));
    })
    .await;
}

/// Above what etcd takes in one object, and above what the API server takes in one request.
#[rstest]
#[case::for_etcd(1_600_000)]
#[case::for_the_api_server(4_000_000)]
#[tokio::test]
async fn a_status_that_is_too_large_is_known_as_that(#[case] bytes: usize) {
    in_a_namespace(async move |client, namespace| {
        let session = Written::new(&client, &namespace).await;
        let endpoint = Some("x".repeat(bytes));
        let status = SparkInteractiveSessionStatus { endpoint, ..SparkInteractiveSessionStatus::default() };
        let error = session.planner.apply(session.update(status)).await.unwrap_err().to_string();
        let expected =
            "the status of session nightly-report cannot be written, its object would be too large";
        assert_eq!(error, expected);
        session.plan(SessionState::Active, Some("p-0")).await;
    })
    .await;
}
