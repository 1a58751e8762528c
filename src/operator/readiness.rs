//! Finds out when a Spark server answers. Kubernetes cannot tell: a driver Pod is Running seconds
//! before its server listens.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::task::{AbortHandle, JoinSet};

use super::stores::Stores;
use crate::model::Endpoint;
use crate::spark::probe;

/// Between two attempts: what a cold start can lose by it is half of this on average.
const PAUSE: Duration = Duration::from_millis(100);
/// Of one attempt.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks every server that has an address until it answers, then never again: that a server is gone
/// is told by its Pod.
pub struct Readiness {
    stores: Arc<Stores>,
}

impl Readiness {
    pub fn new(stores: Arc<Stores>) -> Self {
        Self { stores }
    }

    pub async fn run(self) -> anyhow::Result<()> {
        self.stores.until_synced().await;
        let known = self.stores.read(|inventory| inventory.servers_to_probe());
        let first = known.into_iter().map(async |(pod_uid, endpoint)| {
            if probe::answers(endpoint.protocol, endpoint.address, PATIENCE).await.is_ok() {
                self.stores.server_answers(&pod_uid);
            }
        });
        join_all(first).await;
        self.stores.first_probes_done();
        let mut attempts = JoinSet::new();
        let mut running: HashMap<String, AbortHandle> = HashMap::new();
        loop {
            let wanted: HashMap<String, Endpoint> =
                self.stores.read(|inventory| inventory.servers_to_probe()).into_iter().collect();
            running.retain(|pod_uid, attempt| {
                let keep = wanted.contains_key(pod_uid);
                if !keep {
                    attempt.abort();
                }
                keep
            });
            for (pod_uid, endpoint) in wanted {
                running.entry(pod_uid).or_insert_with_key(|pod_uid| {
                    attempts.spawn(until_it_answers(self.stores.clone(), pod_uid.clone(), endpoint))
                });
            }
            tokio::select! {
                () = self.stores.servers_changed.notified() => {}
                Some(ended) = attempts.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(%error, "a readiness probe failed");
                    }
                }
            }
        }
    }
}

async fn until_it_answers(stores: Arc<Stores>, pod_uid: String, endpoint: Endpoint) {
    tracing::info!(pod_uid, address = %endpoint.address, "driver Pod has an address, waiting for its server");
    let mut last = String::new();
    loop {
        match probe::answers(endpoint.protocol, endpoint.address, PATIENCE).await {
            Ok(()) => break,
            Err(error) => {
                let error = error.to_string();
                if error != last {
                    tracing::debug!(address = %endpoint.address, error, "server does not answer yet");
                    last = error;
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    tracing::info!(pod_uid, address = %endpoint.address, "server answers");
    stores.server_answers(&pod_uid);
}
