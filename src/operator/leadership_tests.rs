use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct Setup {
    standing: watch::Sender<Standing>,
    leadership: Leadership,
}

fn setup(standing: Standing) -> Setup {
    let (standing, receiver) = watch::channel(standing);
    Setup { standing, leadership: Leadership { standing: receiver, writing: TaskTracker::new() } }
}

fn leading(term: u64, seconds: u32) -> Standing {
    Standing::Leading { term: Term(term), until: Some(Instant::now() + seconds * SECOND) }
}

#[tokio::test(start_paused = true)]
async fn the_only_replica_always_leads() {
    let leadership = Leadership::always();
    let term = leadership.next_term(None).await;
    tokio::time::advance(1_000_000 * SECOND).await;
    let slow_write = async { sleep(3600 * SECOND).await };
    assert_eq!(leadership.in_term(term, slow_write).await, Some(()));
}

#[tokio::test(start_paused = true)]
async fn a_standby_writes_nothing() {
    let Setup { leadership, .. } = setup(Standing::Standby);
    let begun = AtomicBool::new(false);
    let outcome = leadership.in_term(Term(1), async { begun.store(true, SeqCst) }).await;
    assert_eq!((leadership.term(), outcome, begun.into_inner()), (None, None, false));
}

#[tokio::test(start_paused = true)]
async fn when_the_time_is_up_a_write_is_abandoned_though_nobody_said_so() {
    let Setup { standing: _never_changed, leadership } = setup(leading(1, 7));
    let start = Instant::now();
    assert_eq!(leadership.in_term(Term(1), sleep(3600 * SECOND)).await, None);
    assert_eq!(start.elapsed(), 7 * SECOND);
    assert_eq!(leadership.term(), None);
}

/// Whichever of the two the writer sees first.
#[tokio::test(start_paused = true)]
async fn a_renewal_in_the_last_moment_lets_a_write_go_on() {
    for _ in 0..100 {
        let Setup { standing, leadership } = setup(leading(1, 7));
        let write = tokio::spawn(async move { leadership.in_term(Term(1), sleep(10 * SECOND)).await });
        tokio::task::yield_now().await;
        let before = 7 * SECOND - Duration::from_nanos(1);
        tokio::time::advance(before).await;
        standing.send_replace(leading(1, 7));
        tokio::time::advance(SECOND).await;
        assert_eq!(write.await.unwrap(), Some(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_lets_a_write_go_on() {
    let Setup { standing, leadership } = setup(leading(1, 7));
    let write = tokio::spawn({
        let leadership = leadership.clone();
        async move { leadership.in_term(Term(1), sleep(10 * SECOND)).await }
    });
    sleep(5 * SECOND).await;
    standing.send_replace(leading(1, 7));
    assert_eq!(write.await.unwrap(), Some(()));
}

#[tokio::test(start_paused = true)]
async fn a_write_ends_when_the_lease_is_lost() {
    let Setup { standing, leadership } = setup(leading(1, 7));
    let start = Instant::now();
    let write = leadership.in_term(Term(1), sleep(3600 * SECOND));
    let lost = async {
        sleep(SECOND).await;
        standing.send_replace(Standing::Standby);
    };
    assert_eq!(tokio::join!(write, lost).0, None);
    assert_eq!(start.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_plan_of_an_earlier_term_is_not_carried_out() {
    let Setup { leadership, .. } = setup(leading(2, 7));
    let begun = Arc::new(AtomicBool::new(false));
    let write = {
        let begun = Arc::clone(&begun);
        async move { begun.store(true, SeqCst) }
    };
    assert_eq!(leadership.in_term(Term(1), write).await, None);
    assert!(!begun.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_ends_what_runs_and_begins_nothing() {
    let Setup { standing, leadership } = setup(leading(1, 7));
    let until = Some(Instant::now() + 7 * SECOND);
    let running = tokio::spawn({
        let leadership = leadership.clone();
        async move { leadership.in_term(Term(1), sleep(2 * SECOND)).await }
    });
    sleep(SECOND).await;
    standing.send_replace(Standing::Leaving { term: Term(1), until });
    leadership.writing.close();
    assert_eq!(leadership.in_term(Term(1), async {}).await, None);
    let start = Instant::now();
    leadership.writing.wait().await;
    assert_eq!(start.elapsed(), SECOND);
    assert_eq!(running.await.unwrap(), Some(()));
}

/// The Lease is given back when the writes have ended: nothing else may keep the next leader waiting.
#[tokio::test(start_paused = true)]
async fn who_leaves_abandons_what_is_no_write() {
    let Setup { standing, leadership } = setup(leading(1, 7));
    let until = Some(Instant::now() + 7 * SECOND);
    let running = tokio::spawn({
        let leadership = leadership.clone();
        async move { leadership.while_leading(Term(1), sleep(3 * SECOND)).await }
    });
    sleep(SECOND).await;
    let start = Instant::now();
    standing.send_replace(Standing::Leaving { term: Term(1), until });
    assert_eq!((running.await.unwrap(), start.elapsed()), (None, Duration::ZERO));
    assert_eq!(leadership.while_leading(Term(1), async {}).await, None);
    standing.send_replace(leading(2, 7));
    assert_eq!(leadership.while_leading(Term(1), async {}).await, None);
    assert_eq!(leadership.while_leading(Term(2), async {}).await, Some(()));
}

#[tokio::test(start_paused = true)]
async fn each_term_is_told_once() {
    let Setup { standing, leadership } = setup(leading(1, 7));
    assert_eq!(leadership.next_term(None).await, Term(1));
    standing.send_replace(leading(1, 7));
    assert!(timeout(SECOND, leadership.next_term(Some(Term(1)))).await.is_err());
    standing.send_replace(leading(2, 7));
    assert_eq!(leadership.next_term(Some(Term(1))).await, Term(2));
}
