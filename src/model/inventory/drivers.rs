//! Of which drivers there is something to find out or to wait for, kept up to date as objects come and go, so that nobody
//! has to look at all of them for the change of one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::Inventory;
use crate::model::{DriverPod, InstancePhase};

/// By names and UIDs alone: what they are is looked up.
#[derive(Debug, Default)]
pub(super) struct Drivers {
    /// Names of the Pods by UID.
    names: HashMap<String, String>,
    /// Names of the Pods whose server has not answered yet.
    unproven: BTreeSet<String>,
    /// Names of the instances that have failed.
    failed: BTreeSet<String>,
    /// By pool, names of the Pods whose SparkApplication is gone already.
    without_instance: HashMap<String, BTreeSet<String>>,
}

/// A driver that runs on for a moment, though its SparkApplication is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeavingDriver {
    pub instance: String,
    /// Then it is killed, or its node is lost; `None`: the garbage collector has not deleted it yet.
    pub killed_at: Option<Timestamp>,
}

impl LeavingDriver {
    pub fn may_run(&self, now: Timestamp) -> bool {
        self.killed_at.is_none_or(|at| now < at)
    }
}

impl Inventory {
    pub(super) fn pod_with_uid(&self, uid: &str) -> Option<&Arc<DriverPod>> {
        self.pods.get(self.drivers.names.get(uid)?)
    }

    pub(super) fn unproven_pods(&self) -> impl Iterator<Item = &Arc<DriverPod>> {
        self.drivers.unproven.iter().filter_map(|name| self.pods.get(name))
    }

    /// Name and UID of every driver Pod of a failed instance.
    pub fn failed_drivers(&self) -> Vec<(String, String)> {
        let instances = self.drivers.failed.iter().filter_map(|name| self.instance(name));
        instances.filter_map(|instance| instance.pod).collect()
    }

    pub(super) fn leaving_drivers(&self, pool: &str) -> Vec<LeavingDriver> {
        let pods = self.drivers_without_instance(pool).filter(|pod| pod.owned && !pod.ended);
        pods.map(|pod| LeavingDriver { instance: pod.instance.clone(), killed_at: pod.killed_at }).collect()
    }

    /// Driver Pods whose SparkApplication is gone, also those that have ended: each keeps its name until it is gone, too.
    pub(super) fn drivers_without_instance(&self, pool: &str) -> impl Iterator<Item = &Arc<DriverPod>> {
        let names = self.drivers.without_instance.get(pool).into_iter().flatten();
        names.filter_map(|name| self.pods.get(name))
    }

    /// Looks at the instance and its Pods anew: something of them has changed.
    pub(super) fn look_at_driver(&mut self, instance: &str) {
        let names = self.pods_by_instance.get(instance).into_iter().flatten();
        let pods: Vec<_> = names.filter_map(|name| self.pods.get(name)).cloned().collect();
        let is_known = self.applications.contains_key(instance);
        for pod in pods {
            let (name, uid) = (&pod.meta.name, &pod.meta.uid);
            let unproven = !pod.meta.deleting && !self.answering.contains(uid);
            self.drivers.names.insert(uid.clone(), name.clone());
            enter(&mut self.drivers.unproven, name, unproven);
            if is_known {
                self.drivers.has_instance(&pod);
            } else {
                self.drivers.without_instance.entry(pod.pool.clone()).or_default().insert(name.clone());
            }
        }
        let failed = self.instance(instance).is_some_and(|it| it.phase == InstancePhase::Failed);
        enter(&mut self.drivers.failed, instance, failed);
    }
}

impl Drivers {
    pub fn forget(&mut self, pod: &DriverPod) {
        self.names.remove(&pod.meta.uid);
        self.unproven.remove(&pod.meta.name);
        self.has_instance(pod);
    }

    fn has_instance(&mut self, pod: &DriverPod) {
        if let Some(names) = self.without_instance.get_mut(&pod.pool) {
            names.remove(&pod.meta.name);
            if names.is_empty() {
                self.without_instance.remove(&pod.pool);
            }
        }
    }
}

fn enter(names: &mut BTreeSet<String>, name: &str, belongs: bool) {
    if !belongs {
        names.remove(name);
    } else if !names.contains(name) {
        names.insert(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixtures::{application, at, connect_pool, driver};
    use crate::model::{Kind, Object};

    fn running() -> Inventory {
        let mut inventory = Inventory::default();
        inventory.put(Object::Pod(driver("p-0").at_ip("10.0.0.1")));
        inventory.put(Object::Application(application("p-0")));
        inventory.put(Object::Pool(connect_pool("p")));
        inventory
    }

    fn leaving(inventory: &Inventory) -> Vec<LeavingDriver> {
        inventory.pool_view("p").unwrap().leaving
    }

    #[test]
    fn a_driver_is_asked_until_it_answers_in_whatever_order_its_objects_come() {
        let mut inventory = running();
        assert_eq!(inventory.servers_to_probe().len(), 1);
        assert_eq!(inventory.server_answers("uid-of-p-0-driver").as_deref(), Some("p"));
        assert_eq!(inventory.servers_to_probe(), []);
        let other = driver("p-0").at_ip("10.0.0.2").with_uid("another");
        inventory.put(Object::Pod(other));
        assert_eq!(inventory.servers_to_probe().len(), 1, "a Pod of that name, and another one");
        assert_eq!(inventory.server_answers("uid-of-p-0-driver"), None);
    }

    #[test]
    fn a_driver_has_failed_until_it_is_gone() {
        let mut inventory = running();
        assert_eq!(inventory.failed_drivers(), []);
        inventory.put(Object::Application(application("p-0").reported("FAILED")));
        let told = [("p-0-driver".to_owned(), "uid-of-p-0-driver".to_owned())];
        assert_eq!(inventory.failed_drivers(), told);
        inventory.remove(Kind::Application, "p-0");
        assert_eq!(inventory.failed_drivers(), []);
    }

    #[test]
    fn one_that_had_failed_before_its_pool_was_known_is_found() {
        let mut inventory = Inventory::default();
        inventory.put(Object::Pod(driver("p-0")));
        inventory.put(Object::Application(application("p-0").reported("FAILED")));
        inventory.put(Object::Pool(connect_pool("p")));
        assert_eq!(inventory.failed_drivers().len(), 1);
    }

    #[test]
    fn a_driver_runs_on_after_its_application_until_it_is_killed() {
        let mut inventory = running();
        assert_eq!(leaving(&inventory), []);
        inventory.remove(Kind::Application, "p-0");
        let [left] = leaving(&inventory).try_into().unwrap();
        assert_eq!((left.instance.as_str(), left.may_run(at(1_000_000))), ("p-0", true));
        inventory.put(Object::Pod(driver("p-0").killed_at(30)));
        let [left] = leaving(&inventory).try_into().unwrap();
        assert_eq!((left.may_run(at(29)), left.may_run(at(30))), (true, false), "its node may be lost");
        inventory.remove(Kind::Pod, "p-0-driver");
        assert_eq!(leaving(&inventory), []);
    }

    #[test]
    fn who_belongs_to_nobody_or_has_ended_is_not_waited_for() {
        for pod in [DriverPod { owned: false, ..driver("p-0") }, DriverPod { ended: true, ..driver("p-0") }] {
            let mut inventory = running();
            inventory.put(Object::Pod(pod));
            inventory.remove(Kind::Application, "p-0");
            assert_eq!(leaving(&inventory), []);
        }
    }
}
