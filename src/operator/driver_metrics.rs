//! Reads how busy drivers are from `metrics.k8s.io`, for pools that are sized by that.
//!
//! Only on the replica that plans, and only while such a pool has a driver that runs: otherwise not a single request is
//! made. It does not decide what figures ask for; it has a pool planned again when that is something else than before.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_metrics::v1beta1::PodMetrics;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::leadership::{Leadership, Term};
use super::quantity;
use super::stores::Stores;
use super::watches::drivers;
use crate::model::Usage;
use crate::plan::utilization::{self, Advice};
use crate::plan::with_drains;

/// As often as metrics-server measures, and as the Horizontal Pod Autoscaler reads.
const PAUSE: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(10);

pub struct DriverMetrics {
    pods: Api<DeserializeGuard<PodMetrics>>,
    stores: Arc<Stores>,
    leadership: Leadership,
    /// In which the figures were read that are known.
    term: Option<Term>,
    /// What figures asked for when their pool was last planned for them.
    told: HashMap<String, Advice>,
    /// What the log said last.
    problem: Option<Problem>,
}

impl DriverMetrics {
    /// The client must not hide that a metrics server is down, for which the API server answers 503.
    pub fn new(client: &Client, namespace: &str, stores: Arc<Stores>, leadership: Leadership) -> Self {
        let pods = Api::namespaced(client.clone(), namespace);
        Self { pods, stores, leadership, term: None, told: HashMap::new(), problem: None }
    }

    pub async fn run(mut self) -> anyhow::Result<()> {
        self.stores.until_synced().await;
        let mut rounds = interval(PAUSE);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            self.round(Timestamp::now()).await;
        }
    }

    async fn round(&mut self, now: Timestamp) {
        let term = self.leadership.term();
        let pools = self.stores.read(|inventory| inventory.pools_to_measure());
        if term.is_none() || term != self.term || pools.is_empty() {
            self.forget();
        }
        self.term = term;
        if term.is_none() || pools.is_empty() {
            return;
        }
        let answer = match timeout(PATIENCE, self.read()).await {
            Ok(Ok(usage)) => Ok(usage),
            Ok(Err(error)) => Err(Problem::of(error)),
            Err(_) => Err(Problem::Silent),
        };
        self.log(answer.as_ref().err());
        let answer = answer.as_ref().map_err(ToString::to_string);
        self.stores.note_usage(|inventory| inventory.enter_usage(answer, now));
        self.tell(pools, now);
    }

    async fn read(&self) -> kube::Result<HashMap<String, Usage>> {
        let listed = self.pods.list(&ListParams::default().labels(&drivers())).await?;
        // What cannot be read of a Pod is missing, which is told as such.
        let readable = listed.items.into_iter().filter_map(|pod| pod.0.ok());
        Ok(readable.filter_map(|pod| Some((pod.metadata.name.clone()?, usage(&pod)?))).collect())
    }

    /// Has those pools planned for which the figures ask for something else than when they were last planned.
    fn tell(&mut self, pools: BTreeSet<String>, now: Timestamp) {
        let advised: HashMap<String, Advice> = self.stores.read(|inventory| {
            let of = |name: &String| {
                let view = inventory.pool_view(name)?;
                // As if there were sessions: when they come and go, the pool is planned for that.
                utilization::of_pool(&with_drains(&view), 1, now)
            };
            pools.into_iter().filter_map(|name| of(&name).map(|advice| (name, advice))).collect()
        });
        for (pool, advice) in &advised {
            if self.told.get(pool).is_none_or(|told| advice.is_news_after(told)) {
                self.stores.queue.add(pool);
            }
        }
        self.told = advised;
    }

    fn forget(&mut self) {
        if self.stores.read(|inventory| inventory.has_usage()) {
            self.stores.note_usage(|inventory| inventory.forget_usage());
        }
        self.told.clear();
        self.problem = None;
    }

    /// Each problem once, and that it is over.
    fn log(&mut self, problem: Option<&Problem>) {
        match problem {
            Some(problem) if self.problem.as_ref() != Some(problem) => {
                tracing::warn!(%problem, "pools with the metrics cpu and memory keep their size");
            }
            None if self.problem.is_some() => tracing::info!("the metrics API answers again"),
            _ => {}
        }
        self.problem = problem.cloned();
    }
}

/// `None` where a figure cannot be read: a part of the sum would be missing.
fn usage(pod: &PodMetrics) -> Option<Usage> {
    Some(Usage {
        at: pod.timestamp.0,
        window: SignedDuration::try_from(pod.window).ok()?,
        cpu_millis: pod.containers.iter().map(|it| quantity::millis(&it.usage.cpu)).sum::<Option<u64>>()?,
        memory_bytes: pod
            .containers
            .iter()
            .map(|it| quantity::units(&it.usage.memory))
            .sum::<Option<u64>>()?,
        containers: pod.containers.len(),
    })
}

/// Why nothing can be read, for the administrator of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    NotInstalled,
    Forbidden,
    Unavailable,
    Silent,
    Other(String),
}

impl Problem {
    fn of(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                404 => Self::NotInstalled,
                403 => Self::Forbidden,
                502..=504 => Self::Unavailable,
                code => Self::Other(format!("the API server answers {code}: {}", status.message)),
            },
            // Without the address and the port of the attempt, which are others each time.
            kube::Error::Service(_) | kube::Error::HyperError(_) => Self::Silent,
            error => Self::Other(error.to_string()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled => {
                formatter.write_str("the cluster has no metrics.k8s.io API; install metrics-server")
            }
            Self::Forbidden => formatter
                .write_str("the operator may not list pods in metrics.k8s.io; apply deploy/rbac.yaml"),
            Self::Unavailable => {
                formatter.write_str("the server behind metrics.k8s.io does not answer; see its APIService")
            }
            Self::Silent => formatter.write_str("no answer from the API server about metrics.k8s.io"),
            Self::Other(text) => formatter.write_str(text),
        }
    }
}

#[cfg(test)]
#[path = "driver_metrics_tests.rs"]
mod tests;
