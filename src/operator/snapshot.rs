//! What there is in a namespace at one moment, for commands that look once and do not follow. It asks for no Secret.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::convert::Watched;
use crate::api::{InstanceState, SparkApplication, SparkInteractiveSession, SparkSessionPool};
use crate::model::{Inventory, Object, Policy, Pool};
use crate::plan::POOL_LABEL;

/// Pools, sessions, applications and driver Pods. Which servers answer is taken from the pools' statuses, where the
/// running operator has written it.
pub async fn snapshot(client: &Client, namespace: &str) -> Result<Inventory, kube::Error> {
    let everything = ListParams::default();
    let mut pools = Inventory::default();
    list::<SparkSessionPool>(client, namespace, &everything, &mut pools).await?;
    let mut inventory = Inventory::with_policy(policy(&pools));
    pools.pools().for_each(|pool| {
        inventory.put(Object::Pool(Pool::clone(pool)));
    });
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

/// How the operator was started, as far as pools tell of it: whether it has an interceptor for them.
fn policy(pools: &Inventory) -> Policy {
    let lacks = |pool: &Arc<Pool>| {
        let mut conditions = pool.status.conditions.iter();
        conditions.any(|it| it.type_ == "IdentityEnforced" && it.reason == "NoInterceptor")
    };
    let url = (!pools.pools().any(lacks)).then(|| "(the operator's)".to_owned());
    Policy { identity_jar_url: url, ..Policy::default() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixtures::connect_pool;
    use crate::plan::{Observations, plan};

    #[test]
    fn whether_the_operator_has_an_interceptor_is_what_its_pools_say() {
        let mut pools = Inventory::default();
        pools.put(Object::Pool(connect_pool("p")));
        assert!(policy(&pools).identity_jar_url.is_some());

        let view = pools.pool_view("p").unwrap();
        let told = plan(&view, &Observations::default(), jiff::Timestamp::UNIX_EPOCH).actions;
        let status = told.into_iter().find_map(|action| match action {
            crate::plan::Action::UpdatePoolStatus { status, .. } => Some(*status),
            _ => None,
        });
        let mut pool = connect_pool("p");
        pool.status = status.unwrap();
        pool.meta.resource_version += 1;
        pools.put(Object::Pool(pool));
        assert_eq!(policy(&pools).identity_jar_url, None);
    }
}
