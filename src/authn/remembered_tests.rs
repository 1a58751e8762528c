use rstest::rstest;
use secrecy::ExposeSecret;

use super::super::revocations::Revocations;
use super::*;

const TERMS: Terms = Terms { ttl: Duration::from_secs(300), grace: Duration::from_secs(900) };

fn granted(life: u64) -> Granted {
    Granted { identity: Identity::new("anna"), life: Duration::from_secs(life) }
}

fn logged_in(life: u64, refresh_token: Option<&str>, now: Instant, terms: Terms) -> Proven {
    let grant = refresh_token.map(|token| Arc::new(Grant::new(token.into(), Arc::default())));
    Proven::by_password(granted(life), grant, now, terms)
}

fn said(next: Next) -> String {
    match next {
        Next::Nothing => "nothing".to_owned(),
        Next::Refresh(token) => format!("refresh with {}", token.expose_secret()),
        Next::LogIn => "log in".to_owned(),
    }
}

#[rstest]
#[case::token_lives(60, Some("r1"), 59, "nothing")]
#[case::token_expired(60, Some("r1"), 60, "refresh with r1")]
#[case::token_expired_without_refresh(60, None, 60, "log in")]
#[case::password_proven_too_long_ago(60, Some("r1"), 300, "log in")]
#[case::token_outlives_the_time(3600, Some("r1"), 299, "nothing")]
#[case::but_does_not_count_longer(3600, Some("r1"), 300, "log in")]
#[case::token_is_at_its_end_when_it_comes(0, Some("r1"), 0, "refresh with r1")]
fn a_password_login_needs(
    #[case] life: u64,
    #[case] refresh_token: Option<&str>,
    #[case] after: u64,
    #[case] next: &str,
) {
    let began = Instant::now();
    let proven = logged_in(life, refresh_token, began, TERMS);
    assert_eq!(said(proven.next(began + Duration::from_secs(after), TERMS)), next);
}

#[test]
fn refreshing_does_not_put_off_the_next_proof_of_the_password() {
    let began = Instant::now();
    let at = |seconds| began + Duration::from_secs(seconds);
    let proven = logged_in(60, Some("r1"), began, TERMS);
    proven.rotate("r2".into());
    let renewed = proven.renewed(granted(60), at(70), TERMS);
    assert_eq!(said(renewed.next(at(129), TERMS)), "nothing");
    assert_eq!(said(renewed.next(at(130), TERMS)), "refresh with r2");
    let again = renewed.renewed(granted(60), at(290), TERMS);
    assert_eq!(said(again.next(at(299), TERMS)), "nothing");
    assert_eq!(said(again.next(at(300), TERMS)), "log in");
    let kept = renewed.renewed(granted(10), at(140), TERMS);
    assert_eq!(said(kept.next(at(150), TERMS)), "refresh with r2", "not rotated");
}

#[test]
fn an_outage_is_outlasted_for_the_grace_and_not_longer() {
    let began = Instant::now();
    let at = |seconds| began + Duration::from_secs(seconds);
    let proven = logged_in(60, Some("r1"), began, TERMS);
    assert_eq!(said(proven.next(at(100), TERMS)), "refresh with r1");
    assert!(proven.outlasts_outage(at(959)));
    let proven = proven.unanswered(at(100));
    assert_eq!(said(proven.next(at(104), TERMS)), "nothing", "a pause between two attempts");
    assert_eq!(said(proven.next(at(105), TERMS)), "refresh with r1");
    let proven = proven.unanswered(at(958));
    assert!(proven.outlasts_outage(at(959)) && !proven.outlasts_outage(at(960)), "attempts add nothing");
    assert_eq!(said(proven.next(at(960), TERMS)), "log in");
    assert_eq!(proven.kept_until(TERMS), at(960));
}

#[test]
fn without_a_grace_an_outage_ends_it_at_once() {
    let began = Instant::now();
    let terms = Terms { grace: Duration::ZERO, ..TERMS };
    let proven = logged_in(3600, None, began, terms);
    assert!(!proven.outlasts_outage(began + terms.ttl));
    assert_eq!(proven.kept_until(terms), began + terms.ttl);
}

#[test]
fn a_token_has_no_grace() {
    let began = Instant::now();
    let proven =
        Proven::by_token(Identity::new("anna"), Duration::from_secs(60), began, TERMS, Duration::ZERO);
    assert!(!proven.outlasts_outage(began + Duration::from_secs(60)));
    assert_eq!(said(proven.next(began + Duration::from_secs(60), TERMS)), "log in");
}

#[test]
fn a_token_whose_groups_the_provider_told_outlasts_an_outage_but_not_its_own_end() {
    let began = Instant::now();
    let at = |seconds| began + Duration::from_secs(seconds);
    let proven = Proven::by_token(Identity::new("anna"), Duration::from_secs(700), began, TERMS, TERMS.grace);
    assert_eq!(said(proven.next(at(300), TERMS)), "log in");
    assert!(proven.outlasts_outage(at(699)) && !proven.outlasts_outage(at(700)));
}

#[test]
fn a_login_is_given_back_once_and_not_while_its_successor_goes_on_with_it() {
    let (began, revocations) = (Instant::now(), Arc::<Revocations>::default());
    let grant = |token: &str| Some(Arc::new(Grant::new(token.into(), Arc::clone(&revocations))));
    let proven = Proven::by_password(granted(60), grant("r1"), began, TERMS);
    proven.rotate("r2".into());
    let renewed = proven.renewed(granted(60), began, TERMS);
    proven.give_back(Some(&renewed));
    drop(proven);
    assert_eq!(revocations.waiting(), [""; 0]);
    let again = Proven::by_password(granted(60), grant("r3"), began, TERMS);
    renewed.give_back(Some(&again));
    renewed.give_back(None);
    assert_eq!(said(renewed.next(began + Duration::from_secs(60), TERMS)), "log in");
    drop(renewed);
    assert_eq!(revocations.waiting(), ["r2"], "the newest of its tokens");
    drop(again);
    assert_eq!(revocations.waiting(), ["r2", "r3"]);
}
