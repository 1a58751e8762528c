//! A resource that Envoy does not take: the crate's xDS server against the real Envoy, with clusters made by hand, since
//! `translate` is not meant to make any that Envoy refuses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster};
use envoy_types::pb::google::protobuf::{Any, Duration as ProtoDuration};
use envoy_types::util::pack_any;
use rstest::rstest;
use spark_session_operator::xds::{
    DiscoveryService, Kind, Programmed, Publisher, Resource, Snapshot, Version,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use super::process::free_port;
use super::proxy::Envoy;
use super::wait::until;

/// What Envoy is to have, under the names of clusters.
type Clusters = BTreeMap<&'static str, Any>;

#[rstest]
// Its protobuf rules refuse this one, and the whole response with it.
#[case::by_a_rule_for_a_field("field", timeout_of_zero(), "ConnectTimeout")]
// This one only shows when the cluster is made.
#[case::when_it_is_built("built", endpoint_discovery_without_a_source(), "EDS")]
#[case::without_its_name("nameless", a_field_of_a_later_envoy(), "unknown fields")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_cluster_stops_no_other_and_keeps_its_last_good_version(
    #[case] scenario: &str,
    #[case] bad: Any,
    #[case] text: &str,
) {
    let scenario = format!("refused-{scenario}");
    let node = format!("envoy-of-{scenario}");
    let server = XdsServer::start().await;
    let mut envoy = Envoy::new(&scenario, free_port(), server.address);
    let mut wanted = Clusters::from([("steady", cluster("steady", 1)), ("spoilt", cluster("spoilt", 1))]);
    server.publish(&wanted);
    envoy.start();
    envoy.until_live().await;
    server.until_programmed(&node, "spoilt").await;
    let good = envoy.cluster_versions().await;

    wanted.insert("spoilt", bad);
    for name in ["a-new", "t-new", "z-new"] {
        wanted.insert(name, cluster(name, 1));
    }
    server.publish(&wanted);
    for name in ["a-new", "t-new", "z-new"] {
        server.until_programmed(&node, name).await;
    }
    server.until_it_is_told_of(&node, "spoilt", text).await;
    let now = envoy.cluster_versions().await;
    assert_eq!(now["spoilt"], good["spoilt"], "the last good version stays");
    assert_eq!(now["steady"], good["steady"]);
    assert_eq!(now.len(), 5, "{now:?}");

    wanted.insert("spoilt", cluster("spoilt", 2));
    server.publish(&wanted);
    until("the corrected cluster arrives", async || {
        (envoy.cluster_versions().await["spoilt"] != good["spoilt"]).then_some(())
    })
    .await;
    until("nothing is refused any more", async || server.publisher.rejected().is_empty().then_some(())).await;
}

/// Every response is all there is, so one bad cluster would keep all others away; and what an Envoy has that comes back,
/// a new process does not know.
#[rstest]
#[case::by_a_rule_for_a_field("sotw-field", timeout_of_zero(), "ConnectTimeout")]
#[case::when_it_is_built("sotw-built", endpoint_discovery_without_a_source(), "EDS")]
#[case::without_its_name("sotw-nameless", a_field_of_a_later_envoy(), "unknown fields")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_on_state_of_the_world_gets_all_but_the_bad_cluster_at_its_start_and_after_a_restart_of_ours(
    #[case] scenario: &str,
    #[case] bad: Any,
    #[case] text: &str,
) {
    let scenario = format!("refused-{scenario}");
    let node = format!("envoy-of-{scenario}");
    let mut server = XdsServer::start().await;
    let mut envoy = Envoy::with_state_of_the_world(&scenario, free_port(), server.address);
    let mut wanted =
        Clusters::from([("a-good", cluster("a-good", 1)), ("spoilt", bad), ("z-good", cluster("z-good", 1))]);
    server.publish(&wanted);
    envoy.start();
    envoy.until_live().await;
    for name in ["a-good", "z-good"] {
        server.until_programmed(&node, name).await;
    }
    server.until_it_is_told_of(&node, "spoilt", text).await;

    // Envoy comes back with all but the bad one; then also without some that are new.
    for new in [&[][..], &["a-new", "z-new"]] {
        server = server.restart().await;
        wanted.extend(new.iter().map(|&name| (name, cluster(name, 1))));
        server.publish(&wanted);
        for (name, _) in wanted.iter().filter(|(name, _)| **name != "spoilt") {
            server.until_programmed(&node, name).await;
        }
        server.until_it_is_told_of(&node, "spoilt", text).await;
    }
    let has: Vec<String> = envoy.cluster_versions().await.into_keys().collect();
    assert_eq!(has, ["a-good", "a-new", "z-good", "z-new"]);

    wanted.insert("spoilt", cluster("spoilt", 2));
    server.publish(&wanted);
    server.until_programmed(&node, "spoilt").await;
    until("nothing is refused any more", async || server.publisher.rejected().is_empty().then_some(())).await;
}

