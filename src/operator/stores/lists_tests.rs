use rstest::rstest;

use super::*;
use crate::api::SessionState::{self, Active, Idle, Pending};
use crate::model::fixtures::session;

fn object(name: &str, version: u64, state: SessionState) -> Object {
    Object::Session(session(name).version(version).in_state(state))
}

fn state(stores: &Stores, name: &str) -> Option<(u64, SessionState)> {
    stores.read(|inventory| {
        inventory.session(name).map(|session| (session.meta.resource_version, session.status.state))
    })
}

fn list(stores: &Stores, objects: impl IntoIterator<Item = Object>) {
    let mut list = stores.list_begins(Kind::Session);
    objects.into_iter().for_each(|object| stores.listed(&mut list, object));
    stores.list_ends(list);
}

/// As a watch is begun anew: after 410 Gone, or a broken connection.
#[rstest]
#[case::newer(7, 7)]
#[case::older_as_from_a_backup(3, 3)]
#[case::the_same(5, 5)]
fn a_list_is_believed_against_what_was_known_before(#[case] listed: u64, #[case] expected: u64) {
    let stores = Stores::new();
    stores.shown(object("s", 5, Active));
    list(&stores, [object("s", listed, Active)]);
    assert_eq!(state(&stores, "s"), Some((expected, Active)));
}

#[test]
fn what_is_not_in_a_list_is_gone() {
    let stores = Stores::new();
    stores.shown(object("s", 5, Active));
    stores.shown(object("t", 6, Active));
    list(&stores, [object("t", 6, Active)]);
    assert_eq!(state(&stores, "s"), None);
    assert_eq!(state(&stores, "t"), Some((6, Active)));
}

/// It was asked for before, and comes late.
#[test]
fn a_list_does_not_take_back_what_was_entered_since_it_was_asked_for() {
    let stores = Stores::new();
    stores.shown(object("s", 5, Pending));
    stores.shown(object("gone", 6, Active));
    let mut late = stores.list_begins(Kind::Session);
    stores.written(object("s", 8, Active));
    stores.written(object("new", 9, Pending));
    stores.gone(Kind::Session, "gone", 10);
    stores.listed(&mut late, object("s", 5, Pending));
    stores.listed(&mut late, object("gone", 6, Active));
    stores.list_ends(late);
    assert_eq!(state(&stores, "s"), Some((8, Active)));
    assert_eq!(state(&stores, "new"), Some((9, Pending)));
    assert_eq!(state(&stores, "gone"), None);
}

#[test]
fn a_namesake_that_was_made_while_a_list_was_under_way_stays() {
    let stores = Stores::new();
    stores.shown(object("s", 5, Active));
    let late = stores.list_begins(Kind::Session);
    stores.gone(Kind::Session, "s", 6);
    stores.written(object("s", 7, Pending));
    stores.list_ends(late);
    assert_eq!(state(&stores, "s"), Some((7, Pending)));
}

#[test]
fn an_older_object_in_a_list_is_a_reason_to_look_whether_the_api_server_was_set_back() {
    let stores = Stores::new();
    stores.shown(object("s", 5, Active));
    list(&stores, [object("s", 5, Active)]);
    assert!(!stores.history.is_doubted());
    list(&stores, [object("s", 3, Active)]);
    assert!(stores.history.is_doubted());
}

/// The versions begin again: what is written and shown then is new, though its versions are lower than those before.
#[test]
fn after_the_api_server_was_set_back_everything_is_believed_anew() {
    let stores = Stores::new();
    stores.shown(object("s", 500, Active));
    stores.shown(object("t", 501, Active));
    stores.gone(Kind::Session, "t", 900);
    stores.written(object("made", 120, Pending));
    assert_eq!(state(&stores, "made"), None, "as if it had been deleted since");
    assert_eq!(stores.newest_version(), 900);

    stores.set_back();
    stores.written(object("made", 120, Pending));
    assert_eq!(state(&stores, "made"), Some((120, Pending)));
    // The same number, of something else.
    list(&stores, [object("s", 500, Idle), object("made", 120, Pending), object("t", 99, Active)]);
    assert_eq!(state(&stores, "s"), Some((500, Idle)));
    assert_eq!(state(&stores, "t"), Some((99, Active)));
    stores.shown(object("t", 130, Idle));
    assert_eq!(state(&stores, "t"), Some((130, Idle)));
    stores.gone(Kind::Session, "t", 131);
    stores.written(object("t", 129, Active));
    assert_eq!(state(&stores, "t"), None, "deleted since");
}

/// It was answered by the API server as it was before.
#[test]
fn a_list_that_was_under_way_when_the_api_server_was_set_back_is_not_the_last_one() {
    let stores = Stores::new();
    stores.shown(object("s", 500, Active));
    let mut before = stores.list_begins(Kind::Session);
    stores.listed(&mut before, object("s", 500, Active));
    stores.set_back();
    stores.list_ends(before);
    list(&stores, [object("s", 500, Idle)]);
    assert_eq!(state(&stores, "s"), Some((500, Idle)));
}
