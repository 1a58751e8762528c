//! A resource that Envoy does not take: the crate's xDS server against the real Envoy, with clusters made by hand, since
//! `translate` is not meant to make any that Envoy refuses.

use std::collections::BTreeMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster};
use envoy_types::pb::google::protobuf::Duration as ProtoDuration;
use envoy_types::util::pack_any;
use rstest::rstest;
use spark_session_operator::xds::{
    DiscoveryService, Kind, Programmed, Publisher, Resource, Snapshot, Version,
};
use tokio_util::sync::CancellationToken;

use super::process::free_port;
use super::proxy::Envoy;
use super::wait::until;

/// What Envoy is to have, under the names of clusters.
type Clusters = BTreeMap<&'static str, Cluster>;

#[rstest]
// Its protobuf rules refuse this one, and the whole response with it.
#[case::by_a_rule_for_a_field("field", timeout_of_zero(), "ConnectTimeout")]
// This one only shows when the cluster is made.
#[case::when_it_is_built("built", endpoint_discovery_without_a_source(), "EDS")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_cluster_stops_no_other_and_keeps_its_last_good_version(
    #[case] scenario: &str,
    #[case] bad: Cluster,
    #[case] text: &str,
) {
    let scenario = format!("refused-{scenario}");
    let node = format!("envoy-of-{scenario}");
    let server = XdsServer::start();
    let mut envoy = Envoy::new(&scenario, free_port(), server.address);
    let mut wanted = Clusters::from([("steady", cluster(1)), ("spoilt", cluster(1))]);
    server.publish(&wanted);
    envoy.start();
    envoy.until_live().await;
    server.until_programmed(&node, "spoilt").await;
    let good = envoy.cluster_versions().await;

    wanted.insert("spoilt", bad);
    for name in ["a-new", "t-new", "z-new"] {
        wanted.insert(name, cluster(1));
    }
    server.publish(&wanted);
    for name in ["a-new", "t-new", "z-new"] {
        server.until_programmed(&node, name).await;
    }
    let rejected =
        until("the refusal is known", async || server.publisher.rejected().into_iter().next()).await;
    assert_eq!((rejected.node, rejected.kind, rejected.resource), (node, Kind::Cluster, "spoilt".to_owned()));
    assert!(rejected.why.message.contains(text), "not Envoy's text: {}", rejected.why.message);
    let now = envoy.cluster_versions().await;
    assert_eq!(now["spoilt"], good["spoilt"], "the last good version stays");
    assert_eq!(now["steady"], good["steady"]);
    assert_eq!(now.len(), 5, "{now:?}");

    wanted.insert("spoilt", cluster(2));
    server.publish(&wanted);
    until("the corrected cluster arrives", async || {
        (envoy.cluster_versions().await["spoilt"] != good["spoilt"]).then_some(())
    })
    .await;
    until("nothing is refused any more", async || server.publisher.rejected().is_empty().then_some(())).await;
}

/// The xDS part of an operator.
struct XdsServer {
    address: std::net::SocketAddr,
    publisher: Publisher,
    stop: CancellationToken,
}

impl XdsServer {
    fn start() -> Self {
        let (address, publisher, stop) = (free_port(), Publisher::new(), CancellationToken::new());
        let discovery = DiscoveryService::new(publisher.clone(), stop.clone()).into_routes();
        let server = tonic::transport::Server::builder().add_routes(discovery);
        tokio::spawn(server.serve_with_shutdown(address, stop.clone().cancelled_owned()));
        Self { address, publisher, stop }
    }

    fn publish(&self, clusters: &Clusters) {
        let mut snapshot = Snapshot::default();
        for (name, cluster) in clusters {
            let cluster = Cluster { name: (*name).to_owned(), ..cluster.clone() };
            // Clusters made by hand have few fields, and none of them is a map.
            let version = Version::of(&format!("{cluster:?}"));
            snapshot.insert(Kind::Cluster, *name, Resource { version, body: pack_any(cluster) });
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

fn cluster(seconds: i64) -> Cluster {
    Cluster {
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
            cluster::DiscoveryType::Static.into(),
        )),
        connect_timeout: Some(ProtoDuration { seconds, nanos: 0 }),
        ..Cluster::default()
    }
}

fn timeout_of_zero() -> Cluster {
    cluster(0)
}

fn endpoint_discovery_without_a_source() -> Cluster {
    Cluster {
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Eds.into())),
        ..cluster(1)
    }
}
