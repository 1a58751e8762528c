//! How many instances the measured use of CPU or memory asks for: the formula of the Horizontal Pod Autoscaler, with its
//! rules for what is not measured.
//!
//! It differs in one thing. What a Pod that goes did is done by others then, but sessions stay on their driver: what an
//! instance that drains still uses is part of the pool's load. Or each that drains would leave the others idler, as far as
//! can be seen, and the next would follow.
//!
//! See <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details>. It knows neither
//! the pool's minimum and maximum nor its cooldown, and chooses no instance. All is in whole thousandths, so that nothing
//! depends on rounding.

use jiff::{SignedDuration, Timestamp};

use super::counts::count;
use super::{drains, instances, template};
use crate::api::{Metric, MetricType};
use crate::model::{Instance, InstancePhase, PoolView, Utilization};

/// A JVM that starts is busy with itself. In figures of this time CPU says nothing of the load that sessions make.
const START_UP: SignedDuration = SignedDuration::from_mins(2);

/// What the measured load asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Before the pool's limits.
    pub instances: i32,
    /// The fewest that would be on target: fewer than `instances` where the present number stays.
    pub at_least: i32,
    pub finding: Finding,
    /// A clause for people: `cpu at 93 % of the requests on average over 3 instance(s), target 80 %`. It names figures, so
    /// it changes more often than what it explains.
    pub reason: String,
}

/// Why it asks for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// No session is there: nothing runs for nobody.
    Unused,
    /// The first session comes, and nothing runs yet that could be measured.
    First,
    /// Nothing says yet how busy the instances are, which have just started: the present number stays.
    Early,
    /// Nothing says how busy the instances are, though something should: the present number stays.
    Unmeasured,
    /// As busy as they should be, give or take a tenth: the present number stays.
    OnTarget,
    /// What is not measured might make up for the difference: the present number stays.
    Undecided,
    Above,
    Below,
}

impl Advice {
    /// Whether something else should be done, or told, than after `earlier` advice.
    pub fn is_news_after(&self, earlier: &Self) -> bool {
        let told = |advice: &Self| (advice.finding == Finding::Unmeasured).then(|| advice.reason.clone());
        let asked = |advice: &Self| (advice.instances, advice.at_least, advice.finding);
        asked(self) != asked(earlier) || told(self) != told(earlier)
    }

    /// Whether it is no more than that the present number should stay, for want of figures.
    pub fn holds(&self) -> bool {
        matches!(self.finding, Finding::Early | Finding::Unmeasured | Finding::Undecided)
    }
}

/// What the instances of this pool ask for; `None` where it is not sized by what they use. The view is one with the
/// [drains in effect](super::with_drains).
///
/// `sessions`: those that have or want a place.
pub fn of_pool(view: &PoolView, sessions: usize, now: Timestamp) -> Option<Advice> {
    let present = instances::present(view, &template::outdated(&view.pool, &view.instances));
    of_present(view, present, sessions, now)
}

/// The same, where it is known how many the pool has.
pub(super) fn of_present(view: &PoolView, present: i32, sessions: usize, now: Timestamp) -> Option<Advice> {
    let instances = view.instances.iter().filter(|instance| drains::counts(&view.pool, instance));
    let (metric, problem) = (&view.pool.spec.scaling.metrics, view.metrics_problem.as_deref());
    advice(metric, instances, count(present), sessions, problem, now)
}

/// Of the instances those count that take sessions; what others use that drain counts with it. `present`: how many the
/// pool has, where nothing is a reason for another number. `problem`: why nothing is measured. Figures that are still fresh
/// count in spite of one.
pub(super) fn advice<'a>(
    metric: &Metric,
    instances: impl IntoIterator<Item = &'a Instance>,
    present: usize,
    sessions: usize,
    problem: Option<&str>,
    now: Timestamp,
) -> Option<Advice> {
    let measure = Measure::of(metric)?;
    let load = Load::of(measure, instances, now);
    let present = u64::try_from(present).unwrap_or(u64::MAX);
    let (instances, finding, reason) = if sessions == 0 {
        (0, Finding::Unused, "no session needs an instance".to_owned())
    } else if load.current() == 0 {
        (present.max(1), Finding::First, format!("{sessions} session(s) and no instance yet"))
    } else if load.measured == 0 {
        let (finding, reason) = load.why_unmeasured(measure, problem);
        (present, finding, reason)
    } else {
        let (instances, finding) = load.asks_for(measure.target(), present);
        (instances, finding, load.describe(measure, finding))
    };
    let at_least = match finding {
        Finding::OnTarget => load.fewest(measure.target()).min(instances),
        // Those that have failed are no measure of what is needed.
        Finding::First => 1,
        _ => instances,
    };
    let as_told = |number| i32::try_from(number).unwrap_or(i32::MAX);
    Some(Advice { instances: as_told(instances), at_least: as_told(at_least), finding, reason })
}

/// What is measured, and how much of it there should be.
#[derive(Clone, Copy)]
struct Measure {
    name: &'static str,
    of: fn(&Utilization) -> Option<u32>,
    /// Whether starting up shows in it.
    start_up_counts: bool,
    target_percent: i32,
}

