//! Connections of one session, against an API server that keeps it and a Thrift Server that closes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::api::SessionState;
use crate::api::SessionState::{Active, Terminated, Terminating};
use crate::model::fixtures::{application, at, driver, session, thrift_pool};
use crate::model::{Kind, Object};
use crate::operator::Watched;
use crate::spark::thrift_head;

/// Keeps session `s` of alice on `p-0`, and refuses writes of another version than its own.
struct ApiServer {
    session: Mutex<Value>,
    writes: Mutex<usize>,
}

impl ApiServer {
    fn new() -> Arc<Self> {
        let session = json!({
            "apiVersion": "sparkinteractive.io/v1alpha1",
            "kind": "SparkInteractiveSession",
            "metadata": {
                "name": "s", "uid": "uid-of-s", "resourceVersion": "1", "generation": 1,
                "creationTimestamp": "2027-01-15T08:00:00Z",
            },
            "spec": { "user": "alice", "pool": "p" },
            "status": { "state": "Active", "assignedInstance": "p-0" },
        });
        Arc::new(Self { session: Mutex::new(session), writes: Mutex::default() })
    }

    fn serve(&self, method: &Method, body: &[u8]) -> (u16, Value) {
        let mut session = self.session.lock().unwrap();
        if *method == Method::GET {
            return (200, session.clone());
        }
        *self.writes.lock().unwrap() += 1;
        let patch: Value = serde_json::from_slice(body).unwrap();
        let version = patch["metadata"].get("resourceVersion");
        if version.is_some_and(|version| *version != session["metadata"]["resourceVersion"]) {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409, "reason": "Conflict",
                "message": "the object has been modified",
            });
            return (409, status);
        }
        for (field, value) in patch["status"].as_object().unwrap() {
            session["status"][field] = value.clone();
        }
        next_version(&mut session);
        (200, session.clone())
    }

    fn client(self: &Arc<Self>) -> kube::Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move {
                let method = request.method().clone();
                let body = request.into_body().collect_bytes().await.unwrap();
                let (status, answer) = server.serve(&method, &body);
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(status).body(answer).unwrap())
            }
        });
        kube::Client::new(service, "spark-dev")
    }

    /// What the watch shows now.
    fn shows(&self, stores: &Stores) {
        let session = self.session.lock().unwrap().clone();
        let session: crate::api::SparkInteractiveSession = serde_json::from_value(session).unwrap();
        stores.shown(session.into_domain().unwrap());
    }

    /// Somebody else writes.
    fn changes(&self, field: &str, value: Value) {
        let mut session = self.session.lock().unwrap();
        session["status"][field] = value;
        next_version(&mut session);
    }

    fn released_at(&self) -> Value {
        self.session.lock().unwrap()["status"]["releasedAt"].clone()
    }

    fn connections(&self) -> Vec<String> {
        let session = self.session.lock().unwrap();
        let connections = session["status"]["connections"].as_array().cloned().unwrap_or_default();
        connections.iter().map(|open| open["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn next_version(session: &mut Value) {
    let version: u64 = session["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    session["metadata"]["resourceVersion"] = json!((version + 1).to_string());
}

/// A replica that has seen what the API server has.
fn replica(api_server: &Arc<ApiServer>, thrift: SocketAddr) -> (Arc<Stores>, ThriftSessions) {
    let stores = Stores::new();
    stores.shown(Object::Pool(thrift_pool("p")));
    let port = thrift.port().to_string();
    let application = application("p-0").with_conf("spark.hadoop.hive.server2.thrift.http.port", &port);
    stores.shown(Object::Application(application));
    stores.shown(Object::Pod(driver("p-0").at_ip(&thrift.ip().to_string())));
    stores.server_answers("uid-of-p-0-driver");
    api_server.shows(&stores);
    let writer = SessionWriter::new(&api_server.client(), "spark-dev", stores.clone());
    let sessions = ThriftSessions::new(stores.clone(), writer).unwrap();
    (stores, sessions)
}

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

fn opening() -> Opening {
    let [session, pool, user] = ["s", "p", "alice"].map(str::to_owned);
    Opening { session, pool, user, cluster: Some("p-0/uid-of-p-0-driver".to_owned()) }
}

fn handle(number: u128) -> SessionHandle {
    SessionHandle::new(Uuid::from_u128(number), [7; 16])
}

fn on_its_way(sessions: &ThriftSessions) -> OnItsWay {
    sessions.under_way.opens("s", Instant::now())
}

async fn opened(sessions: &ThriftSessions, number: u128) {
    sessions.opened(&opening(), on_its_way(sessions), handle(number)).await;
}

fn id(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

async fn thrift_server() -> MockServer {
    let closed = b"\x80\x01\0\x02\0\0\0\x0cCloseSession\0\0\0\0\x0c\0\0\x0c\0\x01\x08\0\x01\0\0\0\0\0\0\0";
    let server = MockServer::start().await;
    Mock::given(wiremock::matchers::method("POST"))
        .respond_with(ResponseTemplate::new(200).set_body_bytes(closed.as_slice()))
        .mount(&server)
        .await;
    server
}

/// Which sessions were closed on the Thrift Server.
async fn closed_on(server: &MockServer) -> Vec<Uuid> {
    let requests = server.received_requests().await.unwrap();
    let handle = |body: &[u8]| thrift_head::read(body).unwrap().session_handle.unwrap();
    let mut ids: Vec<_> = requests.iter().map(|request| handle(&request.body)).collect();
    ids.sort_unstable();
    ids
}

async fn until_closed_on(server: &MockServer, number: u128) {
    until_all_closed_on(server, &[number]).await;
}

/// Each once, in whatever order.
async fn until_all_closed_on(server: &MockServer, numbers: &[u128]) {
    let expected: Vec<_> = numbers.iter().copied().map(Uuid::from_u128).collect();
    let in_order = |mut closed: Vec<Uuid>| {
        closed.sort();
        closed
    };
    let closed = async {
        while in_order(closed_on(server).await) != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), closed).await.unwrap();
}

async fn until(stores: &Stores, done: impl Fn() -> bool) {
    let mut changes = stores.changes("p");
    while !done() {
        tokio::time::timeout(Duration::from_secs(20), changes.changed()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn connections_are_listed_until_they_are_closed_and_the_last_one_is_told() {
    let api_server = ApiServer::new();
    let (_, sessions) = replica(&api_server, NOWHERE);
    opened(&sessions, 1).await;
    opened(&sessions, 2).await;
    assert_eq!(api_server.connections(), [id(1), id(2)]);
    assert!(!sessions.closed("s", Uuid::from_u128(1)).await.unwrap());
    assert_eq!(api_server.connections(), [id(2)]);
    assert!(!sessions.closed("s", Uuid::from_u128(9)).await.unwrap(), "nobody has opened it");
    assert!(sessions.closed("s", Uuid::from_u128(2)).await.unwrap());
    assert_eq!(api_server.connections(), Vec::<String>::new());
    assert!(!sessions.closed("s", Uuid::from_u128(2)).await.unwrap(), "closed already");
}

#[tokio::test]
async fn with_the_last_connection_that_its_client_closes_the_session_ends() {
    let api_server = ApiServer::new();
    let (_, sessions) = replica(&api_server, NOWHERE);
    let now = at(9);
    opened(&sessions, 1).await;
    opened(&sessions, 2).await;
    sessions.client_closes("s", Uuid::from_u128(1), now).await;
    assert_eq!(api_server.released_at(), Value::Null);
    sessions.client_closes("s", Uuid::from_u128(2), now).await;
    assert_eq!(api_server.released_at(), json!(now.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_session_to_which_somebody_connects_does_not_end_with_its_last_connection() {
    let api_server = ApiServer::new();
    let (_, sessions) = replica(&api_server, NOWHERE);
    let _running = JoinSet::from_iter([sessions.clone().run()]);
    opened(&sessions, 1).await;
    assert!(sessions.under_way.let_through("s", Instant::now()), "Envoy brings it a little later");
    sessions.client_closes("s", Uuid::from_u128(1), at(9)).await;
    let on_its_way = on_its_way(&sessions);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(api_server.released_at(), Value::Null, "Spark takes its time");
    sessions.opened(&opening(), on_its_way, handle(2)).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((api_server.connections(), api_server.released_at()), (vec![id(2)], Value::Null));
    sessions.client_closes("s", Uuid::from_u128(2), at(99)).await;
    assert_eq!(api_server.released_at(), json!(at(99).to_string()));
}

#[rstest::rstest]
#[case::its_client_went_before_envoy_brought_it(false)]
#[case::spark_refused_it(true)]
#[tokio::test(start_paused = true)]
async fn it_ends_a_little_later_if_nothing_was_opened(#[case] came: bool) {
    let api_server = ApiServer::new();
    let (_, sessions) = replica(&api_server, NOWHERE);
    let _running = JoinSet::from_iter([sessions.clone().run()]);
    opened(&sessions, 1).await;
    assert!(sessions.under_way.let_through("s", Instant::now()));
    let call = came.then(|| on_its_way(&sessions));
    sessions.client_closes("s", Uuid::from_u128(1), at(9)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(api_server.released_at(), Value::Null);
    drop(call);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(api_server.released_at(), json!(at(9).to_string()));
}

#[tokio::test(start_paused = true)]
async fn another_session_that_took_its_name_meanwhile_does_not_end() {
    let api_server = ApiServer::new();
    let (stores, sessions) = replica(&api_server, NOWHERE);
    let _running = JoinSet::from_iter([sessions.clone().run()]);
    opened(&sessions, 1).await;
    let on_its_way = on_its_way(&sessions);
    sessions.client_closes("s", Uuid::from_u128(1), at(9)).await;
    api_server.session.lock().unwrap()["metadata"]["uid"] = json!("uid-of-another");
    api_server.changes("connections", json!([]));
    stores.gone(Kind::Session, "s", 0);
    api_server.shows(&stores);
    drop(on_its_way);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(api_server.released_at(), Value::Null);
}

/// One replica lets a client in, the other ends the session: it cannot know.
#[tokio::test]
async fn a_connection_that_comes_to_a_session_that_another_replica_ends_is_closed_on_spark() {
    let (api_server, thrift) = (ApiServer::new(), thrift_server().await);
    let (stores, first) = replica(&api_server, *thrift.address());
    let (_, second) = replica(&api_server, *thrift.address());
    let _running = JoinSet::from_iter([first.clone().run()]);
    opened(&second, 1).await;
    assert!(first.under_way.let_through("s", Instant::now()));
    second.client_closes("s", Uuid::from_u128(1), at(9)).await;
    assert_eq!(api_server.released_at(), json!(at(9).to_string()));
    opened(&first, 2).await;
    assert!(closed_on(&thrift).await.is_empty(), "the planner has yet to see it");
    api_server.changes("state", json!(Terminated));
    api_server.shows(&stores);
    until_closed_on(&thrift, 2).await;
    until(&stores, || api_server.connections().is_empty()).await;
}

#[tokio::test]
async fn two_replicas_lose_none_of_each_other_s_connections() {
    let api_server = ApiServer::new();
    // Neither watch shows anything from now on.
    let (_, first) = replica(&api_server, NOWHERE);
    let (_, second) = replica(&api_server, NOWHERE);
    for number in 0..5 {
        opened(&first, 2 * number).await;
        opened(&second, 2 * number + 1).await;
    }
    assert_eq!(api_server.connections(), (0..10).map(id).collect::<Vec<_>>());
    assert!(!first.closed("s", Uuid::from_u128(9)).await.unwrap(), "nor one that it did not know of");
    assert_eq!(api_server.connections(), (0..9).map(id).collect::<Vec<_>>());
}

#[tokio::test]
async fn many_at_once_are_all_listed_each_with_one_write() {
    let api_server = ApiServer::new();
    let (_, sessions) = replica(&api_server, NOWHERE);
    let all = (0..50).map(|number| {
        let sessions = sessions.clone();
        async move { opened(&sessions, number).await }
    });
    futures::future::join_all(all).await;
    assert_eq!(api_server.connections().len(), 50);
    assert_eq!(*api_server.writes.lock().unwrap(), 50);
}

#[tokio::test]
async fn a_list_that_cannot_be_written_keeps_no_client_from_its_connection() {
    let api_server = ApiServer::new();
    let (stores, sessions) = replica(&api_server, NOWHERE);
    // The store's version is ahead of all others: every write meets another version.
    stores.shown(Object::Session(session("s").on("p-0").version(1_000)));
    opened(&sessions, 1).await;
    assert_eq!(api_server.connections(), Vec::<String>::new());
    assert!(sessions.closed("s", Uuid::from_u128(1)).await.unwrap(), "held here all the same");
}

#[tokio::test]
async fn connections_on_an_instance_that_was_left_go_with_the_next_one() {
    let api_server = ApiServer::new();
    api_server.changes("connections", json!([{ "id": id(1), "instance": "p-9" }]));
    let (_, sessions) = replica(&api_server, NOWHERE);
    opened(&sessions, 2).await;
    assert_eq!(api_server.connections(), [id(2)]);
}

#[tokio::test]
async fn nothing_is_written_of_somebody_else_s_session() {
    let api_server = ApiServer::new();
    let (_, sessions) = replica(&api_server, NOWHERE);
    let of_bob = Opening { user: "bob".into(), cluster: None, ..opening() };
    sessions.opened(&of_bob, on_its_way(&sessions), handle(1)).await;
    assert_eq!(api_server.connections(), Vec::<String>::new());
    assert!(sessions.held.pools().is_empty());
}

#[rstest::rstest]
#[case::while_it_ends(Terminating)]
#[case::after_its_end(Terminated)]
#[tokio::test]
async fn what_an_ending_session_has_open_is_closed(#[case] state: SessionState) {
    let (api_server, thrift) = (ApiServer::new(), thrift_server().await);
    api_server.changes("connections", json!([{ "id": id(9), "instance": "p-0" }]));
    let (stores, sessions) = replica(&api_server, *thrift.address());
    let _running = JoinSet::from_iter([sessions.clone().run()]);
    opened(&sessions, 1).await;
    opened(&sessions, 2).await;
    assert!(closed_on(&thrift).await.is_empty());
    api_server.changes("state", json!(state));
    api_server.shows(&stores);
    until(&stores, || api_server.connections() == [id(9)]).await;
    assert_eq!(
        closed_on(&thrift).await,
        [1, 2].map(Uuid::from_u128),
        "but not what another replica has opened"
    );
    assert!(sessions.held.pools().is_empty());
}

#[tokio::test]
async fn a_connection_that_comes_to_an_ending_session_is_closed_at_once() {
    let (api_server, thrift) = (ApiServer::new(), thrift_server().await);
    api_server.changes("state", json!("Terminating"));
    let (stores, sessions) = replica(&api_server, *thrift.address());
    let _running = JoinSet::from_iter([sessions.clone().run()]);
    opened(&sessions, 1).await;
    until(&stores, || api_server.connections().is_empty() && sessions.held.pools().is_empty()).await;
    until_closed_on(&thrift, 1).await;
}

#[tokio::test]
async fn what_a_deleted_session_had_open_is_closed() {
    let (api_server, thrift) = (ApiServer::new(), thrift_server().await);
    let (stores, sessions) = replica(&api_server, *thrift.address());
    let _running = JoinSet::from_iter([sessions.clone().run()]);
    opened(&sessions, 1).await;
    stores.gone(Kind::Session, "s", 0);
    until_closed_on(&thrift, 1).await;
}

/// It was deleted while Spark opened its connection.
#[rstest::rstest]
#[case::and_is_gone(false)]
#[case::and_the_next_one_of_its_name_is_on_another_server(true)]
#[tokio::test]
async fn what_is_opened_of_a_session_that_is_gone_is_closed(#[case] replaced: bool) {
    let (api_server, thrift) = (ApiServer::new(), thrift_server().await);
    let (stores, sessions) = replica(&api_server, *thrift.address());
    let _running = JoinSet::from_iter([sessions.clone().run()]);
    stores.gone(Kind::Session, "s", 0);
    if replaced {
        stores.shown(Object::Application(application("p-1")));
        stores.shown(Object::Pod(driver("p-1").at_ip("127.0.0.9")));
        stores.shown(Object::Session(session("s").with_uid("uid-of-another").on("p-1").version(1_000)));
    }
    opened(&sessions, 1).await;
    until_closed_on(&thrift, 1).await;
    assert!(sessions.held.pools().is_empty());
    assert_eq!(*api_server.writes.lock().unwrap(), 0);
}

#[tokio::test]
async fn what_a_server_does_not_close_stays_listed() {
    let api_server = ApiServer::new();
    let (stores, sessions) = replica(&api_server, NOWHERE);
    opened(&sessions, 1).await;
    api_server.changes("state", json!("Terminating"));
    api_server.shows(&stores);
    let [due] = &stores.read(|inventory| sessions.held.take_due(inventory, None))[..] else {
        panic!("one is due")
    };
    sessions.clone().close(due.clone()).await;
    assert_eq!(api_server.connections(), [id(1)]);
}

#[tokio::test]
async fn with_a_new_driver_the_handles_of_the_old_one_are_forgotten() {
    let api_server = ApiServer::new();
    let (stores, sessions) = replica(&api_server, NOWHERE);
    opened(&sessions, 1).await;
    stores.gone(Kind::Pod, "p-0-driver", 0);
    stores.shown(Object::Pod(driver("p-0").with_uid("new").at_ip("127.0.0.1").version(9)));
    assert!(stores.read(|inventory| sessions.held.take_due(inventory, None)).is_empty());
    assert!(sessions.held.pools().is_empty());
}

#[test]
fn a_session_that_goes_on_is_not_due() {
    let stores = Stores::new();
    stores.shown(Object::Pool(thrift_pool("p")));
    stores.shown(Object::Application(application("p-0")));
    stores.shown(Object::Pod(driver("p-0").at_ip("127.0.0.1")));
    let session = session("s").on("p-0").in_state(Active);
    stores.shown(Object::Session(session.clone()));
    let held = HeldHandles::default();
    let cluster = "p-0/uid-of-p-0-driver".to_owned();
    assert!(held.keep(&session, Held { handle: handle(1), instance: "p-0".to_owned(), cluster }));
    assert!(stores.read(|inventory| held.take_due(inventory, None)).is_empty());
    assert_eq!(held.pools().len(), 1);
    assert!(held.forget("uid-of-s", Uuid::from_u128(1)) && held.pools().is_empty());
}

#[test]
fn one_session_does_not_use_up_what_can_be_held_of_all() {
    let held = HeldHandles::default();
    let keep = |session: &str, number| {
        let cluster = "p-0/uid-of-p-0-driver".to_owned();
        let one = Held { handle: handle(number), instance: "p-0".to_owned(), cluster };
        held.keep(&crate::model::fixtures::session(session).on("p-0"), one)
    };
    assert!((0..2000).all(|number| keep("s", number)) && keep("other", 5000));
    let due = Stores::new().read(|inventory| held.take_due(inventory, Some("another pool")));
    let first: Vec<_> = due.iter().flat_map(|due| &due.handles).map(|held| held.handle.id).collect();
    assert_eq!(first, (0..1500).map(Uuid::from_u128).collect::<Vec<_>>());
    assert!(
        !held.forget("uid-of-s", Uuid::from_u128(1499)) && held.forget("uid-of-s", Uuid::from_u128(1500))
    );
    let due = |due: Vec<Due>| due.into_iter().flat_map(|due| due.handles).count();
    assert!(keep("s", 2000), "there is room again");
    assert_eq!(due(Stores::new().read(|inventory| held.take_due(inventory, Some("another pool")))), 0);
}

/// A script that runs every minute and never closes its connection.
#[tokio::test]
async fn of_many_connections_those_that_were_opened_first_are_closed() {
    let (api_server, thrift) = (ApiServer::new(), thrift_server().await);
    let (stores, sessions) = replica(&api_server, *thrift.address());
    let _running = JoinSet::from_iter([sessions.clone().run()]);
    for number in 0..502 {
        opened(&sessions, number).await;
        api_server.shows(&stores);
    }
    until_all_closed_on(&thrift, &[0, 1]).await;
    until(&stores, || api_server.connections().len() == 500).await;
    assert_eq!(api_server.connections(), (2..502).map(id).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_opened_faster_than_they_are_listed_do_not_queue_without_end() {
    let api_server = ApiServer::new();
    let (_, sessions) = replica(&api_server, NOWHERE);
    // The turn of its list is somebody else's.
    let turns: Vec<_> = sessions.turns.iter().map(|turn| turn.try_acquire().unwrap()).collect();
    let calls = (0..200).map(|number| opened(&sessions, number));
    futures::future::join_all(calls).await;
    drop(turns);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(api_server.connections().len(), MOST_LISTINGS);
    opened(&sessions, 1000).await;
    assert_eq!(api_server.connections().len(), MOST_LISTINGS + 1, "there is room again");
}
