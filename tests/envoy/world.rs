use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use spark_session_operator::api::{SparkInteractiveSession, SparkSessionPool};

use super::certificates::{Authority, Issued};
use super::connect_client::ConnectClient;
use super::mutual_tls::MutualTls;
use super::namespace;
use super::operator::Operator;
use super::process::free_port;
use super::proxy::Envoy;
use super::stand_in::StandIn;
use super::thrift_client::ThriftClient;
use super::wait::until;

/// Everything between a client and Spark, for one scenario.
pub struct World {
    pub envoy: Envoy,
    pub operator: Operator,
    pub spark: StandIn,
    /// Where Envoy's clients connect with TLS, if there is any.
    pub listens_with_tls: SocketAddr,
    pub cluster: Cluster,
}

/// A namespace in the API server.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
    pub pools: Api<SparkSessionPool>,
    pub sessions: Api<SparkInteractiveSession>,
}

impl World {
    /// Runs the test with these pools, and these flags for the operator besides those that every scenario has.
    pub async fn run(
        scenario: &str,
        pools: Vec<SparkSessionPool>,
        flags: &[&str],
        test: impl AsyncFnOnce(Self),
    ) {
        Self::start(scenario, pools, flags, None, test).await;
    }

    /// The same with mTLS between Envoy and the operator.
    pub async fn run_with_mutual_tls(
        scenario: &str,
        pools: Vec<SparkSessionPool>,
        flags: &[&str],
        test: impl AsyncFnOnce(Self),
    ) {
        let files = MutualTls::new(&Authority::new());
        Self::start(scenario, pools, flags, Some(&files), test).await;
    }

    async fn start(
        scenario: &str,
        pools: Vec<SparkSessionPool>,
        flags: &[&str],
        mutual_tls: Option<&MutualTls>,
        test: impl AsyncFnOnce(Self),
    ) {
        in_a_namespace(async move |cluster: Cluster| {
            let (listens, listens_with_tls) = (free_port(), free_port());
            let mut all = vec!["--envoy-tls-listen-addr".to_owned(), listens_with_tls.to_string()];
            all.extend(mutual_tls.into_iter().flat_map(MutualTls::flags));
            let all: Vec<&str> = all.iter().map(String::as_str).chain(flags.iter().copied()).collect();
            let mut operator = Operator::new(scenario, "operator", &cluster.namespace, listens, &all);
            let mut envoy = match mutual_tls {
                None => Envoy::new(scenario, listens, operator.grpc),
                Some(files) => Envoy::with_mutual_tls(scenario, listens, &[operator.grpc], files),
            };
            let spark = StandIn::start(cluster.client.clone(), &cluster.namespace);
            for pool in &pools {
                cluster.create(pool).await;
            }
            operator.start();
            envoy.start();
            operator.until_ready().await;
            envoy.until_it_listens().await;
            test(Self { envoy, operator, spark, listens_with_tls, cluster }).await;
        })
        .await;
    }

    /// A client with a TCP connection and a Spark session of its own.
    pub async fn connect(&self, host: &str, user: &str) -> ConnectClient {
        ConnectClient::new(self.envoy.listens, host, user).await
    }

    pub fn thrift(&self, host: &str, user: &str) -> ThriftClient {
        ThriftClient::new(self.envoy.listens, host, user)
    }
}

impl Cluster {
    pub async fn create(&self, pool: &SparkSessionPool) {
        self.pools.create(&PostParams::default(), pool).await.unwrap();
    }

    pub async fn delete_pool(&self, name: &str) {
        self.pools.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Creates or replaces a Secret of type kubernetes.io/tls.
    pub async fn put_certificate(&self, name: &str, issued: &Issued) {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": name },
            "type": "kubernetes.io/tls",
            "stringData": { "tls.crt": issued.certificate, "tls.key": issued.key },
        });
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        secrets.patch(name, &PatchParams::apply("tests"), &Patch::Apply(secret)).await.unwrap();
    }

    /// The condition of this type, when it has this reason.
    pub async fn until_condition(&self, pool: &str, type_: &str, reason: &str) -> Condition {
        until(&format!("{pool} says {type_}: {reason}"), async || {
            let status = self.pools.get(pool).await.unwrap().status.unwrap_or_default().status;
            let found = status.conditions.into_iter().find(|condition| condition.type_ == type_);
            found.filter(|condition| condition.reason == reason)
        })
        .await
    }

    pub async fn scale(&self, pool: &str, min: i32) {
        let patch = Patch::Merge(json!({ "spec": { "replicas": { "min": min } } }));
        self.pools.patch(pool, &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn until_ready_replicas(&self, pool: &str, count: i32) {
        until(&format!("{pool} has {count} ready instances"), async || {
            let status = self.pools.get(pool).await.unwrap().status.unwrap_or_default().status;
            (status.ready_replicas == count).then_some(())
        })
        .await;
    }
}

pub async fn in_a_namespace(test: impl AsyncFnOnce(Cluster)) {
    namespace::in_a_namespace("envoy", async |client, namespace| {
        let (pools, sessions) =
            (Api::namespaced(client.clone(), &namespace), Api::namespaced(client.clone(), &namespace));
        test(Cluster { pools, sessions, client, namespace }).await;
    })
    .await;
}
