//! Which instances to create and which to give up.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::application::application;
use super::outlook::{Failures, Outlook, describe_failure};
use super::sessions::Drafts;
use super::{Action, Observations, Plan, size};
use crate::api::{InstanceState, InstanceStatus};
use crate::model::{Instance, InstancePhase, Pool, PoolView, TokenState, instance_name};

const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(10);
const LONGEST_BACKOFF: SignedDuration = SignedDuration::from_secs(300);

pub fn plan_instances(
    view: &PoolView,
    drafts: &Drafts<'_>,
    observations: &Observations,
    now: Timestamp,
    plan: &mut Plan,
) -> Outlook {
    let pool = &view.pool;
    let failures = count_failures(view, now);
    let mut outlook = Outlook {
        desired: size::desired(&pool.spec, &drafts.users()),
        next_ordinal: next_ordinal(pool, &view.instances),
        next_attempt: next_attempt(&failures).filter(|at| now < *at),
        refusal: observations
            .standing_refusal(pool.meta.generation, now)
            .map(|refusal| refusal.message.clone()),
        failures,
        ..Outlook::default()
    };
    if pool.meta.deleting {
        // The garbage collector removes what the pool owns.
        return outlook;
    }
    if let Some(refusal) = observations.standing_refusal(pool.meta.generation, now) {
        plan.wake_at(refusal.stands_until());
    }
    if let Some(at) = outlook.next_attempt {
        plan.wake_at(at);
    } else {
        for failed in view.instances.iter().filter(|instance| instance.phase == InstancePhase::Failed) {
            remove(failed, plan, &mut outlook);
        }
    }
    keep_tokens(view, plan);
    let load = drafts.load();
    let draining = view.instances.iter().filter(|instance| instance.phase == InstancePhase::Draining);
    for emptied in draining.filter(|instance| !load.contains_key(instance.name.as_str())) {
        remove(emptied, plan, &mut outlook);
    }
    let alive = view.instances.iter().filter(|instance| instance.takes_sessions()).count();
    let desired = usize::try_from(outlook.desired).unwrap_or(0);
    if alive < desired {
        create(view, desired - alive, &mut outlook, plan);
    } else if alive > desired {
        give_up_empty(view, drafts, alive - desired, now, &mut outlook, plan);
    }
    outlook
}

/// A token is made with its instance; here it is made good where that, or its Secret, was lost.
fn keep_tokens(view: &PoolView, plan: &mut Plan) {
    let lost = |token| matches!(token, TokenState::Remembered | TokenState::Unknown);
    for instance in view.instances.iter().filter(|instance| instance.is_alive() && lost(instance.token)) {
        plan.actions.push(Action::CreateToken {
            pool: view.pool.meta.name.clone(),
            instance: instance.name.clone(),
            uid: instance.uid.clone(),
        });
    }
}

fn create(view: &PoolView, missing: usize, outlook: &mut Outlook, plan: &mut Plan) {
    let unreachable = view.host_taken_by.is_some() || view.host_invalid || view.lacks_interceptor();
    if outlook.refusal.is_some() || outlook.next_attempt.is_some() || unreachable {
        return;
    }
    let pool = &view.pool;
    // An instance that is being deleted still takes the room of one.
    let occupied = view.instances.iter().filter(|instance| instance.phase != InstancePhase::Failed).count();
    let room = usize::try_from(pool.spec.replicas.max).unwrap_or(0).saturating_sub(occupied);
    for _ in 0..missing.min(room) {
        let name = instance_name(pool.name(), outlook.next_ordinal);
        outlook.next_ordinal += 1;
        let application = Box::new(application(pool, &name, view.interceptor()));
        plan.actions.push(Action::CreateInstance { pool: pool.meta.name.clone(), application });
        outlook.created.push(name);
        outlook.scaled = true;
    }
}

/// Removes instances without sessions, the newest first, once the pool has been calm for the
/// cooldown.
fn give_up_empty(
    view: &PoolView,
    drafts: &Drafts<'_>,
    surplus: usize,
    now: Timestamp,
    outlook: &mut Outlook,
    plan: &mut Plan,
) {
    let load = drafts.load();
    let mut empty: Vec<&Instance> = view
        .instances
        .iter()
        .filter(|instance| instance.takes_sessions() && !load.contains_key(instance.name.as_str()))
        .collect();
    if empty.is_empty() {
        return;
    }
    let cooldown = SignedDuration::from_secs(view.pool.spec.scaling.cooldown_seconds.into());
    let calm_since = view.pool.status.last_scale_time.as_ref().map(|time| time.0);
    if let Some(at) = calm_since.and_then(|since| since.checked_add(cooldown).ok()).filter(|at| now < *at) {
        plan.wake_at(at);
        return;
    }
    empty.sort_by_key(|instance| std::cmp::Reverse(instance.ordinal));
    for instance in empty.into_iter().take(surplus) {
        remove(instance, plan, outlook);
        outlook.scaled = true;
    }
}

fn remove(instance: &Instance, plan: &mut Plan, outlook: &mut Outlook) {
    plan.actions.push(Action::DeleteInstance { name: instance.name.clone(), uid: instance.uid.clone() });
    outlook.removed.push(instance.name.clone());
}

/// Never an ordinal that was used before: the status remembers, and what exists is asked too,
/// for the case that the status was lost.
fn next_ordinal(pool: &Pool, instances: &[Instance]) -> i64 {
    let beyond_existing = instances.iter().map(|instance| instance.ordinal + 1).max().unwrap_or(0);
    pool.status.next_ordinal.max(beyond_existing)
}

/// An instance counts as a failure when it failed since the status was last written; one that
/// became ready since then ends the row.
fn count_failures(view: &PoolView, now: Timestamp) -> Failures {
    let status = &view.pool.status;
    let before: HashMap<&str, &InstanceStatus> =
        status.instances.iter().map(|instance| (instance.name.as_str(), instance)).collect();
    let was = |instance: &Instance| before.get(instance.name.as_str()).map(|status| status.state);
    let mut failures = Failures {
        consecutive: status.consecutive_failures,
        last_time: status.last_failure_time.as_ref().map(|time| time.0),
        last_message: status.last_failure_message.clone(),
    };
    let ready = |instance: &&Instance| instance.phase == InstancePhase::Ready;
    if view.instances.iter().filter(ready).any(|instance| was(instance) != Some(InstanceState::Running)) {
        failures = Failures::default();
    }
    for instance in view.instances.iter().filter(|instance| instance.phase == InstancePhase::Failed) {
        if was(instance) != Some(InstanceState::Failed) {
            failures.consecutive = failures.consecutive.saturating_add(1);
            failures.last_time = Some(now);
        }
        // Also of one that is counted already: its log is read after that.
        if failures.consecutive > 0 {
            failures.last_message = Some(describe_failure(instance));
        }
    }
    failures
}

fn next_attempt(failures: &Failures) -> Option<Timestamp> {
    let last = failures.last_time.filter(|_| failures.consecutive > 0)?;
    let doublings = u32::try_from(failures.consecutive - 1).unwrap_or(0).min(10);
    let backoff = (FIRST_BACKOFF * 2_i32.pow(doublings)).min(LONGEST_BACKOFF);
    last.checked_add(backoff).ok()
}
