use std::convert::Infallible;

use http::{Request, Response};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::client::Body;
use serde_json::Value;

use super::*;
use crate::api::DisconnectCause::{self, ClosedByClient, ConnectionLost};
use crate::model::fixtures::{at, session};
use crate::model::{Object, Session};

fn connection(port: u16) -> ClientConnection {
    ClientConnection {
        envoy: "envoy-0".to_owned(),
        client: ([10, 0, 0, 7], port).into(),
        listener_port: 10_000,
    }
}

fn used(port: u16, second: i64) -> UsedConnection {
    UsedConnection { connection: connection(port), since: at(second), proxied: false }
}

fn ended(port: u16, second: i64, cause: DisconnectCause) -> EndedConnection {
    EndedConnection { connection: connection(port), at: at(second), cause }
}

/// The API server, with the statuses of its sessions. Several replicas may write to it.
#[derive(Default)]
struct ApiServer {
    sessions: Mutex<BTreeMap<String, Session>>,
    writes: Mutex<usize>,
}

impl ApiServer {
    fn with(sessions: impl IntoIterator<Item = Session>) -> Arc<Self> {
        let sessions = sessions.into_iter().map(|session| (session.name().to_owned(), session)).collect();
        Arc::new(Self { sessions: Mutex::new(sessions), ..Self::default() })
    }

    fn client(self: &Arc<Self>) -> Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move {
                let uri = request.uri().to_string();
                assert!(uri.contains("fieldManager=spark-session-operator-client-connections"), "{uri}");
                let body = request.into_body().collect_bytes().await.unwrap();
                let (status, answer) = server.answer(&serde_json::from_slice(&body).unwrap());
                let body = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
            }
        });
        Client::new(service, "spark-dev")
    }

    fn answer(&self, patch: &Value) -> (u16, Value) {
        let mut sessions = self.sessions.lock().unwrap();
        let session = sessions.get_mut(patch["metadata"]["name"].as_str().unwrap()).unwrap();
        if patch["metadata"]["resourceVersion"] != json!(session.meta.resource_version.to_string()) {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409, "reason": "Conflict",
                "message": "",
            });
            return (409, status);
        }
        *self.writes.lock().unwrap() += 1;
        let said = &patch["status"];
        session.meta.resource_version += 1;
        session.status.client_connections =
            serde_json::from_value(said["clientConnections"].clone()).unwrap();
        session.status.disconnected_at = serde_json::from_value(said["disconnectedAt"].clone()).unwrap();
        session.status.disconnect_cause = serde_json::from_value(said["disconnectCause"].clone()).unwrap();
        let answer = json!({
            "apiVersion": patch["apiVersion"], "kind": patch["kind"],
            "metadata": {
                "name": session.name(), "uid": session.meta.uid, "creationTimestamp": Time(at(0)),
                "resourceVersion": session.meta.resource_version.to_string(),
            },
            "spec": { "user": session.spec.user, "pool": "p" },
            "status": session.status,
        });
        (200, answer)
    }

    /// Each replica's watch shows every session.
    fn show(&self, replicas: &[&Replica]) {
        for session in self.sessions.lock().unwrap().values() {
            for replica in replicas {
                replica.writer.stores.shown(Object::Session(session.clone()));
            }
        }
    }

    fn open(&self, name: &str) -> Vec<String> {
        let sessions = self.sessions.lock().unwrap();
        sessions[name].status.client_connections.iter().map(|open| open.client.clone()).collect()
    }

    fn disconnected(&self, name: &str) -> Option<(Timestamp, DisconnectCause)> {
        let sessions = self.sessions.lock().unwrap();
        let status = &sessions[name].status;
        status.disconnected_at.as_ref().map(|at| (at.0, status.disconnect_cause.unwrap()))
    }
}

struct Replica {
    recorder: ConnectionRecorder,
    writer: ConnectionWriter,
}

fn replica(server: &Arc<ApiServer>) -> Replica {
    let (stores, recorder) = (Stores::new(), ConnectionRecorder::default());
    let patch = SessionPatch::new(&server.client(), "spark-dev", stores.clone());
    let replica = Replica { writer: ConnectionWriter::new(patch, stores, recorder.clone()), recorder };
    server.show(&[&replica]);
    replica
}

impl Replica {
    async fn look(&self) {
        self.writer.look(Instant::now()).await;
    }
}

