//! The pools' condition `Programmed`: whether the Envoys at this replica take what the pools became.
//!
//! Every replica writes it, for its own Envoys, and only for them: the leader may have none. True is
//! written, and a complaint taken back, only when an Envoy has given its answer to all that there was when
//! the pool's host was published: one that has just connected, after a restart of this replica or from
//! another one, refuses again what it refused there, but not at once. Who has waited for it may call the
//! host. It says nothing of whether the pool is ready; the planner's conditions do.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tokio::sync::watch;

use super::apply::Applier;
use super::apply_error::ApplyError;
use super::stores::Stores;
use crate::model::{Inventory, Pool, Routing};
use crate::plan::{About, Action, Event, Finding, merge_conditions, reasons};
use crate::telemetry::Causes;
use crate::xds::{Connected, Editions, Kind, Publisher, Rejected};

const PROGRAMMED: &str = "Programmed";
const REFUSED: &str = "RefusedByEnvoy";

/// A complaint of an Envoy that is connected to another replica, or nowhere any more, is taken back
/// after this time, and not sooner after this replica's start: its Envoys have to find back to it. If the
/// complaint still stands, the replica at which that Envoy is writes it again.
const COMPLAINT_STANDS: SignedDuration = SignedDuration::from_mins(5);

/// What takes time is looked at this often; what an Envoy answers, and what is published to it, at once.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// And after this time whether somebody else's write was in the way still.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Answers of many Envoys to many snapshots are looked at together.
const TOGETHER: Duration = Duration::from_millis(50);

/// Keeps the conditions true, for ever. `published` is what `publisher` was last given.
pub async fn follow(
    stores: Arc<Stores>,
    publisher: Publisher,
    mut published: watch::Receiver<Routing>,
    applier: Arc<Applier>,
) -> anyhow::Result<()> {
    stores.until_synced().await;
    let (mut answers, began) = (publisher.answers(), Timestamp::now());
    let mut awaited = Awaited::default();
    loop {
        answers.mark_unchanged();
        let routing = published.borrow_and_update().clone();
        let mut pause = LOOK_EVERY;
        for action in awaited.due(&stores, &publisher, &routing, began, Timestamp::now()) {
            match applier.apply(action).await {
                Ok(()) => {}
                Err(ApplyError::Outdated(_)) => pause = LOOK_AGAIN,
                Err(error) => {
                    tracing::warn!(error = %Causes(&error), "the condition Programmed of a pool was not written")
                }
            }
        }
        tokio::time::sleep(TOGETHER).await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Errors mean that nobody will publish or answer anything any more.
            _ = answers.changed() => {}
            _ = published.changed() => {}
        }
    }
}

/// By pool: the generation that is to be told as programmed, and of what an Envoy has to have all for that. It does not
/// have to have what is published later: in a cluster where much happens, there is always something newer.
#[derive(Default)]
struct Awaited(HashMap<String, (i64, Editions)>);

impl Awaited {
    fn due(
        &mut self,
        stores: &Stores,
        publisher: &Publisher,
        published: &Routing,
        began: Timestamp,
        now: Timestamp,
    ) -> Vec<Action> {
        // In this order, who has all of the editions has all that is published here, and what an Envoy refused before it
        // was settled is among what it refuses.
        let newest = publisher.editions();
        let here = Here { envoys: publisher.connected(), began };
        let rejected = publisher.rejected();
        stores.read(|inventory| {
            let refused = refused_by_pool(inventory, rejected);
            let (routing, nothing) = (inventory.routing(), Vec::new());
            self.0.retain(|pool, _| inventory.pool(pool).is_some());
            let mut actions_due = Vec::new();
            for pool in inventory.pools().filter(|pool| !pool.meta.deleting) {
                let refused = refused.get(pool.name()).unwrap_or(&nothing);
                let told = match reach(pool, &routing, published) {
                    _ if !refused.is_empty() => Some(refusal(refused)),
                    Reach::Nobody(reason) => Some(unreached(reason)),
                    Reach::NotYet => None,
                    Reach::Published if says(pool, &programmed()) => None,
                    Reach::Published => {
                        let wanted = self.wanted(pool, newest);
                        may_say_true(pool, &wanted, &here, now).then(programmed)
                    }
                };
                if let Some(finding) = told.filter(|finding| !says(pool, finding)) {
                    self.0.remove(pool.name());
                    actions_due.extend(actions(pool, finding, now));
                }
            }
            actions_due
        })
    }

    fn wanted(&mut self, pool: &Pool, newest: Editions) -> Editions {
        let generation = pool.meta.generation;
        let known = self.0.entry(pool.name().to_owned()).or_insert((generation, newest));
        if known.0 != generation {
            *known = (generation, newest);
        }
        known.1
    }
}

