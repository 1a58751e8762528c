//! The CustomResourceDefinitions in `crds/`, and the pages about them, are those that the code generates.
#![allow(clippy::unwrap_used)] // Also in helpers, which clippy does not take for tests.

use std::collections::BTreeSet;
use std::path::Path;

use spark_session_operator::api::crds;
use spark_session_operator::plan::reasons;

const REGENERATE: &str = "Write them anew with: cargo run -- crds --output-dir crds";

#[test]
fn the_committed_crds_are_those_that_the_code_generates() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let mut generated = BTreeSet::new();
    let pages = [(crds::PAGE.to_owned(), crds::page()), (reasons::PAGE.to_owned(), reasons::page())];
    for (name, expected) in crds::manifests().unwrap().into_iter().chain(pages) {
        let committed = std::fs::read_to_string(directory.join(&name)).unwrap_or_default();
        let line = committed.lines().zip(expected.lines()).take_while(|(old, new)| old == new).count() + 1;
        assert!(committed == expected, "crds/{name} is outdated from line {line}. {REGENERATE}");
        generated.insert(name);
    }
    // Written by hand.
    generated.insert("template-warnings.yaml".to_owned());
    for entry in std::fs::read_dir(&directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(generated.contains(&name), "crds/{name} is not generated any more: delete it.");
    }
}

#[test]
fn the_page_says_of_every_field_what_it_does() {
    let page = crds::page();
    let unsaid: Vec<_> =
        page.lines().filter(|line| line.starts_with('|') && line.ends_with("|  |")).collect();
    assert!(unsaid.is_empty(), "fields without a doc comment: {unsaid:#?}");
    assert!(!page.contains("\n\n\n"), "a type without a doc comment: {page}");
    let quota = "| `maxSessionsPerUser` | integer, 1 to 10,000 | 5 | Sessions that one user may have";
    assert!(page.contains(quota), "{page}");
    let timeout = "| `startTimeoutSeconds` | integer, 1 to 86,400 | 900 | ";
    assert!(page.contains(timeout), "{page}");
    assert!(page.contains("### spec.replicas\n"), "{page}");
    assert!(page.contains("Refused: replicas.min must not be greater than replicas.max.\n"), "{page}");
}

#[test]
fn the_command_prints_the_same() {
    let output =
        assert_cmd::Command::cargo_bin("spark-session-operator").unwrap().arg("crds").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let expected: String =
        crds::manifests().unwrap().into_iter().map(|(_, yaml)| format!("---\n{yaml}")).collect();
    assert_eq!(printed, expected);
}
