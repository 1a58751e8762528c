//! The clients of one named session, against an API server that keeps it and a Spark that says what runs.

use std::convert::Infallible;
use std::sync::Mutex;

use http::{Method, Request, Response};
use kube::client::Body;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::SparkInteractiveSession;
use crate::model::Object;
use crate::model::fixtures::{application, at, connect_pool, driver};
use crate::operator::{Stores, Watched};
use crate::spark::fake_connect::FakeConnect;

const OWN: Uuid = Uuid::from_u128(7000);
const NEW: Joining = Joining { id: Uuid::from_u128(1000), cloned: false };

fn id(n: usize) -> Uuid {
    Uuid::from_u128(n as u128)
}

fn texts(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}

/// Keeps alice's session `s`, and refuses writes of another version than its own.
struct World {
    session: Mutex<Value>,
    stores: Arc<Stores>,
    spark: FakeConnect,
}

impl World {
    /// With these clients, in which nothing runs.
    async fn with(clients: &[Uuid]) -> (Arc<Self>, NamedClients) {
        let spark = FakeConnect::start().await;
        spark.state().executions = Some(0);
        let session = json!({
            "apiVersion": "sparkinteractive.io/v1alpha1",
            "kind": "SparkInteractiveSession",
            "metadata": { "name": "s", "uid": "uid-of-s", "resourceVersion": "1", "generation": 1 },
            "spec": { "user": "alice", "pool": "p", "name": "etl" },
            "status": {
                "state": "Active", "assignedInstance": "p-0", "sessionId": OWN.to_string(), "clientSessionIds": texts(clients),
            },
        });
        let stores = Stores::new();
        stores.shown(Object::Pool(connect_pool("p")));
        let port = spark.address.port().to_string();
        stores.shown(Object::Application(
            application("p-0").with_conf("spark.connect.grpc.binding.port", &port),
        ));
        stores.shown(Object::Pod(driver("p-0").at_ip(&spark.address.ip().to_string())));
        stores.server_answers("uid-of-p-0-driver");
        let world = Arc::new(Self { session: Mutex::new(session), stores: Arc::clone(&stores), spark });
        let shown: SparkInteractiveSession = serde_json::from_value(world.shown()).unwrap();
        stores.shown(shown.into_domain().unwrap());
        let writer = SessionWriter::new(&world.client(), "spark-dev", stores.clone());
        let clients = NamedClients::new(writer, SparkClients::new(stores));
        (world, clients)
    }

    fn shown(&self) -> Value {
        self.session.lock().unwrap().clone()
    }

    fn client(self: &Arc<Self>) -> kube::Client {
        let world = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let world = Arc::clone(&world);
            async move {
                let method = request.method().clone();
                let body = request.into_body().collect_bytes().await.unwrap();
                let (code, answer) = world.serve(&method, &body);
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(answer).unwrap())
            }
        });
        kube::Client::new(service, "spark-dev")
    }

    fn serve(&self, method: &Method, body: &[u8]) -> (u16, Value) {
        let mut session = self.session.lock().unwrap();
        if *method == Method::GET {
            return (200, session.clone());
        }
        let patch: Value = serde_json::from_slice(body).unwrap();
        let version = session["metadata"]["resourceVersion"].clone();
        if patch["metadata"].get("resourceVersion").is_some_and(|it| *it != version) {
            let conflict = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409, "reason": "Conflict",
                "message": "the object has been modified",
            });
            return (409, conflict);
        }
        for (field, value) in patch["status"].as_object().unwrap() {
            session["status"][field] = value.clone();
        }
        let next = version.as_str().unwrap().parse::<u64>().unwrap() + 1;
        session["metadata"]["resourceVersion"] = json!(next.to_string());
        (200, session.clone())
    }

    fn listed(&self) -> Vec<String> {
        serde_json::from_value(self.shown()["status"]["clientSessionIds"].clone()).unwrap()
    }

    fn released(&self) -> Vec<String> {
        self.spark.state().released.iter().map(|(_, id)| id.clone()).collect()
    }

    fn session(&self) -> Arc<Session> {
        self.stores.read(|inventory| inventory.session("s").cloned()).unwrap()
    }
}

fn crowd() -> Vec<Uuid> {
    (0..MOST_CLIENTS).map(id).collect()
}

#[tokio::test]
async fn the_longest_unused_client_makes_room_and_is_released_on_spark() {
    let (world, clients) = World::with(&crowd()).await;
    clients.join("s", NEW).await.unwrap();
    let listed = world.listed();
    assert_eq!(
        (listed.len(), &listed[0], listed.last()),
        (64, &id(1).to_string(), Some(&NEW.id.to_string()))
    );
    assert_eq!(world.released(), [id(0).to_string()], "nothing of it is left");
}

