//! What the README says of a day at an office: the pool and the figures are in `tests/golden/simulate/`.
//! `UPDATE_GOLDEN=1 cargo test --test simulate_golden` writes them anew.

#![allow(clippy::unwrap_used, clippy::expect_used)] // Also in helpers, which clippy does not take for tests.

use std::path::{Path, PathBuf};

use serde_json::Value;
use spark_session_operator::simulate::command::{Compare, Output, Request, Simulate, run};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/simulate")
}

fn figures() -> Value {
    let trace = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trace.path(), run(&Request::OfficeDay { seed: 1 }).unwrap()).unwrap();
    let request = Request::Simulate(Simulate {
        pool: folder().join("office.yaml"),
        arrivals: trace.path().to_owned(),
        start_seconds: Some(40),
        use_per_session: None,
        seed: 1,
        timeline: false,
        output: Output::Json,
        compare: Compare::All,
    });
    serde_json::from_str(&run(&request).unwrap()).unwrap()
}

/// As in the README's table.
fn row(policy: &Value) -> String {
    let (figures, waited) = (&policy["figures"], &policy["figures"]["waited"]);
    format!(
        "| {} / {} / {} / {} s | {} | {} | {} | {} |",
        waited["p50"],
        waited["p95"],
        waited["p99"],
        waited["max"],
        waited["moreThanOneSecond"],
        figures["instanceHours"].as_f64().unwrap().round(),
        figures["scaleActions"],
        figures["endedByOperator"],
    )
}

#[test]
fn a_day_at_an_office_comes_to_what_the_readme_says() {
    let (golden, now) = (folder().join("office.json"), figures());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, format!("{now:#}\n")).unwrap();
    }
    let known: Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
    assert_eq!(now, known);
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    for policy in now["policies"].as_array().unwrap() {
        let row = row(policy);
        assert!(readme.contains(&row), "the README does not have, of {}: {row}", policy["policy"]);
    }
}
