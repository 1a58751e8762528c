use std::net::SocketAddr;

use tonic::Code;

use super::*;
use crate::api::ThriftConnection;
use crate::model::connect_server::TOKEN_SETTING;
use crate::model::fixtures::{application, connect_pool, driver, session, thrift_pool, token_secret};
use crate::model::{Kind, Object, Pool, SparkSide};
use crate::spark::fake_connect::FakeConnect;

pub(super) const ID: Uuid = Uuid::from_u128(7);
pub(super) const OTHER_ID: Uuid = Uuid::from_u128(8);

/// Alice's session `s` on `p-0`, whose server is at this address and asks for a token.
fn stores_of(pool: Pool, address: SocketAddr) -> Arc<Stores> {
    let stores = Stores::new();
    let port_setting = match pool.protocol() {
        Protocol::Connect => "spark.connect.grpc.binding.port",
        Protocol::Thrift => "spark.hadoop.hive.server2.thrift.http.port",
    };
    stores.shown(Object::Pool(pool));
    let application = application("p-0")
        .with_conf(port_setting, &address.port().to_string())
        .with_conf(TOKEN_SETTING, "p-0-token:token");
    stores.shown(Object::Application(application));
    stores.shown(Object::Token(token_secret("p-0", "tok")));
    stores.shown(Object::Pod(driver("p-0").at_ip(&address.ip().to_string())));
    stores.server_answers("uid-of-p-0-driver");
    stores.shown(Object::Session(session("s").with_spark_id(ID).on("p-0")));
    stores
}

pub(super) fn stores(spark: &FakeConnect) -> Arc<Stores> {
    stores_of(connect_pool("p"), spark.address)
}

pub(super) fn activity() -> Activity {
    Activity::new(Duration::from_secs(60))
}

/// Of a replica that leads.
pub(super) fn of(stores: &Arc<Stores>) -> SparkSessions {
    SparkSessions::new(stores.clone(), Leadership::always(), activity())
}

async fn until_nothing_is_under_way(sessions: &SparkSessions) {
    while !lock(&sessions.preparations.under_way).is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn prepare(sessions: &SparkSessions, id: Uuid) {
    let conf = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("w".to_owned(), "2".to_owned())]);
    sessions.prepare("s".into(), "uid-of-s".into(), "p-0".into(), id, conf);
}

fn release(sessions: &SparkSessions) {
    sessions.release("s".into(), "uid-of-s".into(), "p-0".into());
}

pub(super) fn side(stores: &Stores) -> SparkSide {
    stores.read(|inventory| inventory.spark_side("uid-of-s").cloned()).unwrap_or_default()
}

/// Until it is known of the session what the test waits for.
pub(super) async fn until<T>(stores: &Stores, found: impl Fn(&SparkSide) -> Option<T>) -> T {
    let mut changes = stores.changes("p");
    loop {
        changes.mark_unchanged();
        if let Some(found) = found(&side(stores)) {
            return found;
        }
        tokio::time::timeout(Duration::from_secs(20), changes.changed()).await.unwrap().unwrap();
    }
}

fn done(side: &SparkSide) -> Option<AppliedConf> {
    match &side.prepared.get(&ID)?.progress {
        Progress::Done(outcome) => Some(outcome.clone()),
        Progress::Failing(_) => None,
    }
}

fn failing(side: &SparkSide) -> Option<String> {
    match &side.prepared.get(&ID)?.progress {
        Progress::Failing(reason) => Some(reason.clone()),
        Progress::Done(_) => None,
    }
}

#[tokio::test]
async fn a_session_is_given_its_configuration_once_however_often_it_is_asked_for() {
    let spark = FakeConnect::start().await.refuses("w", "No.");
    let stores = stores(&spark);
    let sessions = of(&stores);
    for _ in 0..10 {
        prepare(&sessions, ID);
    }
    let outcome = until(&stores, done).await;
    assert_eq!(outcome.applied, ["a"]);
    assert_eq!(outcome.refused, [("w".to_owned(), "No.".to_owned())]);
    assert_eq!(side(&stores).prepared[&ID].cluster, "p-0/uid-of-p-0-driver");
    prepare(&sessions, ID);
    tokio::task::yield_now().await;
    let state = spark.state();
    assert_eq!(state.calls.len(), 3, "one for all, and one for each: {:?}", state.calls);
    assert!(state.calls.iter().all(|call| call.user == "alice"));
    assert!(state.calls.iter().all(|call| call.headers["authorization"] == "Bearer tok"));
}

