//! A stand-in for the API server answers; times are seconds of the fixtures.

use prometheus_client::metrics::gauge::Gauge;
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::matchers::{method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::api::MetricType;
use crate::model::fixtures::{application, at, connect_pool, driver};
use crate::model::{Kind, Object};
use crate::operator::{Candidate, HolderIdentity, LeaseName, LeaseTiming};

struct World {
    api: MockServer,
    stores: Arc<Stores>,
    metrics: DriverMetrics,
}

/// As the replica that plans.
fn metrics(api: &str, stores: &Arc<Stores>) -> DriverMetrics {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = kube::Config::new(api.parse().unwrap());
    config.default_retry = false;
    let client = Client::try_from(config).unwrap();
    DriverMetrics::new(&client, "ns", stores.clone(), Leadership::always())
}

/// Pool `p`, with a driver that runs since second 0, whose server answers and whom nobody has planned yet.
async fn world(metric: MetricType) -> World {
    let api = MockServer::start().await;
    let stores = Stores::new();
    stores.shown(Object::Pool(connect_pool("p").measured_by(metric)));
    stores.shown(Object::Application(application("p-0")));
    stores.shown(Object::Pod(driver("p-0").at_ip("10.0.0.1").running_since(0)));
    stores.server_answers("uid-of-p-0-driver");
    let metrics = metrics(&api.uri(), &stores);
    let world = World { api, stores, metrics };
    world.planned();
    world
}

impl World {
    async fn answers(&self, answer: ResponseTemplate) {
        self.api.reset().await;
        Mock::given(method("GET"))
            .and(path("/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods"))
            .and(query_param("labelSelector", "sparkinteractive.io/pool,spark-role=driver"))
            .respond_with(answer)
            .mount(&self.api)
            .await;
    }

    async fn measures(&self, pods: Value) {
        let list = json!({ "kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": pods });
        self.answers(ResponseTemplate::new(200).set_body_json(list)).await;
    }

    async fn requests(&self) -> usize {
        self.api.received_requests().await.unwrap().len()
    }

    /// Whether the pool was to be planned.
    fn planned(&self) -> bool {
        let next = std::pin::pin!(self.stores.queue.next());
        let Some(pool) = futures::FutureExt::now_or_never(next) else { return false };
        self.stores.queue.done(&pool);
        true
    }

    fn cpu(&self) -> Option<u32> {
        self.stores.read(|inventory| inventory.instance("p-0")).unwrap().utilization.and_then(|it| it.cpu)
    }

    fn problem(&self) -> Option<String> {
        self.stores.read(|inventory| inventory.pool_view("p")).unwrap().metrics_problem
    }
}

/// Figures of the driver, of the 15 s until then.
fn measured(cpu: &str, seconds: i64) -> Value {
    json!({
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": { "name": "p-0-driver", "namespace": "ns" },
        "timestamp": at(seconds).to_string(),
        "window": "14.982s",
        "containers": [{ "name": "spark-kubernetes-driver", "usage": { "cpu": cpu, "memory": "512Mi" } }],
    })
}

#[tokio::test]
async fn figures_are_read_and_their_pool_is_planned_when_they_ask_for_something_else() {
    let mut world = world(MetricType::Cpu).await;
    world.measures(json!([measured("800m", 600)])).await;
    world.metrics.round(at(601)).await;
    assert_eq!((world.cpu(), world.planned()), (Some(800), true));

    world.measures(json!([measured("865123456n", 615)])).await;
    world.metrics.round(at(616)).await;
    assert_eq!((world.cpu(), world.planned()), (Some(865), false), "within the tolerance");

    world.measures(json!([measured("881m", 630)])).await;
    world.metrics.round(at(631)).await;
    assert_eq!((world.cpu(), world.planned()), (Some(881), true));

    world.measures(json!([measured("950m", 645)])).await;
    world.metrics.round(at(646)).await;
    assert_eq!((world.cpu(), world.planned()), (Some(950), false), "two are wanted as before");
}

#[tokio::test]
async fn without_a_driver_to_measure_not_one_request_is_made() {
    let mut by_sessions = world(MetricType::ActiveSessions).await;
    by_sessions.metrics.round(at(600)).await;
    assert_eq!(by_sessions.requests().await, 0);

    let mut at_zero = world(MetricType::Cpu).await;
    at_zero.stores.gone(Kind::Pod, "p-0-driver", 0);
    at_zero.metrics.round(at(600)).await;
    assert_eq!(at_zero.requests().await, 0);
}

#[tokio::test]
async fn a_replica_that_does_not_lead_asks_nothing_and_remembers_nothing() {
    let mut world = world(MetricType::Cpu).await;
    world.measures(json!([measured("800m", 600)])).await;
    world.metrics.round(at(601)).await;
    assert_eq!(world.cpu(), Some(800));
    let lease = LeaseName {
        namespace: "ns".to_owned(),
        name: "lease".to_owned(),
        identity: HolderIdentity::new("a", None, Uuid::nil()),
    };
    let client = world.metrics.pods.clone().into_client();
    let (_candidate, standby) = Candidate::new(&client, lease, LeaseTiming::DEFAULT, Gauge::default());
    world.metrics.leadership = standby;
    world.metrics.round(at(616)).await;
    assert_eq!((world.requests().await, world.cpu()), (1, None));
}

#[rstest]
#[case::not_installed(404, "the cluster has no metrics.k8s.io API; install metrics-server")]
#[case::forbidden(403, "the operator may not list pods in metrics.k8s.io; apply deploy/rbac.yaml")]
#[case::down(503, "the server behind metrics.k8s.io does not answer; see its APIService")]
#[case::another(500, "the API server answers 500: oh")]
#[tokio::test]
async fn what_is_wrong_is_told_in_words_until_it_is_over(#[case] code: u16, #[case] words: &str) {
    let mut world = world(MetricType::Memory).await;
    let status =
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "oh", "code": code });
    world.answers(ResponseTemplate::new(code).set_body_json(status)).await;
    world.metrics.round(at(600)).await;
    assert_eq!((world.problem().as_deref(), world.planned()), (Some(words), true));
    world.metrics.round(at(615)).await;
    assert!(!world.planned(), "told once");

    world.measures(json!([measured("1", 630)])).await;
    world.metrics.round(at(631)).await;
    assert_eq!((world.problem(), world.cpu(), world.planned()), (None, Some(1000), true));
}

