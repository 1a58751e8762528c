//! What the conditions of a pool say: whether clients reach it, whether it can serve them, whether it has as many
//! instances as it needs, and whether those are made from its present template.

use jiff::SignedDuration;

use super::conditions::{Finding, seconds};
use super::counts::count;
use super::endings::after;
use super::outlook::{Outlook, names};
use super::sessions::Drafts;
use crate::api::DrainReason;
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

pub fn ready(view: &PoolView, drafts: &Drafts<'_>, outlook: &Outlook) -> Finding {
    let ready = view.ready_count();
    let (status, reason, message) = if view.host_taken_by.is_some() {
        (false, "HostConflict", "Another pool has the host; see the condition Accepted.".to_owned())
    } else if view.host_invalid {
        (false, "InvalidHost", "No client can name the host; see the condition Accepted.".to_owned())
    } else if let Some(refusal) = &outlook.refusal {
        (false, "TemplateRefused", format!("The API server refuses the sparkApplicationTemplate: {refusal}"))
    } else if ready > 0 {
        (
            true,
            "InstancesReady",
            format!("{ready} of {} instance(s) answer.", count(outlook.size.desired).max(ready)),
        )
    } else if view.lacks_interceptor() {
        let message = "No server can be started; see the condition IdentityEnforced.";
        (false, "NoInterceptor", message.to_owned())
    } else if outlook.stopped {
        (false, "CrashLoop", stopped(outlook))
    } else if outlook.failures.consecutive > 0 {
        let cause = outlook.failures.last_message.clone().unwrap_or_default();
        let next =
            outlook.next_attempt.map(|at| format!("; next attempt at {}", seconds(at).0)).unwrap_or_default();
        (
            false,
            "InstanceFailed",
            format!("{} instance(s) in a row failed: {cause}{next}", outlook.failures.consecutive),
        )
    } else if outlook.size.desired > 0 || drafts.waiting() > 0 {
        (false, "InstancesStarting", format!("{} instance(s) are starting.", outlook.size.desired))
    } else {
        (true, "ScaledToZero", "No instance runs; the first user starts one.".to_owned())
    };
    Finding { type_: "Ready", status, reason, message }
}

/// Whether the pool has the instances that the load asks for, and why it asks for them.
pub fn scaled(view: &PoolView, outlook: &Outlook) -> Finding {
    let finding = |status, reason, message| Finding { type_: "Scaled", status, reason, message };
    let (desired, why) = (count(outlook.size.desired), &outlook.size.why);
    let stay = view.instances.iter().filter(|it| it.takes_sessions() && !outlook.gives_up(&it.name)).count();
    let here = stay + outlook.created.len() + outlook.taken_back.len();
    let wanted = format!("{} wanted: {why}", instances(desired));
    if here < desired && outlook.stopped {
        return finding(false, "CrashLoop", stopped(outlook));
    }
    if here < desired
        && let Some(refusal) = &outlook.refusal
    {
        return finding(
            false,
            "TemplateRefused",
            format!("{wanted}. The API server refuses the template: {refusal}"),
        );
    }
    if here < desired
        && let Some(at) = outlook.next_attempt
    {
        let cause = outlook.failures.last_message.as_deref().unwrap_or("the last instance failed");
        let at = seconds(at).0;
        return finding(
            false,
            "BackingOff",
            format!("{wanted}. {here} are there; {cause}; next attempt at {at}."),
        );
    }
    if here < desired {
        let draining = names(outlook.drains.keys());
        let max = view.pool.spec.replicas.max;
        let message = match draining.is_empty() {
            true => format!("{wanted}; {here} are there."),
            false => format!(
                "{wanted}; {here} are there, and replicas.max of {max} has no room for another one until {draining} \
                 have gone."
            ),
        };
        return finding(false, "NoRoom", message);
    }
    if let Some(window) = &outlook.scale_down {
        let cooldown = SignedDuration::from_secs(view.pool.spec.scaling.cooldown_seconds.into());
        let (at, to) = (seconds(after(window.since.0, cooldown)).0, window.to);
        let message = format!(
            "{here} instances, and {to} have sufficed since {}: at {at} the others are given up, unless they are needed. \
             Now: {why}.",
            window.since.0
        );
        return finding(false, "CoolingDown", message);
    }
    if outlook.size.unmeasured {
        let stay = if here == 1 { "stays" } else { "stay" };
        let message = format!("{} {stay}: {why}.", instances(here));
        return finding(false, "NotMeasured", message);
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
        let leaving = names(leaving.iter().map(|it| &it.name));
        parts.push(format!("{leaving} takes no new sessions and goes with its last"));
    }
    if !serving.is_empty() {
        parts.push(format!("{} will be replaced", names(serving.iter().map(|it| &it.name))));
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

fn stopped(outlook: &Outlook) -> String {
    let cause = outlook.failures.last_message.as_deref().unwrap_or("no cause is known");
    format!(
        "{} instance(s) in a row failed, and no other is started: {cause}. Correct the pool, or delete the SparkApplication \
         that failed to have it tried once more.",
        outlook.failures.consecutive
    )
}

fn instances(n: usize) -> String {
    if n == 1 { "1 instance".to_owned() } else { format!("{n} instances") }
}
