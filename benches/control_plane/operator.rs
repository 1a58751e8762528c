//! The operator's own binary, as a process with the rights of production.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::domain::{free_port, loopback};
use crate::kubernetes::NAMESPACE;
use crate::process::Process;

/// Ends when it is dropped.
pub struct Operator {
    process: Process,
    /// ADS and ext_authz.
    pub address: SocketAddr,
    health: SocketAddr,
    folder: TempDir,
}

impl Operator {
    /// `listen`: where its Envoys are told to listen. Every login is believed.
    pub async fn start(listen: SocketAddr) -> Self {
        Self::start_with(listen, &["--oidc-skip-validation"]).await
    }

    /// With these flags for logins.
    pub async fn start_with(listen: SocketAddr, logins: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (address, health) = (loopback(free_port()), loopback(free_port()));
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(crate::part("OPERATOR"))
            .args(["run", "--namespace", NAMESPACE, "--log-level", "warn"])
            .args(logins)
            .args(["--grpc-addr", &address.to_string()])
            .args(["--envoy-listen-addr", &listen.to_string()])
            .args(["--identity-jar-url", "local:///identity.jar"])
            .args(["--health-probe-bind-address", &health.to_string()])
            .env("KUBECONFIG", crate::part("OPERATOR_KUBECONFIG"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("the operator cannot be started");
        let mut operator = Self { process: Process(child), address, health, folder };
        operator.ready().await;
        operator
    }

    async fn ready(&mut self) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/readyz", self.health);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            let ended = self.process.0.try_wait().unwrap().is_some();
            assert!(!ended && Instant::now() < deadline, "the operator is not ready: {}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// In MiB, as the kernel counts it.
    pub fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// What all its threads that live have used. By the scheduler's clock, since `utime` counts in steps of 10 ms.
    pub fn cpu(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.0.id())).unwrap();
        let of_thread = |path: std::path::PathBuf| -> Option<u64> {
            fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
        };
        Duration::from_nanos(threads.filter_map(|thread| of_thread(thread.ok()?.path())).sum())
    }
}
