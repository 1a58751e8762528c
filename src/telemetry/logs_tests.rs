use std::net::IpAddr;
use std::sync::Mutex;

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::telemetry::audit::{Event, Record, record};

fn refused() {
    let address = Some(IpAddr::from([10, 0, 0, 1]));
    let reason = Some("WrongPassword");
    record(Event::LoginRefused, Record { user: Some("an\"na"), address, reason, ..Record::default() });
}

#[test]
fn a_record_is_one_line_of_json_in_a_file_of_its_own_and_is_appended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    for _ in 0..2 {
        let audit = audit_layer(Mutex::new(append(&path).unwrap()));
        tracing::subscriber::with_default(Registry::default().with(audit), || {
            tracing::error!("not a record");
            refused();
        });
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for mut line in lines {
        let at = line.as_object_mut().unwrap().remove("timestamp").unwrap();
        at.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let expected = json!({
            "event": "LoginRefused", "user": "an\"na", "address": "10.0.0.1", "reason": "WrongPassword",
        });
        assert_eq!(line, expected);
    }
    assert!(append(folder.path()).unwrap_err().to_string().ends_with("cannot be opened"));
}

/// What the logs show of a record and of a message of each level, where records are among them and where they are not.
fn shown(directives: &str, records_among_them: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let writer = || Mutex::new(append(&path).unwrap());
    let logs = lines(LogFormat::Text, writer()).with_filter(filter(directives).unwrap());
    let records = records_among_them.then(|| lines(LogFormat::Text, writer()).with_filter(only_records()));
    tracing::subscriber::with_default(Registry::default().with(records).with(logs), || {
        refused();
        tracing::info!("said in passing");
    });
    std::fs::read_to_string(&path).unwrap()
}

#[rstest]
#[case("info", true)]
#[case("error", false)]
#[case("off", false)]
#[case("audit=off,error", false)]
fn among_the_logs_records_are_there_at_any_level(#[case] directives: &str, #[case] others: bool) {
    let text = shown(directives, true);
    assert!(text.contains(r#" audit: event="LoginRefused" user="an\"na" address=10.0.0.1"#), "{text}");
    assert_eq!(text.matches("LoginRefused").count(), 1);
    assert_eq!(text.contains("said in passing"), others);
}

#[test]
fn with_a_place_of_their_own_records_are_not_among_the_logs() {
    let text = shown("info,audit=trace", false);
    assert!(text.contains("said in passing") && !text.contains("LoginRefused"), "{text}");
}
