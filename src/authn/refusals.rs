//! What is told of logins that fail. Clients choose how often that happens: each reason is told once for each address,
//! and then how often it came, every ten seconds.
//!
//! Failures that `limits` counts are told one by one: they are few.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::{Instant, interval};

use super::error::AuthnError;
use super::limits::network;
use crate::telemetry::audit::{self, Event, Record};
use crate::telemetry::{REPEAT_AFTER, Repeats};

/// An address, as failures are counted, and a reason.
type Kind = (Option<IpAddr>, &'static str);

/// Share one per process, and let it [run](Self::run).
#[derive(Default)]
pub struct Refusals {
    lines: Repeats<Kind>,
    records: Repeats<Kind>,
}

impl Refusals {
    /// A line of the log.
    pub fn log(&self, host: &str, peer: Option<IpAddr>, error: &AuthnError) {
        let kind = (peer.map(network), error.reason());
        if self.lines.note(kind, Instant::now()).is_some() {
            tracing::info!(host, peer = peer.map(tracing::field::display), reason = kind.1, %error, "login refused");
        }
    }

    /// Whether an audit record is due, and how many were left out before it.
    pub(super) fn record(&self, address: Option<IpAddr>, reason: &'static str) -> Option<u64> {
        self.records.note((address.map(network), reason), Instant::now())
    }

    /// Tells how often it was, until the process ends.
    pub async fn run(self: Arc<Self>) -> anyhow::Result<()> {
        let mut ticks = interval(REPEAT_AFTER);
        loop {
            ticks.tick().await;
            self.tell_more(Instant::now());
        }
    }

    fn tell_more(&self, now: Instant) {
        for (kind, more) in self.lines.due(now) {
            let (network, reason) = kind.unwrap_or((None, "Any"));
            let network = network.map(tracing::field::display);
            tracing::info!(
                network,
                reason,
                "login refused, {more} more in the last {} s",
                REPEAT_AFTER.as_secs()
            );
        }
        for (kind, more) in self.records.due(now) {
            let (address, reason) = kind.unwrap_or((None, "Any"));
            let record = Record { address, reason: Some(reason), more, ..Record::default() };
            audit::record(Event::LoginRefused, record);
        }
    }
}

#[cfg(test)]
#[path = "refusals_tests.rs"]
mod tests;
