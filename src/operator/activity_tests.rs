use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use rstest::rstest;
use serde_json::Value;

use super::*;
use crate::api::SessionState::{Active, Idle, Pending, Terminated, Terminating};
use crate::model::fixtures::{at, session};
use crate::model::{Kind, Object};

const MINUTE: Duration = Duration::from_secs(60);

/// One session called `s`, which others may change.
struct ApiServer {
    session: Mutex<(u64, Option<Timestamp>)>,
    written: Mutex<Vec<Timestamp>>,
    conflicts: Mutex<usize>,
    broken: AtomicBool,
    changed: Notify,
}

impl ApiServer {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            session: Mutex::new((1, None)),
            written: Mutex::default(),
            conflicts: Mutex::default(),
            broken: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    fn client(self: &Arc<Self>) -> Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.serve(request).await) }
        });
        Client::new(service, "spark-dev")
    }

    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        assert_eq!(request.method(), Method::PATCH);
        let uri = request.uri().to_string();
        if uri.contains("/sparkinteractivesessions/large-") {
            let refusal = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500, "reason": "InternalError",
                "message": "etcdserver: request is too large",
            });
            return Response::builder()
                .status(500)
                .body(Body::from(refusal.to_string().into_bytes()))
                .unwrap();
        }
        assert!(uri.contains("/sparkinteractivesessions/s/status?"), "{uri}");
        assert!(uri.contains("fieldManager=spark-session-operator-activity"), "{uri}");
        let body = request.into_body().collect_bytes().await.unwrap();
        let (status, answer) = self.answer(&serde_json::from_slice(&body).unwrap());
        self.changed.notify_one();
        Response::builder().status(status).body(Body::from(answer.to_string().into_bytes())).unwrap()
    }

    fn answer(&self, patch: &Value) -> (u16, Value) {
        let refusal = |code: u16, reason: &str| {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                "message": "",
            });
            (code, status)
        };
        if self.broken.load(SeqCst) {
            return refusal(500, "InternalError");
        }
        let mut session = self.session.lock().unwrap();
        if patch["metadata"]["resourceVersion"] != json!(session.0.to_string()) {
            *self.conflicts.lock().unwrap() += 1;
            return refusal(409, "Conflict");
        }
        assert_eq!(patch["status"].as_object().unwrap().len(), 1, "not its own: {patch}");
        let used: Timestamp = patch["status"]["lastActivityAt"].as_str().unwrap().parse().unwrap();
        self.written.lock().unwrap().push(used);
        *session = (session.0 + 1, Some(used));
        let answer = json!({
            "apiVersion": patch["apiVersion"], "kind": patch["kind"],
            "metadata": {
                "name": "s", "uid": "uid-of-s", "resourceVersion": session.0.to_string(),
                "creationTimestamp": Time(at(0)),
            },
            "spec": { "user": "alice", "pool": "p" },
            "status": { "state": "Active", "lastActivityAt": Time(used) },
        });
        (200, answer)
    }

    fn written(&self) -> Vec<Timestamp> {
        self.written.lock().unwrap().clone()
    }

    /// Another replica writes, and this one's watch has not shown it.
    fn changed_by_another(&self, at: Timestamp) {
        let mut session = self.session.lock().unwrap();
        *session = (session.0 + 1, Some(at));
    }

    fn show(&self, stores: &Stores) {
        let (version, at) = *self.session.lock().unwrap();
        stores.shown(Object::Session(used(session("s").in_state(Active), at).version(version)));
    }
}

fn used(mut session: Session, at: Option<Timestamp>) -> Session {
    session.status.last_activity_at = at.map(Time);
    session
}

/// A replica whose watch has shown the session.
fn replica(server: &Arc<ApiServer>, state: SessionState) -> (Arc<Stores>, Activity, ActivityWriter) {
    let (stores, activity) = (Stores::new(), Activity::new(MINUTE));
    stores.shown(Object::Session(session("s").in_state(state)));
    let patch = SessionPatch::new(&server.client(), "spark-dev", stores.clone());
    let writer = ActivityWriter::new(patch, stores.clone(), activity.clone());
    (stores, activity, writer)
}

#[test]
fn the_latest_use_counts_in_whatever_order_they_come() {
    let activity = Activity::new(MINUTE);
    for seconds in [5, 9, 7] {
        activity.note("s", at(seconds));
    }
    activity.note("other", at(1));
    assert_eq!(activity.latest("s"), Some(at(9)));
    assert_eq!(activity.of(["s", "unknown"]), HashMap::from([("s".to_owned(), at(9))]));
}

