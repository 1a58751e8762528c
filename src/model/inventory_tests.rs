use rstest::rstest;
use uuid::Uuid;

use super::super::APPLICATION_STATES;
use super::*;
use crate::api::SessionState;
use crate::model::InstancePhase;
use crate::model::fixtures::{application, connect_pool, driver, session, thrift_pool, time, token_secret};

const HOST: &str = "spark.example.com";

fn inventory(objects: impl IntoIterator<Item = Object>) -> Inventory {
    let mut inventory = Inventory::default();
    for object in objects {
        inventory.put(object);
    }
    inventory
}

fn serving(inventory: &Inventory, protocol: Protocol) -> Option<&str> {
    inventory.pool_for(HOST, protocol).map(|pool| pool.name())
}

fn phase(inventory: &Inventory) -> Option<InstancePhase> {
    inventory.instance("p-0").map(|instance| instance.phase)
}

/// Pool `p` with instance `p-0`, whose driver has an address.
fn one_instance() -> Inventory {
    inventory([
        Object::Pool(connect_pool("p")),
        Object::Application(application("p-0")),
        Object::Pod(driver("p-0").at_ip("10.0.0.1")),
    ])
}

#[test]
fn objects_may_come_in_any_order() {
    let objects = [
        Object::Pool(connect_pool("p")),
        Object::Application(application("p-0")),
        Object::Pod(driver("p-0").at_ip("10.0.0.1")),
        Object::Session(session("s").on("p-0")),
    ];
    for rotation in 0..objects.len() {
        let mut order = objects.to_vec();
        order.rotate_left(rotation);
        let mut inventory = inventory(order);
        inventory.server_answers("uid-of-p-0-driver");
        let view = inventory.pool_view("p").unwrap();
        assert_eq!((view.instances.len(), view.sessions.len()), (1, 1));
        assert_eq!(view.instances[0].phase, InstancePhase::Ready);
        assert_eq!(inventory.routing().endpoints.len(), 1);
    }
}

#[rstest]
#[case::a_session_without_its_pool(Object::Session(session("s").on("p-0")))]
#[case::an_application_without_its_pool(Object::Application(application("p-0")))]
#[case::a_pod_without_its_application(Object::Pod(driver("p-0").at_ip("10.0.0.1")))]
fn a_dangling_reference_does_no_harm(#[case] object: Object) {
    let mut inventory = inventory([object.clone()]);
    assert!(inventory.pool_view("p").is_none());
    assert_eq!(phase(&inventory), None);
    assert_eq!(inventory.routing(), Routing::default());
    assert_eq!(inventory.servers_to_probe(), []);
    assert_eq!(inventory.remove(object.kind(), &object.meta().name.clone()), ["p"]);
}

#[test]
fn an_application_without_a_pod_is_an_instance_that_starts() {
    let inventory = inventory([Object::Pool(connect_pool("p")), Object::Application(application("p-0"))]);
    let instance = inventory.instance("p-0").unwrap();
    assert_eq!(
        (instance.phase, instance.pod.as_ref(), instance.endpoint),
        (InstancePhase::Starting, None, None)
    );
    assert_eq!(instance.cluster(), None);
}

#[test]
fn an_instance_is_ready_when_its_server_answers_and_not_before() {
    let mut inventory = one_instance();
    assert_eq!(phase(&inventory), Some(InstancePhase::Starting));
    assert_eq!(inventory.server_answers("uid-of-p-0-driver"), Some("p".to_owned()));
    assert_eq!(phase(&inventory), Some(InstancePhase::Ready));
    assert_eq!(inventory.server_answers("uid-of-p-0-driver"), None, "no news");
    assert_eq!(inventory.server_answers("uid-of-nobody"), None);
}

