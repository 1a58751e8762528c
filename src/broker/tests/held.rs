//! How many requests wait at the same time.

use std::net::IpAddr;

use super::*;

const MOST: usize = 64;

fn of_user(user: &str) -> Check {
    Check { credentials: Ok(Credentials::password(user, "password")), ..first_call() }
}

/// A call of a session of its own, which waits for a driver.
fn waits(broker: &Arc<Broker>, user: &str, id: u128) -> JoinHandle<Verdict> {
    let head = ConnectHead { session_id: Uuid::from_u128(id), observed_server_session_id: None, clone: None };
    let call = Call::Connect { method: ConnectMethod::Config, head, session_name: None };
    let (broker, check) = (Arc::clone(broker), Check { call, ..of_user(user) });
    tokio::spawn(async move { broker.check(check).await })
}

fn held(broker: &Broker, waits_for: &str) -> i64 {
    broker.metrics.held_checks.get_or_create(&WaitsFor::of(waits_for)).get()
}

#[tokio::test(start_paused = true)]
async fn one_too_many_of_a_user_hears_so_and_others_wait_beside_them() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    api_server.answers();
    let broker = broker(&stores, &api_server);
    let mut of_alice: Vec<_> = (0..MOST).map(|_| waits(&broker, "alice", 7)).collect();
    settled().await;
    let refused = waits(&broker, "alice", 7).await.unwrap();
    let words = "User alice has 64 requests waiting already, and no more may wait at the same time. Try again when some of \
                 them have been answered.";
    let denial = Denial {
        retry_after: Some(Duration::from_secs(5)),
        ..Denial::new(DenialKind::TooManyWaiting, words)
    };
    assert_eq!(refused, Verdict::Deny(denial));
    // Nor is anything begun for one of another session.
    assert!(matches!(waits(&broker, "alice", 9).await.unwrap(), Verdict::Deny(_)));
    assert_eq!(api_server.creations(), 1);
    let of_bob = waits(&broker, "bob", 8);
    settled().await;
    assert!(!of_bob.is_finished() && of_alice.iter().all(|call| !call.is_finished()));
    assert_eq!((held(&broker, "session"), held(&broker, "login")), (65, 0));

    // Envoy drops the check of a client that goes away.
    of_alice.pop().unwrap().abort();
    settled().await;
    let next = waits(&broker, "alice", 7);
    settled().await;
    assert!(!next.is_finished(), "it has the place");
    placed(&stores);
    assert_all_routed(of_alice).await;
    assert!(matches!(next.await.unwrap(), Verdict::Route(_)));
    assert_eq!(held(&broker, "session"), 1, "bob's");
    assert!(matches!(broker.check(of_user("alice")).await, Verdict::Route(_)), "which needs no place");
}

#[tokio::test(start_paused = true)]
async fn of_all_addresses_each_leaves_room_for_others_while_logins_wait() {
    // The watches have yet to list what there is.
    let (stores, api_server) = (Stores::new(), ApiServer::new(takes));
    let broker = broker(&stores, &api_server);
    let from = |address: [u8; 4], password: usize| {
        let peer = Some(IpAddr::from(address));
        let password = "x".repeat(password);
        let check = Check { peer, credentials: Ok(Credentials::password("ana", password)), ..first_call() };
        let broker = Arc::clone(&broker);
        tokio::spawn(async move { broker.check(check).await })
    };
    let greedy: Vec<_> = (0..1000).map(|_| from([10, 0, 0, 1], 90 << 10)).collect();
    settled().await;
    let (refused, waiting): (Vec<_>, Vec<_>) = greedy.into_iter().partition(JoinHandle::is_finished);
    let bytes = waiting.len() * ((90 + 32) << 10);
    assert!((63 << 20..=64 << 20).contains(&bytes), "{} wait: half of all memory for them", waiting.len());
    let words = "Too many requests wait for their logins at the moment, and this one was not looked at. Try again in a few \
                 seconds.";
    for verdict in verdicts(refused).await {
        assert!(matches!(&verdict, Verdict::Deny(denial) if denial.message == words), "{verdict:?}");
    }
    let other = from([10, 0, 0, 2], 10);
    settled().await;
    assert!(!other.is_finished(), "somebody else waits");
    assert_eq!(held(&broker, "login"), waiting.len() as i64 + 1);
}
