use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::bootstrap;
use super::mutual_tls::MutualTls;
use super::process::{Process, free_port, log_file};
use super::wait::until;

/// The bootstrap's cluster that leads to the operator.
const CONTROL: &str = "spark-session-operator";

/// An Envoy with two workers.
pub struct Envoy {
    process: Option<Process>,
    scenario: String,
    node: String,
    bootstrap: tempfile::NamedTempFile,
    admin: SocketAddr,
    /// Where its clients connect, once an operator has said so.
    pub listens: SocketAddr,
    http: reqwest::Client,
}

/// How many responses of each kind Envoy has accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct Updates {
    pub clusters: u64,
    pub listeners: u64,
    pub routes: u64,
}

impl Envoy {
    /// As `envoy/bootstrap.yaml` says, with the operator at `control`. It does not run yet.
    pub fn new(scenario: &str, listens: SocketAddr, control: SocketAddr) -> Self {
        Self::with_bootstrap(scenario, listens, control, None, |_| {})
    }

    /// In the state-of-the-world variant of the protocol, which no file in `envoy/` asks for.
    pub fn with_state_of_the_world(scenario: &str, listens: SocketAddr, control: SocketAddr) -> Self {
        Self::with_bootstrap(scenario, listens, control, None, |bootstrap| {
            *bootstrap.pointer_mut("/dynamic_resources/ads_config/api_type").unwrap() = json!("GRPC");
        })
    }

    /// As `envoy/bootstrap-mtls.yaml` says, with replicas of the operator at these addresses.
    pub fn with_mutual_tls(
        scenario: &str,
        listens: SocketAddr,
        controls: &[SocketAddr],
        files: &MutualTls,
    ) -> Self {
        let others = &controls[1..];
        Self::with_bootstrap(scenario, listens, controls[0], Some(files), |bootstrap| add(bootstrap, others))
    }

    /// The same without TLS.
    pub fn with_replicas(scenario: &str, listens: SocketAddr, controls: &[SocketAddr]) -> Self {
        let others = &controls[1..];
        Self::with_bootstrap(scenario, listens, controls[0], None, |bootstrap| add(bootstrap, others))
    }

    /// Its ADS stream ends at `ads`, its checks at `checks`: what a Service in front of two replicas may well do.
    pub fn between_replicas(
        scenario: &str,
        listens: SocketAddr,
        ads: SocketAddr,
        checks: SocketAddr,
    ) -> Self {
        Self::with_bootstrap(scenario, listens, checks, None, |bootstrap| {
            let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
            let mut replica = clusters.iter().find(|cluster| cluster["name"] == CONTROL).unwrap().clone();
            replica["name"] = json!("ads-replica");
            let address = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
            *replica.pointer_mut(address).unwrap() = json!({ "address": ads.ip(), "port_value": ads.port() });
            clusters.push(replica);
            let stream = "/dynamic_resources/ads_config/grpc_services/0/envoy_grpc/cluster_name";
            *bootstrap.pointer_mut(stream).unwrap() = json!("ads-replica");
        })
    }