#[test]
fn every_state_of_the_spark_operator_leaves_an_instance_as_it_is_or_ends_it() {
    use InstancePhase::{Failed, Ready, Starting};
    // Where the server answers, and where it does not.
    let expected = [
        ("", Ready, Starting),
        ("SUBMITTED", Ready, Starting),
        ("RUNNING", Ready, Starting),
        ("COMPLETED", Failed, Failed),
        ("FAILED", Failed, Failed),
        ("SUBMISSION_FAILED", Ready, Starting),
        ("PENDING_RERUN", Ready, Starting),
        ("INVALIDATING", Ready, Starting),
        ("SUCCEEDING", Failed, Failed),
        ("FAILING", Failed, Failed),
        ("SUSPENDING", Failed, Failed),
        ("SUSPENDED", Failed, Failed),
        ("RESUMING", Ready, Starting),
        ("UNKNOWN", Ready, Starting),
        ("A_WORD_FROM_A_LATER_VERSION", Ready, Starting),
    ];
    for state in APPLICATION_STATES {
        assert!(expected.iter().any(|(word, ..)| *word == state.word), "{state:?}");
    }
    for (word, answering, silent) in expected {
        let mut inventory = one_instance();
        inventory.put(Object::Application(application("p-0").reported(word)));
        assert_eq!(phase(&inventory), Some(silent), "{word}");
        inventory.server_answers("uid-of-p-0-driver");
        assert_eq!(phase(&inventory), Some(answering), "{word}, and it answers");
    }
}

#[rstest]
#[case::its_pod_has_ended(Object::Pod(driver("p-0").at_ip("10.0.0.1").that_ended()), InstancePhase::Failed)]
#[case::its_pod_goes(Object::Pod(driver("p-0").at_ip("10.0.0.1").being_deleted()), InstancePhase::Deleting)]
#[case::its_application_goes(Object::Application(application("p-0").being_deleted()), InstancePhase::Deleting)]
fn an_instance_ends_when(#[case] change: Object, #[case] expected: InstancePhase) {
    let mut inventory = one_instance();
    inventory.server_answers("uid-of-p-0-driver");
    inventory.put(change);
    assert_eq!(phase(&inventory), Some(expected));
}

#[test]
fn the_newest_pod_counts() {
    let mut inventory = one_instance();
    inventory.server_answers("uid-of-p-0-driver");
    inventory.put(Object::Pod(driver("p-0").called("retry").at_ip("10.0.0.2").created(9)));
    let instance = inventory.instance("p-0").unwrap();
    assert_eq!(instance.endpoint.unwrap().to_string(), "10.0.0.2:15002");
    assert_eq!(instance.phase, InstancePhase::Starting, "the new server has not answered");
    inventory.remove(Kind::Pod, "retry");
    assert_eq!(phase(&inventory), Some(InstancePhase::Ready));
}

#[test]
fn a_pod_of_the_same_name_is_another_pod_whose_server_has_to_answer_anew() {
    let mut inventory = one_instance();
    inventory.server_answers("uid-of-p-0-driver");
    inventory.put(Object::Pod(driver("p-0").with_uid("another").at_ip("10.0.0.1")));
    assert_eq!(phase(&inventory), Some(InstancePhase::Starting));
    assert_eq!(inventory.instance("p-0").unwrap().cluster().as_deref(), Some("p-0/another"));
    let probed: Vec<_> = inventory.servers_to_probe().into_iter().map(|(uid, _)| uid).collect();
    assert_eq!(probed, ["another"]);
}

#[test]
fn servers_are_probed_from_their_address_until_they_answer() {
    let mut inventory = inventory([Object::Pool(thrift_pool("p")), Object::Application(application("p-0"))]);
    inventory.put(Object::Pod(driver("p-0")));
    assert_eq!(inventory.servers_to_probe(), []);
    inventory.put(Object::Pod(driver("p-0").at_ip("10.0.0.1")));
    let (uid, endpoint) = inventory.servers_to_probe().remove(0);
    assert_eq!(
        (endpoint.protocol, endpoint.address.to_string().as_str()),
        (Protocol::Thrift, "10.0.0.1:10001")
    );
    inventory.server_answers(&uid);
    assert_eq!(inventory.servers_to_probe(), []);
}

