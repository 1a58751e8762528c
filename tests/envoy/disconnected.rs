//! Clients that go without a word: what Envoy's access log says of their connections, and what follows from it.

use std::net::SocketAddr;
use std::time::Duration;

use spark_session_operator::api::{DisconnectCause, SparkInteractiveSession, SparkSessionPool};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use super::connect_client::ConnectClient;
use super::pools::{self, HOST};
use super::wait::until;
use super::world::{Cluster, World};

fn pool(per_user: i32) -> SparkSessionPool {
    let mut pool = pools::connect("connect", HOST);
    pool.spec.session_policy.max_sessions_per_user = per_user;
    pool
}

impl Cluster {
    async fn connect_session(&self, id: Uuid) -> SparkInteractiveSession {
        self.sessions.get(&format!("connect-{id}")).await.unwrap()
    }

    async fn only_session(&self, user: &str) -> SparkInteractiveSession {
        let sessions = self.sessions.list(&Default::default()).await.unwrap();
        let mut own = sessions.items.into_iter().filter(|session| session.spec.user == user);
        let session = own.next().unwrap();
        assert!(own.next().is_none(), "{user} has several");
        session
    }

    async fn until_disconnected(&self, session: Uuid) -> DisconnectCause {
        until("the session is disconnected", async || {
            let status = self.connect_session(session).await.status.unwrap().status;
            status.disconnected_at.and(status.disconnect_cause)
        })
        .await
    }

    async fn until_connected(&self, session: Uuid) {
        until("the session is connected", async || {
            let status = self.connect_session(session).await.status.unwrap().status;
            (status.disconnected_at.is_none() && !status.client_connections.is_empty()).then_some(())
        })
        .await;
    }
}

/// A connection of its own, with a client on it.
async fn program(world: &World, user: &str) -> ConnectClient {
    world.connect(HOST, user).await
}

