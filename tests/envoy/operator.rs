use std::net::SocketAddr;
use std::path::Path;

use super::process::{Process, free_port, log_file};
use super::wait::until;

/// One replica of the operator.
pub struct Operator {
    process: Option<Process>,
    scenario: String,
    part: String,
    arguments: Vec<String>,
    pub grpc: SocketAddr,
    health: SocketAddr,
    metrics: SocketAddr,
    http: reqwest::Client,
}

impl Operator {
    /// Its ports are chosen, but it does not run yet.
    pub fn new(
        scenario: &str,
        part: &str,
        namespace: &str,
        envoy_listens: SocketAddr,
        more: &[&str],
    ) -> Self {
        let (grpc, health, metrics) = (free_port(), free_port(), free_port());
        let mut arguments = vec!["run".to_owned(), "--oidc-skip-validation".to_owned()];
        for (flag, value) in [
            ("--namespace", namespace.to_owned()),
            ("--grpc-addr", grpc.to_string()),
            ("--envoy-listen-addr", envoy_listens.to_string()),
            // Of no use to the stand-in, which only is told of it.
            ("--identity-jar-url", "local:///identity.jar".to_owned()),
            ("--health-probe-bind-address", health.to_string()),
            ("--metrics-bind-address", metrics.to_string()),
            ("--log-level", "info,spark_session_operator=debug".to_owned()),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (scenario, part) = (scenario.to_owned(), part.to_owned());
        Self { process: None, scenario, part, arguments, grpc, health, metrics, http }
    }

    pub fn start(&mut self) {
        let log = log_file(&self.scenario, &self.part);
        self.process =
            Some(Process::start(env!("CARGO_BIN_EXE_spark-session-operator"), &self.arguments, log));
    }

    /// With another way to the API server than the tests have.
    #[allow(dead_code, reason = "only some tests put something in between")]
    pub fn start_with_kubeconfig(&mut self, kubeconfig: &Path) {
        let log = log_file(&self.scenario, &self.part);
        let operator = env!("CARGO_BIN_EXE_spark-session-operator");
        let mut arguments = vec![format!("KUBECONFIG={}", kubeconfig.display()), operator.to_owned()];
        arguments.extend_from_slice(&self.arguments);
        self.process = Some(Process::start("env", &arguments, log));
    }

    /// As a new process with one more flag.
    pub async fn restart_with(&mut self, flag: &str, value: &str) {
        self.kill();
        self.arguments.extend([flag.to_owned(), value.to_owned()]);
        self.start();
        self.until_ready().await;
    }

    pub fn kill(&mut self) {
        self.process = None;
    }

    /// It answers nothing until it goes on.
    pub fn pause(&self) {
        self.process.as_ref().expect("it was started").pause();
    }

    pub fn go_on(&self) {
        self.process.as_ref().expect("it was started").go_on();
    }

    /// Its resident set, in bytes.
    pub fn resident(&self) -> u64 {
        self.process.as_ref().expect("it was started").resident()
    }

    pub async fn until_ready(&mut self) {
        let url = format!("http://{}/readyz", self.health);
        let (http, process) = (&self.http, &mut self.process);
        until("the operator is ready", async || {
            process.as_mut().expect("it was started").assert_runs();
            http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()).then_some(())
        })
        .await;
    }

    /// Of several replicas, this one plans.
    pub async fn until_it_leads(&mut self) {
        self.until_ready().await;
        until("the operator leads", async || (self.metric("leader").await == 1).then_some(())).await;
    }

    /// Whether it plans, as far as it answers at all.
    pub async fn leads(&self) -> bool {
        let url = format!("http://{}/metrics", self.metrics);
        let Ok(answer) = self.http.get(url).send().await else { return false };
        answer.text().await.is_ok_and(|text| text.contains("spark_session_operator_leader 1"))
    }

    /// How many checks wait for their answer.
    pub async fn checks_in_flight(&self) -> u64 {
        self.metric("checks_in_flight").await
    }

    /// What Envoys have told of requests that are open for long.
    pub async fn access_log_entries(&self) -> u64 {
        self.metric("access_log_entries_total").await
    }

    /// Whether its log has these words.
    #[allow(dead_code, reason = "other tests see what follows from it")]
    pub fn says(&self, words: &str) -> bool {
        std::fs::read_to_string(log_file(&self.scenario, &self.part)).is_ok_and(|log| log.contains(words))
    }

    async fn metric(&self, name: &str) -> u64 {
        let url = format!("http://{}/metrics", self.metrics);
        let text = self.http.get(url).send().await.unwrap().text().await.unwrap();
        let name = format!("spark_session_operator_{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {name}in\n{text}")).parse().unwrap()
    }

    pub async fn until_checks_in_flight(&self, count: u64) {
        until(&format!("{count} checks are being answered"), async || {
            (self.checks_in_flight().await == count).then_some(())
        })
        .await;
    }
}
