//! The watches: Kubernetes events into the stores. They run on every replica.

use std::fmt::Debug;
use std::sync::Arc;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::core::DeserializeGuard;
use kube::runtime::watcher as watch;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::convert::{InstanceSecret, TLS_SECRET_TYPE, Watched};
use super::history;
use super::outage::Pauses;
use super::stores::{List, Stores};
use crate::api::{SparkApplication, SparkInteractiveSession, SparkSessionPool};
use crate::model::Kind;
use crate::model::connect_server::TOKEN_SECRET_TYPE;
use crate::plan::POOL_LABEL;
use crate::telemetry::Causes;

/// The selector of driver Pods.
pub fn drivers() -> String {
    format!("{POOL_LABEL},spark-role=driver")
}

/// The selector of the Secrets with instances' tokens.
pub fn tokens() -> String {
    format!("type={TOKEN_SECRET_TYPE}")
}

/// Starts the watches of a namespace. Of Secrets those with instances' tokens are read, and certificates where any are
/// served.
pub fn spawn(
    client: &Client,
    namespace: &str,
    stores: &Arc<Stores>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) {
    let (asking, told) = (client.clone(), stores.clone());
    tasks.spawn(async move {
        // What could not be written meanwhile is written now.
        told.api_server.follow(&asking, || told.queue.retry_now()).await;
        Ok(())
    });
    tasks.spawn(history::follow(client.clone(), namespace.to_owned(), stores.clone()));
    let everything = watcher::Config::default();
    let of_pools = watcher::Config::default().labels(POOL_LABEL);
    let drivers = watcher::Config::default().labels(&drivers());
    tasks.spawn(follow::<SparkSessionPool>(
        client.clone(),
        namespace.to_owned(),
        everything.clone(),
        stores.clone(),
    ));
    tasks.spawn(follow::<SparkInteractiveSession>(
        client.clone(),
        namespace.to_owned(),
        everything,
        stores.clone(),
    ));
    tasks.spawn(follow::<SparkApplication>(client.clone(), namespace.to_owned(), of_pools, stores.clone()));
    tasks.spawn(follow::<Pod>(client.clone(), namespace.to_owned(), drivers, stores.clone()));
    let tokens = watcher::Config::default().fields(&tokens());
    tasks.spawn(follow::<InstanceSecret>(client.clone(), namespace.to_owned(), tokens, stores.clone()));
    if stores.read(|inventory| inventory.needs_certificates()) {
        let certificates = watcher::Config::default().fields(&format!("type={TLS_SECRET_TYPE}"));
        tasks.spawn(follow::<Secret>(client.clone(), namespace.to_owned(), certificates, stores.clone()));
    }
}

async fn follow<K>(
    client: Client,
    namespace: String,
    config: watcher::Config,
    stores: Arc<Stores>,
) -> anyhow::Result<()>
where
    K: Watched + Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::namespaced(client, &namespace);
    let mut set_backs = stores.history.set_backs();
    let mut events = std::pin::pin!(watch(api.clone(), config.clone()));
    let mut pauses = Pauses::of(&stores.api_server);
    let mut list = None;
    let mut synced = false;
    loop {
        let event = tokio::select! {
            event = events.try_next() => event,
            // The sender lives in `stores`.
            Ok(()) = set_backs.changed() => {
                events.set(watch(api.clone(), config.clone()));
                continue;
            }
        };
        // It comes before the list is asked for.
        if event.as_ref().is_ok_and(|event| !matches!(event, Some(Event::Init))) {
            pauses.went_well();
        }
        match event {
            Ok(Some(Event::Init)) => list = Some(stores.list_begins(K::KIND)),
            Ok(Some(Event::InitApply(object))) => enter(object, &stores, list.as_mut()),
            Ok(Some(Event::InitDone)) => {
                if let Some(list) = list.take() {
                    stores.list_ends(list);
                }
                if !std::mem::replace(&mut synced, true) {
                    tracing::debug!(kind = %K::kind(&()), "watch has synced");
                    stores.watch_synced();
                }
            }
            Ok(Some(Event::Apply(object))) => enter(object, &stores, None),
            Ok(Some(Event::Delete(object))) => {
                let meta = object.meta();
                let version = meta.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0);
                if let Some(name) = &meta.name {
                    stores.gone(K::KIND, name, version);
                }
            }
            Ok(None) => anyhow::bail!("the watch of {} ended", K::kind(&())),
            // What is known stays valid in the meantime.
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), error = %Causes(&error), "watch is interrupted, trying again");
                stores.api_server.suspect();
                stores.history.doubt();
                pauses.pause().await;
            }
        }
    }
}

/// Enters an object as one of the list, where it comes with one. An object that does not fit its type is skipped, not fatal:
/// one bad object must not stop the watch of all others.
pub(super) fn enter<K>(object: DeserializeGuard<K>, stores: &Stores, mut list: Option<&mut List>)
where
    K: Watched + Resource<DynamicType = ()>,
{
    let name = object.meta().name.clone();
    if let (Some(list), Some(name)) = (&mut list, &name) {
        list.has(name);
    }
    match object.0 {
        Ok(object) => match (object.into_domain(), list) {
            (Some(object), Some(list)) => stores.listed(list, object),
            (Some(object), None) => stores.shown(object),
            (None, _) => {}
        },
        Err(error) => {
            let left = if K::KIND == Kind::Pool {
                "object cannot be read: its sessions are left as they are until it can"
            } else {
                "object cannot be read, skipped"
            };
            tracing::warn!(kind = %K::kind(&()), ?name, error = %error.error, "{left}");
            if let Some(name) = &name {
                stores.unreadable(K::KIND, name, &error.error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::Object;
    use crate::model::fixtures::session;

    fn shown(stores: &Stores, spec: Value) {
        let pool = json!({
            "apiVersion": SparkSessionPool::api_version(&()), "kind": "SparkSessionPool", "spec": spec,
            "metadata": { "name": "p", "uid": "1", "resourceVersion": "1" },
        });
        enter::<SparkSessionPool>(serde_json::from_value(pool).unwrap(), stores, None);
    }

    fn is_unreadable(stores: &Stores) -> bool {
        stores.read(|inventory| inventory.unreadable_pool("p").is_some())
    }

    fn good() -> Value {
        json!({ "type": "connect", "host": "h.example.com", "sparkApplicationTemplate": { "spec": {} } })
    }

    #[tokio::test]
    async fn a_pool_that_cannot_be_read_is_there_until_it_is_deleted() {
        let stores = Stores::new();
        stores.shown(Object::Session(session("s").on("p-0")));
        assert!(!is_unreadable(&stores));
        shown(&stores, json!({ "type": "from another time" }));
        assert!(is_unreadable(&stores));
        assert!(stores.read(|inventory| inventory.names(Kind::Pool)).contains("p"), "missed, if it goes");
        shown(&stores, good());
        assert!(!is_unreadable(&stores));
        shown(&stores, json!({ "type": "from another time" }));
        assert!(!is_unreadable(&stores), "what was read last stands");
        stores.gone(Kind::Pool, "p", 0);
        assert!(!is_unreadable(&stores));
        shown(&stores, json!({ "type": "from another time" }));
        stores.gone(Kind::Pool, "p", 0);
        assert!(!is_unreadable(&stores));
    }
}