#[rstest]
#[case::a_query(Some(1))]
#[case::or_nobody_knows(None)]
#[tokio::test]
async fn where_something_runs_for_all_of_them_the_next_one_is_refused_and_nobody_loses_anything(
    #[case] executions: Option<usize>,
) {
    let (world, clients) = World::with(&crowd()).await;
    world.spark.state().executions = executions;
    let denial = clients.join("s", NEW).await.unwrap_err();
    assert_eq!(denial.kind, DenialKind::QuotaExceeded);
    assert_eq!(
        denial.message,
        "Session etl in pool p has 64 clients, as many as it may, and Spark does not say of any of the longest unused ones \
         that nothing runs for it. End one (spark.stop() in its program), end all of them (kubectl delete sis s), or connect \
         under another name or none."
    );
    assert_eq!((world.listed(), world.released()), (texts(&crowd()), vec![]));
    assert_eq!(world.spark.state().calls.len(), ASKED);
}

/// Programs are told to come back to it, temporary views included.
#[tokio::test]
async fn the_session_s_own_id_never_makes_room() {
    let ids: Vec<Uuid> = std::iter::once(OWN).chain((1..MOST_CLIENTS).map(id)).collect();
    let (world, clients) = World::with(&ids).await;
    clients.join("s", NEW).await.unwrap();
    assert_eq!(world.released(), [id(1).to_string()]);
    assert_eq!(world.listed()[0], OWN.to_string());
}

#[tokio::test]
async fn clients_that_come_one_after_the_other_without_end_are_slowed_down() {
    let (world, clients) = World::with(&[OWN]).await;
    for n in 0..64 {
        let joining = Joining { id: id(n), cloned: false };
        clients.join("s", joining).await.unwrap();
        clients.leave("s", joining.id, at(0)).await.unwrap();
    }
    let denial = clients.join("s", NEW).await.unwrap_err();
    assert_eq!(denial.kind, DenialKind::NotReady);
    let wait = denial.retry_after.unwrap();
    assert!(wait > Duration::from_secs(1) && wait <= JOINS.refill, "{wait:?}");
    let words = format!(
        "Too many clients have joined session etl in pool p one after the other: the next one may in {} s. Programs that \
         share nothing need no x-spark-session.",
        wait.as_secs() + 1
    );
    assert_eq!(denial.message, words);
    assert_eq!(world.listed(), texts(&[OWN]));
    assert_eq!(world.released().len(), 64, "each of them was released on Spark");
}

#[tokio::test]
async fn clients_that_come_at_the_same_time_all_get_in() {
    let (world, clients) = World::with(&[OWN]).await;
    let joins = (0..20).map(|n| {
        let (clients, joining) = (clients.clone(), Joining { id: id(n), cloned: false });
        async move {
            // As the broker does: it looks again until it is listed.
            while !clients
                .writer
                .known("s")
                .unwrap()
                .status
                .client_session_ids
                .contains(&joining.id.to_string())
            {
                clients.join("s", joining).await.unwrap();
            }
        }
    });
    futures::future::join_all(joins).await;
    assert_eq!(world.listed().len(), 21);
}

#[tokio::test]
async fn a_client_that_leaves_is_released_before_it_is_forgotten() {
    let (world, clients) = World::with(&[id(1), id(2)]).await;
    clients.leave("s", id(1), at(5)).await.unwrap();
    assert_eq!((world.released(), world.listed()), (texts(&[id(1)]), texts(&[id(2)])));
    assert_eq!(world.shown()["status"].get("releasedAt"), None);
}

/// It may be there still, with what runs in it: the end of the session releases it.
#[tokio::test]
async fn one_that_spark_does_not_release_stays_listed() {
    let (world, clients) = World::with(&[id(1), id(2)]).await;
    world.spark.breaks(tonic::Code::Unavailable, "Busy.");
    clients.leave("s", id(1), at(5)).await.unwrap();
    assert_eq!(world.listed(), texts(&[id(1), id(2)]));
}

#[tokio::test]
async fn with_the_last_one_the_session_ends_and_the_planner_knows_what_to_release() {
    let (world, clients) = World::with(&[id(1)]).await;
    clients.leave("s", id(1), at(5)).await.unwrap();
    assert_eq!(world.listed(), texts(&[id(1)]));
    assert_eq!(world.shown()["status"]["releasedAt"], "2027-01-15T08:00:05Z");
}

#[tokio::test]
async fn a_clone_is_listed_with_the_others_and_as_a_clone() {
    let (world, clients) = World::with(&[id(1)]).await;
    clients.join("s", Joining { cloned: true, ..NEW }).await.unwrap();
    assert_eq!(world.listed(), texts(&[id(1), NEW.id]));
    assert_eq!(world.shown()["status"]["clonedSessionIds"], json!([NEW.id.to_string()]));
    assert!(world.session().is_prepared(NEW.id));
    clients.leave("s", NEW.id, at(5)).await.unwrap();
    assert_eq!(world.shown()["status"]["clonedSessionIds"], json!([]));
}

#[tokio::test]
async fn a_client_that_is_used_among_many_is_not_the_next_to_make_room() {
    let (world, clients) = World::with(&crowd()).await;
    assert!(is_crowded(&world.session()));
    for _ in 0..3 {
        clients.used(&world.session(), id(0));
        clients.used(&world.session(), id(60));
    }
    for _ in 0..200 {
        if world.listed()[0] != id(0).to_string() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.listed().last(), Some(&id(0).to_string()));
    assert_eq!(world.shown()["metadata"]["resourceVersion"], "2", "written once");
    clients.join("s", NEW).await.unwrap();
    assert_eq!(world.released(), [id(1).to_string()]);
}
