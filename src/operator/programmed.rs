//! The pools' condition `Programmed`: whether the Envoys at this replica take what the pools became.
//!
//! Every replica writes it, for its own Envoys, and only for them: the leader may have none. True is
//! written, and a complaint taken back, only when an Envoy has given its answer to all there is: one that
//! has just connected, after a restart of this replica or from another one, refuses again what it refused
//! there, but not at once. Nor is it written for a pool whose host was not published to the Envoys yet: who has
//! waited for it may call the host. It says nothing of whether the pool is ready; the planner's conditions do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tokio::sync::watch;

use super::apply::{Applier, ApplyError};
use super::stores::Stores;
use crate::model::{Inventory, Pool, Routing};
use crate::plan::{About, Action, Event, Finding, merge_conditions};
use crate::telemetry::Causes;
use crate::xds::{Connected, Kind, Publisher, Rejected};

pub const PROGRAMMED: &str = "Programmed";

/// A complaint of an Envoy that is connected to another replica, or nowhere any more, is taken back
/// after this time, and not sooner after this replica's start: its Envoys have to find back to it. If the
/// complaint still stands, the replica at which that Envoy is writes it again.
const COMPLAINT_STANDS: SignedDuration = SignedDuration::from_mins(5);

/// What takes time is looked at this often; what an Envoy answers, at once.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Keeps the conditions true, for ever. `published` is what `publisher` was last given.
pub async fn follow(
    stores: Arc<Stores>,
    publisher: Publisher,
    published: watch::Receiver<Routing>,
    applier: Arc<Applier>,
) -> anyhow::Result<()> {
    stores.until_synced().await;
    let (mut answers, began) = (publisher.answers(), Timestamp::now());
    loop {
        answers.mark_unchanged();
        for action in due(&stores, &publisher, &published, began, Timestamp::now()) {
            match applier.apply(action).await {
                // The object comes by the watch, and is looked at again.
                Ok(()) | Err(ApplyError::Outdated(_)) => {}
                Err(error) => {
                    tracing::warn!(error = %Causes(&error), "the condition Programmed of a pool was not written")
                }
            }
        }
        // An error means that nobody can answer anything any more: the time goes on all the same.
        let _ = tokio::time::timeout(LOOK_EVERY, answers.changed()).await;
    }
}

fn due(
    stores: &Stores,
    publisher: &Publisher,
    published: &watch::Receiver<Routing>,
    began: Timestamp,
    now: Timestamp,
) -> Vec<Action> {
    // In this order, an Envoy that is settled has all that is published here, and what it refused before it was
    // settled is among what it refuses.
    let published = published.borrow().clone();
    let here = Here { envoys: publisher.connected(), began };
    let rejected = publisher.rejected();
    stores.read(|inventory| {
        let refused = refused_by_pool(inventory, rejected);
        let nothing = Vec::new();
        let routing = inventory.routing();
        let pools = inventory.pools().filter(|pool| !pool.meta.deleting);
        pools
            .filter(|pool| leads_to(&published, pool) == leads_to(&routing, pool))
            .filter_map(|pool| {
                let refused = refused.get(pool.name()).unwrap_or(&nothing);
                Some(actions(pool, finding(pool, refused, &here, now)?, now))
            })
            .flatten()
            .collect()
    })
}

/// Whether clients that call the pool's host come to the pool.
fn leads_to(routing: &Routing, pool: &Pool) -> bool {
    let host = routing.hosts.get(&pool.spec.host);
    host.and_then(|host| host.pool(pool.protocol())) == Some(pool.name())
}

fn actions(pool: &Pool, finding: Finding, now: Timestamp) -> Vec<Action> {
    let (name, uid) = (pool.meta.name.clone(), pool.meta.uid.clone());
    let event = Event {
        about: About::Pool { name: name.clone(), uid: uid.clone() },
        warning: true,
        reason: finding.reason,
        note: finding.message.clone(),
    };
    let told = (!finding.status).then_some(Action::Event(event));
    let merged = merge_conditions(&pool.status.conditions, &[finding], pool.meta.generation, now);
    let condition = merged.into_iter().find(|condition| condition.type_ == PROGRAMMED);
    let update = condition.map(|condition| Action::UpdatePoolCondition { pool: name, uid, condition });
    update.into_iter().chain(told).collect()
}

/// What this replica's Envoys refuse, by pool. A listener and a route configuration serve every pool.
pub fn refused_by_pool(inventory: &Inventory, rejected: Vec<Rejected>) -> BTreeMap<String, Vec<Rejected>> {
    let mut by_pool: BTreeMap<String, Vec<Rejected>> = BTreeMap::new();
    for rejection in rejected {
        for pool in concerned(inventory, &rejection) {
            by_pool.entry(pool).or_default().push(rejection.clone());
        }
    }
    by_pool
}

fn concerned(inventory: &Inventory, rejected: &Rejected) -> Vec<String> {
    let name = &rejected.resource;
    match rejected.kind {
        Kind::Cluster => inventory.pool_of_cluster(name).map(str::to_owned).into_iter().collect(),
        Kind::Secret => {
            let uses = |pool: &&Arc<Pool>| pool.spec.tls.as_ref().is_some_and(|tls| tls.secret_name == *name);
            inventory.pools().filter(uses).map(|pool| pool.name().to_owned()).collect()
        }
        Kind::Listener | Kind::Route => inventory.pool_names().map(str::to_owned).collect(),
    }
}

/// This replica.
pub struct Here {
    pub envoys: Vec<Connected>,
    /// When its process began.
    pub began: Timestamp,
}

/// What the pool's condition has to say, where it does not say so yet.
pub fn finding(pool: &Pool, refused: &[Rejected], here: &Here, now: Timestamp) -> Option<Finding> {
    let before = pool.status.conditions.iter().find(|condition| condition.type_ == PROGRAMMED);
    let finding = match refused.split_first() {
        Some((first, others)) => {
            let more = match others.len() {
                0 => String::new(),
                n => format!(" ({n} more are refused.)"),
            };
            Finding {
                type_: PROGRAMMED,
                status: false,
                reason: "RefusedByEnvoy",
                message: format!(
                    "Envoy {} refuses {} {}: {}. What it had before stays in use.{more}",
                    first.node,
                    first.kind,
                    first.resource,
                    first.why.message.trim_end_matches('.')
                ),
            }
        }
        None if !may_say_true(before, here, now) => return None,
        None => Finding {
            type_: PROGRAMMED,
            status: true,
            reason: "Programmed",
            message: "Envoy has taken everything that belongs to the pool.".to_owned(),
        },
    };
    let says_so = before.is_some_and(|before| {
        (before.status == "True") == finding.status && before.message == finding.message
    });
    (!says_so).then_some(finding)
}

/// Whether it is for this replica to say that nothing is refused, or nothing any more.
fn may_say_true(before: Option<&Condition>, here: &Here, now: Timestamp) -> bool {
    let Some(complaint) = before.filter(|condition| condition.status == "False") else {
        return here.envoys.iter().any(|envoy| envoy.settled);
    };
    let complains =
        |envoy: &&Connected| complaint.message.starts_with(&format!("Envoy {} refuses ", envoy.node));
    if let Some(envoy) = here.envoys.iter().find(complains) {
        return envoy.settled;
    }
    let since = complaint.last_transition_time.0.max(here.began);
    let until = since.checked_add(COMPLAINT_STANDS).unwrap_or(Timestamp::MAX);
    until <= now && here.envoys.iter().any(|envoy| envoy.settled)
}

#[cfg(test)]
#[path = "programmed_tests.rs"]
mod tests;