#[rstest]
#[case::has_ended(driver("p-0").at_ip("10.0.0.1").that_ended())]
#[case::goes(driver("p-0").at_ip("10.0.0.1").being_deleted())]
fn a_server_is_not_probed_when_its_pod(#[case] pod: DriverPod) {
    let mut inventory = one_instance();
    inventory.put(Object::Pod(pod));
    assert_eq!(inventory.servers_to_probe(), []);
}

#[test]
fn the_older_pool_has_the_host() {
    let inventory = inventory([
        Object::Pool(connect_pool("a-young").created(9)),
        Object::Pool(connect_pool("b-old").created(1)),
    ]);
    assert_eq!(serving(&inventory, Protocol::Connect), Some("b-old"));
    assert_eq!(inventory.pool_view("a-young").unwrap().host_taken_by.as_deref(), Some("b-old"));
    assert_eq!(inventory.pool_view("b-old").unwrap().host_taken_by, None);
}

#[test]
fn pools_of_the_same_second_are_told_apart_by_name() {
    let inventory = inventory([Object::Pool(connect_pool("b")), Object::Pool(connect_pool("a"))]);
    assert_eq!(serving(&inventory, Protocol::Connect), Some("a"));
}

#[test]
fn one_host_serves_a_pool_of_each_type() {
    let inventory = inventory([Object::Pool(connect_pool("c")), Object::Pool(thrift_pool("t").created(9))]);
    assert_eq!(serving(&inventory, Protocol::Connect), Some("c"));
    assert_eq!(serving(&inventory, Protocol::Thrift), Some("t"));
    assert_eq!(inventory.pool_view("t").unwrap().host_taken_by, None);
}

#[test]
fn the_host_is_handed_over_when_its_pool_goes() {
    let mut inventory =
        inventory([Object::Pool(connect_pool("old")), Object::Pool(connect_pool("young").created(9))]);
    assert_eq!(inventory.remove(Kind::Pool, "old"), ["old", "young"], "both have to be planned");
    assert_eq!(serving(&inventory, Protocol::Connect), Some("young"));
    inventory.remove(Kind::Pool, "young");
    assert!(!inventory.serves_host(HOST));
}

#[test]
fn the_host_is_handed_over_when_its_pool_changes_host() {
    let mut inventory =
        inventory([Object::Pool(connect_pool("old")), Object::Pool(connect_pool("young").created(9))]);
    let touched = inventory.put(Object::Pool(connect_pool("old").with_host("other.example.com")));
    assert_eq!(touched, ["old", "young"]);
    assert_eq!(serving(&inventory, Protocol::Connect), Some("young"));
    assert_eq!(inventory.pool_for("other.example.com", Protocol::Connect).unwrap().name(), "old");
}

#[test]
fn a_pool_that_was_made_anew_loses_its_seniority() {
    let mut inventory =
        inventory([Object::Pool(connect_pool("a")), Object::Pool(connect_pool("b").created(5))]);
    inventory.put(Object::Pool(connect_pool("a").created(9)));
    assert_eq!(serving(&inventory, Protocol::Connect), Some("b"));
}

#[test]
fn envoy_hears_of_hosts_and_of_servers_that_do_not_answer_yet() {
    let mut inventory = one_instance();
    inventory.put(Object::Pool(thrift_pool("t").with_host("sql.example.com")));
    inventory.put(Object::Application(
        application("t-4").of_pool("t").with_conf("spark.hadoop.hive.server2.thrift.http.port", "10010"),
    ));
    inventory.put(Object::Pod(driver("t-4").at_ip("10.0.0.2")));
    inventory.put(Object::Application(application("p-1")));
    inventory.put(Object::Pod(driver("p-1")));
    inventory.put(Object::Application(application("p-2")));
    inventory.put(Object::Pod(driver("p-2").at_ip("10.0.0.3").that_ended()));
    let routing = inventory.routing();
    let hosts: Vec<_> = routing
        .hosts
        .iter()
        .map(|(host, pools)| (host.as_str(), pools.connect.as_deref(), pools.thrift.as_deref()))
        .collect();
    assert_eq!(hosts, [(HOST, Some("p"), None), ("sql.example.com", None, Some("t"))]);
    let endpoints: Vec<_> = routing
        .endpoints
        .iter()
        .map(|(name, endpoint)| format!("{name} {} {}", endpoint.protocol, endpoint.address))
        .collect();
    assert_eq!(
        endpoints,
        ["p-0/uid-of-p-0-driver connect 10.0.0.1:15002", "t-4/uid-of-t-4-driver thrift 10.0.0.2:10010"]
    );
}

