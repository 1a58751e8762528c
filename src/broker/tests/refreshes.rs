//! Lists that the API server is asked for, because of calls about sessions that nobody knows.

use super::*;

/// Ends a session that nobody knows.
fn release(user: &str, id: u128) -> Check {
    let head = ConnectHead { session_id: Uuid::from_u128(id), observed_server_session_id: None, clone: None };
    Check {
        call: Call::Connect { method: ConnectMethod::ReleaseSession, head, session_name: None },
        credentials: Ok(Credentials::password(user, "password")),
        ..first_call()
    }
}

fn asks(broker: &Arc<Broker>, check: Check) -> JoinHandle<Verdict> {
    let broker = Arc::clone(broker);
    tokio::spawn(async move { broker.check(check).await })
}

fn denial(verdict: Verdict) -> Denial {
    match verdict {
        Verdict::Deny(denial) => denial,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_about_sessions_that_nobody_knows_keeps_no_one_else_waiting() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    let one_list = Duration::from_millis(100);
    api_server.lists_take(one_list);
    let broker = broker(&stores, &api_server);
    let of_alice: Vec<_> = (0..CALLS as u128).map(|id| asks(&broker, release("alice", id))).collect();
    settled().await;
    let begin = Instant::now();
    let words = denial(broker.check(release("bob", 1_000_000)).await).message;
    assert!(words.ends_with("is not open in pool p: there is nothing to release."), "{words}");
    assert!(begin.elapsed() <= 2 * one_list, "bob waited {:?}", begin.elapsed());
    for verdict in verdicts(of_alice).await {
        assert_eq!(denial(verdict).kind, DenialKind::SessionClosed);
    }
    assert!(api_server.lists() <= 3, "{} lists", api_server.lists());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_never_ends_is_waited_for_as_long_as_the_request_may_be_held() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    api_server.lists_take(Duration::from_secs(3600));
    let broker = broker(&stores, &api_server);
    let begin = Instant::now();
    let denial = denial(broker.check(release("alice", 1)).await);
    assert_eq!((denial.kind, begin.elapsed().as_secs()), (DenialKind::NotReady, 61), "{denial:?}");
    let words = "The session in pool p could not be looked up or written within 60 s, because the Kubernetes API does not \
                 answer. Try again.";
    assert_eq!(denial.message, words);
}

#[tokio::test(start_paused = true)]
async fn a_list_serves_those_who_came_before_it_began_and_no_others() {
    let (stores, api_server) = (stores(), ApiServer::new(takes));
    let one_list = Duration::from_millis(100);
    api_server.lists_take(one_list);
    let broker = broker(&stores, &api_server);
    let begin = Instant::now();
    let first = asks(&broker, release("alice", 1));
    settled().await;
    let meanwhile: Vec<_> = (0..10).map(|id| asks(&broker, release("alice", id))).collect();
    first.await.unwrap();
    assert_eq!(api_server.lists(), 1);
    verdicts(meanwhile).await;
    assert_eq!(api_server.lists(), 2, "one for all who came while the first ran");
    assert_eq!(begin.elapsed(), Duration::from_secs(1) + one_list, "a second after the first began");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begin = Instant::now();
    asks(&broker, release("alice", 1)).await.unwrap();
    assert_eq!((api_server.lists(), begin.elapsed()), (3, one_list), "later at once");
}
