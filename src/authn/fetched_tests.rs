use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const PACE: Pace = Pace {
    max_age: Duration::from_secs(600),
    floor: Duration::from_secs(10),
    retry_stale: Duration::from_secs(30),
    retry_empty: Duration::from_secs(1),
};

/// A document whose content is the number of the attempt; attempts in `failing` fail.
fn document(failing: &'static [usize]) -> (Fetched<usize>, Arc<AtomicUsize>) {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&attempts);
    let fetched = Fetched::new(PACE, move || {
        let attempt = counter.fetch_add(1, Ordering::SeqCst) + 1;
        async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if failing.contains(&attempt) {
                Err(ProviderError::Unreachable("down".into()))
            } else {
                Ok(attempt)
            }
        }
        .boxed()
    });
    (fetched, attempts)
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn callers_share_one_fetch() {
    let (document, attempts) = document(&[]);
    let outcomes = futures::future::join_all((0..20).map(|_| document.get())).await;
    assert!(outcomes.into_iter().all(|outcome| *outcome.unwrap() == 1));
    seconds(599).await;
    assert_eq!(*document.get().await.unwrap(), 1);
    seconds(1).await;
    assert_eq!(*document.get().await.unwrap(), 2);
    assert_eq!(attempts.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_fetch_is_repeated_after_a_second() {
    let (document, attempts) = document(&[1]);
    document.get().await.unwrap_err();
    document.get().await.unwrap_err();
    assert_eq!(attempts.load(Ordering::SeqCst), 1);
    seconds(1).await;
    assert_eq!(*document.get().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_old_document_serves_while_the_provider_is_down() {
    let (document, attempts) = document(&[2, 3]);
    document.get().await.unwrap();
    seconds(600).await;
    for _ in 0..3 {
        assert_eq!(*document.get().await.unwrap(), 1);
    }
    assert_eq!(attempts.load(Ordering::SeqCst), 2, "a failed refresh is not repeated at once");
    seconds(30).await;
    assert_eq!(*document.get().await.unwrap(), 1);
    seconds(30).await;
    assert_eq!(*document.get().await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_newer_one_is_fetched_at_most_every_ten_seconds() {
    let (document, attempts) = document(&[]);
    let first = document.get().await.unwrap();
    assert!(Arc::ptr_eq(&document.newer_than(&first).await.unwrap(), &first), "too soon");
    seconds(10).await;
    let (one, other) = tokio::join!(document.newer_than(&first), document.newer_than(&first));
    assert_eq!((*one.unwrap(), *other.unwrap()), (2, 2));
    assert_eq!(*document.newer_than(&first).await.unwrap(), 2, "already newer");
    assert_eq!(attempts.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_newer_one_cannot_be_had_while_the_provider_is_down() {
    let (document, _) = document(&[2]);
    let first = document.get().await.unwrap();
    seconds(10).await;
    document.newer_than(&first).await.unwrap_err();
    document.newer_than(&first).await.unwrap_err();
    assert_eq!(*document.get().await.unwrap(), 1, "known keys go on working");
    seconds(10).await;
    assert_eq!(*document.newer_than(&first).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_ends_although_its_callers_give_up() {
    let (document, attempts) = document(&[]);
    tokio::time::timeout(Duration::from_millis(10), document.get()).await.unwrap_err();
    seconds(1).await;
    assert!(document.inner.lock().flight.is_none());
    assert_eq!(*document.get().await.unwrap(), 1);
    assert_eq!(attempts.load(Ordering::SeqCst), 1);
}
