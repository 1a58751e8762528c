//! A second API server on the etcd of the first one, which may be killed: nobody but the operator under test uses it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use spark_session_operator::api::SparkInteractiveSession;

use super::process::{Process, free_port, log_file};
use super::wait::until;

pub struct ApiServer {
    process: Option<Process>,
    command: Vec<String>,
    address: SocketAddr,
    scenario: String,
    http: reqwest::Client,
}

impl ApiServer {
    /// As `deploy/local/up` has started the first one, on another port.
    pub async fn start(scenario: &str) -> Self {
        let state = PathBuf::from(std::env::var_os("SPARK_LOCAL_STATE").expect("use tests/run integration"));
        let known =
            fs::read_to_string(state.join("pids/apiserver.json")).expect("deploy/local has started one");
        let pid = serde_json::from_str::<Value>(&known).unwrap()["pid"].as_u64().unwrap();
        let address = free_port();
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        let command = command.split_terminator('\0').map(|argument| {
            if argument.starts_with("--secure-port=") {
                format!("--secure-port={}", address.port())
            } else {
                argument.to_owned()
            }
        });
        // It does not announce itself as the address of the Service `kubernetes`, where it would stay after its end.
        let command = command.chain(["--endpoint-reconciler-type=none".to_owned()]).collect();
        let http =
            reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap();
        let mut server = Self { process: None, command, address, scenario: scenario.to_owned(), http };
        server.start_again();
        server.until_ready().await;
        server
    }

    /// The kubeconfig of the tests, with this one's address.
    pub fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let before = fs::read_to_string(std::env::var_os("KUBECONFIG").unwrap()).unwrap();
        let mut document: Value = serde_saphyr::from_str(&before).unwrap();
        document["clusters"][0]["cluster"]["server"] = json!(format!("https://{}", self.address));
        let path = folder.join("second-kubeconfig");
        fs::write(&path, document.to_string()).unwrap();
        path
    }

    /// By SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn start_again(&mut self) {
        let log = log_file(&self.scenario, "second-apiserver");
        self.process = Some(Process::start(&self.command[0], &self.command[1..], log));
    }

    /// Until the first request for sessions succeeds: it is ready somewhat before it serves custom resources.
    pub async fn until_it_serves(&mut self, kubeconfig: &Path, namespace: &str) {
        let config = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let sessions: Api<SparkInteractiveSession> = Api::namespaced(client, namespace);
        until("sessions are served again", async || sessions.list(&ListParams::default()).await.ok()).await;
    }

    async fn until_ready(&mut self) {
        let url = format!("https://{}/readyz", self.address);
        let (http, process) = (&self.http, &mut self.process);
        until("the second API server is ready", async || {
            process.as_mut().expect("it was started").assert_runs();
            http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()).then_some(())
        })
        .await;
    }
}
