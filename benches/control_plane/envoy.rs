//! The real Envoy, started from the repository's bootstrap.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::domain::{free_port, loopback};
use crate::process::Process;

/// Ends when it is dropped.
pub struct Envoy {
    _process: Process,
    admin: SocketAddr,
    folder: TempDir,
}

impl Envoy {
    /// `ads`: who configures it; `checks`: who answers its ext_authz, the same unless there are replicas.
    pub fn start(node: &str, ads: SocketAddr, checks: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let admin = loopback(free_port());
        let bootstrap = folder.path().join("bootstrap.json");
        fs::write(&bootstrap, bootstrap_of(node, admin, ads, checks).to_string()).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(crate::part("ENVOY"))
            .arg("-c")
            .arg(&bootstrap)
            .args(["--concurrency", "2", "--log-level", "warning"])
            .args(["--reject-unknown-dynamic-fields", "--disable-hot-restart"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Envoy cannot be started");
        Self { _process: Process(child), admin, folder }
    }

    /// Until it is live: it has been sent its first configuration.
    pub async fn ready(&self) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/ready", self.admin);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "Envoy is not ready: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Until something listens there: the listener comes a moment after Envoy is live.
    pub async fn listens(&self, address: SocketAddr) {
        self.ready().await;
        let deadline = Instant::now() + Duration::from_secs(60);
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(Instant::now() < deadline, "Envoy does not listen at {address}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn bootstrap_of(node: &str, admin: SocketAddr, ads: SocketAddr, checks: SocketAddr) -> Value {
    let mut text = include_str!("../../envoy/bootstrap.yaml").to_owned();
    for (name, value) in [
        ("NODE_ID", node.to_owned()),
        ("ADMIN_HOST", admin.ip().to_string()),
        ("ADMIN_PORT", admin.port().to_string()),
        ("OPERATOR_HOST", checks.ip().to_string()),
        ("OPERATOR_PORT", checks.port().to_string()),
        ("MAX_HEAP_BYTES", (1u64 << 30).to_string()),
    ] {
        text = text.replace(&format!("${{{name}}}"), &value);
    }
    let mut bootstrap: Value = serde_saphyr::from_str(&text).unwrap();
    if ads != checks {
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
        let mut other = clusters[0].clone();
        other["name"] = json!("ads");
        let address =
            "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value";
        *other.pointer_mut(address).unwrap() = json!(ads.port());
        clusters.push(other);
        let service = "/dynamic_resources/ads_config/grpc_services/0/envoy_grpc/cluster_name";
        *bootstrap.pointer_mut(service).unwrap() = json!("ads");
    }
    bootstrap
}
