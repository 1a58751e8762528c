//! Instances that are emptied: which, why, since when, and what becomes of the sessions that are left at the end.
//!
//! What somebody asks for by an annotation is on the SparkApplication; what is decided here is in the pool's status
//! alone: where that is lost, the instance takes sessions again.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::Plan;
use super::conditions::seconds;
use super::endings::after;
use super::sessions::Drafts;
use super::template;
use crate::api::{DrainReason, DrainStatus, InstanceState, Sharing};
use crate::model::{Instance, InstancePhase, Pool, PoolView};

pub(super) const INSTANCE_DRAINED: &str = "InstanceDrained";

/// The view with what earlier plans have decided about its instances: which drain, and which have failed. One that has
/// failed stays so, also if it comes back: its sessions have ended, and another takes its place.
pub fn in_effect(view: &PoolView) -> Cow<'_, PoolView> {
    carried_on(Cow::Borrowed(view))
}

pub(super) fn carried_on(view: Cow<'_, PoolView>) -> Cow<'_, PoolView> {
    let phases = phases(&view);
    if phases.iter().all(Option::is_none) {
        return view;
    }
    let mut view = view.into_owned();
    for (instance, phase) in view.instances.iter_mut().zip(phases) {
        instance.phase = phase.unwrap_or(instance.phase);
    }
    Cow::Owned(view)
}

/// Of each instance that is in another phase than the watches say.
fn phases(view: &PoolView) -> Vec<Option<InstancePhase>> {
    let decided = decided(&view.pool);
    let told = view.pool.status.instances.iter();
    let failed: HashSet<&str> =
        told.filter(|told| told.state == InstanceState::Failed).map(|told| told.name.as_str()).collect();
    if decided.is_empty() && failed.is_empty() {
        return Vec::new();
    }
    let outdated = template::outdated(&view.pool, &view.instances);
    let drains = |instance: &Instance| {
        let reason = decided.get(instance.name.as_str()).map(|drain| drain.reason);
        instance.takes_sessions()
            && match reason {
                Some(DrainReason::ScaleDown) => true,
                // Not where the template was changed back.
                Some(DrainReason::TemplateChanged) => outdated.contains(instance.name.as_str()),
                Some(DrainReason::Requested | DrainReason::NoInterceptor) | None => false,
            }
    };
    let came_back = |instance: &Instance| failed.contains(instance.name.as_str()) && instance.is_alive();
    let phase = |instance: &Instance| {
        let failed = came_back(instance).then_some(InstancePhase::Failed);
        failed.or_else(|| drains(instance).then_some(InstancePhase::Draining))
    };
    view.instances.iter().map(phase).collect()
}

/// By instance: what the pool's status says.
fn decided(pool: &Pool) -> HashMap<&str, &DrainStatus> {
    let told = pool.status.instances.iter();
    told.filter_map(|told| Some((told.name.as_str(), told.drain.as_ref()?))).collect()
}

/// By instance, of those that drain in this view.
pub fn known(view: &PoolView, now: Timestamp) -> BTreeMap<String, DrainStatus> {
    let decided = decided(&view.pool);
    let draining = view.instances.iter().filter(|instance| instance.phase == InstancePhase::Draining);
    draining
        .map(|instance| {
            let outdated = view.pool.enforces_identity() && !instance.forces_identity;
            let reason = if outdated { DrainReason::NoInterceptor } else { DrainReason::Requested };
            let told = decided.get(instance.name.as_str()).copied().cloned();
            let drain = told.unwrap_or_else(|| DrainStatus { reason, since: seconds(now) });
            (instance.name.clone(), drain)
        })
        .collect()
}

/// When the sessions that are left on it end.
pub fn deadline(pool: &Pool, drain: &DrainStatus) -> Option<Timestamp> {
    let scaling = &pool.spec.scaling;
    let timeout = match drain.reason {
        DrainReason::ScaleDown if !scaling.drain_before_scale_down => Some(0),
        _ => scaling.drain_timeout_seconds,
    };
    timeout.map(|seconds| after(drain.since.0, SignedDuration::from_secs(seconds.into())))
}

/// A clause.
pub fn why(reason: DrainReason) -> &'static str {
    match reason {
        DrainReason::Requested => "somebody asked for that",
        DrainReason::NoInterceptor => "it was started without the interceptor",
        DrainReason::ScaleDown => "the pool needs fewer instances",
        DrainReason::TemplateChanged => "the pool's template has changed",
    }
}

/// Whether its sessions still count for the size of the pool: those of one that somebody else has drained do not, nor one
/// that has its driver to itself.
pub fn counts(pool: &Pool, instance: &Instance) -> bool {
    if instance.phase != InstancePhase::Draining {
        return true;
    }
    pool.spec.sharing != Sharing::Session
        && decided(pool).get(instance.name.as_str()).is_some_and(|drain| {
            matches!(drain.reason, DrainReason::ScaleDown | DrainReason::TemplateChanged)
        })
}

impl Drafts<'_> {
    /// Ends what is left on instances whose time to drain is over.
    pub fn end_drained(&mut self, plan: &mut Plan) {
        let pool = &self.view.pool;
        let decided = decided(pool);
        if decided.is_empty() {
            return;
        }
        for draft in self.drafts.iter_mut().filter(|draft| draft.goes_on()) {
            let instance = draft.instance.and_then(|name| self.instances.get(name));
            let Some(instance) = instance.filter(|it| it.phase == InstancePhase::Draining) else { continue };
            let Some(drain) = decided.get(instance.name.as_str()) else { continue };
            let Some(deadline) = deadline(pool, drain) else { continue };
            if self.now < deadline {
                plan.wake_at(deadline);
                continue;
            }
            let (name, why) = (&instance.name, why(drain.reason));
            let given = deadline.duration_since(drain.since.0).as_secs();
            let time = if given > 0 { format!(" It had {given} s to end by itself.") } else { String::new() };
            draft.condemn(
                INSTANCE_DRAINED,
                format!(
                    "Instance {name}, which held this session, is removed, since {why}.{time} Start a new session."
                ),
            );
        }
    }
}
