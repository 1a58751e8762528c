//! What the conditions of a pool say: whether clients reach it, whether it can serve them, whether it has as many
//! instances as it needs, and whether those are made from its present template.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions::{Finding, seconds};
use super::counts::count;
use super::endings::after;
use super::outlook::{Outlook, describe_progress, names, sentence};
use super::sessions::Drafts;
use super::waiting::patience;
use crate::api::{DrainReason, Sharing};
use crate::model::{Instance, InstancePhase, PoolView};

pub fn accepted(view: &PoolView) -> Finding {
    let (status, reason, message) = match &view.host_taken_by {
        None if view.host_invalid => {
            let message = format!(
                "Host {} is not a DNS name: lower-case letters, digits and hyphens, in labels separated by dots, \
                 without a wildcard and without a port. No client reaches the pool. Correct spec.host.",
                view.pool.spec.host.escape_debug()
            );
            (false, "InvalidHost", message)
        }
        None => (true, "Accepted", format!("Clients reach the pool at host {}.", view.pool.spec.host)),
        Some(other) => {
            let message = format!(
                "Host {} with type {} belongs to pool {other}, which is older. Choose another host, or delete one of \
                 the pools.",
                view.pool.spec.host,
                view.pool.protocol()
            );
            (false, "HostConflict", message)
        }
    };
    Finding { type_: "Accepted", status, reason, message }
}

pub fn ready(view: &PoolView, drafts: &Drafts<'_>, outlook: &Outlook, now: Timestamp) -> Finding {
    let (ready, starting) = (view.ready_count(), starting(view, outlook));
    let wanted = outlook.size.desired > 0 || drafts.waiting() > 0;
    let (status, reason, message) = if view.host_taken_by.is_some() {
        (false, "HostConflict", "Another pool has the host; see the condition Accepted.".to_owned())
    } else if view.host_invalid {
        (false, "InvalidHost", "No client can name the host; see the condition Accepted.".to_owned())
    } else if ready > 0 {
        (
            true,
            "InstancesReady",
            format!("{ready} of {} instance(s) answer.", count(outlook.size.desired).max(ready)),
        )
    } else if let Some(refusal) =
        outlook.refusal.as_ref().filter(|it| wanted || it.objection.remedy().is_some())
    {
        (false, refusal.objection.reason(), sentence(&refusal.describe()))
    } else if view.lacks_interceptor() {
        let message = "No server can be started; see the condition IdentityEnforced.";
        (false, "NoInterceptor", message.to_owned())
    } else if outlook.stopped {
        (false, "CrashLoop", stopped(view, outlook))
    } else if outlook.failures.consecutive > 0 {
        let cause = outlook.failures.last_message.clone().unwrap_or_default();
        let next =
            outlook.next_attempt.map(|at| format!("; next attempt at {}", seconds(at).0)).unwrap_or_default();
        (
            false,
            "InstanceFailed",
            format!("{} attempt(s) in a row failed: {cause}{next}", outlook.failures.consecutive),
        )
    } else if let Some((reason, words)) = start_trouble(view, outlook, now) {
        (false, reason, words)
    } else if let Some((reason, words)) = silent(view, outlook) {
        (false, reason, words)
    } else if starting > 0 {
        (false, "InstancesStarting", format!("{starting} instance(s) are starting."))
    } else if wanted {
        let message = "No instance takes sessions, and none can be started now; see the condition Scaled.";
        (false, "NoRoom", message.to_owned())
    } else {
        (true, "ScaledToZero", "No instance runs; the first user starts one.".to_owned())
    };
    Finding { type_: "Ready", status, reason, message }
}

/// That do not answer yet, and that this plan creates.
fn starting(view: &PoolView, outlook: &Outlook) -> usize {
    awaited(view, outlook).count() + outlook.created.len()
}

fn awaited<'a>(view: &'a PoolView, outlook: &'a Outlook) -> impl Iterator<Item = &'a Instance> {
    let starting = |it: &&Instance| it.phase == InstancePhase::Starting && !outlook.gives_up(&it.name);
    view.instances.iter().filter(starting)
}

