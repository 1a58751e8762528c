//! How Connect sessions get their configuration before anybody uses them.

use jiff::Timestamp;
use uuid::Uuid;

use super::cluster::Cluster;
use crate::api::SessionState::{Active, Failed, Pending, Terminated};
use crate::api::{ConfStatus, RefusedConfStatus};
use crate::model::fixtures::{connect_pool, failed, ready, session, thrift_pool};
use crate::model::{AppliedConf, ConfToSet, Pool, Progress, ReleaseOutcome, own_spark_session_id};
use crate::plan::Action;

const ONE: Uuid = Uuid::from_u128(1);
const TWO: Uuid = Uuid::from_u128(2);

/// A pool whose sessions start with one setting.
fn pool() -> Pool {
    with_conf(connect_pool("p").sized(1, 1), "spark.sql.shuffle.partitions")
}

fn with_conf(mut pool: Pool, key: &str) -> Pool {
    pool.spec.session_policy.default_session_conf.insert(key.to_owned(), "8".to_owned());
    pool
}

fn done() -> Progress {
    Progress::Done(AppliedConf {
        applied: vec!["spark.sql.shuffle.partitions".to_owned()],
        refused: Vec::new(),
    })
}

fn prepared_ids(cluster: &Cluster) -> Vec<Uuid> {
    cluster.sessions[0].status.prepared_session_ids.iter().map(|id| id.parse().unwrap()).collect()
}

fn preparing() -> Cluster {
    Cluster::of(pool()).instance(ready("p-0")).session(session("s").with_spark_id(ONE)).settled()
}

#[test]
fn a_session_is_active_when_it_has_its_configuration_and_not_before() {
    let cluster = preparing();
    assert_eq!(
        cluster.told("s"),
        (Pending, "ApplyingConf", "Its configuration is being set on instance p-0.")
    );
    assert_eq!(cluster.place_of("s"), Some("p-0"));
    let asked = &cluster.preparations[&("s".to_owned(), "p-0".to_owned(), ONE)];
    assert_eq!(asked["spark.sql.shuffle.partitions"], "8");
    assert!(prepared_ids(&cluster).is_empty());

    let cluster = cluster.prepared("s", ONE, done()).settled();
    assert_eq!(cluster.told("s"), (Active, "Placed", "Served by instance p-0."));
    assert_eq!(prepared_ids(&cluster), [ONE]);
    let conf =
        ConfStatus { applied: vec!["spark.sql.shuffle.partitions".to_owned()], ..ConfStatus::default() };
    assert_eq!(cluster.sessions[0].status.conf, Some(conf));
}

#[test]
fn a_status_names_as_many_keys_as_it_has_room_for_and_first_those_refused() {
    let applied = (0..10_000).map(|n| format!("spark.example.{n:05}")).collect();
    let refused = vec![("spark.sql.ansi.enabled".to_owned(), "no boolean".to_owned())];
    let done = Progress::Done(AppliedConf { applied, refused });
    let cluster = preparing().prepared("s", ONE, done).settled();
    let conf = cluster.sessions[0].status.conf.clone().unwrap();
    assert_eq!(conf.refused.len(), 1);
    let bytes: usize = conf.applied.iter().map(String::len).sum();
    assert!((16_000..16 * 1024).contains(&bytes), "{bytes}");
    assert_eq!(conf.unlisted, Some(10_000 - i32::try_from(conf.applied.len()).unwrap()));
}

/// The operator logs what it does.
#[test]
fn an_action_prints_no_value_of_the_configuration() {
    let action = Action::PrepareSpark {
        session: "s".to_owned(),
        uid: "uid".to_owned(),
        instance: "p-0".to_owned(),
        spark_session_id: ONE,
        conf: ConfToSet([("spark.hadoop.fs.s3a.secret.key".to_owned(), "hunter2".to_owned())].into()),
    };
    let printed = format!("{action:?}");
    assert!(printed.contains("s3a.secret.key") && !printed.contains("hunter2"), "{printed}");
}

#[test]
fn a_failing_attempt_is_told_and_not_the_end() {
    let failing =
        preparing().prepared("s", ONE, Progress::Failing("p-0 does not answer.".to_owned())).settled();
    let message = "Setting its configuration on instance p-0 failed: p-0 does not answer; trying again.";
    assert_eq!(failing.told("s"), (Pending, "ApplyingConf", message));
    assert_eq!(failing.prepared("s", ONE, done()).settled().state_of("s"), Active);
}

#[test]
fn without_configuration_nothing_is_waited_for() {
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).instance(ready("p-0"));
    let cluster = cluster.session(session("s").with_spark_id(ONE)).planned();
    assert_eq!((cluster.state_of("s"), prepared_ids(&cluster)), (Active, vec![ONE]));
    assert_eq!(cluster.sessions[0].status.conf, None);
}