    fn with_bootstrap(
        scenario: &str,
        listens: SocketAddr,
        control: SocketAddr,
        mutual_tls: Option<&MutualTls>,
        edit: impl FnOnce(&mut Value),
    ) -> Self {
        // For the HTTP client. Another test of this process may have installed it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (admin, node) = (free_port(), format!("envoy-of-{scenario}"));
        let mut values = vec![
            ("OPERATOR_HOST", control.ip().to_string()),
            ("OPERATOR_PORT", control.port().to_string()),
            ("ADMIN_HOST", admin.ip().to_string()),
            ("ADMIN_PORT", admin.port().to_string()),
            ("NODE_ID", node.clone()),
            ("MAX_HEAP_BYTES", (1u64 << 30).to_string()),
        ];
        values.extend(mutual_tls.into_iter().flat_map(MutualTls::values));
        let file = if mutual_tls.is_some() { "bootstrap-mtls.yaml" } else { "bootstrap.yaml" };
        let mut bootstrap = bootstrap::parsed(file, &values);
        edit(&mut bootstrap);
        let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        std::fs::write(file.path(), bootstrap.to_string()).unwrap();
        Self {
            process: None,
            scenario: scenario.to_owned(),
            node,
            bootstrap: file,
            admin,
            listens,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    /// Its `node.id`.
    pub fn node(&self) -> &str {
        &self.node
    }

    pub fn start(&mut self) {
        let binary = std::env::var("ENVOY_BINARY")
            .expect("ENVOY_BINARY has to say where Envoy is: use `tests/run envoy`, which knows");
        let path = self.bootstrap.path().display().to_string();
        let arguments = ["-c", &path, "--concurrency", "2", "--log-level", "info"];
        let more = ["--reject-unknown-dynamic-fields", "--disable-hot-restart"];
        let arguments: Vec<String> = arguments.iter().chain(&more).map(|&it| it.to_owned()).collect();
        self.process = Some(Process::start(&binary, &arguments, log_file(&self.scenario, "envoy")));
    }

    /// Where it has less memory, from its next start on.
    pub fn limit_heap(&self, bytes: u64) {
        self.limit("/0/typed_config/max_heap_size_bytes", bytes);
    }

    /// Where it takes fewer connections, from its next start on.
    pub fn limit_connections(&self, most: u64) {
        self.limit("/1/typed_config/max_active_downstream_connections", most);
    }

    fn limit(&self, of_monitor: &str, limit: u64) {
        let mut bootstrap: Value =
            serde_json::from_slice(&std::fs::read(self.bootstrap.path()).unwrap()).unwrap();
        let field = format!("/overload_manager/resource_monitors{of_monitor}");
        *bootstrap.pointer_mut(&field).unwrap() = json!(limit);
        std::fs::write(self.bootstrap.path(), bootstrap.to_string()).unwrap();
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    /// It has its first configuration: the listener is open where there is one.
    pub async fn until_live(&mut self) {
        let url = format!("http://{}/ready", self.admin);
        let (http, process) = (&self.http, &mut self.process);
        until("Envoy is live", async || {
            process.as_mut().expect("it was started").assert_runs();
            http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()).then_some(())
        })
        .await;
    }

    /// The workers open the listener a moment after Envoy calls itself live.
    pub async fn until_it_listens(&mut self) {
        self.until_live().await;
        let address = self.listens;
        until("Envoy's listener is open", async || tokio::net::TcpStream::connect(address).await.ok()).await;
    }

    pub async fn stat(&self, name: &str) -> u64 {
        self.stats().await.get(name).copied().unwrap_or_else(|| panic!("Envoy has no statistic {name}"))
    }

    /// Counters and gauges.
    pub async fn stats(&self) -> BTreeMap<String, u64> {
        let text = self.admin("/stats").await;
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        text.lines().filter_map(pair).collect()
    }

    /// In bytes, now: the statistic of that name is some seconds old.
    pub async fn memory_allocated(&self) -> u64 {
        self.memory("allocated").await
    }

    /// In bytes, also what it has freed and not yet given back.
    pub async fn memory_of_the_machine(&self) -> u64 {
        self.memory("total_physical_bytes").await
    }

    async fn memory(&self, what: &str) -> u64 {
        let memory: Value = serde_json::from_str(&self.admin("/memory").await).unwrap();
        memory[what].as_str().unwrap().parse().unwrap()
    }

    pub async fn updates(&self) -> Updates {
        let stats = self.stats().await;
        let of = |name: &str| *stats.get(name).unwrap_or_else(|| panic!("Envoy has no statistic {name}"));
        Updates {
            clusters: of("cluster_manager.cds.update_success"),
            listeners: of("listener_manager.lds.update_success"),
            routes: of("http.spark.rds.spark.update_success"),
        }
    }

    pub async fn until_connected(&self, connected: bool) {
        let wanted = u64::from(connected);
        until("the state of the ADS stream", async || {
            (self.stat("control_plane.connected_state").await == wanted).then_some(())
        })
        .await;
    }

    /// The version of each cluster that came by CDS.
    pub async fn cluster_versions(&self) -> BTreeMap<String, String> {
        let dump: Value = serde_json::from_str(&self.admin("/config_dump").await).unwrap();
        let parts = dump["configs"].as_array().unwrap().iter();
        let clusters = parts.flat_map(|part| part["dynamic_active_clusters"].as_array()).flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        clusters.map(|it| (text(&it["cluster"]["name"]), text(&it["version_info"]))).collect()
    }

    async fn admin(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.admin);
        self.http.get(url).send().await.unwrap().text().await.unwrap()
    }
}

/// Further replicas of the operator.
fn add(bootstrap: &mut Value, controls: &[SocketAddr]) {
    let endpoints = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints";
    let endpoints = bootstrap.pointer_mut(endpoints).unwrap().as_array_mut().unwrap();
    for control in controls {
        let mut endpoint = endpoints[0].clone();
        let address = json!({ "address": control.ip(), "port_value": control.port() });
        *endpoint.pointer_mut("/endpoint/address/socket_address").unwrap() = address;
        endpoints.push(endpoint);
    }
}
