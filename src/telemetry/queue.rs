use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What a work queue does, by the names that client-go gave such metrics, so that dashboards for controllers show it.
#[derive(Clone, Debug)]
pub struct QueueMetrics {
    pub adds: Counter,
    /// Of the adds, those after something failed.
    pub retries: Counter,
    /// Seconds from when a key was due until a worker had it.
    pub queue_duration: Histogram,
    /// Seconds for which a worker had it.
    pub work_duration: Histogram,
}

impl Default for QueueMetrics {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.0001, 4.0, 10));
        Self {
            adds: Counter::default(),
            retries: Counter::default(),
            queue_duration: seconds(),
            work_duration: seconds(),
        }
    }
}

impl QueueMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("workqueue_adds", "Keys added", self.adds.clone());
        registry.register("workqueue_retries", "Keys added after something failed", self.retries.clone());
        let waited = "Seconds until a worker has a key that is due";
        registry.register("workqueue_queue_duration_seconds", waited, self.queue_duration.clone());
        let worked = "Seconds for which a worker has a key";
        registry.register("workqueue_work_duration_seconds", worked, self.work_duration.clone());
    }
}
