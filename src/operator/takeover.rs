//! What a new leader learns before it plans.
//!
//! Its watches may be behind the last leader's writes, and a plan on that would assign a place twice.
//! So it lists everything once more, past the API server's own cache.

use std::collections::BTreeSet;
use std::fmt::Debug;

use kube::api::ListParams;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::convert::Watched;
use super::outage::Pauses;
use super::stores::Stores;
use crate::api::{SparkApplication, SparkInteractiveSession, SparkSessionPool};
use crate::model::{Inventory, Kind};
use crate::plan::POOL_LABEL;
use crate::telemetry::Causes;

pub struct Takeover {
    client: Client,
    namespace: String,
}

impl Takeover {
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self { client: client.clone(), namespace: namespace.to_owned() }
    }

    /// Enters what leaders write into the stores, as it is now. Tries until it succeeds.
    pub async fn learn(&self, stores: &Stores) {
        let mut pauses = Pauses::of(&stores.api_server);
        while let Err(error) = self.try_to_learn(stores).await {
            tracing::warn!(error = %Causes(&error), "a new leader cannot list what there is, trying again");
            stores.api_server.suspect();
            pauses.pause().await;
        }
    }

    async fn try_to_learn(&self, stores: &Stores) -> Result<(), kube::Error> {
        let everything = ListParams::default();
        self.list::<SparkSessionPool>(&everything, stores).await?;
        self.list::<SparkInteractiveSession>(&everything, stores).await?;
        self.list::<SparkApplication>(&everything.labels(POOL_LABEL), stores).await
    }

    async fn list<K>(&self, which: &ListParams, stores: &Stores) -> Result<(), kube::Error>
    where
        K: Watched + Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned,
    {
        let api: Api<DeserializeGuard<K>> = Api::namespaced(self.client.clone(), &self.namespace);
        for object in api.list(which).await? {
            // What cannot be read was told by the watch.
            if let Some(object) = object.0.ok().and_then(Watched::into_domain) {
                stores.written(object);
            }
        }
        Ok(())
    }

    /// Every pool about which there is something to plan: also those that are gone, while sessions
    /// still name them.
    pub fn pools(inventory: &Inventory) -> BTreeSet<String> {
        let sessions = inventory.names(Kind::Session);
        let named = sessions.iter().filter_map(|name| inventory.session(name));
        let named = named.map(|session| session.spec.pool.clone());
        inventory.pool_names().map(str::to_owned).chain(named).collect()
    }
}