#[tokio::test]
async fn a_program_that_comes_and_ends_costs_two_writes() {
    let server = ApiServer::with([session("s").on("p-0")]);
    let replica = replica(&server);
    replica.recorder.used("s", used(1, 10));
    replica.look().await;
    assert_eq!((server.open("s"), server.disconnected("s")), (vec!["10.0.0.7:1".to_owned()], None));
    replica.recorder.ended(ended(1, 20, ClosedByClient));
    replica.look().await;
    replica.look().await;
    assert_eq!((server.open("s"), server.disconnected("s")), (vec![], Some((at(20), ClosedByClient))));
    assert_eq!(*server.writes.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_program_that_ends_before_anything_was_written_costs_one_write() {
    let server = ApiServer::with([session("s").on("p-0")]);
    let replica = replica(&server);
    replica.recorder.used("s", used(1, 10));
    replica.recorder.ended(ended(1, 11, ConnectionLost));
    replica.look().await;
    replica.look().await;
    assert_eq!(server.disconnected("s"), Some((at(11), ConnectionLost)));
    assert_eq!(*server.writes.lock().unwrap(), 1);
}

#[tokio::test]
async fn the_check_may_come_to_one_replica_and_the_end_to_another() {
    let server = ApiServer::with([session("s").on("p-0")]);
    let (one, other) = (replica(&server), replica(&server));
    // The end is known before the watch has shown that the session uses the connection.
    other.recorder.ended(ended(1, 20, ClosedByClient));
    other.look().await;
    one.recorder.used("s", used(1, 10));
    one.look().await;
    assert_eq!(server.disconnected("s"), None);
    server.show(&[&one, &other]);
    other.look().await;
    assert_eq!(server.disconnected("s"), Some((at(20), ClosedByClient)));
}

#[tokio::test]
async fn replicas_that_write_at_the_same_time_lose_nothing() {
    let server = ApiServer::with([session("s").on("p-0")]);
    let (one, other) = (replica(&server), replica(&server));
    one.recorder.used("s", used(1, 10));
    other.recorder.used("s", used(2, 10));
    one.look().await;
    other.look().await; // refused: its watch has not shown the other's write
    server.show(&[&one, &other]);
    other.look().await;
    assert_eq!(server.open("s"), ["10.0.0.7:1", "10.0.0.7:2"]);
}

#[tokio::test]
async fn a_request_over_a_new_connection_connects_again() {
    let server = ApiServer::with([session("s").on("p-0").disconnected(5, ClosedByClient)]);
    let replica = replica(&server);
    replica.recorder.used("s", used(2, 10));
    replica.look().await;
    assert_eq!((server.open("s"), server.disconnected("s")), (vec!["10.0.0.7:2".to_owned()], None));
}

#[tokio::test]
async fn two_users_on_one_connection_are_behind_a_proxy() {
    let server = ApiServer::with([session("a").on("p-0"), session("b").of("bob").on("p-0")]);
    let replica = replica(&server);
    for name in ["a", "b"] {
        replica.recorder.used(name, used(1, 10));
        replica.look().await;
    }
    server.show(&[&replica]);
    replica.look().await;
    replica.recorder.ended(ended(1, 20, ClosedByClient));
    replica.look().await;
    for name in ["a", "b"] {
        assert_eq!((server.open(name), server.disconnected(name)), (vec!["10.0.0.7:1".to_owned()], None));
    }
}

#[tokio::test]
async fn two_sessions_of_one_user_on_one_connection_are_left_together() {
    let server = ApiServer::with([session("a").on("p-0"), session("b").on("p-0")]);
    let replica = replica(&server);
    for name in ["a", "b"] {
        replica.recorder.used(name, used(1, 10));
    }
    replica.recorder.ended(ended(1, 20, ClosedByClient));
    replica.look().await;
    for name in ["a", "b"] {
        assert_eq!(server.disconnected(name), Some((at(20), ClosedByClient)));
    }
}

#[tokio::test]
async fn what_concerns_nobody_is_forgotten() {
    let server = ApiServer::with([session("s").on("p-0")]);
    let replica = replica(&server);
    replica.recorder.used("unknown", used(1, 10));
    replica.recorder.ended(ended(9, 20, ClosedByClient));
    replica.look().await;
    assert_eq!(replica.recorder.heard().used.len() + replica.recorder.heard().ended.len(), 2);
    replica.writer.look(Instant::now() + KEPT_FOR).await;
    assert_eq!(replica.recorder.heard().used.len() + replica.recorder.heard().ended.len(), 0);
    assert_eq!(*server.writes.lock().unwrap(), 0);
}

#[tokio::test]
async fn of_a_client_with_very_many_connections_a_few_are_kept_and_make_it_a_proxy() {
    let server = ApiServer::with([session("s").on("p-0")]);
    let replica = replica(&server);
    for port in 1..=1000 {
        replica.recorder.used("s", used(port, 10));
    }
    assert_eq!(replica.recorder.heard().used["s"].len(), MOST_CONNECTIONS + 1);
    replica.look().await;
    let session = server.sessions.lock().unwrap()["s"].clone();
    let open = &session.status.client_connections;
    assert!(open.len() == 1 && open[0].shared, "{open:?}");
}

#[test]
fn who_ends_connections_without_end_leaves_room_for_those_of_others() {
    let recorder = ConnectionRecorder::default();
    let of = |address: [u8; 4], port: u16| {
        let connection = ClientConnection { client: (address, port).into(), ..connection(1) };
        EndedConnection { connection, ..ended(1, 20, ClosedByClient) }
    };
    for port in 0..MOST_ENDS as u16 {
        recorder.ended(of([10, 0, 0, 1], port));
    }
    assert_eq!(recorder.heard().ended.len(), MOST_ENDS / 2);
    let other = of([10, 0, 0, 2], 1);
    recorder.ended(other.clone());
    assert!(recorder.heard().ended.contains_key(&other.connection));
    let later = Instant::now() + KEPT_FOR;
    recorder.forget(&BTreeSet::new(), &recorder.heard(), later);
    recorder.ended(of([10, 0, 0, 1], 1));
    assert_eq!(recorder.heard().ended.len(), 1, "there is room again");
}