#[rstest]
#[case::a_new_one_is_not_written_at_once(Active, None, 59, None)]
#[case::a_new_one_after_an_interval(Active, None, 60, Some(60))]
#[case::within_the_interval(Active, Some(100), 159, None)]
#[case::after_the_interval(Active, Some(100), 160, Some(160))]
#[case::while_it_waits(Pending, Some(100), 160, Some(160))]
#[case::never_backwards(Active, Some(1000), 100, None)]
#[case::idle_at_once(Idle, Some(100), 101, Some(101))]
#[case::idle_and_still_not_used(Idle, Some(100), 100, None)]
#[case::idle_never_backwards(Idle, Some(100), 99, None)]
#[case::on_its_way_out(Terminating, Some(100), 1000, None)]
#[case::ended(Terminated, Some(100), 1000, None)]
fn is_written(
    #[case] state: SessionState,
    #[case] known: Option<i64>,
    #[case] seen: i64,
    #[case] written: Option<i64>,
) {
    let session = used(session("s").in_state(state), known.map(at)).version(7);
    let seen = at(seen) + SignedDuration::from_millis(900);
    let expected = written.map(|seconds| Update { session: "s".to_owned(), version: 7, at: at(seconds) });
    let now = known.map_or(seen, |known| seen.max(at(known)));
    assert_eq!(update(&session, seen, SignedDuration::from_secs(60), now), expected);
}

/// A second or two are no reason to take back what another replica has written.
#[rstest]
#[case::by_a_clock_that_was_ahead(100_000, Some(100))]
#[case::as_clocks_differ(159, None)]
fn a_use_from_the_future_is_replaced(#[case] known: i64, #[case] written: Option<i64>) {
    let session = used(session("s").in_state(Active), Some(at(known)));
    let due = update(&session, at(100), SignedDuration::from_secs(60), at(100));
    assert_eq!(due.map(|due| due.at), written.map(at));
}

#[tokio::test]
async fn sessions_that_cannot_be_written_keep_no_other_from_being_written() {
    let server = ApiServer::new();
    let (stores, activity, writer) = replica(&server, Active);
    let mut uses = Vec::new();
    for n in 0..100 {
        let large = format!("large-{n}");
        stores.shown(Object::Session(session(&large).in_state(Active)));
        activity.note(&large, at(100));
        uses.push((large, at(100)));
    }
    activity.note("s", at(100));
    uses.push(("s".to_owned(), at(100)));
    writer.look(uses, at(100)).await;
    assert_eq!(server.written(), [at(100)]);
}

#[tokio::test]
async fn an_hour_of_steady_use_through_two_replicas_costs_60_writes() {
    let server = ApiServer::new();
    let replicas = [replica(&server, Active), replica(&server, Active)];
    for second in 0..3600 {
        let (stores, activity, writer) = &replicas[second as usize % 2];
        activity.note("s", at(second));
        if second % 5 < 2 {
            writer.look(activity.all(), at(second)).await;
            // What one has written, the other's watch shows a moment later.
            server.show(&replicas[usize::from(second % 2 == 0)].0);
            server.show(stores);
        }
    }
    let written = server.written();
    assert!((55..=60).contains(&written.len()), "{} writes", written.len());
    for two in written.windows(2) {
        assert!(two[1].duration_since(two[0]) >= SignedDuration::from_secs(60), "{two:?}");
    }
}

#[tokio::test]
async fn what_another_replica_has_written_meanwhile_is_not_taken_back() {
    let server = ApiServer::new();
    let (stores, activity, writer) = replica(&server, Active);
    activity.note("s", at(100));
    server.changed_by_another(at(130));
    writer.look(activity.all(), at(131)).await;
    assert_eq!((server.written(), *server.conflicts.lock().unwrap()), (vec![], 1));

    server.show(&stores);
    writer.look(activity.all(), at(132)).await;
    assert_eq!((server.written(), *server.conflicts.lock().unwrap()), (vec![], 1));
    activity.note("s", at(200));
    writer.look(activity.all(), at(200)).await;
    assert_eq!(server.written(), [at(200)]);
}

#[tokio::test]
async fn an_api_server_that_fails_is_asked_again_in_the_next_round() {
    let server = ApiServer::new();
    let (_, activity, writer) = replica(&server, Active);
    activity.note("s", at(100));
    server.broken.store(true, SeqCst);
    writer.look(activity.all(), at(100)).await;
    assert_eq!(server.written(), []);
    server.broken.store(false, SeqCst);
    writer.look(activity.all(), at(105)).await;
    assert_eq!(server.written(), [at(100)]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_s_use_does_not_wait_for_the_next_round() {
    let server = ApiServer::new();
    let (stores, activity, writer) = replica(&server, Idle);
    (0..5).for_each(|_| stores.watch_synced());
    let running = tokio::spawn(writer.run());
    // The first round is over, and the next is seconds away.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = tokio::time::Instant::now();
    activity.note("s", at(100));
    server.changed.notified().await;
    assert_eq!((server.written(), began.elapsed()), (vec![at(100)], Duration::ZERO));
    running.abort();
}

#[tokio::test]
async fn sessions_that_are_over_are_forgotten() {
    let server = ApiServer::new();
    let (stores, activity, writer) = replica(&server, Terminated);
    activity.note("s", at(100));
    activity.note("not-shown-yet", at(100));
    writer.look(activity.all(), at(200)).await;
    assert_eq!((activity.latest("s"), activity.latest("not-shown-yet")), (None, Some(at(100))));
    writer.look(activity.all(), at(1000)).await;
    assert_eq!(activity.latest("not-shown-yet"), None);

    activity.note("s", at(100));
    let looked_at = activity.all();
    activity.note("s", at(101));
    stores.gone(Kind::Session, "s", 9);
    writer.look(looked_at, at(1000)).await;
    assert_eq!(activity.latest("s"), Some(at(101)), "it was used since");
}
