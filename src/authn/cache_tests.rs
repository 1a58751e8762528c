use std::sync::atomic::{AtomicUsize, Ordering};

use rstest::rstest;

use super::*;

fn password(user: &str, password: &str) -> Credentials {
    Credentials::Password { user: user.into(), password: password.into() }
}

/// A login that is counted and takes a moment.
async fn login(
    count: &AtomicUsize,
    ttl: Duration,
    outcome: Result<&str, AuthnError>,
) -> Result<Login, AuthnError> {
    count.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(20)).await;
    outcome.map(|user| Login { identity: Arc::new(Identity::new(user)), ttl })
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn many_callers_with_the_same_credentials_log_in_once() {
    let (cache, count) = (Cache::new(), AtomicUsize::new(0));
    let credentials = password("anna", "pw");
    let calls = (0..50).map(|_| cache.get_or(&credentials, login(&count, MINUTE, Ok("anna"))));
    for outcome in futures::future::join_all(calls).await {
        assert_eq!(outcome.unwrap().user, "anna");
    }
    cache.get_or(&credentials, login(&count, MINUTE, Ok("anna"))).await.unwrap();
    assert_eq!(count.into_inner(), 1);
}

#[rstest]
#[case::wrong_password(AuthnError::WrongPassword, 1)]
#[case::misconfigured(AuthnError::Provider, 1)]
#[case::outage(AuthnError::Unavailable, 2)]
#[tokio::test]
async fn refusals_are_remembered_and_outages_are_not(#[case] error: AuthnError, #[case] logins: usize) {
    let (cache, count) = (Cache::new(), AtomicUsize::new(0));
    for _ in 0..2 {
        let outcome = cache.get_or(&password("anna", "pw"), login(&count, MINUTE, Err(error.clone()))).await;
        assert_eq!(outcome.unwrap_err(), error);
    }
    assert_eq!(count.into_inner(), logins);
}

#[tokio::test]
async fn a_login_is_forgotten_when_its_time_is_over() {
    let (cache, count) = (Cache::new(), AtomicUsize::new(0));
    let credentials = password("anna", "pw");
    let short = Duration::from_millis(50);
    cache.get_or(&credentials, login(&count, short, Ok("anna"))).await.unwrap();
    tokio::time::sleep(short * 2).await;
    cache.get_or(&credentials, login(&count, Duration::ZERO, Ok("anna"))).await.unwrap();
    cache.get_or(&credentials, login(&count, Duration::ZERO, Ok("anna"))).await.unwrap();
    assert_eq!(count.into_inner(), 3);
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_fail_the_others() {
    let (cache, count) = (Cache::new(), AtomicUsize::new(0));
    let credentials = password("anna", "pw");
    let impatient = tokio::time::timeout(
        Duration::from_millis(5),
        cache.get_or(&credentials, login(&count, MINUTE, Ok("anna"))),
    );
    let patient = cache.get_or(&credentials, login(&count, MINUTE, Ok("anna")));
    let (gave_up, outcome) = tokio::join!(impatient, patient);
    assert!(gave_up.is_err());
    outcome.unwrap();
}

#[test]
fn different_credentials_have_different_keys() {
    let cache = Cache::new();
    let all = [
        password("anna", "pw"),
        password("anna", "pW"),
        password("annap", "w"),
        password("", "annapw"),
        Credentials::Token("annapw".into()),
        Credentials::Token("".into()),
        password("", ""),
    ];
    let keys: std::collections::HashSet<_> = all.iter().map(|credentials| cache.hash(credentials)).collect();
    assert_eq!(keys.len(), all.len());
    assert_ne!(cache.hash(&all[0]), Cache::new().hash(&all[0]), "the key is each process's own");
}
