//! What the version of Spark that a pool's template names means for its Connect sessions.
//!
//! Spark 3's Connect server has neither a ReleaseSession call nor a setting for how long it keeps sessions (read and run:
//! 3.5.7); CloneSession came with 4.1. Not here: what the image really holds. A template that names another version than its
//! image has is believed.

use super::Protocol;
use crate::api::SparkSessionPoolSpec;

/// Spark 3 forgets a session 60 minutes after its last request (`SparkConnectService.CACHE_TIMEOUT_SECONDS`), and answers
/// the next request in a new one, without the views and the configuration of the old one. Sessions end before that.
const LONGEST_IDLE_MINUTES_ON_SPARK_3: i32 = 55;

/// Whether the servers end a session, and what runs in it, when its client ends it. Thrift Servers always do.
pub fn clients_can_release(spec: &SparkSessionPoolSpec) -> bool {
    spec.protocol == Protocol::Thrift || !version(spec).is_some_and(|version| version.starts_with("3."))
}

/// Whether the servers can copy a session (since Spark 4.1).
pub fn has_clone_session(spec: &SparkSessionPoolSpec) -> bool {
    !version(spec).is_some_and(|version| version.starts_with("3.") || version.starts_with("4.0."))
}

/// The pool's own `idleTimeoutMinutes`, as far as its servers keep sessions for that long.
pub fn idle_timeout_minutes(spec: &SparkSessionPoolSpec) -> i32 {
    let minutes = spec.session_policy.idle_timeout_minutes;
    if clients_can_release(spec) { minutes } else { minutes.min(LONGEST_IDLE_MINUTES_ON_SPARK_3) }
}

fn version(spec: &SparkSessionPoolSpec) -> Option<&str> {
    spec.spark_application_template.spec.get("sparkVersion")?.as_str()
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
    #[case("3.5.7", false)]
    #[case("4.0.1", false)]
    #[case("4.1.4", true)]
    #[case("4.10.0", true)]
    fn sessions_can_be_cloned_since_spark_4_1(#[case] version: &str, #[case] expected: bool) {
        let mut pool = connect_pool("p");
        assert!(has_clone_session(&pool.spec), "of no version");
        pool.spec.spark_application_template.spec.insert("sparkVersion".to_owned(), version.into());
        assert_eq!(has_clone_session(&pool.spec), expected);
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
