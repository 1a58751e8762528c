//! Many different logins at once from one address, most of them guesses.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use spark_session_operator::authn::{AuthnErrorKind, AuthnSettings, FailureLimits};

use super::oidc_server::{Answer, TOKEN};
use super::world::{PASSWORD, World};

/// As long as a provider needs for the hash of a password.
const SLOW: Duration = Duration::from_millis(100);
const ATTACKER: [u8; 4] = [10, 0, 0, 1];
const OFFICE: [u8; 4] = [10, 0, 0, 2];

async fn world(change: impl FnOnce(&mut AuthnSettings)) -> World {
    let world = World::with(change).await;
    world.provider.set(TOKEN, Answer::Slow(SLOW, Box::new(Answer::LogInWith(PASSWORD))));
    world
}

fn limits(per_user: u32, per_address: u32) -> impl FnOnce(&mut AuthnSettings) {
    move |settings| {
        settings.failure_limits =
            FailureLimits { per_user: NonZeroU32::new(per_user), per_address: NonZeroU32::new(per_address) };
    }
}

/// On several threads, as the operator runs, and each guess a task: nobody waits because a thread is busy with guesses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_guesses_at_once_reach_the_provider_a_hundred_times_and_delay_nobody_else() {
    let world = Arc::new(world(|_| {}).await);
    let slower = Answer::Slow(SLOW * 5, Box::new(Answer::LogInWith(PASSWORD)));
    world.provider.set(TOKEN, slower);
    let (began, refused) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let guesses = (0..10_000).map(|number| {
        let (world, refused) = (Arc::clone(&world), Arc::clone(&refused));
        tokio::spawn(async move {
            let outcome = world.log_in(&format!("user{number}"), "guess", ATTACKER).await;
            refused.fetch_add(1, Ordering::SeqCst);
            outcome.expect_err("it is a guess").to_string()
        })
    });
    let guesses = join_all(guesses.collect::<Vec<_>>());
    let anna = async {
        // Until all have come: two thousand wait, and the others have heard so.
        while refused.load(Ordering::SeqCst) < 10_000 - 2_000 - 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let hits = world.provider.hits(TOKEN);
        world.log_in("anna", PASSWORD, OFFICE).await.unwrap();
        let requests = world.provider.requests(TOKEN);
        requests.iter().position(|asked| asked.body.contains("username=anna&")).unwrap() - hits
    };
    let (outcomes, before_her) = tokio::join!(guesses, anna);
    let hits = world.provider.hits(TOKEN) - 1;
    let free = 100 + usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!(hits <= free, "{hits} guesses reached the provider, {free} are free");
    // All turns that came free with hers.
    assert!(before_her <= 32, "{before_her} logins came between her request and its turn");
    let heard = |words: &str| {
        outcomes.iter().filter(|said| said.as_ref().expect("no panic").starts_with(words)).count()
    };
    let (wrong, limited, crowded) = (
        heard("Wrong user name or password."),
        heard("Too many failed logins from 10.0.0.1. Try again in "),
        heard(
            "Too many logins from 10.0.0.1 wait for the identity provider at the moment; try again in a minute.",
        ),
    );
    assert_eq!((wrong, wrong + limited + crowded), (hits, 10_000), "{limited} {crowded}");
}

#[tokio::test]
async fn a_company_behind_one_address_logs_in_at_nine() {
    let world = world(|_| {}).await;
    let users: Vec<String> = (0..500).map(|number| format!("user{number}")).collect();
    for outcome in join_all(users.iter().map(|user| world.log_in(user, PASSWORD, OFFICE))).await {
        outcome.unwrap();
    }
    assert_eq!(world.provider.hits(TOKEN), 500);
}

#[tokio::test]
async fn whoever_knows_the_password_waits_for_guesses_that_are_in_flight_and_is_not_refused() {
    let world = world(limits(0, 5)).await;
    let users: Vec<String> = (0..200).map(|number| format!("user{number}")).collect();
    let logins = users.iter().enumerate().map(|(number, user)| {
        let password = if number % 50 == 0 { "mistyped" } else { PASSWORD };
        world.log_in(user, password, OFFICE)
    });
    let outcomes = join_all(logins).await;
    let refused: Vec<String> =
        outcomes.iter().filter_map(|it| it.as_ref().err().map(ToString::to_string)).collect();
    assert_eq!(refused, vec!["Wrong user name or password."; 4]);
}

#[tokio::test]
async fn whose_client_has_gone_does_not_ask_the_provider() {
    let world = world(limits(0, 0)).await;
    let users: Vec<String> = (0..500).map(|number| format!("user{number}")).collect();
    let all = join_all(users.iter().map(|user| world.log_in(user, PASSWORD, OFFICE)));
    tokio::time::timeout(SLOW / 2, all).await.expect_err("the provider is slow");
    tokio::time::sleep(SLOW * 5).await;
    assert_eq!(world.provider.hits(TOKEN), 32);
    world.log_in("user499", PASSWORD, OFFICE).await.expect("it can come back");
}

#[tokio::test]
async fn beyond_two_thousand_the_logins_of_an_address_are_refused_in_words() {
    let world = world(|_| {}).await;
    world.provider.set(TOKEN, Answer::Hang);
    let users: Vec<String> = (0..2_033).map(|number| format!("user{number}")).collect();
    let (last, first) = users.split_last().unwrap();
    let all = join_all(first.iter().map(|user| world.log_in(user, PASSWORD, OFFICE)));
    let last = async {
        tokio::time::sleep(SLOW).await;
        world.log_in(last, PASSWORD, OFFICE).await.unwrap_err()
    };
    tokio::select! {
        _ = all => panic!("the provider hangs"),
        error = last => {
            let words = "Too many logins from 10.0.0.2 wait for the identity provider at the moment; try again in a minute.";
            assert_eq!((error.to_string().as_str(), error.kind()), (words, AuthnErrorKind::Unavailable));
        }
    }
}