#[tokio::test]
async fn another_client_of_a_named_session_is_prepared_too() {
    let spark = FakeConnect::start().await;
    let stores = stores(&spark);
    let sessions = of(&stores);
    prepare(&sessions, ID);
    prepare(&sessions, OTHER_ID);
    until(&stores, |side| (side.prepared.len() == 2).then_some(())).await;
    assert_eq!(spark.state().conf.len(), 2);
}

#[tokio::test]
async fn while_spark_is_not_there_its_reason_is_known_and_the_attempts_go_on() {
    let spark = FakeConnect::start().await;
    spark.breaks(Code::Unavailable, "Still starting.");
    let stores = stores(&spark);
    let sessions = of(&stores);
    prepare(&sessions, ID);
    let reason = until(&stores, failing).await;
    assert_eq!(reason, format!("Spark at {} answers Unavailable: Still starting.", spark.address));
    spark.state().broken = None;
    assert_eq!(until(&stores, done).await.applied, ["a", "w"]);
}

#[tokio::test]
async fn a_session_that_has_ended_meanwhile_is_left_alone() {
    let spark = FakeConnect::start().await;
    spark.breaks(Code::Unavailable, "Still starting.");
    let stores = stores(&spark);
    let sessions = of(&stores);
    prepare(&sessions, ID);
    until(&stores, failing).await;
    let ending = session("s").with_spark_id(ID).on("p-0").in_state(SessionState::Terminating).version(2);
    stores.shown(Object::Session(ending));
    spark.state().broken = None;
    until_nothing_is_under_way(&sessions).await;
    assert_eq!(done(&side(&stores)), None);
    prepare(&sessions, ID);
    assert!(lock(&sessions.preparations.under_way).is_empty());
}

/// The next leader sets it, and then the user something else.
#[tokio::test]
async fn who_leads_no_more_sets_nothing_and_begins_anew_in_the_next_term() {
    let spark = FakeConnect::start().await;
    spark.breaks(Code::Unavailable, "Still starting.");
    let stores = stores(&spark);
    let (leadership, lead) = Leadership::for_a_test();
    let sessions = SparkSessions::new(stores.clone(), leadership, activity());
    prepare(&sessions, ID);
    assert!(lock(&sessions.preparations.under_way).is_empty(), "it does not lead yet");
    lead(Some(1));
    prepare(&sessions, ID);
    until(&stores, failing).await;
    lead(None);
    spark.state().broken = None;
    until_nothing_is_under_way(&sessions).await;
    assert_eq!(done(&side(&stores)), None);
    lead(Some(2));
    prepare(&sessions, ID);
    assert_eq!(until(&stores, done).await.applied, ["a", "w"]);
}

#[tokio::test]
async fn what_is_told_to_be_done_on_this_driver_is_not_done_again() {
    let spark = FakeConnect::start().await;
    spark.breaks(Code::Unavailable, "Still starting.");
    let stores = stores(&spark);
    let sessions = of(&stores);
    prepare(&sessions, ID);
    until(&stores, failing).await;
    let told = session("s").with_spark_id(ID).on("p-0").driven_by("uid-of-p-0-driver").version(2);
    stores.shown(Object::Session(told));
    spark.state().broken = None;
    until_nothing_is_under_way(&sessions).await;
    assert_eq!(done(&side(&stores)), None);
}

#[tokio::test]
async fn a_session_on_a_new_driver_is_prepared_anew() {
    let spark = FakeConnect::start().await;
    let stores = stores(&spark);
    let sessions = of(&stores);
    prepare(&sessions, ID);
    until(&stores, done).await;
    let ip = spark.address.ip().to_string();
    stores.gone(Kind::Pod, "p-0-driver", 0);
    stores.shown(Object::Pod(driver("p-0").called("p-0-driver").with_uid("new").at_ip(&ip).version(9)));
    prepare(&sessions, ID);
    until(&stores, |side| (side.prepared[&ID].cluster == "p-0/new").then_some(())).await;
}