#[test]
fn what_is_refused_is_named_with_its_reason() {
    let pool = with_conf(pool(), "spark.executor.memory");
    let cluster = Cluster::of(pool).instance(ready("p-0")).session(session("s").with_spark_id(ONE)).settled();
    let by_spark = ("spark.sql.ansi.enabled".to_owned(), "is not a boolean".to_owned());
    let progress = Progress::Done(AppliedConf { applied: Vec::new(), refused: vec![by_spark] });
    let cluster = cluster.prepared("s", ONE, progress).settled();
    assert_eq!(cluster.state_of("s"), Active, "refused keys keep nobody out");
    let refused =
        |key: &str, reason: &str| RefusedConfStatus { key: key.to_owned(), reason: reason.to_owned() };
    let memory = refused(
        "spark.executor.memory",
        "spark.executor.memory of the pool's defaultSessionConf is not set, because Spark takes it only when a server \
         starts: it belongs into the pool's sparkApplicationTemplate",
    );
    let ansi = refused("spark.sql.ansi.enabled", "is not a boolean");
    assert_eq!(
        cluster.sessions[0].status.conf,
        Some(ConfStatus { refused: vec![memory, ansi], ..ConfStatus::default() })
    );
}

#[test]
fn one_made_by_kubectl_is_prepared_when_a_client_has_claimed_it() {
    let mut cluster = Cluster::of(pool()).instance(ready("p-0")).session(session("s")).settled();
    assert_eq!(cluster.told("s"), (Active, "Placed", "Served by instance p-0."));
    assert!(cluster.preparations.is_empty());
    cluster.find_session("s").status.session_id = Some(ONE.to_string());
    cluster.settle();
    assert_eq!((cluster.state_of("s"), prepared_ids(&cluster)), (Active, vec![]));
    let cluster = cluster.prepared("s", ONE, done()).settled();
    assert_eq!(prepared_ids(&cluster), [ONE]);
    assert!(cluster.sessions[0].status.conf.is_some());
}

const HANGS: &str = "Setting its configuration on instance p-0 failed: no answer; trying again.";

fn failing() -> Progress {
    Progress::Failing("no answer".to_owned())
}

/// What the clients of the Spark sessions that fail hear, whether they are refused, and since when that is so.
fn setup_failures(cluster: &Cluster) -> Vec<(&str, bool, i64)> {
    let since = |at: &Timestamp| at.as_second() - crate::model::fixtures::at(0).as_second();
    let failures = cluster.sessions[0].status.setup_failures.iter();
    failures.map(|it| (it.message.as_str(), it.gave_up, since(&it.since.0))).collect()
}

#[test]
fn one_made_by_kubectl_that_cannot_be_set_up_says_so_and_fails_in_the_end() {
    let pool = pool().giving_up_after(60);
    let mut cluster = Cluster::of(pool).instance(ready("p-0")).session(session("s")).settled();
    cluster.find_session("s").status.session_id = Some(ONE.to_string());
    let mut cluster = cluster.at(1000).settled().prepared("s", ONE, failing()).settled();
    assert_eq!((cluster.state_of("s"), setup_failures(&cluster)), (Active, vec![(HANGS, false, 1000)]));
    // The next leader knows since when.
    cluster.spark_sides.clear();
    let cluster = cluster.at(1059).settled();
    assert_eq!((setup_failures(&cluster), cluster.wakes_at()), (vec![(HANGS, false, 1000)], Some(1060)));
    let cluster = cluster.at(1060).settled();
    let message = "Spark session 00000000-0000-0000-0000-000000000001 was not set up in pool p within 60 s: setting its \
                   configuration on instance p-0 failed: no answer; trying again. Try again later; the pool's \
                   administrator finds more with `kubectl describe ssp`.";
    assert_eq!(cluster.told("s"), (Failed, "StartTimeout", message));
    assert_eq!(setup_failures(&cluster), []);
    assert_eq!(cluster.releases["s"], "p-0");
}

#[test]
fn a_client_that_joins_and_cannot_be_set_up_is_refused_alone_and_until_it_can() {
    let shared = session("s").named("etl").shared_by_clients(&[ONE]);
    let pool = pool().giving_up_after(60);
    let cluster = Cluster::of(pool).instance(ready("p-0")).session(shared).settled();
    let mut cluster = cluster.prepared("s", ONE, done()).settled();
    cluster.find_session("s").status.client_session_ids.push(TWO.to_string());
    let cluster = cluster.at(1000).settled().prepared("s", TWO, failing()).settled();
    assert_eq!(setup_failures(&cluster), [(HANGS, false, 1000)]);
    let cluster = cluster.at(1060).settled();
    assert_eq!((cluster.told("s").0, cluster.told("s").1), (Active, "Placed"), "the first one works on");
    assert_eq!(prepared_ids(&cluster), [ONE]);
    let message = "Spark session 00000000-0000-0000-0000-000000000002 was not set up in pool p within 60 s: setting its \
                   configuration on instance p-0 failed: no answer; trying again. Try again later; the pool's \
                   administrator finds more with `kubectl describe ssp`.";
    assert_eq!(setup_failures(&cluster), [(message, true, 1000)]);

    let with_another_reason =
        cluster.clone().prepared("s", TWO, Progress::Failing("gone".to_owned())).at(2000).settled();
    assert_eq!(setup_failures(&with_another_reason), [(message, true, 1000)], "written once");
    let done = cluster.clone().prepared("s", TWO, done()).settled();
    assert_eq!((prepared_ids(&done), setup_failures(&done)), (vec![ONE, TWO], vec![]));
    let mut left = cluster;
    left.find_session("s").status.client_session_ids.pop();
    left.settle();
    assert_eq!((prepared_ids(&left), setup_failures(&left)), (vec![ONE], vec![]));
}

