//! Many first calls of one session at the same time, against an API server that counts.

mod held;
mod refreshes;

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures::future::join_all;
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::under_way::Closed;
use super::*;
use crate::authn::{AuthnSettings, client_builder};
use crate::model::fixtures::{application, connect_pool, driver, session, thrift_pool};
use crate::model::{ConnectHead, ConnectMethod, Credentials, Object, SessionKey, ThriftHead};
use crate::telemetry::WaitsFor;

const CALLS: usize = 60;
const ID: Uuid = Uuid::from_u128(7);
/// Before whatever this machine's clock says.
const LONG_AGO: i64 = -1_000_000_000;

/// Answers writes when it is told to, and counts them. It tells of nothing.
pub(super) struct ApiServer {
    creations: AtomicUsize,
    deletions: AtomicUsize,
    lists: AtomicUsize,
    one_list: Mutex<Duration>,
    open: watch::Sender<bool>,
    answer: fn(Value) -> (u16, Value),
}

impl ApiServer {
    pub(super) fn new(answer: fn(Value) -> (u16, Value)) -> Arc<Self> {
        let [creations, deletions, lists] = [0; 3].map(AtomicUsize::new);
        let (one_list, open) = (Mutex::default(), watch::Sender::new(false));
        Arc::new(Self { creations, deletions, lists, one_list, open, answer })
    }

    fn client(self: &Arc<Self>) -> kube::Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.serve(request).await) }
        });
        kube::Client::new(service, "spark-dev")
    }

    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        if request.method() == Method::GET {
            self.lists.fetch_add(1, SeqCst);
            let one_list = *self.one_list.lock().unwrap();
            tokio::time::sleep(one_list).await;
            let kind = "SparkInteractiveSessionList";
            let list = json!({ "apiVersion": "sparkinteractive.io/v1alpha1", "kind": kind, "metadata": {}, "items": [] });
            return Response::new(Body::from(list.to_string().into_bytes()));
        }
        let created = request.method() == Method::POST;
        if created { &self.creations } else { &self.deletions }.fetch_add(1, SeqCst);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        let body = request.into_body().collect_bytes().await.unwrap();
        let (status, answer) = if created {
            (self.answer)(serde_json::from_slice(&body).unwrap())
        } else {
            (200, json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" }))
        };
        Response::builder().status(status).body(Body::from(answer.to_string().into_bytes())).unwrap()
    }

    fn creations(&self) -> usize {
        self.creations.load(SeqCst)
    }

    fn lists(&self) -> usize {
        self.lists.load(SeqCst)
    }

    fn lists_take(&self, one_list: Duration) {
        *self.one_list.lock().unwrap() = one_list;
    }

    fn answers(&self) {
        self.open.send_replace(true);
    }
}

pub(super) fn takes(mut session: Value) -> (u16, Value) {
    session["metadata"]["uid"] = json!("uid-of-the-new-one");
    session["metadata"]["resourceVersion"] = json!("10");
    (201, session)
}

fn refuses(_: Value) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden",
        "message": "exceeded quota: at most 10 sparkinteractivesessions",
    });
    (403, status)
}

/// A pool with a running instance.
pub(super) fn stores() -> Arc<Stores> {
    let stores = Stores::new();
    stores.shown(Object::Pool(connect_pool("p").with_host("spark.example.com")));
    stores.shown(Object::Application(application("p-0")));
    stores.shown(Object::Pod(driver("p-0").at_ip("10.0.0.1")));
    stores.server_answers("uid-of-p-0-driver");
    while !stores.is_synced() {
        stores.watch_synced();
    }
    stores
}

pub(super) fn broker(stores: &Arc<Stores>, api_server: &Arc<ApiServer>) -> Arc<Broker> {
    broker_with(stores, api_server, AuthnSettings::default())
}

