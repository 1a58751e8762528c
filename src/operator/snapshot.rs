//! What there is in a namespace at one moment, for commands that look once and do not follow. It asks for no Secret.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::convert::Watched;
use crate::api::{InstanceState, SparkApplication, SparkInteractiveSession, SparkSessionPool};
use crate::model::Inventory;
use crate::plan::POOL_LABEL;

/// Pools, sessions, applications and driver Pods. Which servers answer is taken from the pools' statuses, where the
/// running operator has written it.
pub async fn snapshot(client: &Client, namespace: &str) -> Result<Inventory, kube::Error> {
    let everything = ListParams::default();
    let mut inventory = Inventory::default();
    list::<SparkSessionPool>(client, namespace, &everything, &mut inventory).await?;
    list::<SparkInteractiveSession>(client, namespace, &everything, &mut inventory).await?;
    list::<SparkApplication>(client, namespace, &everything.clone().labels(POOL_LABEL), &mut inventory)
        .await?;
    let drivers = everything.labels(&format!("{POOL_LABEL},spark-role=driver"));
    list::<Pod>(client, namespace, &drivers, &mut inventory).await?;
    let answers = |state| matches!(state, InstanceState::Running | InstanceState::Draining);
    let answering: Vec<String> = inventory
        .pools()
        .flat_map(|pool| &pool.status.instances)
        .filter(|instance| answers(instance.state))
        .map(|instance| instance.name.clone())
        .collect();
    for instance in answering {
        inventory.take_as_answering(&instance);
    }
    Ok(inventory)
}

async fn list<K>(
    client: &Client,
    namespace: &str,
    which: &ListParams,
    inventory: &mut Inventory,
) -> Result<(), kube::Error>
where
    K: Watched + Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned,
{
    let api: Api<DeserializeGuard<K>> = Api::namespaced(client.clone(), namespace);
    for object in api.list(which).await? {
        if let Some(object) = object.0.ok().and_then(Watched::into_domain) {
            inventory.put(object);
        }
    }
    Ok(())
}
