//! Finds out that the API server was set back to an earlier state: etcd was restored from a backup.
//!
//! Resource versions only ever grow, until then. Afterwards they begin again at those of the backup, and a watch that goes
//! on after the newest version that it knows is told nothing for as long as it takes to get there, without an error. So
//! whoever meets what a restore looks like (a watch that broke off, an older object, a Lease or writes that conflict
//! again and again) has one small request ask which version the API server is at. If that is older than what is known,
//! every watch begins anew, and a leader lists everything before it plans on.
//!
//! Not here: what is believed of a list (`stores::lists`).

use std::sync::Arc;
use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::outage::Pauses;
use super::stores::Stores;
use crate::api::SparkSessionPool;
use crate::telemetry::Causes;

/// Between two looks: whoever patches objects all the time makes writes conflict, too.
const PAUSE: Duration = Duration::from_secs(1);

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    doubts: Notify,
    set_backs: watch::Sender<u64>,
}

impl History {
    /// Something happened that a restore would explain.
    pub fn doubt(&self) {
        self.0.doubts.notify_one();
    }

    /// Changes each time when the API server was found to be set back.
    pub fn set_backs(&self) -> watch::Receiver<u64> {
        self.0.set_backs.subscribe()
    }

    pub(super) fn set_back(&self) {
        self.0.set_backs.send_modify(|times| *times = times.wrapping_add(1));
    }

    #[cfg(test)]
    pub(super) fn is_doubted(&self) -> bool {
        use futures::FutureExt;
        self.0.doubts.notified().now_or_never().is_some()
    }
}

/// Looks whenever there is a doubt. Never returns.
pub async fn follow(client: Client, namespace: String, stores: Arc<Stores>) -> anyhow::Result<()> {
    let pools: Api<SparkSessionPool> = Api::namespaced(client, &namespace);
    let mut pauses = Pauses::of(&stores.api_server);
    loop {
        stores.history.0.doubts.notified().await;
        // What is known before the question: its answer is not older, unless the API server was set back.
        let known = stores.newest_version();
        match pools.list_metadata(&ListParams::default().limit(1)).await {
            Ok(list) => {
                pauses.went_well();
                let version = list.metadata.resource_version.and_then(|version| version.parse::<u64>().ok());
                if let Some(version) = version.filter(|version| *version < known) {
                    tracing::warn!(
                        version,
                        known,
                        "the API server was set back to an earlier state, as by a restore of etcd: everything is read anew"
                    );
                    stores.set_back();
                }
                sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::debug!(error = %Causes(&error), "it is not known whether the API server was set back");
                stores.api_server.suspect();
                stores.history.doubt();
                pauses.pause().await;
            }
        }
    }
}
