use std::time::Duration;

use super::*;
use crate::api::SessionState::{Active, Pending, Terminated};
use crate::model::TlsPolicy;
use crate::model::fixtures::{application, connect_pool, driver, session};

fn seen(version: u64, state: crate::api::SessionState) -> Object {
    Object::Session(session("s").version(version).in_state(state))
}

fn state(stores: &Stores) -> Option<crate::api::SessionState> {
    stores.read(|inventory| inventory.session("s").map(|session: &Arc<Session>| session.status.state))
}

#[tokio::test]
async fn an_answer_is_known_before_the_watch_shows_it() {
    let stores = Stores::new();
    stores.shown(seen(1, Pending));
    stores.written(seen(2, Active));
    assert_eq!(state(&stores), Some(Active));
}

#[tokio::test]
async fn a_created_object_is_known_before_the_watch_shows_it() {
    let stores = Stores::new();
    stores.written(seen(5, Pending));
    assert_eq!(state(&stores), Some(Pending));
}

#[tokio::test]
async fn an_answer_that_the_watch_has_overtaken_is_ignored() {
    let stores = Stores::new();
    stores.shown(seen(3, Terminated));
    stores.written(seen(2, Active));
    assert_eq!(state(&stores), Some(Terminated));
}

#[tokio::test]
async fn what_the_watch_shows_late_does_not_take_back_an_answer() {
    let stores = Stores::new();
    stores.shown(seen(1, Pending));
    stores.written(seen(3, Active));
    // Version 2 is someone else's write, which happened before ours and is shown after our answer.
    stores.shown(seen(2, Pending));
    assert_eq!(state(&stores), Some(Active));
}

