//! What the command `explain` prints.
//!
//! The tests' time begins at 2027-01-15T08:00:00Z.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::cluster::Cluster;
use crate::model::fixtures::{at, connect_pool, ready, session};
use crate::model::{AppliedConf, Progress};
use crate::plan::explain;

const ONE: Uuid = Uuid::from_u128(1);

fn conf(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn explained(cluster: &Cluster, name: &str) -> String {
    explain(&cluster.view(), name, at(cluster.now)).unwrap().to_string()
}

#[test]
fn a_session_without_groups_is_told_where_quotas_go_by_groups() {
    const NO_GROUPS: &str = "no quota of a group applies: the session has no groups (spec.groups), because the login that \
        opened it told none or because it was made without";
    let cluster = |groups: &[&str]| {
        let asking = session("dev-1").with_spark_id(ONE).in_groups(groups);
        let pool = connect_pool("p").sized(1, 1).allowing_group("analysts", 2);
        Cluster::of(pool).instance(ready("p-0")).session(asking).settled()
    };
    let text = explained(&cluster(&[]), "dev-1");
    assert!(text.contains(NO_GROUPS), "{text}");
    let text = explained(&cluster(&["sales"]), "dev-1");
    assert!(!text.contains("no quota of a group"), "{text}");
}

#[test]
fn everything_that_decides_about_a_session_is_named_with_its_source() {
    let mut pool = connect_pool("p").sized(1, 1).ending_idle_sessions(60).ending_sessions_after(480);
    pool = pool.allowing_user("carol", 9).allowing_group("analysts", 2);
    let policy = &mut pool.spec.session_policy;
    policy.default_session_conf =
        conf(&[("spark.sql.shuffle.partitions", "8"), ("spark.executor.memory", "4g")]);
    policy.quotas[1].session_conf = conf(&[("spark.sql.shuffle.partitions", "16")]);
    policy.protected_conf = vec!["spark.sql.ansi.enabled".to_owned()];
    let mut asking = session("dev-1").with_spark_id(ONE).in_groups(&["analysts"]);
    asking.spec.spark_conf =
        conf(&[("spark.sql.ansi.enabled", "true"), ("my.secret", "hunter2"), ("bad", "x")]);
    let applied = vec!["my.secret".to_owned(), "spark.sql.shuffle.partitions".to_owned()];
    let refused = vec![("bad".to_owned(), "no such key".to_owned())];
    let cluster = Cluster::of(pool)
        .instance(ready("p-0"))
        .session(asking)
        .settled()
        .prepared("dev-1", ONE, Progress::Done(AppliedConf { applied, refused }))
        .settled()
        .used("dev-1", 600)
        .at(700);
    assert_eq!(
        explained(&cluster, "dev-1"),
        "\
session   dev-1 of user alice in pool p
state     Active since 2027-01-15T08:00:00Z
why       Placed: Served by instance p-0.
instance  p-0 (Ready) at 10.0.0.1:15002
quota     1 of 2 session(s) of the user in use (dev-1), by sessionPolicy.quotas[1] (group analysts)
          1 of 200 session(s) of the pool in use, by sessionPolicy.maxTotalSessions
last use  2027-01-15T08:10:00Z
ends      soon after 2027-01-15T09:10:00Z if it is not used until then, by sessionPolicy.idleTimeoutMinutes 60
          at 2027-01-15T16:00:00Z in any case, by sessionPolicy.maxLifetimeMinutes 480
conf      bad=x by spec.sparkConf
          my.secret=*********(redacted) by spec.sparkConf; applied
          spark.sql.shuffle.partitions=16 by sessionPolicy.quotas[1] (group analysts).sessionConf, over \
sessionPolicy.defaultSessionConf; applied
refused   spark.executor.memory of the pool's defaultSessionConf is not set, because Spark takes it only when a server \
starts: it belongs into the pool's sparkApplicationTemplate
          spark.sql.ansi.enabled of the session's sparkConf is not set, because the pool's protectedConf lets no user \
set it
          bad: no such key
"
    );
}

#[test]
fn a_waiting_session_reads_why_as_in_its_condition() {
    let pool = connect_pool("p").sized(1, 1).with_places_per_instance(1);
    let cluster = Cluster::of(pool)
        .instance(ready("p-0"))
        .session(session("has").of("zoe").on("p-0"))
        .session(session("s"))
        .settled();
    let text = explained(&cluster, "s");
    let why = format!("why       Queued: {}\n", cluster.told("s").2);
    assert!(text.contains(&why), "{text}");
    assert!(text.contains("state     Pending since 2027-01-15T08:00:00Z\n"), "{text}");
    assert!(text.contains("instance  none\n"), "{text}");
    assert!(
        text.contains("          1 session(s) on an instance, by scaling.maxSessionsPerInstance\n"),
        "{text}"
    );
    assert!(!text.contains("idleTimeout"), "it is not active yet: {text}");
}

#[test]
fn an_unknown_session_has_no_explanation() {
    let cluster = Cluster::of(connect_pool("p"));
    assert_eq!(explain(&cluster.view(), "s", at(0)), None);
}

#[test]
fn a_clone_has_the_configuration_of_its_original() {
    let mut pool = connect_pool("p");
    pool.spec.session_policy.default_session_conf = conf(&[("spark.sql.shuffle.partitions", "8")]);
    let cluster = Cluster::of(pool)
        .instance(ready("p-0"))
        .session(session("s").on("p-0"))
        .session(session("clone").clone_of("s").on("p-0"));
    let lines = explained(&cluster, "clone");
    let told: Vec<&str> = lines.lines().filter(|line| line.starts_with("conf")).collect();
    assert_eq!(told, ["conf      as session s had it when this one was cloned from it"]);
}
