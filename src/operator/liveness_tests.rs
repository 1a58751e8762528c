use std::net::SocketAddr;

use rstest::rstest;

use super::*;

/// One round: for each server its node and whether it was reached, as in `a+ a- b- ?-`, where `?` is a node of which nothing
/// is known.
fn round(servers: &str) -> Vec<Attempt> {
    let attempt = |(n, server): (usize, &str)| {
        let (node, reached) = server.split_at(1);
        let server = ServerAddress {
            pod_uid: format!("pod-{n}"),
            address: SocketAddr::from(([10, 0, 0, 1], 15002)),
            node: Some(node.to_owned()).filter(|node| node != "?"),
        };
        Attempt { server, reached: reached == "+" }
    };
    servers.split(' ').enumerate().map(attempt).collect()
}

/// Which servers are lost after this round.
fn lost(misses: &mut Misses, servers: &str) -> Vec<String> {
    misses.after(round(servers)).lost.into_iter().map(|server| server.pod_uid).collect()
}

/// The round in which servers are lost first, when all rounds are the same, and which.
#[rstest]
#[case::one_of_two("a+ b-", 4, &["pod-1"])]
#[case::one_of_two_on_one_node("a+ a-", 4, &["pod-1"])]
#[case::one_of_two_somewhere("?+ ?-", 4, &["pod-1"])]
#[case::the_only_one("a-", 12, &["pod-0"])]
#[case::all_of_two("a- b-", 12, &["pod-0", "pod-1"])]
#[case::most_on_the_node_that_dies("a- a- a- b+", 4, &["pod-0", "pod-1", "pod-2"])]
#[case::all_on_the_node_that_dies("a- a- a-", 12, &["pod-0", "pod-1", "pod-2"])]
#[case::most_nodes("a- b- c+", 12, &["pod-0", "pod-1"])]
#[case::half_of_the_nodes("a- b- c+ d+", 4, &["pod-0", "pod-1"])]
#[case::hung_servers_on_nodes_that_live("a- a+ b- b+ c- c+", 4, &["pod-0", "pod-2", "pod-4"])]
#[case::most_of_those_somewhere("?+ ?- ?-", 12, &["pod-1", "pod-2"])]
fn servers_that_are_out_of_reach_are_lost_at_last(
    #[case] servers: &str,
    #[case] rounds: u32,
    #[case] expected: &[&str],
) {
    let mut misses = Misses::default();
    for round in 1..rounds {
        assert_eq!(lost(&mut misses, servers), [""; 0], "in round {round}");
    }
    assert_eq!(lost(&mut misses, servers), expected);
}

#[test]
fn one_connection_makes_good_for_all_misses() {
    let mut misses = Misses::default();
    for _ in 0..20 {
        assert_eq!(lost(&mut misses, "a-"), [""; 0]);
        assert_eq!(lost(&mut misses, "a-"), [""; 0]);
        assert_eq!(lost(&mut misses, "a+"), [""; 0]);
    }
}

/// What the other servers say is asked in the round that decides.
#[test]
fn a_server_is_lost_as_soon_as_the_doubt_is_over() {
    let mut misses = Misses::default();
    for _ in 0..6 {
        assert_eq!(lost(&mut misses, "a- b-"), [""; 0]);
    }
    assert_eq!(lost(&mut misses, "a- b+"), ["pod-0"]);
}

#[test]
fn where_most_nodes_are_out_of_reach_the_api_server_is_to_be_asked() {
    assert!(Misses::default().after(round("a- a- b+ c-")).in_doubt);
    assert!(!Misses::default().after(round("a- a- a- b+")).in_doubt);
    assert!(!Misses::default().after(Vec::new()).in_doubt);
}