/// Whom clients reach that call the pool's host.
enum Reach {
    Published,
    /// Envoys are about to be told.
    NotYet,
    /// Another pool, or nobody, and will not reach this one. With the reason.
    Nobody(&'static str),
}

fn reach(pool: &Pool, routing: &Routing, published: &Routing) -> Reach {
    let reached = |routing: &Routing| {
        let host = routing.hosts.get(&pool.spec.host)?;
        host.pool(pool.protocol()).map(|reached| reached == pool.name())
    };
    match (reached(routing), reached(published)) {
        (Some(true), Some(true)) => Reach::Published,
        (Some(true), _) => Reach::NotYet,
        (Some(false), _) => Reach::Nobody("HostConflict"),
        (None, _) => Reach::Nobody("InvalidHost"),
    }
}

fn actions(pool: &Pool, finding: Finding, now: Timestamp) -> Vec<Action> {
    debug_assert!(reasons::lists_of_pool(&finding), "not on the page of reasons: {finding:?}");
    let (name, uid) = (pool.meta.name.clone(), pool.meta.uid.clone());
    let said = before(pool).is_some_and(|it| it.status == "False" && it.message == finding.message);
    // The condition `Accepted` has Events of its own.
    let told = (finding.reason == REFUSED && !said).then(|| {
        let about = About::Pool { name: name.clone(), uid: uid.clone() };
        Action::Event(Event { about, warning: true, reason: finding.reason, note: finding.message.clone() })
    });
    let merged = merge_conditions(&pool.status.conditions, &[finding], pool.meta.generation, now);
    let condition = merged.into_iter().find(|condition| condition.type_ == PROGRAMMED);
    let update = condition.map(|condition| Action::UpdatePoolCondition { pool: name, uid, condition });
    update.into_iter().chain(told).collect()
}

/// What this replica's Envoys refuse, by pool. A listener and a route configuration serve every pool.
fn refused_by_pool(inventory: &Inventory, rejected: Vec<Rejected>) -> BTreeMap<String, Vec<Rejected>> {
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
struct Here {
    envoys: Vec<Connected>,
    /// When its process began.
    began: Timestamp,
}

fn refusal(refused: &[Rejected]) -> Finding {
    let message = match refused {
        [] => String::new(),
        [first, others @ ..] => {
            let more = match others.len() {
                0 => String::new(),
                n => format!(" ({n} more are refused.)"),
            };
            format!(
                "Envoy {} refuses {} {}: {}. What it had before stays in use.{more}",
                first.node,
                first.kind,
                first.resource,
                first.why.message.trim_end_matches('.')
            )
        }
    };
    Finding { type_: PROGRAMMED, status: false, reason: REFUSED, message }
}

fn unreached(reason: &'static str) -> Finding {
    let message = "No Envoy leads clients to the pool; see the condition Accepted.".to_owned();
    Finding { type_: PROGRAMMED, status: false, reason, message }
}

fn programmed() -> Finding {
    let message = "Envoy has taken everything that belongs to the pool.".to_owned();
    Finding { type_: PROGRAMMED, status: true, reason: "Programmed", message }
}

fn before(pool: &Pool) -> Option<&Condition> {
    pool.status.conditions.iter().find(|condition| condition.type_ == PROGRAMMED)
}

/// Of the present generation: who waits for the condition after a change waits for this.
fn says(pool: &Pool, finding: &Finding) -> bool {
    before(pool).is_some_and(|before| {
        (before.status == "True") == finding.status
            && before.message == finding.message
            && before.observed_generation == Some(pool.meta.generation)
    })
}

/// Whether it is for this replica to say that nothing is refused, or nothing any more.
fn may_say_true(pool: &Pool, wanted: &Editions, here: &Here, now: Timestamp) -> bool {
    let has_all = |envoy: &Connected| envoy.settled.contain(wanted);
    let Some(complaint) = before(pool).filter(|it| it.status == "False" && it.reason == REFUSED) else {
        return here.envoys.iter().any(has_all);
    };
    let complains =
        |envoy: &&Connected| complaint.message.starts_with(&format!("Envoy {} refuses ", envoy.node));
    if let Some(envoy) = here.envoys.iter().find(complains) {
        return has_all(envoy);
    }
    let since = complaint.last_transition_time.0.max(here.began);
    let until = since.checked_add(COMPLAINT_STANDS).unwrap_or(Timestamp::MAX);
    until <= now && here.envoys.iter().any(has_all)
}

#[cfg(test)]
#[path = "programmed_tests.rs"]
mod tests;
