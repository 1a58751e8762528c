//! Which servers answer, as the probes have found out.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Inventory;
use crate::model::instance::{Reach, endpoint_of};
use crate::model::{Endpoint, Meta};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    pub pod_uid: String,
    pub address: SocketAddr,
    /// The node of its Pod.
    pub node: Option<String>,
}

impl Inventory {
    pub(super) fn reach(&self, pod: Option<&Meta>) -> Reach {
        match pod.map(|pod| &pod.uid) {
            Some(uid) if self.lost.contains(uid) => Reach::Lost,
            Some(uid) if self.answering.contains(uid) => Reach::Answers,
            _ => Reach::NotYet,
        }
    }

    /// Servers that the readiness probe has still to hear from: UID of the Pod and the server.
    pub fn servers_to_probe(&self) -> Vec<(String, Endpoint)> {
        self.unproven_pods()
            .filter_map(|pod| {
                let application = self.applications.get(&pod.instance)?;
                let pool = self.pools.get(&application.pool).filter(|pool| application.belongs_to(pool))?;
                Some((pod.meta.uid.clone(), endpoint_of(pool.protocol(), application, pod)?))
            })
            .collect()
    }

    /// Notes that the server in this Pod answers. Returns the pool if that is news.
    pub fn server_answers(&mut self, pod_uid: &str) -> Option<String> {
        self.note_server(pod_uid, |inventory| inventory.answering.insert(pod_uid.to_owned()))
    }

    /// On somebody else's word: the server of this instance answers, to whoever has its token.
    pub fn take_as_answering(&mut self, instance: &str) {
        let Some(pod_uid) = self.current_pod(instance).map(|pod| pod.meta.uid.clone()) else { return };
        self.answering.insert(pod_uid);
        self.trusted_tokens.insert(instance.to_owned());
        self.look_at_driver(instance);
    }

    /// Every server that answers, or did.
    pub fn servers_that_answered(&self) -> Vec<ServerAddress> {
        let answering = self.pods.values().filter(|pod| self.answering.contains(&pod.meta.uid));
        let there = answering.filter(|pod| !pod.meta.deleting);
        there
            .filter_map(|pod| {
                let application = self.applications.get(&pod.instance)?;
                let pool = self.pools.get(&application.pool).filter(|pool| application.belongs_to(pool))?;
                let address = endpoint_of(pool.protocol(), application, pod)?.address;
                Some(ServerAddress { pod_uid: pod.meta.uid.clone(), address, node: pod.node.clone() })
            })
            .collect()
    }

    pub fn is_lost(&self, pod_uid: &str) -> bool {
        self.lost.contains(pod_uid)
    }

    /// Notes that the server in this Pod can be reached. Returns the pool if that is news.
    pub fn server_found(&mut self, pod_uid: &str) -> Option<String> {
        self.note_server(pod_uid, |inventory| inventory.lost.remove(pod_uid))
    }

    /// Notes what a failed driver said last. Returns the pool if that is news.
    pub fn driver_said(&mut self, pod_uid: &str, words: String) -> Option<String> {
        let pool = self.pod_with_uid(pod_uid)?.pool.clone();
        let news = !words.is_empty() && self.last_words.insert(pod_uid.to_owned(), words).is_none();
        news.then_some(pool)
    }

    /// Notes that the server in this Pod cannot be reached any more. Returns the pool if that is news.
    pub fn server_lost(&mut self, pod_uid: &str) -> Option<String> {
        self.note_server(pod_uid, |inventory| inventory.lost.insert(pod_uid.to_owned()))
    }

    /// Returns the pool if `edit` says that it is news.
    fn note_server(&mut self, pod_uid: &str, edit: impl FnOnce(&mut Self) -> bool) -> Option<String> {
        let pod = Arc::clone(self.pod_with_uid(pod_uid)?);
        let news = edit(self);
        if news {
            self.look_at_driver(&pod.instance);
        }
        news.then(|| pod.pool.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixtures::{application, connect_pool, driver};
    use crate::model::{InstancePhase, Object};

    #[test]
    fn a_server_that_can_be_reached_no_more_makes_its_instance_a_failed_one() {
        let mut inventory = Inventory::default();
        inventory.put(Object::Pool(connect_pool("p")));
        inventory.put(Object::Application(application("p-0")));
        inventory.put(Object::Pod(driver("p-0").at_ip("10.0.0.1")));
        inventory.server_answers("uid-of-p-0-driver");
        assert_eq!(inventory.server_lost("uid-of-p-0-driver").as_deref(), Some("p"));
        assert_eq!(inventory.server_lost("uid-of-p-0-driver"), None);
        let instance = inventory.instance("p-0").unwrap();
        assert_eq!(instance.phase, InstancePhase::Failed);
        assert_eq!(
            instance.message.as_deref(),
            Some("its address 10.0.0.1:15002 takes no connections any more, though its Pod is said to run")
        );
        assert_eq!(inventory.servers_that_answered().len(), 1, "it is tried on");
        assert_eq!(inventory.server_found("uid-of-p-0-driver").as_deref(), Some("p"));
        assert_eq!(inventory.instance("p-0").unwrap().phase, InstancePhase::Ready);
        assert_eq!(inventory.server_found("uid-of-p-0-driver"), None);
    }
}
