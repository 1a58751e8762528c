//! The work queue of pools: each is planned by one worker at a time, as often as needed and no
//! oftener.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::telemetry::QueueMetrics;

/// Keys with the time from which they are due. A key that is added twice is handed out once; one
/// that is added while a worker has it is handed out again afterwards.
#[derive(Default)]
pub struct WorkQueue {
    state: Mutex<State>,
    added: Notify,
    pub metrics: QueueMetrics,
}

#[derive(Default)]
struct State {
    due: BTreeSet<(Instant, String)>,
    due_by_key: HashMap<String, Instant>,
    /// Since when a worker has each.
    running: HashMap<String, Instant>,
    /// Due, but a worker has the key.
    again: HashMap<String, Instant>,
    /// Those that are due only because something failed.
    retries: HashSet<String>,
}

impl State {
    fn schedule(&mut self, key: &str, at: Instant) {
        if self.running.contains_key(key) {
            let again = self.again.entry(key.to_owned()).or_insert(at);
            *again = (*again).min(at);
            return;
        }
        match self.due_by_key.get(key) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => {
                self.due.remove(&(*later, key.to_owned()));
            }
            None => {}
        }
        self.due_by_key.insert(key.to_owned(), at);
        self.due.insert((at, key.to_owned()));
    }
}

impl WorkQueue {
    /// Due now.
    pub fn add(&self, key: &str) {
        self.add_after(key, Duration::ZERO);
    }

    /// Due after this time, if it is not due earlier.
    pub fn add_after(&self, key: &str, delay: Duration) {
        self.lock().schedule(key, Instant::now() + delay);
        self.metrics.adds.inc();
        self.added.notify_one();
    }

    /// The same, for what failed: [`retry_now`](Self::retry_now) need not wait for it.
    pub fn retry_after(&self, key: &str, delay: Duration) {
        self.metrics.retries.inc();
        self.lock().retries.insert(key.to_owned());
        self.add_after(key, delay);
    }

    /// All that failed is due now: what made it fail is over. What somebody works on is due once more: it may have met
    /// the cause, and fail later.
    pub fn retry_now(&self) {
        let mut state = self.lock();
        let mut retries = std::mem::take(&mut state.retries);
        retries.extend(state.running.keys().cloned());
        drop(state);
        for key in retries {
            self.add(&key);
        }
    }

    /// The next key that is due. The caller has it for itself until it calls [`done`](Self::done).
    pub async fn next(&self) -> String {
        loop {
            let wait = {
                let mut state = self.lock();
                match state.due.first().cloned() {
                    Some((at, key)) if at <= Instant::now() => {
                        state.due.remove(&(at, key.clone()));
                        state.due_by_key.remove(&key);
                        state.retries.remove(&key);
                        let now = Instant::now();
                        state.running.insert(key.clone(), now);
                        self.metrics.queue_duration.observe(now.duration_since(at).as_secs_f64());
                        if state.due.first().is_some_and(|(at, _)| *at <= Instant::now()) {
                            // Wakes another worker: a `Notify` holds one permit, however many were added.
                            self.added.notify_one();
                        }
                        return key;
                    }
                    Some((at, _)) => Some(at),
                    None => None,
                }
            };
            match wait {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.added.notified() => {}
                },
                None => self.added.notified().await,
            }
        }
    }

    /// Gives the key back.
    pub fn done(&self, key: &str) {
        let mut state = self.lock();
        if let Some(since) = state.running.remove(key) {
            self.metrics.work_duration.observe(since.elapsed().as_secs_f64());
        }
        if let Some(at) = state.again.remove(key) {
            state.schedule(key, at);
            self.added.notify_one();
        }
    }

    /// Keys that are due and wait for a worker.
    pub fn depth(&self) -> usize {
        let now = Instant::now();
        self.lock().due.iter().take_while(|(at, _)| *at <= now).count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_added_twice_is_handed_out_once() {
        let queue = WorkQueue::default();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.done("a");
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_while_a_worker_has_it_is_handed_out_again_afterwards() {
        let queue = WorkQueue::default();
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert!(tokio::time::timeout(Duration::from_secs(1), queue.next()).await.is_err());
        queue.done("a");
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_due_when_its_cause_is_over() {
        let queue = WorkQueue::default();
        let start = Instant::now();
        queue.retry_after("failed", Duration::from_secs(30));
        queue.add_after("calm", Duration::from_secs(20));
        queue.retry_now();
        assert_eq!(queue.next().await, "failed");
        assert_eq!(start.elapsed().as_secs(), 0);
        queue.done("failed");
        queue.retry_now();
        assert_eq!(queue.next().await, "calm");
        assert_eq!(start.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_when_its_cause_is_over_already_is_due_at_once() {
        let queue = WorkQueue::default();
        let start = Instant::now();
        queue.add("running");
        assert_eq!(queue.next().await, "running");
        queue.retry_now();
        queue.retry_after("running", Duration::from_secs(30));
        queue.done("running");
        assert_eq!(queue.next().await, "running");
        assert_eq!(start.elapsed().as_secs(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_and_how_long_it_waits_is_counted() {
        let queue = WorkQueue::default();
        queue.add("a");
        queue.add("b");
        queue.add_after("later", Duration::from_secs(60));
        assert_eq!((queue.depth(), queue.metrics.adds.get()), (2, 3));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(queue.next().await, "a");
        assert_eq!(queue.depth(), 1);
        tokio::time::advance(Duration::from_secs(3)).await;
        queue.done("a");
        queue.retry_after("a", Duration::from_secs(1));
        let encoded = crate::telemetry::Metrics::new(&queue.metrics).encode().unwrap();
        for line in [
            "workqueue_adds_total{name=\"pools\"} 4",
            "workqueue_retries_total{name=\"pools\"} 1",
            "workqueue_queue_duration_seconds_sum{name=\"pools\"} 2.0",
            "workqueue_work_duration_seconds_sum{name=\"pools\"} 3.0",
        ] {
            assert!(encoded.contains(line), "{line} is not in\n{encoded}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_times_counts() {
        let queue = WorkQueue::default();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(30));
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed().as_secs(), 5);
    }
}