#[test]
fn readiness_and_sessions_do_not_change_what_envoy_hears() {
    let mut inventory = one_instance();
    let before = inventory.routing();
    inventory.server_answers("uid-of-p-0-driver");
    inventory.put(Object::Session(session("s").on("p-0")));
    assert_eq!(inventory.routing(), before);
}

#[test]
fn a_session_is_found_by_its_spark_id_once_it_is_claimed() {
    let id = Uuid::from_u128(7);
    let mut inventory = inventory([Object::Session(session("s"))]);
    assert!(inventory.sessions_with_spark_id("p", id).is_empty());
    inventory.put(Object::Session(session("s").claimed_by(id)));
    assert_eq!(inventory.sessions_with_spark_id("p", id)[0].name(), "s");
    assert!(inventory.sessions_with_spark_id("other", id).is_empty());
    inventory.put(Object::Session(session("s").claimed_by(Uuid::from_u128(8))));
    assert!(inventory.sessions_with_spark_id("p", id).is_empty());
    inventory.remove(Kind::Session, "s");
    assert!(inventory.sessions_with_spark_id("p", Uuid::from_u128(8)).is_empty());
}

#[test]
fn the_sessions_of_a_user_are_his_in_that_pool_oldest_first() {
    let inventory = inventory([
        Object::Session(session("a-young").created(9)),
        Object::Session(session("b-old").created(1).in_state(SessionState::Failed)),
        Object::Session(session("of-another").of("bob")),
        Object::Session(session("elsewhere").in_pool("q")),
    ]);
    let names: Vec<_> = inventory.sessions_of("p", "alice").into_iter().map(|s| s.name()).collect();
    assert_eq!(names, ["b-old", "a-young"]);
    assert_eq!(inventory.sessions_in("p").count(), 3);
}

#[test]
fn what_nobody_decides_by_touches_no_pool() {
    let mut inventory = inventory([Object::Session(session("s").version(1))]);
    assert!(inventory.put(Object::Session(session("s").version(2))).is_empty());
    assert_eq!(inventory.version(Kind::Session, "s"), Some(2));
    for changed in [session("s").on("p-0"), session("s").being_deleted(), session("s").with_uid("other")] {
        assert_eq!(inventory.put(Object::Session(changed)), ["p"]);
    }
}

/// Each session in use would have its pool planned once a minute.
#[test]
fn the_last_use_of_a_session_touches_its_pool_only_if_it_is_idle() {
    let used = |state, seconds| {
        let mut session = session("s").in_state(state);
        session.status.last_activity_at = Some(time(seconds));
        Object::Session(session)
    };
    let mut inventory = inventory([used(SessionState::Active, 0)]);
    assert!(inventory.put(used(SessionState::Active, 60)).is_empty());
    let known = inventory.session("s").and_then(|session| session.status.last_activity_at.clone());
    assert_eq!(known, Some(time(60)));
    assert_eq!(inventory.put(used(SessionState::Idle, 60)), ["p"], "another state");
    assert_eq!(inventory.put(used(SessionState::Idle, 61)), ["p"]);
    assert!(inventory.put(used(SessionState::Idle, 61)).is_empty());
    assert_eq!(inventory.put(used(SessionState::Active, 120)), ["p"], "another state");
}

