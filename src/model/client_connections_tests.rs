use proptest::prelude::*;
use rstest::rstest;
use uuid::Uuid;

use super::*;
use crate::model::fixtures::{at, session};

fn connection(port: u16) -> ClientConnection {
    ClientConnection {
        envoy: "envoy-0".to_owned(),
        client: ([10, 0, 0, 7], port).into(),
        listener_port: 10_000,
    }
}

fn used(port: u16, second: i64) -> UsedConnection {
    UsedConnection { connection: connection(port), since: at(second), proxied: false }
}

fn ended(port: u16, second: i64) -> EndedConnection {
    EndedConnection { connection: connection(port), at: at(second), cause: DisconnectCause::ClosedByClient }
}

fn disconnected(connections: &ClientConnections) -> Option<Timestamp> {
    connections.disconnected.as_ref().map(|(at, _)| at.0)
}

#[test]
fn the_end_of_the_last_connection_disconnects() {
    let mut connections = ClientConnections::default();
    connections.opened(&used(1, 10), false);
    connections.opened(&used(2, 20), false);
    connections.ended(&ended(2, 30), at(30));
    assert_eq!(disconnected(&connections), None);
    connections.ended(&ended(1, 40), at(40));
    assert_eq!(disconnected(&connections), Some(at(40)));
    assert_eq!(connections.open, []);
}

#[test]
fn a_request_connects_again() {
    let mut connections = ClientConnections::default();
    connections.opened(&used(1, 10), false);
    connections.ended(&ended(1, 20), at(20));
    connections.opened(&used(2, 30), false);
    assert_eq!((disconnected(&connections), connections.open.len()), (None, 1));
}

#[test]
fn the_end_of_a_connection_that_the_session_never_used_says_nothing() {
    let mut connections = ClientConnections::default();
    connections.ended(&ended(1, 10), at(10));
    assert_eq!(connections, ClientConnections::default());
    connections.opened(&used(1, 20), false);
    connections.ended(&ended(2, 30), at(30));
    assert_eq!((disconnected(&connections), connections.open.len()), (None, 1));
}

#[test]
fn an_end_that_is_reported_late_does_not_end_a_later_connection_of_the_same_name() {
    let mut connections = ClientConnections::default();
    connections.opened(&used(1, 30), false);
    connections.ended(&ended(1, 20), at(20));
    assert_eq!((disconnected(&connections), connections.open.len()), (None, 1));
}

#[rstest]
#[case::that_other_users_share(false, true)]
#[case::of_a_proxy(true, false)]
fn the_end_of_a_connection_says_nothing(#[case] proxied: bool, #[case] shared: bool) {
    let mut connections = ClientConnections::default();
    connections.opened(&UsedConnection { proxied, ..used(1, 10) }, shared);
    connections.ended(&ended(1, 20), at(20));
    assert_eq!((disconnected(&connections), connections.open.len()), (None, 1));
}

#[test]
fn a_client_with_very_many_connections_is_taken_for_a_proxy() {
    let mut connections = ClientConnections::default();
    for port in 1..=17 {
        connections.opened(&used(port, 10), false);
    }
    assert_eq!(connections.open.iter().map(|open| open.shared).collect::<Vec<_>>(), [true]);
}

#[rstest]
#[case::soon(1509, DisconnectCause::ClosedByClient)]
#[case::long_afterwards(1510, DisconnectCause::Unused)]
fn a_connection_that_is_closed_after_its_last_use_tells(
    #[case] second: i64,
    #[case] expected: DisconnectCause,
) {
    let mut connections = ClientConnections::default();
    connections.opened(&used(1, 10), false);
    connections.ended(&ended(1, second), at(10));
    assert_eq!(connections.disconnected.map(|(_, cause)| cause), Some(expected));
}

#[test]
fn only_a_request_over_a_new_connection_is_news() {
    let mut listed = session("s");
    listed.status.client_connections = {
        let mut connections = ClientConnections::default();
        connections.opened(&used(1, 10), false);
        connections.open
    };
    assert!(listed.is_connected_over(&connection(1)));
    assert!(!listed.is_connected_over(&connection(2)));
    assert!(!listed.is_connected_over(&ClientConnection { envoy: "envoy-1".to_owned(), ..connection(1) }));
    assert!(!listed.is_connected_over(&ClientConnection { listener_port: 10_443, ..connection(1) }));
}

const ID: Uuid = Uuid::from_u128(7);

/// A session that a connection of alice made, and whose client went at second 100.
fn left(cause: DisconnectCause) -> Session {
    session(&format!("p-{ID}")).with_spark_id(ID).on("p-0").disconnected(100, cause)
}

#[rstest]
#[case::at_once_where_its_client_closed_the_connection(left(DisconnectCause::ClosedByClient), 100, true)]
#[case::not_where_the_connection_has_just_been_lost(left(DisconnectCause::ConnectionLost), 159, false)]
#[case::a_minute_after_the_connection_was_lost(left(DisconnectCause::ConnectionLost), 160, true)]
#[case::not_while_it_is_connected(session(&format!("p-{ID}")).with_spark_id(ID).on("p-0"), 999, false)]
#[case::not_while_it_waits(left(DisconnectCause::ClosedByClient).in_state(SessionState::Pending), 999, false)]
#[case::not_while_it_ends(left(DisconnectCause::ClosedByClient).in_state(SessionState::Terminating), 999, false)]
#[case::not_if_it_has_a_name(left(DisconnectCause::ClosedByClient).named("etl"), 999, false)]
#[case::not_if_kubectl_made_it(
    session("nightly").claimed_by(ID).on("p-0").disconnected(100, DisconnectCause::ClosedByClient), 999, false
)]
#[case::not_if_kubectl_made_it_for_an_id(
    session("nightly").with_spark_id(ID).on("p-0").disconnected(100, DisconnectCause::ClosedByClient), 999, false
)]
#[case::not_after_spark_stop(left(DisconnectCause::ClosedByClient).released(101), 999, false)]
fn a_session_may_be_replaced(#[case] session: Session, #[case] now: i64, #[case] expected: bool) {
    assert_eq!(session.is_replaceable(at(now)), expected);
}

/// What happens to a session's connections, told by the port.
#[derive(Clone, Debug)]
enum Happens {
    Request(u16),
    End(u16),
}

proptest! {
    /// Whatever happens: a session is disconnected exactly while each connection that it has used has ended.
    #[test]
    fn a_session_is_disconnected_while_no_used_connection_is_open(
        story in prop::collection::vec(
            prop_oneof![(1u16..5).prop_map(Happens::Request), (1u16..5).prop_map(Happens::End)], 0..40)
    ) {
        let mut connections = ClientConnections::default();
        let mut open = std::collections::BTreeSet::new();
        let mut used_once = false;
        for (second, happens) in (0..).zip(story) {
            match happens {
                Happens::Request(port) => {
                    used_once = true;
                    open.insert(port);
                    connections.opened(&used(port, second), false);
                }
                Happens::End(port) => {
                    open.remove(&port);
                    connections.ended(&ended(port, second), at(second));
                }
            }
            prop_assert_eq!(disconnected(&connections).is_some(), used_once && open.is_empty());
            prop_assert_eq!(connections.open.len(), open.len());
        }
    }
}