/// After that the Spark Operator has not even noticed the SparkApplication: it takes some seconds otherwise.
const UNNOTICED_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// When there is next to be said something else of the instances that are starting, if nothing changes until then.
pub fn start_trouble_at(view: &PoolView, now: Timestamp) -> Option<Timestamp> {
    let patience = patience(&view.pool.spec.session_policy);
    let starting = view.instances.iter().filter(|it| it.phase == InstancePhase::Starting);
    let starting = starting.filter(|it| answered_at(view, it).is_none());
    let times = starting.flat_map(|it| {
        let unnoticed = is_untouched(it).then(|| after(it.created_at, UNNOTICED_AFTER));
        [Some(after(it.created_at, patience)), unnoticed]
    });
    times.flatten().filter(|at| now < *at).min()
}

/// When its server first answered. After that it is not late, however long ago it was created: it may be too busy for a
/// probe, or its driver was started anew.
fn answered_at<'a>(view: &'a PoolView, instance: &Instance) -> Option<&'a Time> {
    let told = view.pool.status.instances.iter().find(|told| told.name == instance.name)?;
    told.ready_at.as_ref()
}

/// Neither the Spark Operator nor anybody else has done anything about its SparkApplication.
fn is_untouched(instance: &Instance) -> bool {
    instance.launcher_state.is_empty() && instance.pod.is_none() && instance.message.is_none()
}

/// The reason, and what is to be said, where instances have been starting for longer than any session would wait for
/// them, or will not start as things stand.
fn start_trouble(view: &PoolView, outlook: &Outlook, now: Timestamp) -> Option<(&'static str, String)> {
    let patience = patience(&view.pool.spec.session_policy);
    let overdue = |it: &&Instance| after(it.created_at, patience) <= now;
    let unnoticed = |it: &Instance| is_untouched(it) && after(it.created_at, UNNOTICED_AFTER) <= now;
    let oldest = |filter: &dyn Fn(&&Instance) -> bool| {
        let never_answered = awaited(view, outlook).filter(|it| answered_at(view, it).is_none());
        never_answered.filter(filter).min_by_key(|it| (it.created_at, it.ordinal))
    };
    let (reason, oldest, than) = if let Some(late) = oldest(&overdue) {
        let than = format!(", longer than sessions wait for it ({} s)", patience.as_secs());
        ("StartOverdue", late, than)
    } else {
        ("StartBlocked", oldest(&|it| it.message.is_some() || unnoticed(it))?, String::new())
    };
    let hint = if is_untouched(oldest) {
        "See whether the Spark Operator runs, and watches this namespace (`spark.jobNamespaces` of its chart).".to_owned()
    } else if oldest.message.is_some() {
        "It goes on when that is over.".to_owned()
    } else if oldest.endpoint.is_some() {
        let protocol = view.pool.protocol();
        format!(
            "See whether its driver's log tells of a server of type {protocol} on the port that is meant."
        )
    } else {
        "See why its Pod is not started.".to_owned()
    };
    let (name, since, progress) = (&oldest.name, seconds(oldest.created_at).0, describe_progress(oldest));
    let progress = progress.trim_end_matches('.');
    Some((reason, format!("Instance {name} has been starting since {since}{than}: {progress}. {hint}")))
}

/// The same for servers that have answered before: they are not late, and sessions that are on them wait.
fn silent(view: &PoolView, outlook: &Outlook) -> Option<(&'static str, String)> {
    let silent = awaited(view, outlook).filter_map(|it| Some((it, answered_at(view, it)?)));
    let (instance, since) = silent.min_by_key(|(it, _)| it.ordinal)?;
    let progress = describe_progress(instance);
    let (name, since, progress) = (&instance.name, &since.0, progress.trim_end_matches('.'));
    let words = format!("Instance {name}, which answered first at {since}, does not answer now: {progress}.");
    Some(("NotAnswering", words))
}

