use std::num::NonZeroU32;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::task::unconstrained;

use super::*;
use crate::authn::FailureLimits;

/// How long the provider takes.
const ANSWER: Duration = Duration::from_millis(100);

fn turns(per_address: u32) -> Arc<Turns> {
    let limits = FailureLimits { per_user: None, per_address: NonZeroU32::new(per_address) };
    Arc::new(Turns::new(Arc::new(Failures::new(limits)), Arc::default()))
}

fn from(last: u8) -> Lane {
    Lane::Passwords(Some(IpAddr::from([10, 0, 0, last])))
}

/// Takes a turn and asks. What is heard instead of an answer.
async fn ask(turns: Arc<Turns>, lane: Lane, wrong: bool) -> Result<(), String> {
    let mut turn = turns.take(lane).await.map_err(|limited| limited.error.to_string())?;
    tokio::time::sleep(ANSWER).await;
    if wrong {
        turn.was_wrong();
    }
    Ok(())
}

fn asks(turns: &Arc<Turns>, lane: Lane, wrong: bool) -> BoxFuture<'static, Result<(), String>> {
    ask(Arc::clone(turns), lane, wrong).boxed()
}

/// How many of those have been refused with words that begin so.
fn heard(outcomes: &[Result<(), String>], words: &str) -> usize {
    outcomes.iter().filter(|outcome| outcome.as_ref().is_err_and(|said| said.starts_with(words))).count()
}

#[tokio::test(start_paused = true)]
async fn guesses_end_with_the_failures_that_are_free() {
    let turns = turns(100);
    let outcomes = join_all((0..1_000).map(|_| asks(&turns, from(1), true))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 100);
    assert_eq!(heard(&outcomes, "Too many failed logins from 10.0.0.1. Try again in 1 s."), 900);
    assert_eq!(asks(&turns, from(1), true).await.unwrap_err(), outcomes[999].clone().unwrap_err());
    asks(&turns, from(2), true).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    asks(&turns, from(1), true).await.expect("one a second");
}

#[tokio::test(start_paused = true)]
async fn right_passwords_wait_for_those_in_flight_and_are_not_refused() {
    let turns = turns(5);
    let began = Instant::now();
    let outcomes = join_all((0..50).map(|number| asks(&turns, from(1), number < 3))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    // Five at a time, then two, and no more than five once a second has passed.
    assert!(
        began.elapsed() > ANSWER * 10 && began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_address_with_thousands_delays_another_by_one_turn() {
    let turns = turns(0);
    let crowd = join_all((0..5_000).map(|_| asks(&turns, from(1), true)));
    let other = async {
        tokio::time::sleep(ANSWER / 2).await;
        let came = Instant::now();
        asks(&turns, from(2), false).await.unwrap();
        came.elapsed()
    };
    tokio::select! {
        _ = crowd => panic!("it takes longer"),
        took = other => assert_eq!(took, ANSWER / 2 + ANSWER),
    }
}

#[tokio::test(start_paused = true)]
async fn confirmed_logins_have_every_second_turn() {
    let turns = turns(0);
    let crowd = join_all((0..200).flat_map(|_| (1..=20).map(|last| asks(&turns, from(last), true))));
    let confirmed = async {
        tokio::time::sleep(ANSWER / 2).await;
        let came = Instant::now();
        let outcomes = join_all((0..32).map(|_| asks(&turns, Lane::Confirmed, false))).await;
        assert!(outcomes.iter().all(Result::is_ok));
        came.elapsed()
    };
    tokio::select! {
        _ = crowd => panic!("it takes longer"),
        took = confirmed => assert_eq!(took, ANSWER / 2 + ANSWER * 2),
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_twenty_seconds() {
    let turns = turns(100);
    let hanging = join_all((0..MAX_AT_ONCE).map(|_| turns.take(Lane::Confirmed))).await;
    let began = Instant::now();
    let said = asks(&turns, from(1), false).await.unwrap_err();
    assert_eq!(said, "Too many users log in at the moment; try again in a minute.");
    assert_eq!(began.elapsed(), PATIENCE);
    drop(hanging);
    let state = turns.lock();
    assert_eq!((state.in_flight, state.queue.lanes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_at_an_address_without_free_failures_hears_so() {
    let turns = turns(100);
    let _hanging = join_all((0..MAX_AT_ONCE).map(|_| turns.take(Lane::Confirmed))).await;
    let guesses_elsewhere = async {
        tokio::time::sleep(PATIENCE - ANSWER).await;
        while turns.failures.reserve([10, 0, 0, 1].into(), Instant::now()).is_ok() {}
        std::future::pending().await
    };
    tokio::select! {
        said = asks(&turns, from(1), false) => {
            assert_eq!(said.unwrap_err(), "Too many failed logins from 10.0.0.1. Try again in 1 s.");
        }
        () = guesses_elsewhere => {}
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_gone_leaves_the_queue_and_a_turn_that_comes_too_late_goes_on_to_the_next() {
    let turns = turns(100);
    let hanging = join_all((0..MAX_AT_ONCE).map(|_| turns.take(Lane::Confirmed))).await;
    let mut leaves = Box::pin(turns.take(from(1)));
    let mut is_late = Box::pin(turns.take(from(2)));
    assert!((&mut leaves).now_or_never().is_none() && (&mut is_late).now_or_never().is_none());
    drop(leaves);
    assert_eq!(turns.lock().queue.lanes(), 1);
    let mut next = Box::pin(turns.take(from(3)));
    assert!((&mut next).now_or_never().is_none());
    let mut hanging = hanging.into_iter();
    drop(hanging.next());
    // Its turn has been sent, and is not looked at any more.
    drop(is_late);
    assert!((&mut next).now_or_never().expect("its turn has come").is_ok());
}

#[tokio::test(start_paused = true)]
async fn there_are_bounds_for_an_address_and_for_all() {
    let turns = turns(100);
    let _hanging = join_all((0..MAX_AT_ONCE).map(|_| turns.take(Lane::Confirmed))).await;
    let mut waiting = Vec::new();
    let wait = |lane| {
        // Tokio would otherwise let a test wait that does so many things at once.
        let mut place = Box::pin(unconstrained(Arc::clone(&turns).wait(lane)));
        (&mut place).now_or_never().map_or(Ok(place), Err)
    };
    for last in 1..=5 {
        waiting.extend((0..MAX_FROM_ADDRESS).map(|_| wait(from(last)).expect("a place")));
    }
    let said = wait(from(1)).err().expect("it is refused");
    assert_eq!(
        said,
        "Too many logins from 10.0.0.1 wait for the identity provider at the moment; try again in a minute."
    );
    // All places are taken by five addresses: a sixth one gets its place from them.
    waiting.extend((0..100).map(|_| wait(from(6)).expect("a place")));
    let said: Vec<String> = waiting.iter_mut().filter_map(|place| place.now_or_never()).collect();
    assert_eq!(said.len(), 100);
    assert!(said.iter().all(|said| said == "Too many users log in at the moment; try again in a minute."));
}

impl Turns {
    /// What whoever gets no turn hears.
    async fn wait(self: Arc<Self>, lane: Lane) -> String {
        self.take(lane).await.err().map(|limited| limited.error.to_string()).unwrap_or_default()
    }
}
