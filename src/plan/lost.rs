//! Instances that nobody says have failed, and that do not come any more: only time tells.
//!
//! - A Pod whose time to end is over and that is still there is on a node that is lost: nobody is left who could confirm its
//!   end. Its SparkApplication stays in the way of another instance until it is deleted.
//! - A server that does not answer in time, since its node does not start it or its JVM hangs, gets no better by itself.
//!
//! Both count as failed: they are replaced, with the backoff of failures (`super::failures`). Other attempts may go to other
//! nodes, so these alone never end the attempts.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use super::Plan;
use super::conditions::seconds;
use super::endings::after;
use super::outlook::{describe_progress, usual_start};
use super::waiting::{DEFAULT_START_TIMEOUT, patience};
use crate::api::{InstanceState, InstanceStatus};
use crate::model::{Instance, InstancePhase, PoolView};

/// How long after those who waited for it an instance is given up: they are told what it was doing, and not that it failed.
const AFTER_THE_SESSIONS: SignedDuration = SignedDuration::from_secs(10);

/// The view with those as failed that time has shown to be lost.
pub fn given_up(view: Cow<'_, PoolView>, now: Timestamp) -> Cow<'_, PoolView> {
    let told = view.pool.status.instances_by_name();
    let lost = |it: &Instance| left_behind(it, now).or_else(|| silent(&view, it, &told, now));
    let why: Vec<_> = view.instances.iter().map(lost).collect();
    drop(told);
    if why.iter().all(Option::is_none) {
        return view;
    }
    let mut view = view.into_owned();
    for (instance, why) in view.instances.iter_mut().zip(why) {
        let Some(why) = why else { continue };
        instance.phase = InstancePhase::Failed;
        instance.given_up = true;
        instance.message = Some(why);
    }
    Cow::Owned(view)
}

/// Has a plan made when the next of them is lost.
pub fn wake(view: &PoolView, now: Timestamp, plan: &mut Plan) {
    let told = view.pool.status.instances_by_name();
    for instance in &view.instances {
        let at = match instance.phase {
            InstancePhase::Starting => starts_in_vain_at(view, instance, &told),
            InstancePhase::Deleting => instance.gone_at(),
            _ => None,
        };
        if let Some(at) = at.filter(|at| now < *at) {
            plan.wake_at(at);
        }
    }
}

/// Why it is lost, of one whose Pod outlived its deletion.
fn left_behind(instance: &Instance, now: Timestamp) -> Option<String> {
    let going = instance.going.filter(|going| !going.for_good)?;
    instance.gone_at().filter(|at| *at <= now)?;
    let (pod, _) = instance.pod.as_ref()?;
    let until = seconds(going.until?).0;
    Some(format!(
        "its driver Pod {pod} was deleted and had time to end until {until}, and is still there: its node is lost, most likely"
    ))
}

type Told<'a> = std::collections::HashMap<&'a str, &'a InstanceStatus>;

/// Why it is lost, of one that does not answer.
fn silent(view: &PoolView, instance: &Instance, told: &Told<'_>, now: Timestamp) -> Option<String> {
    let at = starts_in_vain_at(view, instance, told)?;
    // The time that an instance is given grows with the failures, this one's among them.
    let was_given_up = told.get(&*instance.name).is_some_and(|told| told.state == InstanceState::Failed);
    let seconds = patience(&view.pool.spec.session_policy).as_secs();
    (was_given_up || at <= now).then(|| {
        let progress = describe_progress(instance);
        format!("it did not answer in time (sessionPolicy.startTimeoutSeconds: {seconds}): {progress}")
    })
}

/// When it is given up, of one that is starting and has never answered.
fn starts_in_vain_at(view: &PoolView, instance: &Instance, told: &Told<'_>) -> Option<Timestamp> {
    // One that no status knows may have answered before the status was lost.
    let told = told.get(&*instance.name)?;
    let starts = instance.phase == InstancePhase::Starting && !told.has_answered();
    starts.then(|| after(instance.created_at, time_to_start(view)))
}

/// How long an instance of this pool may take. Who does not wait for long does not make it start sooner: where the pool's own
/// starts have taken longer, or attempts have failed, there is more time.
fn time_to_start(view: &PoolView) -> SignedDuration {
    let status = &view.pool.status;
    let usual = SignedDuration::from_secs(usual_start(status).unwrap_or(0));
    let least = patience(&view.pool.spec.session_policy).max(usual * 2);
    let failures = u32::try_from(status.consecutive_failures).unwrap_or(0).min(10);
    let grown = least * 2_i32.pow(failures);
    grown.min(least.max(DEFAULT_START_TIMEOUT)) + AFTER_THE_SESSIONS
}
