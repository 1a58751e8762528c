use rstest::rstest;
use tonic::Code;

use super::super::tests::{ID, OTHER_ID, activity, of, side, stores, until};
use super::*;
use crate::model::fixtures::{at, session};
use crate::model::{Object, RunningAnswer};
use crate::operator::leadership::Leadership;
use crate::spark::fake_connect::FakeConnect;

fn ask(sessions: &SparkSessions) {
    sessions.ask("s".into(), "uid-of-s".into(), "p-0".into(), at(5));
}

async fn answered(stores: &Stores) -> RunningAnswer {
    until(stores, |side| side.running.clone()).await
}

fn something(words: &str) -> RunningAnswer {
    RunningAnswer { asked_at: at(5), runs: SparkRuns::Something(words.to_owned()) }
}

#[tokio::test]
async fn what_runs_is_told_and_counts_as_a_use_and_is_asked_for_once() {
    let spark = FakeConnect::start().await;
    spark.state().streaming_queries = vec![("id-1", Some("events"))];
    let (stores, activity) = (stores(&spark), activity());
    let sessions = SparkSessions::new(stores.clone(), Leadership::always(), activity.clone());
    for _ in 0..10 {
        ask(&sessions);
    }
    assert_eq!(answered(&stores).await, something("streaming query \"events\" runs in it"));
    assert_eq!(activity.latest("s"), Some(at(5)));
    assert_eq!(spark.state().calls.len(), 1);
}

#[tokio::test]
async fn the_question_itself_is_no_use() {
    let spark = FakeConnect::start().await;
    let (stores, activity) = (stores(&spark), activity());
    ask(&SparkSessions::new(stores.clone(), Leadership::always(), activity.clone()));
    assert_eq!(answered(&stores).await, RunningAnswer { asked_at: at(5), runs: SparkRuns::Nothing });
    assert_eq!(activity.latest("s"), None::<jiff::Timestamp>);
}

#[tokio::test]
async fn every_client_of_a_named_session_is_asked_about() {
    let spark = FakeConnect::start().await;
    let stores = stores(&spark);
    let mut shared = session("s").with_spark_id(ID).on("p-0").version(2);
    shared.status.client_session_ids = vec![ID.to_string(), OTHER_ID.to_string()];
    stores.shown(Object::Session(shared));
    ask(&of(&stores));
    assert_eq!(answered(&stores).await.runs, SparkRuns::Nothing);
    let mut ids: Vec<_> = spark.state().calls.iter().map(|call| call.session_id.clone()).collect();
    ids.sort();
    assert_eq!(ids, [ID.to_string(), OTHER_ID.to_string()]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_leaves_it_unknown_since_the_first_question() {
    let spark = FakeConnect::start().await;
    spark.breaks(Code::Unavailable, "Busy.");
    let stores = stores(&spark);
    let sessions = of(&stores);
    ask(&sessions);
    let reason = format!("Spark at {} answers Unavailable: Busy.", spark.address);
    let unknown = SparkRuns::Unknown { reason, since: at(5) };
    assert_eq!(answered(&stores).await.runs, unknown);
    sessions.ask("s".into(), "uid-of-s".into(), "p-0".into(), at(65));
    let again = until(&stores, |side| side.running.clone().filter(|it| it.asked_at == at(65))).await;
    assert_eq!(again.runs, unknown);
    assert!(side(&stores).release.is_none());
}

#[rstest]
#[case(&["a"], None, "streaming query \"a\" runs in it")]
#[case(&["a", "b"], Some(0), "streaming queries \"a\", \"b\" run in it")]
#[case(&["a", "b", "c", "d", "e"], None, "streaming queries \"a\", \"b\", \"c\" and 2 more run in it")]
#[case(&[], Some(1), "a query whose client has gone runs in it")]
#[case(&["a\n"], Some(2), "streaming query \"a\\n\" runs in it and 2 queries whose clients have gone run in it")]
fn what_runs_is_said_in_words(
    #[case] queries: &[&str],
    #[case] executions: Option<usize>,
    #[case] expected: &str,
) {
    let streaming_queries = queries.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(words(&Running { streaming_queries, executions }), expected);
}

#[test]
fn a_long_name_is_cut() {
    let running = Running { streaming_queries: vec!["ä".repeat(10_000)], executions: None };
    assert_eq!(words(&running), format!("streaming query \"{}…\" runs in it", "ä".repeat(60)));
}
