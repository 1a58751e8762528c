//! What a pool is compared with: the same sessions, instances that start as fast, and another rule for how many of them
//! there are.
//!
//! The other rules are small and kind: places are given away as well as this operator does, nothing fails, and quotas
//! are the same. What differs is how many instances they want, when they look, and what they do with a surplus.

mod go_operator;
mod hands;
mod hpa;

use serde::Serialize;

use self::go_operator::GoOperator;
use self::hpa::Hpa;
use super::world::{Planner, ThisOperator};
use crate::api::{IdentityMode, MetricType, Sharing, SparkSessionPool};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// The pool as it is written, with this operator's planner.
    AsWritten,
    /// The same with as many instances as it may have, always.
    FixedAtMaximum,
    /// What the Go operator did with it.
    GoOperator,
    /// A HorizontalPodAutoscaler over the number of sessions, and nothing else.
    HpaAlone,
}

impl Policy {
    pub const ALL: [Self; 4] = [Self::AsWritten, Self::FixedAtMaximum, Self::GoOperator, Self::HpaAlone];

    pub fn name(self) -> &'static str {
        match self {
            Self::AsWritten => "this pool as written",
            Self::FixedAtMaximum => "fixed: min = max",
            Self::GoOperator => "the Go operator's rule",
            Self::HpaAlone => "HPA alone",
        }
    }

    /// Whether it can be said what would happen to this pool. Rules that know nothing of `sharing` would put sessions
    /// together that it keeps apart; and they count sessions, where a pool may go by what its drivers use.
    pub fn applies_to(self, pool: &SparkSessionPool) -> bool {
        let counts = pool.spec.scaling.metrics.metric_type == MetricType::ActiveSessions;
        matches!(self, Self::AsWritten | Self::FixedAtMaximum)
            || (counts && pool.spec.sharing == Sharing::Pool)
    }

    /// The pool as this policy has it, and who decides about it.
    pub fn of(self, pool: &SparkSessionPool) -> (SparkSessionPool, Box<dyn Planner>) {
        let mut pool = pool.clone();
        match self {
            Self::AsWritten => (pool, Box::new(ThisOperator)),
            Self::FixedAtMaximum => {
                pool.spec.replicas.min = pool.spec.replicas.max;
                (pool, Box::new(ThisOperator))
            }
            Self::GoOperator | Self::HpaAlone => {
                // Their servers have no interceptor, which this operator would drain them for.
                pool.spec.identity = IdentityMode::Trusted;
                let planner: Box<dyn Planner> = match self {
                    Self::GoOperator => Box::new(GoOperator::default()),
                    _ => Box::new(Hpa::default()),
                };
                (pool, planner)
            }
        }
    }
}

#[cfg(test)]
#[path = "policies_tests.rs"]
mod tests;
