use rstest::rstest;

use super::*;
use crate::spark::fake_connect::FakeConnect;

const STATIC: &str =
    "[CANNOT_MODIFY_STATIC_CONFIG] Cannot modify the value of the static Spark config: \"w\".";

fn caller() -> Caller {
    Caller { user: "Änne".into(), session_id: Uuid::from_u128(7) }
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn refused(outcome: &AppliedConf) -> Vec<(&str, &str)> {
    outcome.refused.iter().map(|(key, reason)| (&**key, &**reason)).collect()
}

#[tokio::test]
async fn all_keys_are_set_in_one_call_in_the_user_s_name() {
    let spark = FakeConnect::start().await;
    let server = Server { token: Some(InstanceToken::new("tok")), ..spark.server() };
    let conf = map(&[("b", "2"), ("a", "1")]);
    let outcome = set_conf(&server, &caller(), &conf).await.unwrap();
    assert_eq!(outcome, AppliedConf { applied: vec!["a".into(), "b".into()], refused: Vec::new() });
    let state = spark.state();
    let [call] = &state.calls[..] else { panic!("{:?}", state.calls) };
    let id = "00000000-0000-0000-0000-000000000007";
    assert_eq!((&*call.user, &*call.session_id, call.silent), ("Änne", id, true));
    let headers = map(&[
        ("authorization", "Bearer tok"),
        ("x-spark-session-id", id),
        ("x-spark-session-user-bin", "w4RubmU"),
    ]);
    assert_eq!(call.headers, headers);
    assert_eq!(state.conf[&("Änne".to_owned(), id.to_owned())], conf);
}

#[rstest]
#[case::spark_4(false)]
#[case::spark_3_5_which_has_no_silent(true)]
#[tokio::test]
async fn a_key_that_spark_refuses_has_spark_s_reason_and_the_others_are_set(#[case] is_3_5: bool) {
    let spark = FakeConnect::start().await.refuses("w", STATIC).refuses("z", "'{}' is no number\n\tat java");
    spark.state().is_3_5 = is_3_5;
    let conf = map(&[("a", "1"), ("w", "/x"), ("x", "2"), ("z", "hunter2")]);
    let outcome = set_conf(&spark.server(), &caller(), &conf).await.unwrap();
    assert_eq!(outcome.applied, ["a", "x"]);
    assert_eq!(refused(&outcome), [("w", STATIC), ("z", "'…' is no number")]);
    let set = spark.state().conf.values().next().unwrap().clone();
    assert_eq!(set, map(&[("a", "1"), ("x", "2")]));
}

#[rstest]
#[case::not_let_in(Code::Unauthenticated)]
#[case::another_user_than_the_interceptor_knows(Code::PermissionDenied)]
#[case::starting_or_stopping(Code::Unavailable)]
#[case::too_slow(Code::DeadlineExceeded)]
#[tokio::test]
async fn a_server_that_does_not_look_at_the_keys_is_asked_once(#[case] code: Code) {
    let spark = FakeConnect::start().await;
    spark.breaks(code, "Not hunter2.");
    let error = set_conf(&spark.server(), &caller(), &map(&[("a", "hunter2")])).await.unwrap_err();
    assert_eq!(error.to_string(), format!("Spark at {} answers {code:?}: Not ….", spark.address));
    assert_eq!(spark.state().calls.len(), 1);
}

#[tokio::test]
async fn in_a_session_that_spark_has_closed_every_key_is_refused() {
    let spark = FakeConnect::start().await;
    spark.breaks(Code::Internal, "[INVALID_HANDLE.SESSION_CLOSED] Session was closed.");
    let outcome = set_conf(&spark.server(), &caller(), &map(&[("a", "1")])).await.unwrap();
    assert_eq!(refused(&outcome), [("a", "[INVALID_HANDLE.SESSION_CLOSED] Session was closed.")]);
}

#[tokio::test]
async fn nothing_to_set_needs_no_server() {
    let server = Server { address: "127.0.0.1:1".parse().unwrap(), token: None };
    assert_eq!(set_conf(&server, &caller(), &map(&[])).await, Ok(AppliedConf::default()));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_as_such() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let server = Server { address, token: None };
    let expected = format!("no connection to Spark at {address}: Connection refused (os error 111)");
    assert_eq!(set_conf(&server, &caller(), &map(&[("a", "1")])).await.unwrap_err().to_string(), expected);
    assert_eq!(release_session(&server, &caller()).await.unwrap_err().to_string(), expected);
}

#[tokio::test]
async fn a_server_that_never_answers_times_out() {
    let spark = FakeConnect::start().await;
    spark.state().hangs = true;
    let error = release_session(&spark.server(), &caller()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no answer from Spark at {} within 5 s", spark.address));
}

#[tokio::test]
async fn a_session_is_released_in_the_user_s_name() {
    let spark = FakeConnect::start().await;
    release_session(&spark.server(), &caller()).await.unwrap();
    let session = ("Änne".to_owned(), caller().session_id.to_string());
    assert_eq!(spark.state().released.iter().collect::<Vec<_>>(), [&session]);
}

#[tokio::test]
async fn spark_3_5_which_cannot_release_a_session_interrupts_all_that_runs_in_it() {
    let spark = FakeConnect::start().await;
    spark.state().is_3_5 = true;
    assert_eq!(release_session(&spark.server(), &caller()).await, Ok(()));
    let session = ("Änne".to_owned(), caller().session_id.to_string());
    let state = spark.state();
    assert_eq!(state.interrupted.iter().collect::<Vec<_>>(), [&session]);
    let methods: Vec<_> = state.calls.iter().map(|call| call.method).collect();
    assert_eq!(methods, ["ReleaseSession", "Interrupt"]);
    assert_eq!(state.calls[1].headers["x-spark-session-id"], session.1);
}

#[rstest]
#[case::unknown(Code::NotFound, "no such session")]
#[case::closed(Code::Internal, "[INVALID_HANDLE.SESSION_CLOSED] The handle is invalid. Session was closed.")]
#[case::unknown_to_spark_4(Code::Internal, "[INVALID_HANDLE.SESSION_NOT_FOUND] Session not found.")]
#[tokio::test]
async fn a_session_that_spark_does_not_have_is_released(#[case] code: Code, #[case] words: &'static str) {
    let spark = FakeConnect::start().await;
    spark.breaks(code, words);
    assert_eq!(release_session(&spark.server(), &caller()).await, Ok(()));
}

#[tokio::test]
async fn a_release_that_spark_refuses_has_failed() {
    let spark = FakeConnect::start().await;
    spark.breaks(Code::PermissionDenied, "Not yours.");
    let error = release_session(&spark.server(), &caller()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("Spark at {} answers PermissionDenied: Not yours.", spark.address));
}
