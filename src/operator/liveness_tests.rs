use super::*;

/// One round: the servers by their reachability.
fn round(reached: &[bool]) -> Vec<(String, SocketAddr, bool)> {
    let server = |(n, reached): (usize, &bool)| {
        (format!("pod-{n}"), SocketAddr::from(([10, 0, 0, 1], 15002)), *reached)
    };
    reached.iter().enumerate().map(server).collect()
}

fn lost(misses: &mut Misses, reached: &[bool]) -> Vec<String> {
    misses.after(round(reached)).into_iter().map(|(pod, _)| pod).collect()
}

#[test]
fn a_server_is_lost_after_four_misses_in_a_row() {
    let mut misses = Misses::default();
    for _ in 0..3 {
        assert_eq!(lost(&mut misses, &[true, false]), [""; 0]);
    }
    assert_eq!(lost(&mut misses, &[true, false]), ["pod-1"]);
}

#[test]
fn one_connection_makes_good_for_all_misses() {
    let mut misses = Misses::default();
    for _ in 0..20 {
        assert_eq!(lost(&mut misses, &[false]), [""; 0]);
        assert_eq!(lost(&mut misses, &[false]), [""; 0]);
        assert_eq!(lost(&mut misses, &[true]), [""; 0]);
    }
}

#[test]
fn a_replica_that_reaches_hardly_anyone_suspects_itself() {
    let mut misses = Misses::default();
    for _ in 0..10 {
        assert_eq!(lost(&mut misses, &[true, false, false]), [""; 0]);
    }
    for _ in 0..3 {
        assert_eq!(lost(&mut misses, &[true, true, false]), [""; 0]);
    }
    assert_eq!(lost(&mut misses, &[true, true, false]), ["pod-2"]);
}

#[test]
fn where_no_server_can_be_reached_it_takes_longer() {
    let mut misses = Misses::default();
    for _ in 0..11 {
        assert_eq!(lost(&mut misses, &[false]), [""; 0]);
    }
    assert_eq!(lost(&mut misses, &[false]), ["pod-0"]);
}