#[tokio::test]
async fn all_ids_of_a_session_are_released_once() {
    let spark = FakeConnect::start().await;
    let stores = stores(&spark);
    let mut shared = session("s").with_spark_id(ID).on("p-0").version(2);
    shared.status.client_session_ids = vec![ID.to_string(), OTHER_ID.to_string(), "no id".to_owned()];
    stores.shown(Object::Session(shared));
    let sessions = of(&stores);
    release(&sessions);
    release(&sessions);
    assert_eq!(until(&stores, |side| side.release.clone()).await, ReleaseOutcome::Released);
    release(&sessions);
    tokio::task::yield_now().await;
    let state = spark.state();
    let ids: Vec<_> = state.released.iter().map(|(user, id)| (&**user, &**id)).collect();
    assert_eq!(ids, [("alice", &*ID.to_string()), ("alice", &*OTHER_ID.to_string())]);
    assert_eq!(state.calls.len(), 2);
}

#[tokio::test]
async fn a_release_that_fails_twice_is_given_up_with_the_reason() {
    let spark = FakeConnect::start().await;
    spark.breaks(Code::PermissionDenied, "Not yours.");
    let stores = stores(&spark);
    release(&of(&stores));
    let reason = format!("Spark at {} answers PermissionDenied: Not yours.", spark.address);
    assert_eq!(until(&stores, |side| side.release.clone()).await, ReleaseOutcome::GaveUp(reason));
    assert_eq!(spark.state().calls.len(), 2);
}

#[tokio::test]
async fn a_release_from_a_server_that_hangs_is_given_up() {
    let spark = FakeConnect::start().await;
    spark.state().hangs = true;
    let stores = stores(&spark);
    let begun = Instant::now();
    release(&of(&stores));
    let outcome = until(&stores, |side| side.release.clone()).await;
    assert!(matches!(outcome, ReleaseOutcome::GaveUp(_)), "{outcome:?}");
    assert!(begun.elapsed() < RELEASE_PATIENCE + Duration::from_secs(2));
}

#[tokio::test]
async fn what_was_on_an_instance_that_is_gone_is_released() {
    let spark = FakeConnect::start().await;
    for gone in ["application", "pod"] {
        let stores = stores(&spark);
        match gone {
            "application" => stores.gone(Kind::Application, "p-0", 0),
            _ => stores.gone(Kind::Pod, "p-0-driver", 0),
        }
        release(&of(&stores));
        assert_eq!(until(&stores, |side| side.release.clone()).await, ReleaseOutcome::Released, "{gone}");
    }
    assert!(spark.state().calls.is_empty());
}

#[tokio::test]
async fn an_instance_that_goes_away_takes_its_sessions_along() {
    let spark = FakeConnect::start().await;
    spark.breaks(Code::Unavailable, "Shutting down.");
    let stores = stores(&spark);
    stores.shown(Object::Pod(driver("p-0").at_ip("127.0.0.1").being_deleted().version(9)));
    release(&of(&stores));
    assert_eq!(until(&stores, |side| side.release.clone()).await, ReleaseOutcome::Released);
}

/// With a connection on `p-0` and one on an instance that it was on before.
fn connected(connections: &[(&str, &str)]) -> Session {
    let mut session = session("s").on("p-0").in_state(SessionState::Terminating);
    session.status.connections = connections
        .iter()
        .map(|&(id, instance)| ThriftConnection { id: id.into(), instance: instance.into() })
        .collect();
    session
}

fn thrift_stores() -> Arc<Stores> {
    let stores = stores_of(thrift_pool("p"), "127.0.0.1:1".parse().unwrap());
    stores.shown(Object::Session(connected(&[("a", "p-0"), ("b", "p-0"), ("c", "p-9")]).version(2)));
    stores
}

#[tokio::test(start_paused = true)]
async fn a_thrift_session_is_released_when_its_connections_there_are_closed() {
    let stores = thrift_stores();
    release(&of(&stores));
    stores.shown(Object::Session(connected(&[("b", "p-0"), ("c", "p-9")]).version(3)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(side(&stores).release, None);
    stores.shown(Object::Session(connected(&[("c", "p-9")]).version(4)));
    assert_eq!(until(&stores, |side| side.release.clone()).await, ReleaseOutcome::Released);
}

#[tokio::test(start_paused = true)]
async fn connections_that_nobody_closes_are_given_up() {
    let stores = thrift_stores();
    let begun = Instant::now();
    release(&of(&stores));
    let reason = "2 connections could not be closed: the replica that opened them is gone, or the Thrift Server does \
                  not answer; the Thrift Server's own timeout ends them";
    let outcome = until(&stores, |side| side.release.clone()).await;
    assert_eq!(outcome, ReleaseOutcome::GaveUp(reason.to_owned()));
    assert!(begun.elapsed() < RELEASE_PATIENCE);
}