/// Another program of the same session.
async fn again(world: &World, user: &str, session: Uuid) -> ConnectClient {
    program(world, user).await.of_session(session)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_ends_without_a_word_leaves_a_disconnected_session_until_it_comes_back() {
    World::run("disconnected-end", vec![pool(5)], &[], async move |world| {
        let client = program(&world, "ana").await;
        client.config().await.unwrap();
        world.cluster.until_connected(client.session).await;
        let status = world.cluster.connect_session(client.session).await.status.unwrap().status;
        let [connection] = status.client_connections.as_slice() else { panic!("{status:?}") };
        assert_eq!(connection.envoy, "envoy-of-disconnected-end");
        assert_eq!(connection.listener_port, world.envoy.listens.port());
        assert!(connection.client.starts_with("127.0.0.1:"), "{connection:?}");

        let session = client.leave();
        assert_eq!(world.cluster.until_disconnected(session).await, DisconnectCause::ClosedByClient);
        let back = again(&world, "ana", session).await;
        back.config().await.unwrap();
        world.cluster.until_connected(back.session).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_program_eight_times_gets_eight_answers() {
    World::run("disconnected-eight", vec![pool(3)], &[], async move |world| {
        let mut gone = Vec::new();
        for _ in 0..8 {
            let client = program(&world, "ana").await;
            client.config().await.unwrap();
            let session = client.leave();
            // As quick as a person: the next program begins when the last has ended.
            world.cluster.until_disconnected(session).await;
            gone.push(session);
        }
        // Whoever comes back to the first one hears what has become of it.
        let back = again(&world, "ana", gone[0]).await;
        let refused = back.config().await.unwrap_err();
        let words = refused.message();
        assert!(words.contains("[INVALID_HANDLE.SESSION_CLOSED]"), "{words}");
        assert!(words.contains("The session ended to make room for a newer one of the same user"), "{words}");
        assert!(words.contains("user ana may have 3 session(s) in pool connect at the same time"), "{words}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_are_there_keep_their_places() {
    World::run("disconnected-full", vec![pool(2)], &[], async move |world| {
        let (first, second) = (program(&world, "ana").await, program(&world, "ana").await);
        first.config().await.unwrap();
        second.config().await.unwrap();
        let third = program(&world, "ana").await;
        let refused = third.config().await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(!refused.message().contains("disconnected"), "{}", refused.message());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_laptop_that_sleeps_is_noticed_and_finds_its_session_again() {
    World::run("disconnected-sleep", vec![pool(1)], &[], async move |world| {
        let relay = Relay::to(world.envoy.listens).await;
        let client = ConnectClient::on(relay.channel().await, "ana");
        client.config().await.unwrap();
        world.cluster.until_connected(client.session).await;
        relay.fall_silent();
        let slept = async { world.cluster.until_disconnected(client.session).await };
        // Envoy asks after 30 s, and waits 15 s for the answer.
        let cause = tokio::time::timeout(Duration::from_secs(60), slept).await.unwrap();
        assert_eq!(cause, DisconnectCause::ConnectionLost);
        // The client may come back within a minute.
        let refused = program(&world, "ana").await.config().await.unwrap_err();
        let words = refused.message();
        assert!(
            words.contains(&format!("connect-{} (Active, disconnected since ", client.session)),
            "{words}"
        );
        assert!(words.contains(&format!("s: connect-{} makes room then, unless", client.session)), "{words}");
        let back = again(&world, "ana", client.session).await;
        back.config().await.unwrap();
        world.cluster.until_connected(back.session).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_programs_on_one_named_session_leave_it_together() {
    World::run("disconnected-named", vec![pool(5)], &[], async move |world| {
        let one = program(&world, "ana").await.with_header("x-spark-session", "etl");
        let other = program(&world, "ana").await.with_header("x-spark-session", "etl");
        one.config().await.unwrap();
        other.config().await.unwrap();
        let connections = async |count: usize| {
            until(&format!("the session has {count} connections"), async || {
                let status = world.cluster.only_session("ana").await.status.unwrap().status;
                (status.client_connections.len() == count).then_some(status.disconnected_at)
            })
            .await
        };
        assert_eq!(connections(2).await, None);
        one.leave();
        assert_eq!(connections(1).await, None);
        other.leave();
        assert!(connections(0).await.is_some());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_that_shares_a_connection_nobody_is_taken_for_gone() {
    World::run("disconnected-proxy", vec![pool(1)], &[], async move |world| {
        let channel = channel(world.envoy.listens).await;
        let ana = ConnectClient::on(channel.clone(), "ana");
        let bob = ConnectClient::on(channel, "bob");
        // The proxy of eve has no other user yet, but says that it is one.
        let eve = program(&world, "eve").await.with_header("x-forwarded-for", "10.9.9.9");
        for client in [&ana, &bob, &eve] {
            client.config().await.unwrap();
        }
        for client in [&ana, &bob, &eve] {
            until("the connection is taken for a proxy's", async || {
                let status = world.cluster.connect_session(client.session).await.status.unwrap().status;
                status.client_connections.iter().any(|open| open.shared).then_some(())
            })
            .await;
        }
        let sessions = [ana.leave(), bob.leave(), eve.leave()];
        // A program of its own, whose end is noticed after those.
        let last = program(&world, "zoe").await;
        last.config().await.unwrap();
        world.cluster.until_disconnected(last.leave()).await;
        for (user, session) in ["ana", "bob", "eve"].into_iter().zip(sessions) {
            let status = world.cluster.only_session(user).await.status.unwrap().status;
            assert_eq!(status.disconnected_at, None, "{user}");
            // Nobody's place is given away.
            let refused = program(&world, user).await.config().await.unwrap_err();
            assert_eq!(refused.code(), Code::ResourceExhausted, "{user}");
            again(&world, user, session).await.config().await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_killed_while_it_waits_leaves_nothing() {
    World::run("disconnected-waiting", vec![pools::with_places(pool(5), 1, 1)], &[], async move |world| {
        let bob = program(&world, "bob").await;
        bob.config().await.unwrap();
        let ana = program(&world, "ana").await;
        let waiting = tokio::spawn({
            let ana = ana.clone();
            async move { ana.config().await }
        });
        until("ana waits", async || {
            let sessions = world.cluster.sessions.list(&Default::default()).await.unwrap();
            let status = sessions.items.into_iter().find(|it| it.spec.user == "ana")?.status?.status;
            (!status.client_connections.is_empty() && status.wait.is_some()).then_some(())
        })
        .await;
        waiting.abort();
        let _ = waiting.await;
        ana.leave();
        let words = until("her session has ended", async || {
            let status = world.cluster.only_session("ana").await.status.unwrap().status;
            let ready = status.conditions.into_iter().find(|it| it.type_ == "Ready")?;
            (ready.reason == "ClientGone").then_some(ready.message)
        })
        .await;
        assert!(words.contains("before the session could be used, and did not come back"), "{words}");
    })
    .await;
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.origin(format!("http://{HOST}").parse().unwrap()).connect().await.unwrap()
}

/// The network between one client and Envoy.
struct Relay {
    address: SocketAddr,
    silent: CancellationToken,
}

impl Relay {
    async fn to(envoy: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Self { address: listener.local_addr().unwrap(), silent: CancellationToken::new() };
        let silent = relay.silent.clone();
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(envoy).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                () = silent.cancelled() => std::future::pending().await,
            }
        });
        relay
    }

    async fn channel(&self) -> Channel {
        channel(self.address).await
    }

    /// Nothing comes through any more, and nobody is told.
    fn fall_silent(&self) {
        self.silent.cancel();
    }
}