#[test]
fn a_new_leader_believes_the_status_and_prepares_nothing_again() {
    let mut cluster = preparing().prepared("s", ONE, done()).settled();
    cluster.spark_sides.clear();
    cluster.preparations.clear();
    cluster.settle();
    assert_eq!((prepared_ids(&cluster), cluster.preparations.len()), (vec![ONE], 0));
    assert!(cluster.sessions[0].status.conf.is_some());
}

#[test]
fn what_was_set_on_another_server_does_not_count() {
    let mut cluster = preparing().prepared("s", ONE, done());
    cluster.preparations.clear();
    cluster.find_instance("p-0").pod = Some(("p-0-driver".to_owned(), "another uid".to_owned()));
    cluster.settle();
    assert_eq!((prepared_ids(&cluster), cluster.preparations.len()), (vec![], 1));
    assert_eq!(cluster.state_of("s"), Pending, "nobody has used it: nothing is lost");
}

#[test]
fn a_session_whose_instance_is_lost_before_anybody_used_it_is_set_up_elsewhere() {
    let mut cluster = preparing();
    *cluster.find_instance("p-0") = failed("p-0", "OOM");
    cluster = cluster.instance(ready("p-1")).settled();
    assert_eq!((cluster.state_of("s"), cluster.place_of("s")), (Pending, Some("p-1")));
    let cluster = cluster.prepared("s", ONE, done()).settled();
    assert_eq!(cluster.told("s"), (Active, "Placed", "Served by instance p-1."));
}

#[test]
fn a_named_session_has_an_id_of_its_own_and_each_client_is_prepared() {
    let shared = session("s").named("etl").shared_by_clients(&[ONE]);
    let mut cluster = Cluster::of(pool()).instance(ready("p-0")).session(shared).settled();
    let own = own_spark_session_id("uid-of-s").to_string();
    assert_eq!(
        cluster.sessions[0].status.session_id,
        Some(own),
        "nobody knows it before its object is there"
    );
    assert_eq!(cluster.state_of("s"), Pending);
    cluster = cluster.prepared("s", ONE, done()).settled();
    assert_eq!((cluster.state_of("s"), prepared_ids(&cluster)), (Active, vec![ONE]));

    cluster.find_session("s").status.client_session_ids.push(TWO.to_string());
    cluster.settle();
    assert_eq!(
        (cluster.state_of("s"), prepared_ids(&cluster)),
        (Active, vec![ONE]),
        "the first one works on"
    );
    cluster = cluster.prepared("s", TWO, done()).settled();
    assert_eq!(prepared_ids(&cluster), [ONE, TWO]);

    cluster.find_session("s").status.client_session_ids.remove(0);
    cluster.settle();
    assert_eq!(prepared_ids(&cluster), [TWO], "the first one has left");
}

/// Spark makes no clone under an id that it has heard of.
#[test]
fn nothing_is_set_for_a_clone_of_a_named_session() {
    let shared = session("s").named("etl").shared_by_clients(&[ONE]);
    let mut cluster = Cluster::of(pool()).instance(ready("p-0")).session(shared).settled();
    cluster = cluster.prepared("s", ONE, done()).settled();
    let status = &mut cluster.find_session("s").status;
    status.client_session_ids.push(TWO.to_string());
    status.cloned_session_ids.push(TWO.to_string());
    cluster.settle();
    assert_eq!((prepared_ids(&cluster), cluster.preparations.len()), (vec![ONE], 1));
    assert!(cluster.find_session("s").is_prepared(TWO), "it has the configuration of its original");
}

#[test]
fn a_thrift_session_gets_its_configuration_when_it_is_opened() {
    let pool = with_conf(thrift_pool("p").sized(1, 1), "spark.sql.shuffle.partitions");
    let cluster = Cluster::of(pool).instance(ready("p-0")).session(session("s").named("etl")).settled();
    assert_eq!((cluster.state_of("s"), cluster.preparations.len()), (Active, 0));
    assert_eq!(cluster.sessions[0].status.session_id, None);
}

#[test]
fn nothing_of_an_ended_session_is_prepared() {
    let mut cluster = preparing().prepared("s", ONE, done()).settled();
    cluster.find_session("s").status.released_at = Some(crate::model::fixtures::time(9));
    cluster.preparations.clear();
    cluster.settle();
    assert!(cluster.preparations.is_empty());
    let over = cluster.released("s", ReleaseOutcome::Released).settled();
    assert_eq!((over.state_of("s"), prepared_ids(&over)), (Terminated, vec![]));
}
