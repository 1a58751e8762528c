use rstest::rstest;

use super::*;

fn failures(per_user: u32, per_address: u32) -> Arc<Failures> {
    let limits =
        FailureLimits { per_user: NonZeroU32::new(per_user), per_address: NonZeroU32::new(per_address) };
    Arc::new(Failures::new(limits))
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn key(number: u32) -> Key {
    let mut key = Key::default();
    key[..4].copy_from_slice(&number.to_le_bytes());
    key
}

fn after(began: Instant, seconds: u64) -> Instant {
    began + Duration::from_secs(seconds)
}

/// What the user hears, or nothing when the login is tried and fails.
fn fail(failures: &Arc<Failures>, user: &str, from: Option<IpAddr>, password: u32, now: Instant) -> String {
    let from = from.map(network);
    let tried = failures.admit(user, from, now).and_then(|attempt| {
        let reserved = from.map_or(Ok(()), |address| failures.reserve(address, now));
        reserved.map(|()| {
            if let (false, Some(address)) = (attempt.failed(key(password)), from) {
                failures.release(address);
            }
        })
    });
    tried.err().map(|limited| limited.error.to_string()).unwrap_or_default()
}

#[test]
fn different_wrong_passwords_are_counted_from_wherever_they_come() {
    let (failures, now) = (failures(10, 100), Instant::now());
    for guess in 0..10 {
        let from = address(&format!("10.0.0.{guess}"));
        let name = ["Anna", "ANNA ", "\u{a0}anna"][guess as usize % 3];
        assert_eq!(fail(&failures, name, from, guess, now), "");
    }
    let said = fail(&failures, "anna", address("10.0.0.99"), 11, after(now, 20));
    assert_eq!(said, "Too many failed logins for user anna. Try again in 40 s.");
    assert_eq!(fail(&failures, "ben", address("10.0.0.99"), 12, after(now, 20)), "");
    assert_eq!(fail(&failures, "anna", None, 11, after(now, 60)), "", "one a minute");
    assert_eq!(
        fail(&failures, "anna", None, 13, after(now, 60)),
        "Too many failed logins for user anna. Try again in 60 s."
    );
}

#[test]
fn one_wrong_password_a_thousand_times_is_one_failure() {
    let (failures, now) = (failures(2, 2), Instant::now());
    for _ in 0..1000 {
        assert_eq!(fail(&failures, "anna", address("10.0.0.1"), 1, now), "");
    }
    assert_eq!(fail(&failures, "anna", address("10.0.0.1"), 2, now), "");
    assert_ne!(fail(&failures, "anna", address("10.0.0.1"), 3, now), "");
}

#[test]
fn guesses_side_by_side_do_not_slip_through() {
    let (failures, now) = (failures(3, 0), Instant::now());
    let under_way: Vec<_> = (0..10).map(|_| failures.admit("anna", None, now)).collect();
    assert_eq!(under_way.iter().filter(|admitted| admitted.is_ok()).count(), 3);
    drop(under_way);
    assert!(failures.admit("anna", None, now).is_ok(), "none of them failed");
}

#[test]
fn nobody_is_locked_out_of_the_place_where_they_work() {
    let (failures, now) = (failures(3, 0), Instant::now());
    let (home, elsewhere) = (address("10.0.0.1"), address("192.0.2.1"));
    failures.admit("anna", home, now).unwrap().succeeded();
    for guess in 0..3 {
        fail(&failures, "anna", elsewhere, guess, now);
    }
    assert!(failures.admit("anna", elsewhere, now).is_err());
    failures.admit("ANNA", home, now).unwrap().succeeded();
    for guess in 10..13 {
        assert_eq!(fail(&failures, "anna", home, guess, now), "");
    }
    assert!(failures.admit("anna", home, now).is_err(), "there are limits at home, too");
}

#[rstest]
#[case::v4("10.0.0.1", "10.0.0.2", false, "10.0.0.1")]
#[case::mapped("::ffff:10.0.0.1", "10.0.0.1", true, "10.0.0.1")]
#[case::v6_neighbour("2001:db8::1", "2001:db8::ffff:2", true, "2001:db8::/64")]
#[case::v6_other_network("2001:db8::1", "2001:db8:0:1::1", false, "2001:db8::/64")]
fn many_users_from_one_address_are_limited(
    #[case] one: &str,
    #[case] other: &str,
    #[case] same: bool,
    #[case] shown: &str,
) {
    let (failures, now) = (failures(0, 5), Instant::now());
    for guess in 0..5 {
        assert_eq!(fail(&failures, &format!("user-{guess}"), address(one), guess, now), "");
    }
    let said = format!("Too many failed logins from {shown}. Try again in 1 s.");
    assert_eq!(fail(&failures, "anna", address(one), 7, now), said);
    assert_eq!(!fail(&failures, "anna", address(other), 8, now).is_empty(), same);
}

#[test]
fn it_is_news_once_until_the_next_one_is_free() {
    let (failures, now) = (failures(1, 0), Instant::now());
    fail(&failures, "anna", None, 1, now);
    let news = |seconds| failures.admit("anna", None, after(now, seconds)).err().map(|limited| limited.first);
    assert_eq!((news(1), news(2), news(59)), (Some(true), Some(false), Some(false)));
    fail(&failures, "anna", None, 2, after(now, 60));
    assert_eq!((news(61), news(62)), (Some(true), Some(false)));
}

#[test]
fn limits_can_be_off() {
    let (failures, now) = (failures(0, 0), Instant::now());
    for guess in 0..1000 {
        assert_eq!(fail(&failures, "anna", address("10.0.0.1"), guess, now), "");
    }
}