fn broker_with(stores: &Arc<Stores>, api_server: &Arc<ApiServer>, settings: AuthnSettings) -> Arc<Broker> {
    let settings = AuthnSettings { skip_validation: true, ..settings };
    // Another test of this process may have installed it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let sessions = SessionWriter::new(&api_server.client(), "spark-dev", Arc::clone(stores));
    let connections = ThriftSessions::new(Arc::clone(stores), sessions.clone()).unwrap();
    let spark = SparkClients::new(Arc::clone(stores));
    Arc::new(Broker::new(
        Arc::clone(stores),
        Authenticator::new(settings, client_builder().build().unwrap()),
        Publisher::new(),
        Writers { sessions, connections, spark },
        MaxHold { connect: Duration::from_secs(60), thrift: Duration::from_secs(60) },
        Traces {
            activity: Activity::new(Duration::from_secs(60)),
            connections: ConnectionRecorder::default(),
            metrics: Arc::default(),
        },
        CancellationToken::new(),
    ))
}

pub(super) fn first_call() -> Check {
    let head = ConnectHead { session_id: ID, observed_server_session_id: None, clone: None };
    Check {
        since: None,
        node: None,
        host: "spark.example.com".to_owned(),
        path: "/spark.connect.SparkConnectService/Config".to_owned(),
        call: Call::Connect { method: ConnectMethod::Config, head, session_name: None },
        user_id_credentials: None,
        credentials: Ok(Credentials::password("alice", "password")),
        peer: None,
        connection: None,
    }
}

fn calls(broker: &Arc<Broker>) -> Vec<JoinHandle<Verdict>> {
    let call = |_| {
        let broker = Arc::clone(broker);
        tokio::spawn(async move { broker.check(first_call()).await })
    };
    (0..CALLS).map(call).collect()
}

/// Until nothing moves any more but for what the API server is waited for.
async fn settled() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn name() -> String {
    SessionKey::Connect { pool: "p".to_owned(), session_id: ID }.object_name()
}

/// What the planner makes of the session.
fn placed(stores: &Stores) {
    let session = session(&name()).with_spark_id(ID).with_uid("uid-of-the-new-one").on("p-0").version(11);
    stores.shown(Object::Session(session));
}

async fn verdicts(calls: Vec<JoinHandle<Verdict>>) -> Vec<Verdict> {
    join_all(calls).await.into_iter().map(|verdict| verdict.unwrap()).collect()
}

async fn assert_all_routed(calls: Vec<JoinHandle<Verdict>>) {
    let verdicts = verdicts(calls).await;
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Route(_))), "{:?}", verdicts[0]);
}

#[tokio::test(start_paused = true)]
async fn the_first_calls_of_one_session_create_it_once() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    let broker = broker(&stores, &api_server);
    let calls = calls(&broker);
    settled().await;
    assert_eq!(api_server.creations(), 1);
    api_server.answers();
    settled().await;
    placed(&stores);
    assert_all_routed(calls).await;
    assert_eq!(api_server.creations(), 1);
}

/// Calls of sessions that all differ, of one user.
fn sessions(broker: &Arc<Broker>) -> Vec<JoinHandle<Verdict>> {
    let call = |n| {
        let (broker, mut check) = (Arc::clone(broker), first_call());
        let head =
            ConnectHead { session_id: Uuid::from_u128(n), observed_server_session_id: None, clone: None };
        check.call = Call::Connect { method: ConnectMethod::Config, head, session_name: None };
        tokio::spawn(async move { broker.check(check).await })
    };
    (0..CALLS as u128).map(call).collect()
}

