//! A second API server, on the etcd of the first one or another, which may be killed: nobody but the test uses it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
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
        Self::start_on(scenario, None).await
    }

    /// The same, on another etcd. It knows no CustomResourceDefinitions then.
    pub async fn start_on(scenario: &str, etcd: Option<&str>) -> Self {
        let address = free_port();
        let command = command_of("apiserver").into_iter().map(|argument| match (etcd, &*argument) {
            (_, known) if known.starts_with("--secure-port=") => {
                format!("--secure-port={}", address.port())
            }
            (Some(etcd), known) if known.starts_with("--etcd-servers=") => format!("--etcd-servers={etcd}"),
            _ => argument,
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
        let client = client(kubeconfig).await;
        let sessions: Api<SparkInteractiveSession> = Api::namespaced(client, namespace);
        until("sessions are served again", async || sessions.list(&ListParams::default()).await.ok()).await;
    }

    /// Gives it the CustomResourceDefinitions of the first one.
    pub async fn learn_kinds(&self, from: &Client, to: &Client) {
        let (from, to): (Api<CustomResourceDefinition>, Api<_>) =
            (Api::all(from.clone()), Api::all(to.clone()));
        for known in from.list(&ListParams::default()).await.unwrap() {
            let name = known.metadata.name.unwrap();
            let metadata = ObjectMeta {
                name: Some(name.clone()),
                annotations: known.metadata.annotations,
                ..ObjectMeta::default()
            };
            let definition = CustomResourceDefinition { metadata, spec: known.spec, status: None };
            to.create(&PostParams::default(), &definition).await.unwrap();
            let served = await_condition(to.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(Duration::from_secs(30), served).await.expect("it is served").unwrap();
        }
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

/// As whoever this kubeconfig names.
pub async fn client(kubeconfig: &Path) -> Client {
    let config = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// How `deploy/local/up` has started this part.
pub fn command_of(part: &str) -> Vec<String> {
    let state = PathBuf::from(std::env::var_os("SPARK_LOCAL_STATE").expect("use tests/run integration"));
    let known =
        fs::read_to_string(state.join(format!("pids/{part}.json"))).expect("deploy/local has started one");
    let pid = serde_json::from_str::<Value>(&known).unwrap()["pid"].as_u64().unwrap();
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    command.split_terminator('\0').map(str::to_owned).collect()
}