#[tokio::test]
async fn an_api_server_that_cannot_be_reached_is_told_without_addresses() {
    let mut world = world(MetricType::Cpu).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.metrics = metrics(&format!("http://{free}"), &world.stores);
    world.metrics.round(at(600)).await;
    assert_eq!(world.problem().as_deref(), Some("no answer from the API server about metrics.k8s.io"));
}

#[rstest]
#[case::without_a_figure(json!({ "memory": "1Gi" }))]
#[case::no_quantity(json!({ "cpu": "much", "memory": "1Gi" }))]
#[tokio::test]
async fn what_cannot_be_read_of_one_driver_does_not_keep_others_from_being_read(#[case] usage: Value) {
    let mut world = world(MetricType::Cpu).await;
    let mut odd = measured("1", 600);
    odd["metadata"]["name"] = json!("p-1-driver");
    odd["containers"][0]["usage"] = usage;
    world.measures(json!([odd, measured("800m", 600)])).await;
    world.metrics.round(at(601)).await;
    assert_eq!((world.cpu(), world.problem()), (Some(800), None));
}

#[tokio::test]
async fn figures_that_are_not_renewed_have_the_pool_planned_when_they_are_stale() {
    let mut world = world(MetricType::Cpu).await;
    world.measures(json!([measured("1", 600)])).await;
    world.metrics.round(at(601)).await;
    assert!(world.planned());
    world.metrics.round(at(720)).await;
    assert_eq!((world.cpu(), world.planned()), (Some(1000), false));
    world.metrics.round(at(721)).await;
    assert_eq!((world.cpu(), world.planned()), (None, true));
}
