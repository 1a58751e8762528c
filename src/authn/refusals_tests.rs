use std::sync::Mutex;

use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

/// What is logged meanwhile.
fn logged(work: impl FnOnce()) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let file = Mutex::new(std::fs::File::create(&path).unwrap());
    let lines = fmt::layer().with_ansi(false).without_time().with_writer(file);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), work);
    std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_reason_is_logged_once_for_an_address_and_then_how_often_it_came() {
    let (refusals, began) = (Refusals::default(), Instant::now());
    let address = |last| Some(IpAddr::from([10, 0, 0, last]));
    let lines = logged(|| {
        for _ in 0..5_000 {
            refusals.log("spark.example.com", address(1), &AuthnError::NoPassword);
        }
        refusals.log("spark.example.com", address(1), &AuthnError::WrongPassword);
        refusals.log("spark.example.com", address(2), &AuthnError::WrongPassword);
        refusals.tell_more(began + REPEAT_AFTER * 2);
        refusals.tell_more(began + REPEAT_AFTER * 4);
    });
    let expected = [
        r#" INFO spark_session_operator::authn::refusals: login refused host="spark.example.com" peer=10.0.0.1 reason="NoPassword" error=A user name was sent without a password; send both, or a token."#,
        r#" INFO spark_session_operator::authn::refusals: login refused host="spark.example.com" peer=10.0.0.1 reason="WrongPassword" error=Wrong user name or password."#,
        r#" INFO spark_session_operator::authn::refusals: login refused host="spark.example.com" peer=10.0.0.2 reason="WrongPassword" error=Wrong user name or password."#,
        r#" INFO spark_session_operator::authn::refusals: login refused, 4999 more in the last 10 s network=10.0.0.1 reason="NoPassword""#,
    ];
    assert_eq!(lines, expected);
}

#[test]
fn addresses_without_end_have_a_thousand_lines_and_a_number() {
    let (refusals, began) = (Refusals::default(), Instant::now());
    let lines = logged(|| {
        for network in 0..10_000_u64 {
            let address = std::net::Ipv6Addr::from(u128::from(network) << 64 | 1);
            refusals.log("h", Some(address.into()), &AuthnError::NoPassword);
            refusals.log(
                "h",
                Some(std::net::Ipv6Addr::from(u128::from(network) << 64 | 2).into()),
                &AuthnError::NoPassword,
            );
        }
        refusals.tell_more(began + REPEAT_AFTER / 2);
    });
    assert_eq!(lines.len(), 1_001);
    let rest = r#" INFO spark_session_operator::authn::refusals: login refused, 18000 more in the last 10 s reason="Any""#;
    assert_eq!(lines[1_000], rest);
}

#[test]
fn refusals_that_cost_nothing_are_recorded_once_and_then_how_many() {
    let (refusals, began) = (Refusals::default(), Instant::now());
    let lines = logged(|| {
        for _ in 0..100 {
            refusals.record(None, "TokenSignature");
        }
        refusals.tell_more(began + REPEAT_AFTER * 2);
    });
    assert_eq!(lines, [r#" INFO audit: event="LoginRefused" reason="TokenSignature" more=99"#]);
}
