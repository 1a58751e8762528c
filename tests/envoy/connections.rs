//! The sessions that JDBC clients open on a Thrift Server, from the answer that tells their handle to their end.

use uuid::Uuid;

use super::pools::{self, HOST};
use super::stand_in::PAUSE;
use super::wait::until;
use super::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_listed_while_they_are_open_and_the_last_one_ends_the_session() {
    World::run("connections", vec![pools::thrift("thrift", HOST)], &[], async move |world| {
        let ana = world.thrift(HOST, "ana");
        ana.call("OpenSession").await.unwrap();
        let first = open(&world);
        assert_eq!(listed(&world).await, first, "as soon as its client knows of it");
        ana.call("OpenSession").await.unwrap();
        let both = open(&world);
        assert_eq!((both.len(), listed(&world).await), (2, both.clone()));

        ana.call_of("CloseSession", first[0]).await.unwrap();
        let second: Vec<_> = both.into_iter().filter(|id| *id != first[0]).collect();
        assert_eq!(listed(&world).await, second);
        assert_eq!(state_and_reason(&world).await.0, "Active");
        ana.call_of("CloseSession", second[0]).await.unwrap();
        let ended = async || Some(state_and_reason(&world).await).filter(|(state, _)| state == "Terminated");
        assert_eq!(until("the session has ended", ended).await.1, "Released");
        assert!(open(&world).is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_open_when_a_session_is_deleted_is_closed_on_spark() {
    World::run("connections-closed", vec![pools::thrift("thrift", HOST)], &[], async move |world| {
        let ana = world.thrift(HOST, "ana");
        ana.call("OpenSession").await.unwrap();
        ana.call("OpenSession").await.unwrap();
        let both = open(&world);
        let name = session(&world).await.metadata.name.unwrap();
        world.cluster.sessions.delete(&name, &Default::default()).await.unwrap();
        until("both are closed", async || {
            let seen = world.spark.seen();
            (seen.open.is_empty() && seen.closed.iter().eq(both.iter())).then_some(())
        })
        .await;
        until("the session is gone", async || {
            world.cluster.sessions.get_opt(&name).await.unwrap().is_none().then_some(())
        })
        .await;
    })
    .await;
}

/// Envoy asks the operator anew when a try takes longer than 5 s, unless an answer has begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_spark_opens_slowly_is_listed_too() {
    World::run("connections-slow", vec![pools::thrift("thrift", HOST)], &[], async move |world| {
        let slow = world.thrift(HOST, "ana").asking(PAUSE, 7000);
        slow.call("OpenSession").await.unwrap();
        assert_eq!((open(&world).len(), listed(&world).await), (1, open(&world)));
    })
    .await;
}

/// On the stand-in, sorted.
fn open(world: &World) -> Vec<Uuid> {
    world.spark.seen().open.into_iter().collect()
}

/// In the status, sorted.
async fn listed(world: &World) -> Vec<Uuid> {
    let status = session(world).await.status.unwrap_or_default().status;
    let mut ids: Vec<Uuid> = status.connections.iter().map(|open| open.id.parse().unwrap()).collect();
    assert!(status.connections.iter().all(|open| open.instance == "thrift-0"));
    ids.sort_unstable();
    ids
}

async fn state_and_reason(world: &World) -> (String, String) {
    let status = session(world).await.status.unwrap_or_default().status;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    (format!("{:?}", status.state), ready.map(|ready| ready.reason.clone()).unwrap_or_default())
}

/// The only one.
async fn session(world: &World) -> spark_session_operator::api::SparkInteractiveSession {
    let sessions = world.cluster.sessions.list(&Default::default()).await.unwrap().items;
    let [session] = <[_; 1]>::try_from(sessions).expect("one session");
    session
}
