//! One policy over one trace, and what it comes to in figures.

use serde::Serialize;

use super::clock::{HOUR, Second};
use super::ledger::{End, Ledger, Row};
use super::policies::Policy;
use super::starts::StartTimes;
use super::trace::Arrival;
use super::world::{World, WorldError};
use crate::api::SparkSessionPool;

/// For how long after the trace's end sessions are waited for that still wait.
const PATIENCE: Second = 48 * HOUR;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Question {
    pub pool: SparkSessionPool,
    /// By the time of arrival, and at least one.
    pub arrivals: Vec<Arrival>,
    pub starts: StartTimes,
    /// Of what a driver requests, the percent that each of its sessions uses; a pool that is sized by that needs it.
    pub percent_per_session: Option<u32>,
}

#[derive(Debug)]
pub struct Answer {
    pub policy: Policy,
    pub figures: Figures,
    pub rows: Vec<Row>,
}

/// All times are in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    pub sessions: usize,
    /// From when somebody came until the session could be used, or the waiting was given up. Of all but those refused.
    pub waited: Waited,
    /// From the creation of each instance until its driver was gone.
    pub instance_hours: f64,
    pub most_instances: i64,
    pub most_sessions_on_one_instance: usize,
    /// How often instances were started or removed, several at once counting as one.
    pub scale_actions: usize,
    /// Sessions in use that the operator ended, or that went with their instance.
    pub ended_by_operator: usize,
    /// By a quota.
    pub refused: usize,
    /// Found no place in time.
    pub gave_up: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waited {
    pub p50: Second,
    pub p95: Second,
    pub p99: Second,
    pub max: Second,
    /// Sessions that waited for longer than a second.
    pub more_than_one_second: usize,
}

impl Question {
    /// When the count begins: the full hour before somebody comes. What the pool keeps running runs by then.
    pub fn begin(&self) -> Second {
        let first = self.arrivals.first().map_or(0, |arrival| arrival.at);
        first - first.rem_euclid(HOUR)
    }

    /// The full hour after the last one would have left who found a session at once.
    pub fn end(&self) -> Second {
        let last = self.arrivals.iter().map(|arrival| arrival.at + arrival.stays).max().unwrap_or(0);
        last + (-last).rem_euclid(HOUR)
    }

    /// From the beginning to the end, in whole hours.
    pub fn hours(&self) -> i64 {
        (self.end() - self.begin()) / HOUR
    }

    pub fn users(&self) -> usize {
        let users: std::collections::BTreeSet<&str> =
            self.arrivals.iter().map(|it| it.user.as_str()).collect();
        users.len()
    }

    /// `passed` hears of each simulated hour.
    pub fn answer(&self, policy: Policy, passed: impl Fn()) -> Result<Answer, WorldError> {
        let (begin, end) = (self.begin(), self.end());
        let (pool, planner) = policy.of(&self.pool);
        // Instances that always run are there when the first one comes, and their start has cooled down.
        let before = begin - self.starts.longest() - Second::from(pool.spec.scaling.cooldown_seconds) - HOUR;
        let mut world = World::new(pool, planner, self.starts.clone(), before);
        world.ledger_mut().count_from(begin);
        if let Some(percent) = self.percent_per_session {
            world.measure(percent);
        }
        for arrival in &self.arrivals {
            world.expect(arrival.at, &arrival.user, arrival.stays);
        }
        world.settle()?;
        for hour in 1..=self.hours() {
            world.run_until(begin + hour * HOUR)?;
            passed();
        }
        while world.has_users() && world.now() < end + PATIENCE {
            world.run_until(world.now() + HOUR)?;
        }
        let ledger = world.ledger();
        let rows = ledger.rows().iter().filter(|row| row.at >= begin).cloned().collect();
        Ok(Answer { policy, figures: figures(ledger, world.now()), rows })
    }
}

fn figures(ledger: &Ledger, now: Second) -> Figures {
    let ended = |how| ledger.courses().filter(|it| it.end.is_some_and(|(_, end)| end == how)).count();
    let let_in = ledger.courses().filter(|it| it.end.is_none_or(|(_, end)| end != End::Refused));
    let waits = let_in.map(|it| it.active.or(it.end.map(|(at, _)| at)).unwrap_or(now) - it.arrived);
    #[expect(clippy::cast_precision_loss, reason = "seconds of some years are far below 2^52")]
    let instance_hours = ledger.instance_seconds() as f64 / HOUR as f64;
    let scalings = ledger.scalings();
    Figures {
        sessions: ledger.courses().count(),
        waited: Waited::of(waits.collect()),
        instance_hours: (instance_hours * 10.0).round() / 10.0,
        most_instances: ledger.most_instances(),
        most_sessions_on_one_instance: ledger.most_sessions_on_one(),
        scale_actions: scalings.up + scalings.down,
        ended_by_operator: ended(End::Ended),
        refused: ended(End::Refused),
        gave_up: ended(End::GaveUp),
    }
}

impl Waited {
    fn of(mut waits: Vec<Second>) -> Self {
        waits.sort_unstable();
        // The smallest that so many in a hundred do not exceed.
        let percentile = |hundredths: usize| {
            let rank = (waits.len() * hundredths).div_ceil(100);
            waits.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        Self {
            p50: percentile(50),
            p95: percentile(95),
            p99: percentile(99),
            max: waits.last().copied().unwrap_or(0),
            more_than_one_second: waits.iter().filter(|wait| **wait > 1).count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_waits_that_somebody_had() {
        let waited = Waited::of((1..=200).rev().collect());
        let expected = Waited { p50: 100, p95: 190, p99: 198, max: 200, more_than_one_second: 199 };
        assert_eq!(waited, expected);
        assert_eq!(Waited::of(vec![7]), Waited { p50: 7, p95: 7, p99: 7, max: 7, more_than_one_second: 1 });
        assert_eq!(Waited::of(Vec::new()), Waited::default());
    }
}
