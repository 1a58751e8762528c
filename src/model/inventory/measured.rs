//! What is measured of the drivers, where pools are sized by that.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use super::Inventory;
use crate::api::MetricType;
use crate::model::{Pool, Usage, Utilization};

/// What the metrics API said last.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// By the Pod's UID.
    utilizations: HashMap<String, Utilization>,
    /// Why it says nothing, in words.
    problem: Option<String>,
}

impl Inventory {
    /// Names of the pools that are sized by what their drivers use, and have a driver of which there could be figures.
    pub fn pools_to_measure(&self) -> BTreeSet<String> {
        let running = self.pods.values().filter(|pod| pod.started_at.is_some() && !pod.ended);
        let pools = running.filter_map(|pod| self.pools.get(&pod.pool));
        pools.filter(|pool| is_measured(pool)).map(|pool| pool.meta.name.clone()).collect()
    }

    /// Enters what the metrics API has answered, by the name of the Pod: it stands for all that was known. After an
    /// attempt that failed, what was known stands until it is stale.
    pub fn enter_usage(&mut self, answer: Result<&HashMap<String, Usage>, String>, now: Timestamp) {
        match answer {
            Ok(usage) => {
                self.measured.utilizations = usage
                    .iter()
                    .filter_map(|(name, usage)| {
                        let pod = self.pods.get(name).filter(|pod| is_of(usage, pod.meta.created_at))?;
                        Some((pod.meta.uid.clone(), Utilization::of(usage, &pod.requests)?))
                    })
                    .collect();
                self.measured.problem = None;
            }
            Err(problem) => self.measured.problem = Some(problem),
        }
        self.measured.utilizations.retain(|_, utilization| !utilization.is_stale(now));
    }

    /// Forgets all figures: nobody goes on reading them.
    pub fn forget_usage(&mut self) {
        self.measured = Measured::default();
    }

    pub fn has_usage(&self) -> bool {
        self.measured.problem.is_some() || !self.measured.utilizations.is_empty()
    }

    /// Why nothing is measured, of a pool that is sized by it.
    pub fn metrics_problem(&self, pool: &Pool) -> Option<&str> {
        self.measured.problem.as_deref().filter(|_| is_measured(pool))
    }

    pub(super) fn utilization(&self, pod_uid: &str) -> Option<Utilization> {
        self.measured.utilizations.get(pod_uid).copied()
    }

    pub(super) fn forget_usage_of(&mut self, pod_uid: &str) {
        self.measured.utilizations.remove(pod_uid);
    }
}

fn is_measured(pool: &Pool) -> bool {
    !matches!(pool.spec.scaling.metrics.metric_type, MetricType::ActiveSessions)
}

/// Not of an earlier Pod with the same name, whose figures may be told for a while.
fn is_of(usage: &Usage, pod_created_at: Timestamp) -> bool {
    usage.at >= pod_created_at
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::model::fixtures::{application, at, connect_pool, driver};
    use crate::model::{Kind, Object};

    /// Half of the core that the fixture's driver requests, and a quarter of its memory.
    fn usage(seconds: i64) -> HashMap<String, Usage> {
        let usage = Usage {
            at: at(seconds),
            window: SignedDuration::from_secs(15),
            cpu_millis: 500,
            memory_bytes: 256 << 20,
            containers: 1,
        };
        HashMap::from([("p-0-driver".to_owned(), usage)])
    }

    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        inventory.put(Object::Pool(connect_pool("p").measured_by(MetricType::Cpu)));
        inventory.put(Object::Application(application("p-0")));
        inventory.put(Object::Pod(driver("p-0").at_ip("10.0.0.1").running_since(0)));
        inventory
    }

    fn cpu(inventory: &Inventory) -> Option<u32> {
        inventory.instance("p-0").unwrap().utilization.and_then(|utilization| utilization.cpu)
    }

    #[test]
    fn a_driver_is_as_busy_as_the_metrics_api_says() {
        let mut inventory = inventory();
        inventory.enter_usage(Ok(&usage(60)), at(70));
        let found = inventory.instance("p-0").unwrap().utilization.unwrap();
        assert_eq!((found.cpu, found.memory), (Some(500), Some(250)));
        inventory.enter_usage(Ok(&HashMap::new()), at(85));
        assert_eq!(cpu(&inventory), None, "it is not among them any more");
    }

    #[test]
    fn figures_outlive_a_failed_attempt_until_they_are_stale() {
        let mut inventory = inventory();
        inventory.enter_usage(Ok(&usage(60)), at(70));
        inventory.enter_usage(Err("down".to_owned()), at(180));
        let view = inventory.pool_view("p").unwrap();
        assert_eq!((cpu(&inventory), view.metrics_problem.as_deref()), (Some(500), Some("down")));
        inventory.enter_usage(Err("down".to_owned()), at(181));
        assert_eq!(cpu(&inventory), None);
        inventory.enter_usage(Ok(&usage(180)), at(190));
        assert_eq!((cpu(&inventory), inventory.pool_view("p").unwrap().metrics_problem), (Some(500), None));
    }

    #[test]
    fn figures_of_an_earlier_pod_of_the_same_name_do_not_count() {
        let mut inventory = inventory();
        let another = driver("p-0").at_ip("10.0.0.2").with_uid("another").created(50).running_since(55);
        inventory.enter_usage(Ok(&usage(40)), at(45));
        inventory.put(Object::Pod(another));
        assert_eq!(cpu(&inventory), None);
        inventory.enter_usage(Ok(&usage(45)), at(60));
        assert_eq!(cpu(&inventory), None);
        inventory.enter_usage(Ok(&usage(75)), at(80));
        assert_eq!(cpu(&inventory), Some(500));
    }

    #[test]
    fn only_pools_that_are_sized_by_it_hear_that_nothing_is_measured() {
        let mut inventory = inventory();
        inventory.put(Object::Pool(connect_pool("q").with_host("q.example.com")));
        inventory.enter_usage(Err("down".to_owned()), at(0));
        assert_eq!(inventory.pool_view("q").unwrap().metrics_problem, None);
        assert_eq!(inventory.pools_to_measure(), BTreeSet::from(["p".to_owned()]));
        inventory.forget_usage();
        assert_eq!(inventory.pool_view("p").unwrap().metrics_problem, None);
    }

    #[test]
    fn there_is_nothing_to_measure_without_a_driver_that_runs() {
        let mut inventory = inventory();
        assert!(!inventory.pools_to_measure().is_empty());
        inventory.remove(Kind::Pod, "p-0-driver");
        assert!(inventory.pools_to_measure().is_empty());
        inventory.put(Object::Pod(driver("p-0")));
        assert!(inventory.pools_to_measure().is_empty(), "its container does not run yet");
    }
}
