//! The command line as its users meet it.

#![allow(clippy::expect_used, reason = "helpers of tests fail the test")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::{Channel, Endpoint};

fn operator(arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("spark-session-operator").expect("the binary is built");
    // Nothing of the caller's environment may configure the operator.
    command.env_clear().args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_flag_of_run_is_in_the_readme() {
    let help = text(&operator(&["run", "--help"]).stdout);
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("a README");
    let flags: Vec<&str> = help
        .split_whitespace()
        .filter(|word| word.starts_with("--") && *word != "--help")
        .map(|word| word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()))
        .map(|word| word.split_once(['=', '[']).map_or(word, |(flag, _)| flag))
        .collect();
    assert!(flags.len() > 10, "{help}");
    for flag in flags {
        assert!(readme.contains(&format!("`{flag}`")), "{flag} is not in the README");
    }
}

#[test]
fn without_an_issuer_run_says_what_to_set() {
    let output = operator(&["run"]);
    assert!(!output.status.success());
    let error = text(&output.stderr);
    assert!(error.contains("--oidc-issuer-url") && error.contains("--oidc-skip-validation"), "{error}");
}

#[test]
fn without_a_cluster_run_says_so() {
    let output = operator(&["run", "--oidc-skip-validation", "--grpc-addr", "127.0.0.1:0"]);
    assert!(!output.status.success());
    let error = text(&output.stderr);
    assert!(error.contains("no access to a Kubernetes cluster"), "{error}");
}

/// Ends with the test, whatever becomes of it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its address")
}