/// Whether the pool has the instances that the load asks for, and why it asks for them.
pub fn scaled(view: &PoolView, outlook: &Outlook, now: Timestamp) -> Finding {
    let finding = |status, reason, message| Finding { type_: "Scaled", status, reason, message };
    let (desired, why) = (count(outlook.size.desired), &outlook.size.why);
    let stay = view.instances.iter().filter(|it| it.takes_sessions() && !outlook.gives_up(&it.name)).count();
    // What is refused does not come, most likely.
    let created = if outlook.refusal.is_some() { 0 } else { outlook.created.len() };
    let here = stay + created + outlook.taken_back.len();
    let wanted = format!("{} wanted: {why}", instances(desired));
    if here < desired
        && let Some((reason, condition)) = unreachable(view)
    {
        return finding(false, reason, format!("{wanted}. None is started; see the condition {condition}."));
    }
    if here < desired && outlook.stopped {
        return finding(false, "CrashLoop", stopped(view, outlook));
    }
    if here < desired
        && let Some(refusal) = &outlook.refusal
    {
        let words = sentence(&refusal.describe());
        return finding(false, refusal.objection.reason(), format!("{wanted}. {words}"));
    }
    if here < desired
        && let Some(at) = outlook.next_attempt
    {
        let cause = outlook.failures.last_message.as_deref().unwrap_or("the last instance failed");
        let at = seconds(at).0;
        return finding(
            false,
            "BackingOff",
            format!("{wanted}; {}; {cause}; next attempt at {at}.", there_are(here)),
        );
    }
    if here < desired {
        let deleting =
            view.instances.iter().filter(|it| it.phase == InstancePhase::Deleting && it.may_run(now));
        let leaving = deleting.map(|it| &it.name).chain(outlook.drains.keys()).chain(&outlook.removed);
        let leaving = leaving.chain(view.still_leaving(now).map(|driver| &driver.instance));
        let leaving: BTreeSet<&String> = leaving.collect();
        let (there, max) = (there_are(here), view.pool.spec.replicas.max);
        let gone = if leaving.len() == 1 { "is gone" } else { "are gone" };
        let message = match leaving.is_empty() {
            true => format!("{wanted}; {there}."),
            false => format!(
                "{wanted}; {there}, and replicas.max of {max} has no room for another one until {} {gone}.",
                names(leaving.into_iter())
            ),
        };
        return finding(false, "NoRoom", message);
    }
    if let Some((reason, words)) = start_trouble(view, outlook, now) {
        return finding(false, reason, format!("{}: {why}. {words}", instances(here)));
    }
    let cooldown = SignedDuration::from_secs(view.pool.spec.scaling.cooldown_seconds.into());
    let shared = view.pool.spec.sharing == Sharing::Pool;
    let window = outlook.scale_down.as_ref().filter(|_| outlook.resized.is_none());
    let window = window.map(|window| (after(window.since.0, cooldown), window));
    let window = window.filter(|(due, window)| count(window.to) < here && (now < *due || !shared));
    if let Some((due, window)) = window {
        let to = window.to;
        if due <= now {
            let message = format!(
                "{}, and {to} would do: drivers are not shared, so each goes when its last session has ended. Now: {why}.",
                instances(here)
            );
            return finding(false, "DriversInUse", message);
        }
        let message = format!(
            "{}, and no more than {to} needed since {}: at {} the others are given up, unless they are needed. Now: {why}.",
            instances(here),
            window.since.0,
            seconds(due).0
        );
        return finding(false, "CoolingDown", message);
    }
    if outlook.size.unmeasured {
        let stay = if here == 1 { "stays" } else { "stay" };
        let message = format!("{} {stay}: {why}.", instances(here));
        return finding(false, "NotMeasured", message);
    }
    if outlook.size.limited {
        return finding(false, "AtMaximum", format!("{}: {why}.", instances(here)));
    }
    let started = view.instances.iter().filter(|it| it.phase == InstancePhase::Ready).count();
    let message = format!("{}: {why}.", instances(here));
    match outlook.resized {
        Some((from, to)) => finding(true, "Resized", format!("{from} → {to}: {why}.")),
        None if started < here => finding(true, "Starting", message),
        None => finding(true, "AsNeeded", message),
    }
}

