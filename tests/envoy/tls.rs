//! TLS at Envoy's listener, with certificates from Secrets.

use std::time::{Duration, Instant};

use super::certificates::Authority;
use super::pools::{self, HOST};
use super::stand_in::UNTIL_RELEASED;
use super::tls_client::{TlsClients, der};
use super::wait::until;
use super::world::World;

const CERTIFICATE_READY: &str = "CertificateReady";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let authority = Authority::new();
    let (of_a, of_b) = (authority.host("a.test"), authority.host("b.test"));
    let pools = vec![
        pools::with_certificate(pools::connect("a", "a.test"), "tls-a"),
        pools::with_certificate(pools::thrift("b", "b.test"), "tls-b"),
        pools::with_certificate(pools::connect("c", "c.test"), "tls-c"),
    ];
    World::run_with_mutual_tls("tls", pools, &[], async move |world| {
        world.cluster.put_certificate("tls-a", &of_a).await;
        world.cluster.put_certificate("tls-b", &of_b).await;
        let clients = TlsClients::new(world.listens_with_tls, &authority);
        for (host, issued) in [("a.test", &of_a), ("b.test", &of_b)] {
            until(&format!("{host} shows its certificate"), async || {
                let shown = clients.certificate_of(host).await.ok()?;
                assert_eq!(shown, der(issued), "{host} shows another one");
                Some(())
            })
            .await;
        }

        let answer = clients.connect("a.test", "ana").await.config().await.unwrap();
        assert_eq!(answer.pod(), "a-0-driver");
        let answer = clients.thrift("b.test", "ana").call("OpenSession").await.unwrap();
        assert_eq!(answer.pod(), "b-0-driver");

        for pool in ["a", "b"] {
            world.cluster.until_condition(pool, CERTIFICATE_READY, "CertificateServed").await;
        }
        let told = world.cluster.until_condition("c", CERTIFICATE_READY, "SecretNotFound").await;
        assert_eq!(told.status, "False");
        assert_eq!(
            told.message,
            "Secret tls-c of type kubernetes.io/tls does not exist in this namespace. Create it with kubectl create \
             secret tls tls-c --cert=FILE --key=FILE. Until then TLS connections to c.test are refused."
        );
        clients.certificate_of("c.test").await.expect_err("there is no certificate for it");
        let answer = world.connect("c.test", "ana").await.config().await.unwrap();
        assert_eq!(answer.pod(), "c-0-driver", "without TLS it is reached");
    })
    .await;
}

/// For what a Secret's change may take until new connections see it. The watch brings it at once.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_shown_to_new_connections_and_ends_none() {
    let authority = Authority::new();
    let (old, new) = (authority.host("a.test"), authority.host("a.test"));
    let pools = vec![pools::with_certificate(pools::connect("a", "a.test"), "tls-a")];
    World::run_with_mutual_tls("renewal", pools, &[], async move |world| {
        world.cluster.put_certificate("tls-a", &old).await;
        let clients = TlsClients::new(world.listens_with_tls, &authority);
        until("the certificate is shown", async || clients.certificate_of("a.test").await.ok()).await;
        let client = clients.connect("a.test", "ana").await;
        let waits = client.clone().asking(UNTIL_RELEASED, 1);
        let (_, mut query) = waits.execute_plan().await.unwrap();
        query.message().await.unwrap().expect("the query has begun");
        let listeners = listener_statistics(&world).await;

        let began = Instant::now();
        world.cluster.put_certificate("tls-a", &new).await;
        until("the new certificate is shown", async || {
            let shown = clients.certificate_of("a.test").await.expect("there is always one");
            (shown == der(&new)).then_some(())
        })
        .await;
        let took = began.elapsed();
        assert!(took < SOON, "it took {took:?}");

        assert_eq!(
            listener_statistics(&world).await,
            listeners,
            "a certificate is no business of the listener"
        );
        assert_eq!(client.config().await.expect("on the old connection").pod(), "a-0-driver");
        world.spark.release_streams();
        query.message().await.unwrap().expect("the query ends as it would have");
        assert!(query.message().await.unwrap().is_none());
    })
    .await;
}

/// What changes when a listener is sent again, replaced, or drained.
async fn listener_statistics(world: &World) -> Vec<(String, u64)> {
    let stats = world.envoy.stats().await;
    let names = [
        "lds.update_attempt",
        "lds.update_success",
        "listener_added",
        "listener_modified",
        "listener_in_place_updated",
        "total_listeners_draining",
        "total_filter_chains_draining",
    ];
    let of = |name: &str| {
        let name = format!("listener_manager.{name}");
        let count = *stats.get(&name).unwrap_or_else(|| panic!("Envoy has no statistic {name}"));
        (name, count)
    };
    names.into_iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_mutual_tls_no_key_is_sent_and_the_pool_says_so() {
    let pools = vec![pools::with_certificate(pools::connect("connect", HOST), "tls")];
    World::run("tls-off", pools, &[], async move |world| {
        world.cluster.put_certificate("tls", &Authority::new().host(HOST)).await;
        let told = world.cluster.until_condition("connect", CERTIFICATE_READY, "TLSOff").await;
        assert_eq!(told.status, "False");
        assert_eq!(
            told.message,
            "No certificate is given to Envoy, because the control channel does not show who is at its other end. \
             Set up mTLS between Envoy and the operator."
        );
        let answer = world.connect(HOST, "ana").await.config().await.unwrap();
        assert_eq!(answer.pod(), "connect-0-driver", "without TLS it is reached");
        let stats = world.envoy.stats().await;
        assert_eq!(stats["listener_manager.total_listeners_active"], 1, "the one without TLS");
    })
    .await;
}