async fn connected(operator: SocketAddr) -> AuthorizationClient<Channel> {
    let began = Instant::now();
    loop {
        let endpoint = Endpoint::from_shared(format!("http://{operator}")).expect("an address");
        match endpoint.connect().await {
            Ok(channel) => return AuthorizationClient::new(channel),
            Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn scraped(metrics: SocketAddr) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(metrics).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

/// Its pipes are full after a moment, with a line for each frame of HTTP/2.
#[tokio::test]
async fn a_log_that_nobody_reads_stops_neither_requests_nor_the_end_of_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    let nobody = "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], \
                  clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}], users: [{name: u, user: {}}]}";
    std::fs::write(&kubeconfig, nobody).expect("it is written");
    let (grpc, health, metrics) = (free_port(), free_port(), free_port());
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_spark-session-operator"));
    command.env_clear().env("KUBECONFIG", &kubeconfig).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.args(["run", "--oidc-skip-validation", "--log-level", "trace", "--audit-log", "-"]);
    for (flag, address) in
        [("--grpc-addr", grpc), ("--health-probe-bind-address", health), ("--metrics-bind-address", metrics)]
    {
        command.args([flag, &address.to_string()]);
    }
    let mut operator = Running(command.spawn().expect("it starts"));

    let asking = connected(grpc).await;
    let http = HttpRequest { host: "nowhere".into(), path: "/nothing".into(), ..HttpRequest::default() };
    let request = Request { http: Some(http), ..Request::default() };
    let attributes = AttributeContext { request: Some(request), ..AttributeContext::default() };
    let check = CheckRequest { attributes: Some(attributes) };
    for number in 0..500 {
        let mut asking = asking.clone();
        let answer = tokio::time::timeout(Duration::from_secs(10), asking.check(check.clone())).await;
        assert!(matches!(answer, Ok(Ok(_))), "check {number}: {answer:?}");
    }
    let page = scraped(metrics).await.expect("metrics");
    let lost = page
        .lines()
        .find_map(|line| line.strip_prefix("spark_session_operator_lost_lines_total{log=\"log\"} "));
    assert!(lost.is_some_and(|lost| lost != "0"), "{page}");

    let stopped = Instant::now();
    let kill = std::process::Command::new("kill").arg(operator.0.id().to_string()).status();
    assert!(kill.expect("kill runs").success());
    while operator.0.try_wait().expect("it is a child").is_none() {
        assert!(stopped.elapsed() < Duration::from_secs(20), "it does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_wrong_address_is_explained() {
    let error = text(&operator(&["run", "--grpc-addr", "nowhere"]).stderr);
    assert!(error.contains("`nowhere` is no address to listen on: expected IP:PORT or :PORT"), "{error}");
}

#[test]
fn crds_prints_both_definitions() {
    let printed = text(&operator(&["crds"]).stdout);
    for name in ["sparksessionpools.sparkinteractive.io", "sparkinteractivesessions.sparkinteractive.io"] {
        assert!(printed.contains(&format!("name: {name}")), "{name}");
    }
}

const POOL: &str = "apiVersion: sparkinteractive.io/v1alpha1
kind: SparkSessionPool
metadata: {name: notebooks}
spec:
  type: connect
  host: notebooks.example.com
  replicas: {min: 0, max: 4}
  scaling: {metrics: {targetPerInstance: 2}, scaleUpThreshold: \"1\", cooldownSeconds: 60}
  sparkApplicationTemplate: {spec: {}}
";
const TRACE: &str = "arrival,user,duration\n09:00:10,alice,600\n09:00:10,bob,600\n09:20,carol,00:10:00\n";

/// Runs `simulate` on these two files.
fn simulate(pool: &str, trace: &str, more: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("it is written");
        path.display().to_string()
    };
    let (pool, trace) = (file("pool.yaml", pool), file("trace.csv", trace));
    operator(&[&["simulate", "--pool", &pool, "--arrivals", &trace], more].concat())
}

#[test]
fn simulate_says_who_would_have_waited_and_what_it_would_have_cost() {
    let output = simulate(POOL, TRACE, &["--start-seconds", "30"]);
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let expected = "Simulated: pool notebooks, 0 to 4 instances, 2 sessions each; 3 session(s) of 3 user(s), 09:00:00 to \
                    10:00:00.\n";
    assert!(printed.starts_with(expected), "{printed}");
    let row = |name: &str| {
        let line = printed.lines().find(|line| line.starts_with(name)).expect("a row");
        line[name.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    // Two instances of some ten minutes; all three waited, since each time none was there.
    assert_eq!(row("this pool as written"), "30 30 30 30 3 0.4 1 2 4 0 0 0");
    assert_eq!(row("fixed: min = max"), "0 0 0 0 0 4.0 4 1 0 0 0 0");
}

#[test]
fn simulate_follows_the_use_of_cpu_where_it_is_said_what_a_session_uses() {
    let by_cpu = POOL.replace("targetPerInstance: 2", "type: cpu");
    let printed = text(&simulate(&by_cpu, TRACE, &["--use-per-session", "100", "--timeline"]).stdout);
    let start =
        "Simulated: pool notebooks, 0 to 4 instances, 80 % of its cpu each; 3 session(s) of 3 user(s), ";
    assert!(printed.starts_with(start), "{printed}");
    assert!(
        printed.contains("each\nuses 100 % of the cpu that a driver requests (--use-per-session)"),
        "{printed}"
    );
    let decided = "ScaledUp: 1 → 3: cpu at 200 % of the requests on average over 1 instance(s), target 80 %.";
    assert!(printed.contains(decided), "{printed}");
    assert!(printed.contains("they count sessions.\n") && !printed.contains("HPA"), "{printed}");
}

#[test]
fn simulate_prints_json_and_timelines() {
    let output = simulate(POOL, TRACE, &["--compare", "none", "--output", "json", "--timeline"]);
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let policies = printed["policies"].as_array().expect("a list");
    assert_eq!(policies.len(), 1);
    assert_eq!(policies[0]["policy"], "asWritten");
    assert_eq!(policies[0]["figures"]["waited"]["max"], 40);
    assert_eq!(policies[0]["timeline"][0]["counts"]["waiting"], 2);
    let output = simulate(POOL, TRACE, &["--compare", "none", "--timeline"]);
    let printed = text(&output.stdout);
    assert!(
        printed.contains("09:00:50        2       0          0      1        0   2 placed\n"),
        "{printed}"
    );
    assert!(printed.contains("InstanceReady: Instance notebooks-0 answers.\n"), "{printed}");
}

#[test]
fn simulate_takes_the_recent_starts_of_a_pool_from_the_cluster() {
    let pool = format!("{POOL}status: {{recentStartSeconds: [25, 25, 25], instances: []}}\n");
    let printed = text(&simulate(&pool, TRACE, &["--compare", "none"]).stdout);
    assert!(printed.contains("after 25, 25, 25 s, the pool's recent starts"), "{printed}");
    assert!(printed.contains("this pool as written       25"), "{printed}");
}

#[test]
fn simulate_refuses_what_it_cannot_read_and_says_where() {
    let failed = |output: Output| {
        assert!(!output.status.success() && output.stdout.is_empty(), "{}", text(&output.stdout));
        text(&output.stderr)
    };
    let error = failed(simulate(&POOL.replace("max: 4", "max: 0"), TRACE, &[]));
    assert!(
        error.contains("pool.yaml") && error.contains("line 7: spec.replicas.max: 0 is less than 1"),
        "{error}"
    );
    let by_cpu = POOL.replace("targetPerInstance: 2", "type: cpu");
    let error = failed(simulate(&by_cpu, TRACE, &[]));
    assert!(
        error.contains(
            "metrics.type is cpu: say with --use-per-session how many percent of the cpu that a driver"
        ),
        "{error}"
    );
    let error = failed(simulate(POOL, &TRACE.replace("600", "ten minutes"), &[]));
    assert!(error.contains("trace.csv") && error.contains("line 2: `ten minutes` is no duration"), "{error}");
    let error = failed(operator(&["simulate", "--pool", "-", "--arrivals", "-"]));
    assert!(error.contains("--pool and --arrivals cannot both be standard input"), "{error}");
    let error = failed(operator(&["simulate", "--pool", "nowhere.yaml", "--arrivals", "-"]));
    assert!(error.contains("nowhere.yaml cannot be read"), "{error}");
    let error = failed(operator(&["simulate"]));
    assert!(error.contains("--pool <FILE>") && error.contains("--arrivals <FILE>"), "{error}");
}

#[test]
fn simulate_takes_what_the_operator_wrote_of_the_pool_in_its_audit_log() {
    let record = |time: &str, event: &str, user: &str| {
        format!(
            "{{\"timestamp\":\"2026-11-30T{time}Z\",\"event\":\"{event}\",\"user\":\"{user}\",\"pool\":\"notebooks\",\
             \"session\":\"of-{user}\"}}\n"
        )
    };
    let log = [
        record("09:00:10", "SessionCreated", "alice"),
        record("09:05:10", "SessionCreated", "bob"),
        record("09:30:10", "SessionEnded", "alice"),
    ];
    let printed = text(&simulate(POOL, &log.concat(), &["--compare", "none"]).stdout);
    assert!(printed.contains("2 session(s) of 2 user(s), 09:00:00 to 10:00:00."), "{printed}");
    let error = text(&simulate(&POOL.replace("notebooks}", "lab}"), &log.concat(), &[]).stderr);
    assert!(error.contains("no session of pool `lab` was opened in it; it tells of notebooks"), "{error}");
}

#[test]
fn an_example_of_a_trace_can_be_simulated() {
    let day = text(&operator(&["simulate", "--generate-trace", "day", "--seed", "7"]).stdout);
    assert_eq!((day.lines().next(), day.lines().count()), (Some("arrival,user,duration"), 2001));
    let start: Vec<&str> = day.lines().take(150).collect();
    let output = simulate(POOL, &start.join("\n"), &["--compare", "none"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn what_is_simulated_with_a_seed_is_the_same_twice() {
    let pool = format!("{POOL}status: {{recentStartSeconds: [20, 60, 90]}}\n");
    let run = |seed: &str| text(&simulate(&pool, TRACE, &["--compare", "none", "--seed", seed]).stdout);
    assert_eq!(run("3"), run("3"));
}
