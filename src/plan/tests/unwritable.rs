//! Sessions whose status the API server does not take.

use super::cluster::Cluster;
use crate::api::SessionState::{Active, Failed, Pending};
use crate::api::Sharing;
use crate::model::fixtures::{connect_pool, ready, session, starting, time};
use crate::model::{Pool, ReleaseOutcome, Session};
use crate::plan::{Action, Observations, Plan};

fn refusing(cluster: Cluster, session: &str) -> Cluster {
    let mut cluster = cluster;
    cluster.unwritable.insert(session.to_owned());
    cluster
}

/// Whatever is done or told of this session.
fn about(plan: &Plan, session: &str) -> Vec<&'static str> {
    plan.actions.iter().filter(|it| it.session() == Some(session)).map(Action::name).collect()
}

fn one_place() -> Pool {
    connect_pool("p").sized(1, 1).with_places_per_instance(1)
}

#[test]
fn one_that_can_be_given_no_place_keeps_none_from_others() {
    let cluster = Cluster::of(one_place()).instance(ready("p-0")).session(session("large"));
    let cluster = refusing(cluster, "large").session(session("s").of("bob").created(1)).settled();
    assert_eq!((cluster.place_of("s"), cluster.place_of("large")), (Some("p-0"), None));
    assert_eq!(about(&cluster.plan(), "large"), [""; 0]);
    assert!(cluster.events.iter().all(|(_, note)| !note.contains("large")), "{:?}", cluster.events);
}

#[test]
fn nothing_is_started_for_it() {
    let cluster = refusing(Cluster::of(connect_pool("p")).session(session("large")), "large").settled();
    assert_eq!((cluster.instances.len(), cluster.pool.status.pending_sessions), (0, 0));
    let again = cluster.at(1);
    assert_eq!(
        (about(&again.plan(), "large"), again.creates()),
        (vec!["UpdateSessionStatus", "SessionWaiting"], vec![])
    );
}

#[test]
fn it_is_tried_again_later_and_later_and_at_once_when_it_has_changed() {
    let cluster =
        refusing(Cluster::of(connect_pool("p")).instance(starting("p-0")).session(session("large")), "large");
    let mut cluster = cluster.settled();
    for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
        let tries = |now| about(&cluster.clone().at(now).plan(), "large");
        assert_eq!(cluster.wakes_at(), Some(cluster.now + wait));
        assert_eq!(tries(cluster.now + wait - 1), [""; 0]);
        assert_ne!(tries(cluster.now + wait), [""; 0]);
        cluster = cluster.clone().at(cluster.now + wait).settled();
    }
    cluster.find_session("large").meta.resource_version += 1;
    cluster.unwritable.clear();
    assert_eq!(cluster.settled().state_of("large"), Pending);
}

#[test]
fn one_beyond_the_quota_is_left_alone() {
    let sessions = ["a", "b"].map(|name| session(name).on("p-0").held());
    let cluster =
        Cluster::of(connect_pool("p").allowing_each_user(2).held()).instance(ready("p-0")).sessions(sessions);
    let cluster = refusing(cluster.session(session("large").created(1)), "large");
    let cluster = cluster.session(session("s").of("bob").created(2)).settled();
    assert_eq!((cluster.state_of("s"), cluster.state_of("large")), (Active, Pending));
}

/// At the end of its lifetime.
fn ended_in_vain(pool: Pool, ended: Session) -> Cluster {
    let mut cluster =
        Cluster::of(pool.ending_sessions_after(60).held()).instance(ready("p-0")).session(ended.held());
    cluster.observations = Observations::default();
    refusing(cluster, "large").at(3_600).settled()
}

#[test]
fn what_one_with_a_place_has_on_spark_is_released_at_its_end() {
    let cluster = ended_in_vain(connect_pool("p"), session("large").on("p-0"));
    assert_eq!(cluster.releases["large"], "p-0");
    let cluster = cluster.released("large", ReleaseOutcome::Released).settled().settled();
    assert_eq!(cluster.state_of("large"), Active, "as far as can be seen");
    assert_eq!(cluster.fleet()[0].0, "p-0");
    let told = cluster.events.iter().any(|(reason, _)| reason.starts_with("Session"));
    assert!(!told, "{:?}", cluster.events);
}

#[test]
fn its_instance_goes_without_it() {
    let cluster = ended_in_vain(connect_pool("p"), session("large").on("p-0"));
    let cluster = cluster.released("large", ReleaseOutcome::Released).settled();
    assert_eq!(cluster.pool.status.total_active_sessions, 0);
    assert_eq!(cluster.swept().settled().instances.len(), 0);
}

#[test]
fn its_users_quota_counts_it_as_long_as_its_object_says_so_and_its_place_is_free() {
    let pool = connect_pool("p").sized(1, 1).allowing_each_user(1).shared_by(Sharing::Session);
    let cluster = ended_in_vain(pool, session("large").on("p-0")).released("large", ReleaseOutcome::Released);
    let newer = [session("own").created(3_600), session("bobs").of("bob").created(3_600)];
    let cluster = cluster.sessions(newer).settled();
    assert_eq!((cluster.told("own").0, cluster.told("own").1), (Failed, "QuotaExceeded"));
    assert_eq!(cluster.place_of("bobs"), Some("p-0"));
}

/// Its user released it before the API server refused it; and after that it is released on Spark.
#[test]
fn one_that_its_user_released_is_no_longer_counted_whatever_else_its_object_says() {
    let pool = connect_pool("p").sized(1, 1).allowing_each_user(1).held();
    let mut large = session("large").on("p-0").held();
    large.status.released_at = Some(time(0));
    let cluster = refusing(Cluster::of(pool).instance(ready("p-0")).session(large), "large").settled();
    let next = |cluster: &Cluster| cluster.clone().session(session("next").created(1)).settled();
    assert_eq!(next(&cluster).told("next").0, Active);
    let cluster = cluster.released("large", ReleaseOutcome::Released).settled();
    assert_eq!(next(&cluster).told("next").0, Active);
}

#[test]
fn one_that_is_deleted_goes() {
    let cluster = Cluster::of(connect_pool("p").held()).instance(ready("p-0"));
    let mut cluster = refusing(cluster.session(session("large").on("p-0").held()), "large").settled();
    cluster.delete_session("large");
    let cluster = cluster.settled();
    assert_eq!(cluster.releases["large"], "p-0");
    assert!(!cluster.released("large", ReleaseOutcome::Released).settled().has_session("large"));
}