#[tokio::test(start_paused = true)]
async fn no_more_sessions_are_created_at_once_than_the_user_may_have() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    let pool = connect_pool("p").with_host("spark.example.com").allowing_each_user(5);
    stores.shown(Object::Pool(pool.version(20)));
    let broker = broker(&stores, &api_server);
    let calls = sessions(&broker);
    settled().await;
    assert_eq!(api_server.creations(), 5);
    api_server.answers();
    settled().await;
    assert_eq!(api_server.creations(), 5);
    let (refused, waiting): (Vec<_>, Vec<_>) = calls.into_iter().partition(JoinHandle::is_finished);
    assert_eq!(waiting.len(), 5);
    for verdict in verdicts(refused).await {
        let Verdict::Deny(denial) = verdict else { panic!("{verdict:?}") };
        assert_eq!(denial.kind, DenialKind::QuotaExceeded);
        assert!(
            denial.message.contains("may have 5 session(s) in pool p at the same time, and has 5: "),
            "{denial:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_waited_for_creations_that_failed_hears_of_a_failure_of_their_own() {
    let (stores, api_server) = (stores(), ApiServer::new(refuses));
    let pool = connect_pool("p").with_host("spark.example.com").allowing_each_user(5);
    stores.shown(Object::Pool(pool.version(20)));
    let broker = broker(&stores, &api_server);
    let calls = sessions(&broker);
    api_server.answers();
    for verdict in verdicts(calls).await {
        let Verdict::Deny(denial) = verdict else { panic!("{verdict:?}") };
        assert!(denial.message.contains("exceeded quota: at most 10"), "{denial:?}");
    }
    assert_eq!(api_server.creations(), CALLS);
}

#[tokio::test(start_paused = true)]
async fn an_ended_session_is_replaced_once() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    let failed = session(&name()).with_spark_id(ID).with_uid("uid-of-the-old-one").version(5);
    let failed =
        failed.ended(crate::api::SessionState::Failed, "StartTimeout", "It took too long.", LONG_AGO);
    stores.shown(Object::Session(failed));
    let broker = broker(&stores, &api_server);
    let calls = calls(&broker);
    api_server.answers();
    settled().await;
    placed(&stores);
    assert_all_routed(calls).await;
    assert_eq!((api_server.deletions.load(SeqCst), api_server.creations()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_creation_fails_of_is_told_to_everyone_and_the_next_call_tries_anew() {
    let (stores, api_server) = (stores(), ApiServer::new(refuses));
    let broker = broker(&stores, &api_server);
    let calls = calls(&broker);
    settled().await;
    api_server.answers();
    let words = "The session was refused by Kubernetes: exceeded quota: at most 10 sparkinteractivesessions";
    let refused = Verdict::Deny(Denial::new(DenialKind::StartFailed, words));
    for verdict in verdicts(calls).await {
        assert_eq!(verdict, refused);
    }
    assert_eq!(api_server.creations(), 1);
    assert_eq!(broker.check(first_call()).await, refused);
    assert_eq!(api_server.creations(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_first_caller_who_goes_away_takes_nobody_along() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    let broker = broker(&stores, &api_server);
    let first = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.check(first_call()).await }
    });
    settled().await;
    assert_eq!(api_server.creations(), 1);
    let others = calls(&broker);
    settled().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    api_server.answers();
    settled().await;
    placed(&stores);
    assert_all_routed(others).await;
    assert_eq!(api_server.creations(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_everyone_left_is_created_nevertheless() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    let broker = broker(&stores, &api_server);
    let calls = calls(&broker);
    settled().await;
    for call in calls {
        call.abort();
    }
    settled().await;
    api_server.answers();
    settled().await;
    placed(&stores);
    assert!(matches!(broker.check(first_call()).await, Verdict::Route(_)));
    assert_eq!(api_server.creations(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_looked_before_it_was_created_and_comes_after_does_not_create_it_again() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    let old = session(&name()).with_spark_id(ID).with_uid("uid-of-the-old-one").version(5);
    stores.shown(Object::Session(old.clone()));
    let creations =
        Creations::new(SessionWriter::new(&api_server.client(), "spark-dev", stores.clone()), stores);
    api_server.answers();
    let draft = decide::Draft { name: name(), spec: old.spec };
    for _ in 0..2 {
        creations.create(draft.clone(), Some("uid-of-the-old-one".to_owned()), None).await.unwrap();
    }
    creations.create(draft, None, None).await.unwrap();
    assert_eq!((api_server.deletions.load(SeqCst), api_server.creations()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn who_looked_before_the_last_place_was_taken_and_comes_after_looks_again() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    let pool = connect_pool("p").with_host("spark.example.com").allowing_each_user(1);
    stores.shown(Object::Pool(pool.version(20)));
    stores.shown(Object::Session(session("the-last-place")));
    let creations =
        Creations::new(SessionWriter::new(&api_server.client(), "spark-dev", stores.clone()), stores);
    api_server.answers();
    let draft = decide::Draft { name: name(), spec: session(&name()).with_spark_id(ID).spec };
    let created = creations.create(draft, None, None).await.unwrap();
    assert!(matches!(created, Created::LookAgain));
    assert_eq!(api_server.creations(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_login_in_the_user_id_is_told_where_it_belongs_and_counts_only_if_that_was_asked_for() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    api_server.answers();
    let misplaced = || {
        let call = first_call();
        let user_id_credentials = call.credentials.ok();
        Check { credentials: Err(CredentialsError::Missing), user_id_credentials, ..call }
    };
    let words = "The connection URL has the login in its user_id, which Spark shows in its UI and logs, so it is not \
                 taken from there. Write sc://spark.example.com:443/;token=<token> instead, or without TLS \
                 sc://spark.example.com:80/;authorization=Bearer%20<token>. The token is base64 of user:password, or \
                 one of the identity provider.";
    let refused = Verdict::Deny(Denial::new(DenialKind::Unauthenticated, words));
    assert_eq!(broker(&stores, &api_server).check(misplaced()).await, refused);
    assert_eq!(api_server.creations(), 0);

    let settings = AuthnSettings { credentials_in_user_id: true, ..AuthnSettings::default() };
    let broker = broker_with(&stores, &api_server, settings);
    let call = tokio::spawn(async move { broker.check(misplaced()).await });
    settled().await;
    placed(&stores);
    assert!(matches!(call.await.unwrap(), Verdict::Route(route) if route.user == "alice"));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_in_use_while_it_is_waited_for_and_worked_in_but_not_by_cleaning_up() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    api_server.answers();
    let broker = broker(&stores, &api_server);
    let call = |method| {
        let head = ConnectHead { session_id: ID, observed_server_session_id: None, clone: None };
        Check { call: Call::Connect { method, head, session_name: None }, ..first_call() }
    };
    let held = tokio::spawn({
        let (broker, call) = (Arc::clone(&broker), call(ConnectMethod::ExecutePlan));
        async move { broker.check(call).await }
    });
    settled().await;
    let waited = broker.activity.latest(&name()).expect("it is waited for");
    placed(&stores);
    assert!(matches!(held.await.unwrap(), Verdict::Route(_)));
    assert!(broker.activity.latest(&name()).unwrap() >= waited);

    let worked = broker.activity.latest(&name());
    for method in [ConnectMethod::ReleaseExecute, ConnectMethod::Interrupt] {
        assert!(matches!(broker.check(call(method)).await, Verdict::Route(_)));
    }
    assert_eq!(broker.activity.latest(&name()), worked);
    assert!(matches!(broker.check(call(ConnectMethod::Config)).await, Verdict::Route(_)));
    assert!(broker.activity.latest(&name()) > worked);
}

#[tokio::test(start_paused = true)]
async fn who_connects_to_a_session_comes_before_its_end_or_after_it() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    stores.shown(Object::Pool(thrift_pool("p").with_host("spark.example.com").version(20)));
    stores.shown(Object::Session(session("s").on("p-0")));
    let broker = broker(&stores, &api_server);
    let connects = || {
        let head = ThriftHead { method: "OpenSession".to_owned(), sequence_id: 1, session_handle: None };
        let call = Call::Thrift { session_name: "default".to_owned(), head: Some(head) };
        let (broker, check) = (Arc::clone(&broker), Check { call, ..first_call() });
        tokio::spawn(async move { broker.check(check).await })
    };
    let end = || {
        let closed = Closed { uid: "uid-of-s".to_owned(), at: Timestamp::now() };
        broker.connections.under_way.end("s", closed, Instant::now())
    };
    let ending = end().expect("nobody connects");
    let call = connects();
    settled().await;
    assert!(!call.is_finished(), "its end is being written");
    drop(ending);
    assert!(matches!(call.await.unwrap(), Verdict::Route(_)), "but could not be");
    assert!(end().is_none(), "it is to be opened");

    stores.shown(Object::Session(session("s").on("p-0").released(900).version(30)));
    let call = connects();
    settled().await;
    assert!(!call.is_finished(), "it waits for the next session");
}