/// Whether all instances are made from the present template.
pub fn up_to_date(view: &PoolView, outlook: &Outlook) -> Finding {
    let finding = |status, reason, message| Finding { type_: "UpToDate", status, reason, message };
    let outdated: Vec<_> = view
        .instances
        .iter()
        .filter(|it| {
            it.is_alive() && outlook.outdated.contains(&it.name) && !outlook.removed.contains(&it.name)
        })
        .collect();
    if outdated.is_empty() {
        let message = "No instance is made from an earlier template.".to_owned();
        return finding(true, "UpToDate", message);
    }
    let (leaving, serving): (Vec<&Instance>, Vec<&Instance>) =
        outdated.into_iter().partition(|it| outlook.drains_for(&it.name, DrainReason::TemplateChanged));
    let new = view
        .instances
        .iter()
        .filter(|it| it.phase == InstancePhase::Ready && !outlook.outdated.contains(&it.name));
    let mut parts = vec![format!(
        "{} of {} answer that are made from the present template",
        new.count(),
        instances(count(outlook.size.desired))
    )];
    if !leaving.is_empty() {
        let (take, their) =
            if leaving.len() == 1 { ("takes", "goes with its") } else { ("take", "go with their") };
        let leaving = names(leaving.iter().map(|it| &it.name));
        parts.push(format!("{leaving} {take} no new sessions and {their} last"));
    }
    if !serving.is_empty() {
        parts.push(format!("{} will be replaced", names(serving.iter().map(|it| &it.name))));
    }
    if let Some(refusal) = &outlook.refusal {
        parts.push(refusal.describe());
        return finding(false, refusal.objection.reason(), format!("{}.", parts.join("; ")));
    }
    if outlook.stopped {
        return finding(false, "CrashLoop", format!("{}. {}", parts.join("; "), stopped(view, outlook)));
    }
    if let Some(at) = outlook.next_attempt {
        parts.extend(outlook.failures.last_message.clone());
        parts.push(format!("next attempt at {}", seconds(at).0));
        return finding(false, "BackingOff", format!("{}.", parts.join("; ")));
    }
    if let Some(cause) = &outlook.roll_waits_for {
        parts.push(cause.clone());
    } else if outlook.failures.consecutive > 0
        && let Some(message) = &outlook.failures.last_message
    {
        parts.push(message.clone());
    }
    finding(false, "RollingOut", format!("{}.", parts.join("; ")))
}

fn stopped(view: &PoolView, outlook: &Outlook) -> String {
    let cause = outlook.failures.last_message.as_deref().unwrap_or("no cause is known");
    let failed = view.instances.iter().filter(|it| it.phase == InstancePhase::Failed);
    let failed: Vec<&str> = failed.map(|it| it.name.as_str()).collect();
    format!(
        "{} attempt(s) in a row failed, and no other is made: {cause}. Correct the pool, or have it tried once more: \
         `kubectl delete sparkapplication {}`.",
        outlook.failures.consecutive,
        failed.join(" ")
    )
}

/// Why no instance is started whatever happens to those that there are, and the condition that says more.
pub(super) fn unreachable(view: &PoolView) -> Option<(&'static str, &'static str)> {
    if view.host_taken_by.is_some() {
        Some(("HostConflict", "Accepted"))
    } else if view.host_invalid {
        Some(("InvalidHost", "Accepted"))
    } else if view.lacks_interceptor() {
        Some(("NoInterceptor", "IdentityEnforced"))
    } else {
        None
    }
}

fn there_are(n: usize) -> String {
    match n {
        0 => "none is there".to_owned(),
        1 => "1 is there".to_owned(),
        n => format!("{n} are there"),
    }
}

fn instances(n: usize) -> String {
    if n == 1 { "1 instance".to_owned() } else { format!("{n} instances") }
}
