//! Keeps what Envoy has to know as the objects come and go: with thousands of servers, looking at all of them for each
//! change would take longer than telling Envoy.

use std::collections::BTreeSet;

use super::Inventory;
use crate::model::instance::{cluster_name, endpoint_of};
use crate::model::{DriverPod, Endpoint, Protocol, VirtualHost};

impl Inventory {
    /// A pool came, changed or went, and with it what these hosts lead to and what protocol its servers speak.
    pub(super) fn route_pool(&mut self, pool: &str, hosts: impl IntoIterator<Item = String>) {
        for host in hosts {
            self.route_certificate(&host);
            match self.virtual_host(&host) {
                Some(virtual_host) => self.routing.hosts.insert(host, virtual_host),
                None => self.routing.hosts.remove(&host),
            };
        }
        for instance in self.applications_by_pool.get(pool).cloned().into_iter().flatten() {
            self.route_instance(&instance);
        }
    }

    fn virtual_host(&self, host: &str) -> Option<VirtualHost> {
        let claims = self.hosts.get(host)?;
        let pool = |protocol| claims.get(&protocol).and_then(BTreeSet::first).map(|(_, name)| name.clone());
        Some(VirtualHost { connect: pool(Protocol::Connect), thrift: pool(Protocol::Thrift) })
    }

    /// An application came, changed or went.
    pub(super) fn route_instance(&mut self, instance: &str) {
        let names = self.pods_by_instance.get(instance).into_iter().flatten();
        let pods: Vec<_> = names.filter_map(|name| self.pods.get(name).cloned()).collect();
        for pod in pods {
            self.route_pod(&pod);
        }
    }

    pub(super) fn route_pod(&mut self, pod: &DriverPod) {
        match self.endpoint(pod) {
            Some(endpoint) => {
                self.routing.endpoints.insert(cluster_name(&pod.instance, &pod.meta.uid), endpoint);
            }
            None => self.forget_route(pod),
        }
    }

    fn endpoint(&self, pod: &DriverPod) -> Option<Endpoint> {
        let application = self.applications.get(&pod.instance)?;
        let pool = self.pools.get(&application.pool).filter(|pool| application.belongs_to(pool))?;
        endpoint_of(pool.protocol(), application, pod)
    }

    pub(super) fn forget_route(&mut self, pod: &DriverPod) {
        self.routing.endpoints.remove(&cluster_name(&pod.instance, &pod.meta.uid));
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
