//! What a session starts with.

use std::collections::BTreeMap;

use crate::api::{Quota, QuotaMatch, SessionPolicy};
use crate::model::fixtures::session;
use crate::model::{ConfRefusal, ConfSource, Session, SessionConf};
use crate::plan::session_conf;

const PARTITIONS: &str = "spark.sql.shuffle.partitions";

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn quota(groups: &[&str], conf: &[(&str, &str)]) -> Quota {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    let subject = QuotaMatch { groups, ..QuotaMatch::default() };
    Quota { subject, max_sessions_per_user: None, session_conf: map(conf) }
}

/// A pool with a default, and one more for each of two groups.
fn policy() -> SessionPolicy {
    SessionPolicy {
        default_session_conf: map(&[(PARTITIONS, "pool"), ("team", "all")]),
        quotas: vec![
            quota(&["etl"], &[(PARTITIONS, "etl")]),
            quota(&["bi"], &[(PARTITIONS, "bi"), ("x", "1")]),
        ],
        ..SessionPolicy::default()
    }
}

fn asking(conf: &[(&str, &str)]) -> Session {
    let mut session = session("s");
    session.spec.spark_conf = map(conf);
    session
}

fn refused(conf: &SessionConf) -> Vec<(&str, ConfSource, ConfRefusal)> {
    conf.refused.iter().map(|it| (it.key.as_str(), it.asked_by, it.because)).collect()
}

#[test]
fn everybody_gets_the_pool_s_default() {
    assert_eq!(session_conf(&policy(), &session("s")).set, map(&[(PARTITIONS, "pool"), ("team", "all")]));
}

#[test]
fn a_quota_overrides_the_pool_key_by_key_and_only_the_first_that_matches_counts() {
    let conf = session_conf(&policy(), &session("s").in_groups(&["bi", "etl"]));
    assert_eq!(conf.set, map(&[(PARTITIONS, "etl"), ("team", "all")]));
}

#[test]
fn the_session_overrides_both() {
    let conf = session_conf(&policy(), &asking(&[(PARTITIONS, "mine")]).in_groups(&["bi"]));
    assert_eq!(conf.set, map(&[(PARTITIONS, "mine"), ("team", "all"), ("x", "1")]));
}

#[test]
fn what_is_protected_comes_from_the_pool_and_the_quota_but_not_from_the_session() {
    let policy = SessionPolicy { protected_conf: vec![PARTITIONS.to_owned(), "te*".to_owned()], ..policy() };
    let conf = session_conf(&policy, &asking(&[(PARTITIONS, "1"), ("team", "mine")]).in_groups(&["etl"]));
    assert_eq!(conf.set, map(&[(PARTITIONS, "etl"), ("team", "all")]));
    let expected = [PARTITIONS, "team"].map(|key| (key, ConfSource::Session, ConfRefusal::Protected));
    assert_eq!(refused(&conf), expected);
    assert!(conf.protected.contains("temporary"), "and the client is bound by it");
}

#[test]
fn what_spark_takes_only_at_its_start_does_not_keep_the_session_from_opening() {
    let mut policy = policy();
    policy.default_session_conf = map(&[("spark.executor.memory", "4g"), ("team", "all")]);
    policy.quotas = vec![quota(&["etl"], &[("spark.dynamicAllocation.maxExecutors", "20")])];
    let conf = session_conf(&policy, &asking(&[("spark.sql.extensions", "x")]).in_groups(&["etl"]));
    assert_eq!(conf.set, map(&[("team", "all")]));
    let expected = [
        ("spark.executor.memory", ConfSource::Pool, ConfRefusal::OnlyAtStart),
        ("spark.dynamicAllocation.maxExecutors", ConfSource::Quota, ConfRefusal::OnlyAtStart),
        ("spark.sql.extensions", ConfSource::Session, ConfRefusal::OnlyAtStart),
    ];
    assert_eq!(refused(&conf), expected);
}

#[test]
fn what_is_no_text_is_refused_before_spark_sees_it() {
    let conf = session_conf(
        &policy(),
        &asking(&[("a", "1\0"), ("b\u{1b}[31m", "1"), ("c", "1\n\t2\r"), ("team", "\u{7f}")]),
    );
    assert_eq!(conf.set, map(&[(PARTITIONS, "pool"), ("c", "1\n\t2\r"), ("team", "all")]));
    let expected = ["a", "b\u{1b}[31m", "team"].map(|key| (key, ConfSource::Session, ConfRefusal::NotText));
    assert_eq!(refused(&conf), expected);
    assert_eq!(
        conf.refused[1].to_string(),
        "b\\u{1b}[31m of the session's sparkConf is not set, because it holds a character that no configuration can have"
    );
}

#[test]
fn a_clone_has_what_its_parent_has_and_is_given_nothing() {
    let conf = session_conf(&policy(), &asking(&[("y", "2")]).clone_of("parent"));
    assert_eq!(conf, SessionConf::default());
}
