//! What the pools' statuses say, as metrics: read when somebody asks for them, so that they cost nothing otherwise. Every
//! replica says the same. Users and sessions have no series of their own.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;

use super::stores::Stores;
use crate::api::InstanceState;
use crate::model::Pool;

/// Of the pools, and of their queue.
pub struct PoolMetrics {
    stores: Arc<Stores>,
}

impl PoolMetrics {
    pub fn new(stores: Arc<Stores>) -> Self {
        Self { stores }
    }
}

impl fmt::Debug for PoolMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolMetrics").finish_non_exhaustive()
    }
}

impl Collector for PoolMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let depth = i64::try_from(self.stores.queue.depth()).unwrap_or(i64::MAX);
        let due = [([("name", "pools")], depth)];
        gauges(&mut encoder, "workqueue_depth", "Keys that are due", due)?;
        let pools: Vec<Arc<Pool>> = self.stores.read(|inventory| inventory.pools().cloned().collect());
        let of_each = |figure: fn(&Pool) -> i32| {
            pools.iter().map(move |pool| ([("pool", pool.name())], figure(pool).into()))
        };
        gauges(
            &mut encoder,
            "spark_session_operator_pool_desired_instances",
            "Instances that the load asks for",
            of_each(|pool| pool.status.desired_replicas),
        )?;
        gauges(
            &mut encoder,
            "spark_session_operator_pool_max_instances",
            "replicas.max",
            of_each(|pool| pool.spec.replicas.max),
        )?;
        gauges(
            &mut encoder,
            "spark_session_operator_pool_consecutive_failures",
            "Attempts in a row to start instances that failed",
            of_each(|pool| pool.status.consecutive_failures),
        )?;
        gauges(
            &mut encoder,
            "spark_session_operator_pool_instances",
            "Instances by their state",
            pools.iter().flat_map(|pool| {
                InstanceState::ALL.map(|state| {
                    let instances = pool.status.instances.iter().filter(|it| it.state == state).count();
                    (
                        [("pool", pool.name()), ("state", state.name())],
                        i64::try_from(instances).unwrap_or(i64::MAX),
                    )
                })
            }),
        )?;
        gauges(
            &mut encoder,
            "spark_session_operator_pool_sessions",
            "Sessions that have a place, or wait for one",
            pools.iter().flat_map(|pool| {
                let of = |state| [("pool", pool.name()), ("state", state)];
                [
                    (of("placed"), pool.status.total_active_sessions.into()),
                    (of("waiting"), pool.status.pending_sessions.into()),
                ]
            }),
        )?;
        gauges(
            &mut encoder,
            "spark_session_operator_pool_condition",
            "1 for what each condition says, by the reasons in crds/reasons.md",
            pools.iter().flat_map(|pool| {
                pool.status.conditions.iter().map(|condition| {
                    let labels = [
                        ("pool", pool.name()),
                        ("condition", condition.type_.as_str()),
                        ("status", condition.status.as_str()),
                        ("reason", condition.reason.as_str()),
                    ];
                    (labels, 1)
                })
            }),
        )
    }
}

fn gauges<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (L, i64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "pool_metrics_tests.rs"]
mod tests;