/// The xDS part of an operator.
struct XdsServer {
    address: SocketAddr,
    publisher: Publisher,
    stop: CancellationToken,
    served: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl XdsServer {
    async fn start() -> Self {
        Self::at(free_port()).await
    }

    async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("nobody else has taken the port");
        let (publisher, stop) = (Publisher::new(), CancellationToken::new());
        let discovery = DiscoveryService::new(publisher.clone(), stop.clone()).into_routes();
        let server = tonic::transport::Server::builder().add_routes(discovery);
        let served =
            tokio::spawn(server.serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                stop.clone().cancelled_owned(),
            ));
        Self { address, publisher, stop, served }
    }

    /// As a new process, which knows nothing.
    async fn restart(mut self) -> Self {
        self.stop.cancel();
        (&mut self.served).await.unwrap().unwrap();
        Self::at(self.address).await
    }

    async fn until_it_is_told_of(&self, node: &str, cluster: &str, text: &str) {
        let rejected =
            until("the refusal is known", async || self.publisher.rejected().into_iter().next()).await;
        assert_eq!((&*rejected.node, rejected.kind, &*rejected.resource), (node, Kind::Cluster, cluster));
        assert!(rejected.why.message.contains(text), "not Envoy's text: {}", rejected.why.message);
    }

    fn publish(&self, clusters: &Clusters) {
        let mut snapshot = Snapshot::default();
        for (name, body) in clusters {
            // Clusters made by hand have no field that is a map.
            let (version, body) = (Version::of(&body.value), body.clone());
            snapshot.insert(Kind::Cluster, *name, Resource { version, body });
        }
        self.publisher.publish(snapshot);
    }

    async fn until_programmed(&self, node: &str, cluster: &str) {
        until(&format!("Envoy has {cluster}"), async || {
            let programmed = self.publisher.programmed(Some(node), cluster);
            let outcome = tokio::time::timeout(Duration::from_secs(1), programmed).await;
            (outcome == Ok(Programmed::Acked)).then_some(())
        })
        .await;
    }
}

impl Drop for XdsServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn cluster(name: &str, seconds: i64) -> Any {
    pack_any(Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
            cluster::DiscoveryType::Static.into(),
        )),
        connect_timeout: Some(ProtoDuration { seconds, nanos: 0 }),
        ..Cluster::default()
    })
}

fn timeout_of_zero() -> Any {
    cluster("spoilt", 0)
}

fn endpoint_discovery_without_a_source() -> Any {
    pack_any(Cluster {
        name: "spoilt".to_owned(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Eds.into())),
        ..Cluster::default()
    })
}

/// Envoy does not say which resource has it.
fn a_field_of_a_later_envoy() -> Any {
    let mut cluster = cluster("spoilt", 1);
    // Field 5,000 is the number 1.
    cluster.value.extend_from_slice(&[0xc0, 0xb8, 0x02, 1]);
    cluster
}
