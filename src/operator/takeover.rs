//! What a new leader learns before it plans, and one whose API server was set back.
//!
//! Its watches may be behind the last leader's writes, each by another time. A plan on that would assign a place twice, and
//! fail an instance whose Secret or Pod it has not heard of. So it lists everything once more, past the API server's own
//! cache: sessions before the instances that they are on.

use std::collections::BTreeSet;
use std::fmt::Debug;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::convert::{InstanceSecret, Watched};
use super::outage::Pauses;
use super::stores::{List, Stores};
use super::watches;
use crate::api::{SparkApplication, SparkInteractiveSession, SparkSessionPool};
use crate::model::connect_server::token_secret_name;
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
        self.list::<SparkApplication>(&everything.clone().labels(POOL_LABEL), stores).await?;
        self.list::<Pod>(&everything.clone().labels(&watches::drivers()), stores).await?;
        self.list::<InstanceSecret>(&everything.fields(&watches::tokens()), stores).await
    }

    /// Enters the pool, if it is there.
    pub async fn look_for_pool(&self, pool: &str, stores: &Stores) -> Result<(), kube::Error> {
        let which = ListParams::default().fields(&format!("metadata.name={pool}"));
        self.enter::<SparkSessionPool>(&which, stores).await.map(drop)
    }

    /// Enters the token of the instance, if there is a Secret with it. By a list: the operator may not get Secrets.
    pub async fn look_for_token(&self, instance: &str, stores: &Stores) -> Result<(), kube::Error> {
        let name = token_secret_name(instance);
        let which = ListParams::default().fields(&format!("{},metadata.name={name}", watches::tokens()));
        self.enter::<InstanceSecret>(&which, stores).await.map(drop)
    }

    /// What is not in the list is gone.
    async fn list<K>(&self, which: &ListParams, stores: &Stores) -> Result<(), kube::Error>
    where
        K: Watched + Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned,
    {
        stores.list_ends(self.enter::<K>(which, stores).await?);
        Ok(())
    }

    async fn enter<K>(&self, which: &ListParams, stores: &Stores) -> Result<List, kube::Error>
    where
        K: Watched + Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned,
    {
        let api: Api<DeserializeGuard<K>> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut list = stores.list_begins(K::KIND);
        for object in api.list(which).await? {
            watches::enter(object, stores, Some(&mut list));
        }
        Ok(list)
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