#[tokio::test]
async fn a_session_that_is_deleted_before_its_end_is_told_of_once() {
    let stores = Stores::new();
    stores.shown(seen(1, Active));
    stores.gone(Kind::Session, "s", 2);
    let deleted: Vec<_> = stores.take_deleted("p").iter().map(|session| session.meta.name.clone()).collect();
    assert_eq!(deleted, ["s"]);
    assert!(stores.take_deleted("p").is_empty());

    stores.shown(seen(3, Terminated));
    stores.gone(Kind::Session, "s", 4);
    assert!(stores.take_deleted("p").is_empty(), "that end was known");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_watch_shows_too_is_planned_once() {
    let stores = Stores::new();
    stores.written(seen(2, Active));
    let pool = stores.queue.next().await;
    stores.queue.done(&pool);
    stores.shown(seen(2, Active));
    assert!(tokio::time::timeout(Duration::from_secs(1), stores.queue.next()).await.is_err());
    stores.shown(seen(3, Terminated));
    assert_eq!(stores.queue.next().await, pool);
}

#[tokio::test]
async fn a_deleted_object_does_not_come_back_with_a_late_answer() {
    let stores = Stores::new();
    stores.shown(seen(1, Pending));
    stores.gone(Kind::Session, "s", 3);
    stores.written(seen(2, Active));
    assert_eq!(state(&stores), None);
}

#[tokio::test]
async fn an_object_made_anew_under_an_old_name_is_known() {
    let stores = Stores::new();
    stores.shown(seen(1, Terminated));
    stores.gone(Kind::Session, "s", 3);
    stores.written(seen(4, Pending));
    assert_eq!(state(&stores), Some(Pending));
}

#[tokio::test]
async fn versions_of_one_kind_say_nothing_about_another() {
    let stores = Stores::new();
    stores.shown(Object::Pool(connect_pool("p").version(100)));
    stores.written(seen(5, Pending));
    assert_eq!(state(&stores), Some(Pending));
}

#[tokio::test(start_paused = true)]
async fn a_touched_pool_is_planned_and_an_ignored_answer_touches_nothing() {
    let stores = Stores::new();
    stores.shown(seen(3, Pending));
    assert_eq!(stores.queue.next().await, "p");
    stores.queue.done("p");
    stores.written(seen(2, Active));
    assert!(tokio::time::timeout(Duration::from_secs(1), stores.queue.next()).await.is_err());
}

#[tokio::test]
async fn those_who_wait_for_a_pool_hear_of_every_change_in_it_and_of_no_other() {
    let stores = Stores::new();
    let mut p = stores.changes("p");
    let mut q = stores.changes("q");
    p.mark_unchanged();
    q.mark_unchanged();
    let changes = [
        Object::Pool(connect_pool("p")),
        Object::Session(session("s")),
        Object::Application(application("p-0")),
        Object::Pod(driver("p-0").at_ip("10.0.0.1")),
    ];
    for change in changes {
        stores.shown(change);
        assert!(p.has_changed().unwrap());
        p.mark_unchanged();
    }
    stores.server_answers("uid-of-p-0-driver");
    assert!(p.has_changed().unwrap());
    assert!(!q.has_changed().unwrap());
}

#[tokio::test]
async fn the_stores_are_synced_when_every_watch_is() {
    let stores = Stores::new();
    for _ in 0..WATCHES {
        assert!(!stores.is_synced());
        stores.watch_synced();
    }
    assert!(stores.is_synced());
    stores.until_synced().await;
}

#[tokio::test]
async fn where_certificates_are_served_secrets_have_to_be_listed_too() {
    let stores = Stores::with_policy(Policy {
        tls: TlsPolicy { default_secret: None, off: None },
        ..Policy::default()
    });
    for _ in 0..=WATCHES {
        assert!(!stores.is_synced());
        stores.watch_synced();
    }
    assert!(stores.is_synced());
}

/// Whether the change is one for Envoy.
async fn tells_envoy(stores: &Stores, change: impl FnOnce()) -> bool {
    let hears =
        async || tokio::time::timeout(Duration::ZERO, stores.routing_changed.notified()).await.is_ok();
    // Of what happened before.
    hears().await;
    change();
    hears().await
}

#[tokio::test(start_paused = true)]
async fn envoy_is_told_of_what_routes_and_not_of_statuses() {
    let stores = Stores::new();
    let pool = || connect_pool("p");
    assert!(tells_envoy(&stores, || stores.shown(Object::Pool(pool()))).await, "a new pool");
    assert!(
        tells_envoy(&stores, || stores.shown(Object::Application(application("p-0")))).await,
        "a new instance"
    );

    let mut counted = pool().version(2);
    counted.status.total_active_sessions = 7;
    assert!(!tells_envoy(&stores, || stores.shown(Object::Pool(counted))).await, "a pool's status");
    let mut failed = application("p-0").version(2);
    failed.state = "FAILED".to_owned();
    assert!(
        !tells_envoy(&stores, || stores.shown(Object::Application(failed))).await,
        "an instance's status"
    );
    assert!(!tells_envoy(&stores, || stores.shown(seen(1, Active))).await, "a session");

    let mut moved = pool().version(3).with_host("other.example.com");
    moved.meta.generation += 1;
    assert!(tells_envoy(&stores, || stores.shown(Object::Pool(moved))).await, "a pool's host");
    let another = application("p-0").version(3).with_uid("another");
    assert!(tells_envoy(&stores, || stores.shown(Object::Application(another))).await, "a namesake");
    let ends = application("p-0").version(4).with_uid("another").being_deleted();
    assert!(tells_envoy(&stores, || stores.shown(Object::Application(ends))).await, "a deletion");
}

/// A Replace: the old object's deletion is shown after the new one's creation was answered.
#[test]
fn a_late_deletion_leaves_the_namesake_that_has_taken_the_place() {
    let stores = Stores::new();
    stores.shown(Object::Session(session("s").version(5)));
    stores.written(Object::Session(session("s").version(8).with_uid("another")));
    stores.gone(Kind::Session, "s", 7);
    assert_eq!(stores.read(|inventory| inventory.version(Kind::Session, "s")), Some(8));
    assert!(stores.take_deleted("p").is_empty(), "nobody deleted a session that lived");
    stores.gone(Kind::Session, "s", 9);
    assert_eq!(stores.read(|inventory| inventory.version(Kind::Session, "s")), None);
}