impl Measure {
    fn of(metric: &Metric) -> Option<Self> {
        let target_percent = metric.target();
        let name = metric.metric_type.name();
        match metric.metric_type {
            MetricType::ActiveSessions => None,
            MetricType::Cpu => Some(Self { name, of: |it| it.cpu, start_up_counts: false, target_percent }),
            MetricType::Memory => {
                Some(Self { name, of: |it| it.memory, start_up_counts: true, target_percent })
            }
        }
    }

    /// In thousandths.
    fn target(self) -> u64 {
        u64::try_from(self.target_percent).unwrap_or(0).max(1) * 10
    }
}

/// The instances that take sessions, by what is known of them.
#[derive(Default)]
struct Load {
    /// What the measured ones use together, and those that drain, in thousandths of the requests of one.
    sum: u64,
    /// How many do that drain.
    draining: u64,
    measured: u64,
    /// That answer, and should have been measured.
    missing: u64,
    /// That do not answer yet, or of whose time after their start there are no figures yet.
    starting: u64,
    /// Of the missing ones: they do not request what is measured.
    without_request: u64,
}

impl Load {
    fn of<'a>(measure: Measure, instances: impl IntoIterator<Item = &'a Instance>, now: Timestamp) -> Self {
        let mut load = Self::default();
        for instance in instances {
            let fresh = instance.utilization.filter(|utilization| !utilization.is_stale(now));
            if instance.phase == InstancePhase::Draining {
                let part = fresh.and_then(|fresh| (measure.of)(&fresh)).unwrap_or(0);
                load.sum += u64::from(part);
                load.draining += u64::from(part > 0);
            }
            if !instance.takes_sessions() {
                continue;
            }
            let started = instance.started_at.and_then(|at| at.checked_add(START_UP).ok());
            let starts = |from: Timestamp| started.is_none_or(|started| from < started);
            let of_its_start = match fresh {
                Some(fresh) => !measure.start_up_counts && starts(fresh.began()),
                None => starts(now),
            };
            if instance.phase != InstancePhase::Ready || of_its_start {
                load.starting += 1;
                continue;
            }
            match fresh.map(|fresh| (measure.of)(&fresh)) {
                Some(Some(part)) => {
                    load.sum += u64::from(part);
                    load.measured += 1;
                }
                Some(None) => {
                    load.missing += 1;
                    load.without_request += 1;
                }
                None => load.missing += 1,
            }
        }
        load
    }

    fn current(&self) -> u64 {
        self.measured + self.missing + self.starting
    }

    /// Whoever is not measured counts as on target where that keeps an instance, and as idle where that saves one.
    fn asks_for(&self, target: u64, present: u64) -> (u64, Finding) {
        let current = self.current();
        if is_above(self.sum, self.measured, target) {
            if is_above(self.sum, current, target) {
                (self.sum.div_ceil(target), Finding::Above)
            } else {
                (present, Finding::Undecided)
            }
        } else if is_below(self.sum, self.measured, target) {
            let assumed = self.sum + self.missing * target;
            if is_below(assumed, self.measured + self.missing, target) {
                // Some session is there, however little it does.
                (assumed.div_ceil(target).max(1), Finding::Below)
            } else {
                (present, Finding::Undecided)
            }
        } else {
            (present, Finding::OnTarget)
        }
    }

    /// That would not be above the target by more than is tolerated.
    fn fewest(&self, target: u64) -> u64 {
        (10 * self.sum).div_ceil(11 * target)
    }

    fn describe(&self, measure: Measure, finding: Finding) -> String {
        let average = (self.sum + 5 * self.measured) / (10 * self.measured.max(1));
        let mut text = format!(
            "{} at {average} % of the requests on average over {} instance(s), target {} %",
            measure.name, self.measured, measure.target_percent
        );
        if self.draining > 0 {
            text.push_str(&format!(", plus the load of {} draining", self.draining));
        }
        let others = self.missing + self.starting;
        match finding {
            Finding::OnTarget => text.push_str(", which is within a tenth of it"),
            Finding::Undecided => {
                text.push_str(&format!(", and {others} without figures that could make up for it"));
            }
            _ if others > 0 => text.push_str(&format!(", and {others} without figures")),
            _ => {}
        }
        text
    }

    fn why_unmeasured(&self, measure: Measure, problem: Option<&str>) -> (Finding, String) {
        let name = measure.name;
        let reason = if let Some(problem) = problem {
            format!("{name} is not measured: {problem}")
        } else if self.without_request > 0 {
            format!(
                "{name} is not measured: not every container of the driver Pods requests {name}; the template's driver, and \
                 its sidecars, have to"
            )
        } else if self.missing > 0 {
            format!("the metrics API has no figures of {name} of {} instance(s)", self.missing)
        } else {
            let since = if measure.start_up_counts { "" } else { " from after its start" };
            return (Finding::Early, format!("no instance has figures of {name}{since} yet"));
        };
        (Finding::Unmeasured, reason)
    }
}

/// More than a tenth above the target, on average.
fn is_above(sum: u64, instances: u64, target: u64) -> bool {
    10 * sum > 11 * instances * target
}

fn is_below(sum: u64, instances: u64, target: u64) -> bool {
    10 * sum < 9 * instances * target
}
