use prometheus_client::collector::Collector;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::QueueMetrics;

/// The operator's metrics. Labels are closed sets; none holds a user's name.
pub struct Metrics {
    registry: Registry,
    /// Answered checks by outcome: `routed`, or the kind of refusal.
    pub checks: Family<Outcome, Counter>,
    /// Checks that are being answered now, most of them because their session waits.
    pub checks_in_flight: Gauge,
    /// Those of them that wait, for their login or for their session.
    pub held_checks: Family<WaitsFor, Gauge>,
    /// From a check's arrival to its answer.
    pub check_seconds: Histogram,
    /// Entries of Envoys' access logs, which are about requests that are open for long.
    pub access_log_entries: Counter,
    /// Logins that were given back to the identity provider, or were to be, by outcome.
    pub login_revocations: Family<Outcome, Counter>,
    /// 1 while this replica plans and writes. Over all replicas the sum is at most 1.
    pub leader: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Outcome {
    pub outcome: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct WaitsFor {
    waits_for: String,
}

impl WaitsFor {
    pub fn of(what: &str) -> Self {
        Self { waits_for: what.to_owned() }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(&QueueMetrics::default())
    }
}

impl Metrics {
    /// With those of the queue of pools that wait to be planned.
    pub fn new(pools: &QueueMetrics) -> Self {
        let mut all = Registry::default();
        pools.register(all.sub_registry_with_label(("name".into(), "pools".into())));
        let registry = all.sub_registry_with_prefix("spark_session_operator");
        let checks = Family::default();
        registry.register("checks", "Answered authorization checks", checks.clone());
        let checks_in_flight = Gauge::default();
        registry.register(
            "checks_in_flight",
            "Authorization checks being answered",
            checks_in_flight.clone(),
        );
        let held_checks = Family::default();
        registry.register(
            "held_checks",
            "Authorization checks that wait for their login or their session",
            held_checks.clone(),
        );
        let check_seconds = Histogram::new(exponential_buckets(0.0005, 4.0, 10));
        registry.register("check_seconds", "Time to answer an authorization check", check_seconds.clone());
        let access_log_entries = Counter::default();
        registry.register(
            "access_log_entries",
            "Entries of Envoy's access log, about requests that are open for long",
            access_log_entries.clone(),
        );
        let login_revocations = Family::default();
        registry.register(
            "login_revocations",
            "Logins that the identity provider was told to forget",
            login_revocations.clone(),
        );
        let leader = Gauge::default();
        registry.register("leader", "1 while this replica plans and writes", leader.clone());
        Self {
            registry: all,
            checks,
            checks_in_flight,
            held_checks,
            check_seconds,
            access_log_entries,
            login_revocations,
            leader,
        }
    }

    /// With what `collector` finds whenever the metrics are asked for.
    #[must_use]
    pub fn with(mut self, collector: impl Collector) -> Self {
        self.registry.register_collector(Box::new(collector));
        self
    }

    /// In the OpenMetrics text format.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut encoded = String::new();
        text::encode(&mut encoded, &self.registry)?;
        Ok(encoded)
    }
}
