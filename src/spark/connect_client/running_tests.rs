use tonic::Code;
use uuid::Uuid;

use super::*;
use crate::model::InstanceToken;
use crate::spark::fake_connect::FakeConnect;

fn caller() -> Caller {
    Caller { user: "Änne".into(), session_id: Uuid::from_u128(7) }
}

#[tokio::test]
async fn spark_is_asked_in_the_session_and_in_the_user_s_name() {
    let spark = FakeConnect::start().await;
    let server = Server { token: Some(InstanceToken::new("tok")), ..spark.server() };
    assert_eq!(running(&server, &caller()).await, Ok(Running::default()));
    let state = spark.state();
    let [call] = &state.calls[..] else { panic!("{:?}", state.calls) };
    let id = "00000000-0000-0000-0000-000000000007";
    assert_eq!((call.method, &*call.user, &*call.session_id), ("ExecutePlan", "Änne", id));
    assert_eq!(call.headers["authorization"], "Bearer tok");
    assert_eq!(call.headers["x-spark-session-id"], id);
    assert_eq!(call.headers["x-spark-session-running"], "?");
}

#[tokio::test]
async fn streaming_queries_are_told_by_their_names_or_ids() {
    let spark = FakeConnect::start().await;
    spark.state().streaming_queries = vec![("id-1", Some("events")), ("id-2", Some("")), ("id-3", None)];
    spark.state().executions = Some(2);
    let found = running(&spark.server(), &caller()).await.unwrap();
    assert_eq!(found.streaming_queries, ["events", "id-2", "id-3"]);
    assert_eq!(found.executions, Some(2));
    assert!(!found.is_nothing());
}

#[tokio::test]
async fn a_server_without_the_interceptor_tells_its_streaming_queries_alone() {
    let spark = FakeConnect::start().await;
    let found = running(&spark.server(), &caller()).await.unwrap();
    assert_eq!((found.executions, found.is_nothing()), (None, true));
}

#[tokio::test]
async fn an_answer_that_does_not_say_it_is_no_answer() {
    let spark = FakeConnect::start().await;
    spark.state().says_nothing = true;
    let error = running(&spark.server(), &caller()).await.unwrap_err();
    let words = "the answer does not say which streaming queries are active";
    assert_eq!(error.to_string(), format!("Spark at {} answers Unknown: {words}", spark.address));
}

#[tokio::test]
async fn in_a_session_that_spark_has_closed_nothing_runs() {
    let spark = FakeConnect::start().await;
    spark.breaks(Code::Internal, "[INVALID_HANDLE.SESSION_CLOSED] Session was closed.");
    assert_eq!(running(&spark.server(), &caller()).await, Ok(Running::default()));
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_question_is_told_as_such() {
    let spark = FakeConnect::start().await;
    spark.breaks(Code::Unimplemented, "No such command.");
    let error = running(&spark.server(), &caller()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Spark at {} answers Unimplemented: No such command.", spark.address)
    );
    spark.state().hangs = true;
    let error = running(&spark.server(), &caller()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no answer from Spark at {} within 5 s", spark.address));
}