/// It leaves Envoy with its Pod: its sessions' requests still go there.
#[test]
fn a_draining_instance_stays_known_to_envoy() {
    let mut inventory = Inventory::default();
    inventory.put(Object::Pool(connect_pool("p")));
    inventory.put(Object::Pod(driver("p-0").at_ip("10.0.0.1")));
    inventory.put(Object::Application(application("p-0")));
    let before = inventory.routing();
    inventory.put(Object::Application(Application { draining: true, ..application("p-0") }));
    assert_eq!(inventory.routing(), before);
    assert_eq!(before.endpoints.len(), 1);
}

#[test]
fn a_host_that_is_no_dns_name_stays_out_of_the_routes_and_harms_no_other() {
    let mut inventory = inventory([Object::Pool(connect_pool("good"))]);
    for host in ["*", "*.example.com", "Spark.example.com", "a.example.com:443", "a b"] {
        inventory.put(Object::Pool(thrift_pool("bad").with_host(host)));
        let view = inventory.pool_view("bad").unwrap();
        assert_eq!((view.host_invalid, view.host_taken_by), (true, None), "{host}");
        assert!(!inventory.serves_host(host));
        assert_eq!(inventory.routing().hosts.keys().collect::<Vec<_>>(), [HOST]);
    }
    inventory.put(Object::Pool(thrift_pool("bad")));
    assert_eq!(serving(&inventory, Protocol::Thrift), Some("bad"), "once it is corrected");
    inventory.put(Object::Pool(thrift_pool("bad").with_host("*")));
    assert_eq!(serving(&inventory, Protocol::Thrift), None);
}

#[rstest]
#[case::of_this_pool(Some("uid-of-p"), Some(false))]
#[case::of_nobody(None, Some(true))]
#[case::of_a_deleted_namesake_of_the_pool(Some("uid-of-the-last-p"), None)]
fn an_application_is_an_instance_unless_another_owns_it(
    #[case] controller: Option<&str>,
    #[case] orphaned: Option<bool>,
) {
    let mut inventory = one_instance();
    let controller = controller.map(str::to_owned);
    inventory.put(Object::Application(Application { controller, ..application("p-7") }));
    inventory.put(Object::Pod(driver("p-7").at_ip("10.0.0.7")));
    assert_eq!(inventory.instance("p-7").map(|instance| instance.orphaned), orphaned);
    let view = inventory.pool_view("p").unwrap();
    assert_eq!(view.instances.iter().any(|instance| instance.name == "p-7"), orphaned.is_some());
    assert_eq!(view.free_ordinal, 8, "its name is taken in any case");
    let routed = inventory.routing().endpoints.keys().any(|cluster| cluster.starts_with("p-7/"));
    assert_eq!(routed, orphaned.is_some());
}

/// A pool that is deleted and made anew: the garbage collector has deleted the SparkApplication, and its driver takes its time.
#[test]
fn the_ordinal_of_a_driver_that_still_ends_is_not_free() {
    let mut inventory = Inventory::default();
    inventory.put(Object::Pool(connect_pool("p")));
    inventory.put(Object::Application(application("p-3")));
    inventory.put(Object::Pod(driver("p-3").at_ip("10.0.0.1")));
    let free = |inventory: &Inventory| inventory.pool_view("p").unwrap().free_ordinal;
    inventory.put(Object::Token(token_secret("p-3", "t")));
    inventory.remove(Kind::Application, "p-3");
    assert_eq!(free(&inventory), 4);
    inventory.put(Object::Pod(DriverPod { ended: true, ..driver("p-3") }));
    assert_eq!(free(&inventory), 4, "it keeps its name");
    inventory.remove(Kind::Pod, "p-3-driver");
    assert_eq!(free(&inventory), 4, "its Secret, too");
    inventory.remove(Kind::Token, "p-3-token");
    assert_eq!(free(&inventory), 0);
    inventory.put(Object::Token(token_secret("p-x-7", "t")));
    assert_eq!(free(&inventory), 0, "another pool's");
}
