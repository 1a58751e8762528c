//! What the version of Spark that a pool's template names means for its Connect sessions.
//!
//! Only Spark 3 is told apart, whose Connect server has neither a ReleaseSession call nor a setting for how long it keeps
//! sessions (read and run: 3.5.7). Not here: what the image really holds. A template that names another version than its
//! image has is believed.

use super::Protocol;
use crate::api::SparkSessionPoolSpec;

/// Spark 3 forgets a session 60 minutes after its last request (`SparkConnectService.CACHE_TIMEOUT_SECONDS`), and answers
/// the next request in a new one, without the views and the configuration of the old one. Sessions end before that.
const LONGEST_IDLE_MINUTES_ON_SPARK_3: i32 = 55;

/// Whether the servers end a session, and what runs in it, when its client ends it. Thrift Servers always do.
pub fn clients_can_release(spec: &SparkSessionPoolSpec) -> bool {
    let version =
        spec.spark_application_template.spec.get("sparkVersion").and_then(|version| version.as_str());
    spec.protocol == Protocol::Thrift || !version.is_some_and(|version| version.starts_with("3."))
}

/// The pool's own `idleTimeoutMinutes`, as far as its servers keep sessions for that long.
pub fn idle_timeout_minutes(spec: &SparkSessionPoolSpec) -> i32 {
    let minutes = spec.session_policy.idle_timeout_minutes;
    if clients_can_release(spec) { minutes } else { minutes.min(LONGEST_IDLE_MINUTES_ON_SPARK_3) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::model::fixtures::{connect_pool, thrift_pool};

    #[rstest]
    #[case::spark_3_5(json!("3.5.7"), false)]
    #[case::spark_4(json!("4.0.1"), true)]
    #[case::a_later_one(json!("30.1"), true)]
    #[case::no_version(json!(null), true)]
    #[case::a_number_which_the_spark_operator_refuses(json!(3.5), true)]
    fn spark_3_alone_cannot_release_sessions(#[case] version: serde_json::Value, #[case] expected: bool) {
        let mut pool = connect_pool("p");
        pool.spec.spark_application_template.spec.insert("sparkVersion".to_owned(), version);
        assert_eq!(clients_can_release(&pool.spec), expected);
    }

    #[rstest]
    #[case(connect_pool("p"), 720, 55)]
    #[case(connect_pool("p"), 20, 20)]
    #[case::thrift_keeps_its_own(thrift_pool("p"), 720, 720)]
    fn a_session_ends_before_spark_3_forgets_it(
        #[case] mut pool: crate::model::Pool,
        #[case] minutes: i32,
        #[case] expected: i32,
    ) {
        pool.spec.session_policy.idle_timeout_minutes = minutes;
        assert_eq!(idle_timeout_minutes(&pool.spec), minutes);
        pool.spec.spark_application_template.spec.insert("sparkVersion".to_owned(), json!("3.5.7"));
        assert_eq!(idle_timeout_minutes(&pool.spec), expected);
    }
}
