//! A certificate that Envoy refuses though the operator finds nothing wrong with it: the way of such a refusal into
//! the pool's condition and back. (What of a response arrives nevertheless: `refused`.)

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::ListParams;

use super::certificates::{Authority, Issued};
use super::pools;
use super::tls_client::{TlsClients, der};
use super::wait::until;
use super::world::World;

const PROGRAMMED: &str = "Programmed";
const IN_ENVOYS_WORDS: &str = "Failed to load certificate chain from <inline>";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_envoy_refuses_from_the_start_keeps_no_other_from_coming() {
    let authority = Authority::new();
    let pools = vec![with_certificate("good"), with_certificate("bad")];
    World::run_with_mutual_tls("refused-first", pools, &[], async move |world| {
        let scene = Scene { clients: TlsClients::new(world.listens_with_tls, &authority), world };
        let good = authority.host("good.test");
        scene.world.cluster.put_certificate("bad", &authority.refused_by_envoy_alone("bad.test")).await;
        scene.world.cluster.put_certificate("good", &good).await;
        scene.until_shown("good", &good).await;
        scene.until_refused("bad").await;
        scene.clients.certificate_of("bad.test").await.expect_err("Envoy has none for it");

        scene.goes_on_beside_a_refused_one(&authority, &good).await;
        scene.recovers(&authority, "bad").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_that_envoy_refuses_leaves_the_old_one_in_use() {
    let authority = Authority::new();
    let pools = vec![with_certificate("good"), with_certificate("bad")];
    World::run_with_mutual_tls("refused-later", pools, &[], async move |world| {
        let scene = Scene { clients: TlsClients::new(world.listens_with_tls, &authority), world };
        let (good, old) = (authority.host("good.test"), authority.host("bad.test"));
        scene.world.cluster.put_certificate("good", &good).await;
        scene.world.cluster.put_certificate("bad", &old).await;
        scene.until_shown("good", &good).await;
        scene.until_shown("bad", &old).await;
        scene.world.cluster.until_condition("bad", PROGRAMMED, "Programmed").await;

        scene.world.cluster.put_certificate("bad", &authority.refused_by_envoy_alone("bad.test")).await;
        scene.until_refused("bad").await;
        let shown = scene.clients.certificate_of("bad.test").await.unwrap();
        assert_eq!(shown, der(&old), "what it had before stays in use");

        scene.goes_on_beside_a_refused_one(&authority, &good).await;
        let shown = scene.clients.certificate_of("bad.test").await.unwrap();
        assert_eq!(shown, der(&old), "also when there is something new for others");
        scene.recovers(&authority, "bad").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_envoy_that_refuses_one_of_the_certificates_gets_the_others() {
    let authority = Authority::new();
    let pools = vec![with_certificate("good"), with_certificate("bad")];
    World::run_with_mutual_tls("refused-by-new", pools, &[], async move |world| {
        let mut scene = Scene { clients: TlsClients::new(world.listens_with_tls, &authority), world };
        scene.world.envoy.kill();
        let good = authority.host("good.test");
        for (pool, issued) in [("good", &good), ("bad", &authority.refused_by_envoy_alone("bad.test"))] {
            scene.world.cluster.put_certificate(pool, issued).await;
            scene.world.cluster.until_condition(pool, "CertificateReady", "CertificateServed").await;
        }
        scene.world.envoy.start();
        scene.until_shown("good", &good).await;
        scene.until_refused("bad").await;
        scene.recovers(&authority, "bad").await;
    })
    .await;
}

/// Envoy passes over a secret that is byte for byte what came last, and acknowledges it, also if it had refused it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_envoy_refuses_is_told_after_a_restart_of_the_operator_too() {
    let authority = Authority::new();
    let pools = vec![with_certificate("good"), with_certificate("bad"), with_certificate("never")];
    World::run_with_mutual_tls("refused-restart", pools, &[], async move |world| {
        let mut scene = Scene { clients: TlsClients::new(world.listens_with_tls, &authority), world };
        let (good, old) = (authority.host("good.test"), authority.host("bad.test"));
        scene.world.cluster.put_certificate("good", &good).await;
        scene.world.cluster.put_certificate("bad", &old).await;
        scene.until_shown("bad", &old).await;
        // Of the one Envoy has an older version, of the other none.
        scene.world.cluster.put_certificate("bad", &authority.refused_by_envoy_alone("bad.test")).await;
        scene.world.cluster.put_certificate("never", &authority.refused_by_envoy_alone("never.test")).await;
        let before = [scene.until_told("bad").await, scene.until_told("never").await];

        scene.world.operator.kill();
        scene.world.envoy.until_connected(false).await;
        scene.world.operator.start();
        scene.world.operator.until_ready().await;
        scene.world.envoy.until_connected(true).await;
        scene.goes_on_beside_a_refused_one(&authority, &good).await;

        // The condition of the pool that has come since was written after, or with, what there was to say of these.
        for (pool, before) in ["bad", "never"].into_iter().zip(before) {
            let now = scene.world.cluster.until_condition(pool, PROGRAMMED, "RefusedByEnvoy").await;
            assert_eq!(now, before, "said something else meanwhile");
        }
        let shown = scene.clients.certificate_of("bad.test").await.unwrap();
        assert_eq!(shown, der(&old), "what it had before stays in use");
        scene.recovers(&authority, "bad").await;
        scene.recovers(&authority, "never").await;
    })
    .await;
}

/// An update of the operator may change every listener. Envoy makes them with the certificates that it holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_refused_for_its_certificate_comes_when_that_is_corrected() {
    let authority = Authority::new();
    let pools = vec![with_certificate("good"), with_certificate("bad")];
    World::run_with_mutual_tls("refused-listener", pools, &[], async move |world| {
        let mut scene = Scene { clients: TlsClients::new(world.listens_with_tls, &authority), world };
        let (good, old) = (authority.host("good.test"), authority.host("bad.test"));
        scene.world.cluster.put_certificate("good", &good).await;
        scene.world.cluster.put_certificate("bad", &old).await;
        scene.until_shown("good", &good).await;
        scene.until_shown("bad", &old).await;
        scene.world.cluster.put_certificate("bad", &authority.refused_by_envoy_alone("bad.test")).await;
        scene.until_refused("bad").await;

        scene.world.operator.restart_with("--envoy-rate-limit", "5000").await;
        let told = scene.world.cluster.until_condition("good", PROGRAMMED, "RefusedByEnvoy").await;
        let expected = format!(
            "Envoy {} refuses listener spark-tls: Error adding/updating listener(s) spark-tls: {IN_ENVOYS_WORDS}",
            scene.world.envoy.node(),
        );
        assert!(told.message.starts_with(&expected), "{}", told.message);
        scene.until_shown("good", &good).await;

        scene.recovers(&authority, "bad").await;
        scene.world.cluster.until_condition("good", PROGRAMMED, "Programmed").await;
        scene.until_shown("good", &good).await;
    })
    .await;
}

/// A pool with a host and a Secret of its name.
fn with_certificate(name: &str) -> spark_session_operator::api::SparkSessionPool {
    pools::with_certificate(pools::connect(name, &format!("{name}.test")), name)
}

struct Scene {
    clients: TlsClients,
    world: World,
}

impl Scene {
    async fn until_shown(&self, pool: &str, issued: &Issued) {
        until(&format!("{pool}.test shows its certificate"), async || {
            let shown = self.clients.certificate_of(&format!("{pool}.test")).await.ok()?;
            (shown == der(issued)).then_some(())
        })
        .await;
    }

    async fn until_told(&self, pool: &str) -> Condition {
        let told = self.world.cluster.until_condition(pool, PROGRAMMED, "RefusedByEnvoy").await;
        assert_eq!(told.status, "False");
        let expected = format!(
            "Envoy {} refuses secret {pool}: {IN_ENVOYS_WORDS}. What it had before stays in use.",
            self.world.envoy.node(),
        );
        assert_eq!(told.message, expected);
        told
    }

    async fn until_refused(&self, pool: &str) {
        let expected = self.until_told(pool).await.message;
        let events: Api<Event> =
            Api::namespaced(self.world.cluster.client.clone(), &self.world.cluster.namespace);
        let event = until("the Event is there", async || {
            let events = events.list(&ListParams::default()).await.unwrap().items;
            events.into_iter().find(|event| event.reason.as_deref() == Some("RefusedByEnvoy"))
        })
        .await;
        assert_eq!(event.note, Some(expected));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        let about = event.regarding.and_then(|about| about.name);
        assert_eq!(about.as_deref(), Some(pool));
    }

    /// What a pool has goes on, and another pool comes.
    async fn goes_on_beside_a_refused_one(&self, authority: &Authority, good: &Issued) {
        let new = authority.host("new.test");
        self.world.cluster.put_certificate("new", &new).await;
        self.world.cluster.create(&with_certificate("new")).await;
        self.until_shown("new", &new).await;
        for pool in ["good", "new"] {
            let answer = self.clients.connect(&format!("{pool}.test"), "ana").await.config().await.unwrap();
            assert_eq!(answer.pod(), format!("{pool}-0-driver"));
            self.world.cluster.until_condition(pool, PROGRAMMED, "Programmed").await;
        }
        assert_eq!(self.clients.certificate_of("good.test").await.unwrap(), der(good));
    }

    async fn recovers(&self, authority: &Authority, pool: &str) {
        let corrected = authority.host(&format!("{pool}.test"));
        self.world.cluster.put_certificate(pool, &corrected).await;
        self.until_shown(pool, &corrected).await;
        let told = self.world.cluster.until_condition(pool, PROGRAMMED, "Programmed").await;
        assert_eq!(told.status, "True");
    }
}
