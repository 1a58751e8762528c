use super::*;
use crate::model::fixtures::at;

fn closed() -> Closed {
    Closed { uid: "uid-of-s".to_owned(), at: at(9) }
}

fn under_way() -> Arc<UnderWay> {
    Arc::default()
}

/// Whether `due` says so within this long.
async fn is_due(under_way: &UnderWay, within: Duration) -> bool {
    let due = tokio::time::timeout(within, under_way.due()).await;
    due.is_ok_and(|due| due == ("s".to_owned(), closed()))
}

#[tokio::test(start_paused = true)]
async fn a_session_to_which_nobody_is_on_the_way_ends_at_once() {
    let (under_way, now) = (under_way(), Instant::now());
    assert!(under_way.end("s", closed(), now).is_some());
    assert!(!is_due(&under_way, TO_COME).await);
    assert!(under_way.lock().sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_the_last_call_is_over() {
    let (under_way, now) = (under_way(), Instant::now());
    let calls = [(); 2].map(|()| {
        assert!(under_way.let_through("s", now));
        under_way.opens("s", now)
    });
    assert!(under_way.end("s", closed(), now).is_none());
    for call in calls {
        assert!(!is_due(&under_way, TO_COME).await);
        drop(call);
    }
    assert!(is_due(&under_way, Duration::ZERO).await);
    assert!(!is_due(&under_way, TO_COME).await, "once");
    assert!(under_way.lock().sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_does_not_come_or_does_not_end_is_waited_for_so_long() {
    let under_way = under_way();
    assert!(under_way.let_through("s", Instant::now()));
    assert!(under_way.end("s", closed(), Instant::now()).is_none());
    assert!(!is_due(&under_way, TO_COME - Duration::from_secs(1)).await);
    assert!(is_due(&under_way, Duration::from_secs(1)).await);

    let _hangs = under_way.opens("s", Instant::now());
    assert!(under_way.end("s", closed(), Instant::now()).is_none());
    assert!(!is_due(&under_way, TO_OPEN - Duration::from_secs(1)).await);
    assert!(is_due(&under_way, Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_another_replica_has_let_through_counts_when_it_has_come() {
    let (under_way, now) = (under_way(), Instant::now());
    let call = under_way.opens("s", now);
    assert!(under_way.end("s", closed(), now).is_none());
    drop(call);
    assert!(under_way.end("s", closed(), now).is_some());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_let_through_while_the_end_is_written() {
    let (under_way, now) = (under_way(), Instant::now());
    let ending = under_way.end("s", closed(), now).unwrap();
    assert!(!under_way.let_through("s", now) && under_way.let_through("other", now));
    assert!(under_way.end("s", closed(), now).is_none(), "somebody has it");
    let within = |seconds| tokio::time::timeout(Duration::from_secs(seconds), under_way.until_ended("s"));
    assert!(within(60).await.is_err());
    let (told, ()) = tokio::join!(within(60), async { drop(ending) });
    assert!(told.is_ok() && within(0).await.is_ok());
    assert!(under_way.let_through("s", now));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_is_forgotten() {
    let (under_way, now) = (under_way(), Instant::now());
    for n in 0..2 * MOST {
        assert!(under_way.let_through(&format!("s{n}"), now), "with or without being counted");
    }
    assert_eq!(under_way.lock().to_come, MOST);
    assert!(under_way.let_through("s", now + TO_COME));
    let state = under_way.lock();
    assert_eq!((state.to_come, state.sessions.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn one_session_does_not_use_up_what_is_counted_of_all() {
    let (under_way, now) = (under_way(), Instant::now());
    for _ in 0..2 * MOST {
        assert!(under_way.let_through("s", now), "with or without being counted");
    }
    assert!(under_way.let_through("other", now));
    assert_eq!(under_way.lock().to_come, MOST_OF_SESSION + 1);
    assert!(under_way.end("other", closed(), now).is_none(), "somebody is on the way");
}
