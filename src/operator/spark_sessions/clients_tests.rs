use super::super::tests::{ID, OTHER_ID, stores};
use super::*;
use crate::model::Object;
use crate::model::fixtures::session;
use crate::spark::fake_connect::FakeConnect;

async fn server() -> (FakeConnect, SparkClients) {
    let spark = FakeConnect::start().await;
    let clients = SparkClients::new(stores(&spark));
    (spark, clients)
}

#[tokio::test]
async fn a_client_s_spark_session_is_released_whatever_runs_in_it() {
    let (spark, clients) = server().await;
    spark.state().executions = Some(1);
    assert_eq!(clients.release("s", OTHER_ID).await, Ok(()));
    let state = spark.state();
    assert_eq!(state.released.iter().next(), Some(&("alice".to_owned(), OTHER_ID.to_string())));
    assert_eq!((state.released.len(), state.calls.len()), (1, 1));
}

#[tokio::test]
async fn one_that_makes_room_is_released_only_if_nothing_runs_in_it() {
    let (spark, clients) = server().await;
    for (executions, queries, outcome) in [
        (Some(1), vec![], Unused::InUse),
        (None, vec![], Unused::InUse),
        (Some(0), vec![("q", None)], Unused::InUse),
        (Some(0), vec![], Unused::Released),
    ] {
        {
            let mut state = spark.state();
            (state.executions, state.streaming_queries) = (executions, queries);
        }
        assert_eq!(clients.release_unused("s", ID).await, Ok(outcome), "{executions:?}");
        assert_eq!(spark.state().released.is_empty(), outcome == Unused::InUse);
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_told_and_none_is_nothing_to_do() {
    let (spark, clients) = server().await;
    spark.breaks(tonic::Code::PermissionDenied, "Not yours.");
    let reason = format!("Spark at {} answers PermissionDenied: Not yours.", spark.address);
    assert_eq!(clients.release_unused("s", ID).await, Err(reason.clone()));
    assert_eq!(clients.release("s", ID).await, Err(reason));
    clients.stores.shown(Object::Session(session("waits")));
    assert_eq!(clients.release("waits", ID).await, Ok(()));
    assert_eq!(clients.release_unused("waits", ID).await, Ok(Unused::Released));
}
