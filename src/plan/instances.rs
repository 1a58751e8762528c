//! Which instances to create and which to give up.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::application::application;
use super::sessions::Drafts;
use super::{Action, Observations, Plan, size};
use crate::api::{InstanceState, InstanceStatus};
use crate::model::{Instance, InstancePhase, Pool, PoolView, instance_name};

/// After so many failures in a row, sessions stop waiting for the next attempt.
pub const FAILURES_BEFORE_GIVING_UP: i32 = 3;

const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(10);
const LONGEST_BACKOFF: SignedDuration = SignedDuration::from_secs(300);

/// How the pool's instances will stand after this plan.
#[derive(Debug, Default)]
pub struct Outlook {
    pub desired: i32,
    pub next_ordinal: i64,
    /// Names of the instances that this plan creates and deletes.
    pub created: Vec<String>,
    pub removed: Vec<String>,
    pub failures: Failures,
    /// No instance is created before.
    pub next_attempt: Option<Timestamp>,
    /// The template is refused: what the API server said.
    pub refusal: Option<String>,
    pub scaled: bool,
}

/// Failures in a row, as the pool's status keeps them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failures {
    pub consecutive: i32,
    pub last_time: Option<Timestamp>,
    pub last_message: Option<String>,
}

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
    if let Some(at) = outlook.next_attempt {
        plan.wake_at(at);
    } else {
        for failed in view.instances.iter().filter(|instance| instance.phase == InstancePhase::Failed) {
            remove(failed, plan, &mut outlook);
        }
    }
    let alive = view.instances.iter().filter(|instance| instance.is_alive()).count();
    let desired = usize::try_from(outlook.desired).unwrap_or(0);
    if alive < desired {
        create(view, desired - alive, &mut outlook, plan);
    } else if alive > desired {
        give_up_empty(view, drafts, alive - desired, now, &mut outlook, plan);
    }
    outlook
}

fn create(view: &PoolView, missing: usize, outlook: &mut Outlook, plan: &mut Plan) {
    if outlook.refusal.is_some() || outlook.next_attempt.is_some() || view.host_taken_by.is_some() {
        return;
    }
    let pool = &view.pool;
    // An instance that is being deleted still takes the room of one.
    let occupied = view.instances.iter().filter(|instance| instance.phase != InstancePhase::Failed).count();
    let room = usize::try_from(pool.spec.replicas.max).unwrap_or(0).saturating_sub(occupied);
    for _ in 0..missing.min(room) {
        let name = instance_name(pool.name(), outlook.next_ordinal);
        outlook.next_ordinal += 1;
        let application = Box::new(application(pool, &name));
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
        .filter(|instance| instance.is_alive() && !load.contains_key(instance.name.as_str()))
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

pub fn describe_failure(instance: &Instance) -> String {
    match &instance.message {
        Some(message) => format!("instance {} failed: {}", instance.name, first_lines(message)),
        None => format!("instance {} failed ({})", instance.name, or_new(&instance.launcher_state)),
    }
}

/// What a person waiting for this instance should know.
pub fn describe_start(instance: &Instance) -> String {
    let mut text = format!("instance {} is starting", instance.name);
    match (&instance.endpoint, &instance.pod) {
        (Some(endpoint), _) => text.push_str(&format!(": its server does not answer at {endpoint} yet")),
        (None, Some((pod, _))) => text.push_str(&format!(": driver Pod {pod} has no address yet")),
        (None, None) => {
            text.push_str(&format!(": the Spark Operator has it as {}", or_new(&instance.launcher_state)));
        }
    }
    if let Some(message) = &instance.message {
        text.push_str(&format!(" ({})", first_lines(message)));
    }
    text
}

fn or_new(state: &str) -> &str {
    if state.is_empty() { "NEW" } else { state }
}

/// Enough of a stack trace to know what happened: status messages are read in a terminal.
fn first_lines(message: &str) -> String {
    const LONGEST: usize = 400;
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).take(4).collect();
    let text = lines.join(" ");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
