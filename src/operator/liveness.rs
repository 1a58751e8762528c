//! Finds out when a server that answered can be reached no more, though its Pod is still said to run: a node that lost
//! its network, an address that is gone, a server that stopped listening in a process that lives on.
//!
//! Only connections are tried. A JVM that collects garbage for a minute accepts them all the same, by its kernel, and a
//! server with running queries must not be called lost for being slow. A driver that ends is told by its Pod, sooner.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::leadership::Leadership;
use super::stores::Stores;

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(5);
/// Of one connection.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rounds in a row in which a server could not be reached, after which it is lost: 15 to 22 s.
const MISSES: u32 = 4;
/// The same where none of one or two servers can be reached: that may be this replica's own network.
const MISSES_OF_ALL: u32 = 12;
/// Connections that are tried at the same time.
const ATTEMPTS: usize = 64;

/// Only the replica that plans concludes anything: another one's trouble with its network is its own.
pub struct Liveness {
    stores: Arc<Stores>,
    leadership: Leadership,
}

impl Liveness {
    pub fn new(stores: Arc<Stores>, leadership: Leadership) -> Self {
        Self { stores, leadership }
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
            let attempts = servers.into_iter().map(|(pod_uid, address)| attempt(pod_uid, address));
            let round: Vec<_> = futures::stream::iter(attempts).buffer_unordered(ATTEMPTS).collect().await;
            for (pod_uid, _, _) in round.iter().filter(|(_, _, reached)| *reached) {
                self.stores.server_found(pod_uid);
            }
            if self.leadership.term().is_none() {
                continue;
            }
            for (pod_uid, address) in misses.after(round) {
                tracing::warn!(pod_uid, %address, "the server accepts no connections any more, its instance is lost");
                self.stores.server_lost(&pod_uid);
            }
        }
    }
}

async fn attempt(pod_uid: String, address: SocketAddr) -> (String, SocketAddr, bool) {
    let reached = matches!(timeout(PATIENCE, TcpStream::connect(address)).await, Ok(Ok(_)));
    (pod_uid, address, reached)
}

/// By the Pod's UID.
#[derive(Default)]
struct Misses(HashMap<String, u32>);

impl Misses {
    /// Those that are lost by now. Where most servers cannot be reached it is this replica that has lost its network:
    /// then nothing is concluded.
    fn after(&mut self, round: Vec<(String, SocketAddr, bool)>) -> Vec<(String, SocketAddr)> {
        let missed = round.iter().filter(|(_, _, reached)| !reached).count();
        let alone = round.len() > 2 && 2 * missed > round.len();
        let enough = if missed == round.len() { MISSES_OF_ALL } else { MISSES };
        let before = std::mem::take(&mut self.0);
        let mut lost = Vec::new();
        for (pod_uid, address, reached) in round {
            let misses = before.get(&pod_uid).copied().unwrap_or(0) + u32::from(!alone);
            if reached {
                continue;
            }
            if misses >= enough && !alone {
                lost.push((pod_uid, address));
            } else {
                self.0.insert(pod_uid, misses);
            }
        }
        lost
    }
}

#[cfg(test)]
#[path = "liveness_tests.rs"]
mod tests;
