//! The command line as its users meet it.

#![allow(clippy::expect_used, reason = "helpers of tests fail the test")]

use std::process::Output;

use assert_cmd::Command;

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
