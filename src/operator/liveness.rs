//! Finds out when a server that answered can be reached no more, though its Pod is still said to run: a node that lost
//! its network, an address that is gone, a server that stopped listening in a process that lives on.
//!
//! Only connections are tried. A JVM that collects garbage for a minute accepts them all the same, by its kernel, and a
//! server with running queries must not be called lost for being slow. A driver that ends is told by its Pod, sooner.
//!
//! Whose fault a failed connection is depends on what else is reached. As long as drivers on as many other nodes answer, the
//! fault is with the server or its node. Where most nodes are out of reach, it may be this replica's own network: that takes
//! longer to believe, and is not believed while the API server does not answer either.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Client;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::leadership::Leadership;
use super::outage;
use super::stores::Stores;
use crate::model::ServerAddress;

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(5);
/// Of one connection.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rounds in a row in which a server could not be reached, after which it is lost: 15 to 22 s.
const MISSES: u32 = 4;
/// The same where most nodes are out of reach: 55 to 84 s.
const MISSES_IN_DOUBT: u32 = 12;
/// Connections that are tried at the same time.
const ATTEMPTS: usize = 64;

/// Only the replica that plans concludes anything: another one's trouble with its network is its own.
pub struct Liveness {
    client: Client,
    stores: Arc<Stores>,
    leadership: Leadership,
}

impl Liveness {
    pub fn new(client: &Client, stores: Arc<Stores>, leadership: Leadership) -> Self {
        Self { client: client.clone(), stores, leadership }
    }

    pub async fn run(self) -> anyhow::Result<()> {
        self.stores.until_probed().await;
        let mut rounds = interval(PAUSE);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut misses = Misses::default();
        loop {
            rounds.tick().await;
            if self.leadership.term().is_none() {
                misses = Misses::default();
            }
            let servers = self.stores.read(|inventory| inventory.servers_that_answered());
            let attempts = servers.into_iter().map(attempt);
            let round: Vec<_> = futures::stream::iter(attempts).buffer_unordered(ATTEMPTS).collect().await;
            for attempt in round.iter().filter(|attempt| attempt.reached) {
                self.stores.server_found(&attempt.server.pod_uid);
            }
            if self.leadership.term().is_none() {
                continue;
            }
            let Judgement { lost, in_doubt } = misses.after(round);
            if in_doubt && !lost.is_empty() && !outage::is_there(&self.client).await {
                tracing::warn!(
                    servers = lost.len(),
                    "neither most servers nor the API server can be reached: \
                    nothing is concluded about the servers"
                );
                misses = Misses::default();
                continue;
            }
            for ServerAddress { pod_uid, address, node } in lost {
                tracing::warn!(pod_uid, %address, node, "the server accepts no connections any more, its instance is lost");
                self.stores.server_lost(&pod_uid);
            }
        }
    }
}

struct Attempt {
    server: ServerAddress,
    reached: bool,
}

async fn attempt(server: ServerAddress) -> Attempt {
    let reached = matches!(timeout(PATIENCE, TcpStream::connect(server.address)).await, Ok(Ok(_)));
    Attempt { server, reached }
}

/// What a round has come to.
#[derive(Debug, Default)]
struct Judgement {
    lost: Vec<ServerAddress>,
    /// Most nodes were out of reach.
    in_doubt: bool,
}

/// By the Pod's UID.
#[derive(Default)]
struct Misses(HashMap<String, u32>);

impl Misses {
    fn after(&mut self, round: Vec<Attempt>) -> Judgement {
        let in_doubt = most_nodes_are_out_of_reach(&round);
        let enough = if in_doubt { MISSES_IN_DOUBT } else { MISSES };
        let before = std::mem::take(&mut self.0);
        let mut lost = Vec::new();
        for Attempt { server, .. } in round.into_iter().filter(|attempt| !attempt.reached) {
            let misses = before.get(&server.pod_uid).copied().unwrap_or(0).saturating_add(1);
            if misses >= enough {
                lost.push(server);
            } else {
                self.0.insert(server.pod_uid, misses);
            }
        }
        Judgement { lost, in_doubt }
    }
}

/// A node is within reach while any server on it is. A server whose node is not known counts as one of its own.
fn most_nodes_are_out_of_reach(round: &[Attempt]) -> bool {
    let mut nodes: BTreeMap<Result<&str, &str>, bool> = BTreeMap::new();
    for Attempt { server, reached } in round {
        let node = server.node.as_deref().ok_or(server.pod_uid.as_str());
        *nodes.entry(node).or_default() |= *reached;
    }
    let within = nodes.values().filter(|reached| **reached).count();
    nodes.len() - within > within
}

#[cfg(test)]
#[path = "liveness_tests.rs"]
mod tests;
