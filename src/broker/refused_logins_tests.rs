//! What many refused logins leave in the log.

use std::sync::Mutex;

use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;

use super::tests::{ApiServer, broker, first_call, stores, takes};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_thousand_refused_logins_of_one_address_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let lines = fmt::layer().with_writer(Mutex::new(std::fs::File::create(&path).unwrap()));
    let _logs = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines));
    let broker = broker(&stores(), &ApiServer::new(takes));
    for _ in 0..1_000 {
        let credentials = Err(CredentialsError::Missing);
        let check = Check { credentials, peer: Some([10, 0, 0, 1].into()), ..first_call() };
        assert!(matches!(broker.check(check).await, Verdict::Deny(_)));
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap().matches("login refused").count(), 1);
}
