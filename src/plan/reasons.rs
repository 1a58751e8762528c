//! Every reason that conditions and Events have, for the page that explains them to administrators: what it means, and
//! whether somebody has to act. The words are made where the findings are; here is only what can be said of them
//! beforehand. A build for tests refuses a reason that is not listed.

use super::{About, Event, Finding};

/// What a condition may say.
struct Reason {
    condition: &'static str,
    status: bool,
    reason: &'static str,
    meaning: &'static str,
    /// Empty: nothing is to be done.
    remedy: &'static str,
}

impl Reason {
    fn is(&self, finding: &Finding) -> bool {
        (self.condition, self.status, self.reason) == (finding.type_, finding.status, finding.reason)
    }
}

const fn usual(condition: &'static str, status: bool, reason: &'static str, meaning: &'static str) -> Reason {
    Reason { condition, status, reason, meaning, remedy: "" }
}

const fn wrong(
    condition: &'static str,
    reason: &'static str,
    meaning: &'static str,
    remedy: &'static str,
) -> Reason {
    Reason { condition, status: false, reason, meaning, remedy }
}

const POOL: &[Reason] = &[
    usual("Accepted", true, "Accepted", "clients reach the pool at its host"),
    wrong(
        "Accepted",
        "HostConflict",
        "an older pool has the host with this type",
        "choose another host, or delete one of the pools",
    ),
    wrong("Accepted", "InvalidHost", "the host is no DNS name", "correct `spec.host`"),
    usual("Ready", true, "InstancesReady", "instances answer"),
    usual("Ready", true, "ScaledToZero", "none runs, and the first user starts one"),
    usual("Ready", false, "InstancesStarting", "none answers yet; those that do not will soon"),
    wrong(
        "Ready",
        "StartOverdue",
        "none answers, and one has been starting for longer than `startTimeoutSeconds`",
        "see its driver's log and its Pod: a server of another type or on another port, or a Pod that gets no node",
    ),
    wrong(
        "Ready",
        "NotAnswering",
        "none answers, and one has answered before: its server is too busy, or its driver is started anew",
        "if it lasts, see its driver's log",
    ),
    wrong(
        "Ready",
        "StartBlocked",
        "none answers, and one cannot start as things stand: its image cannot be pulled, its Pod gets no node, or the \
         Spark Operator has not taken it up for a minute",
        "read the message: it has the kubelet's, the scheduler's or the Spark Operator's words",
    ),
    wrong(
        "Ready",
        "NoRoom",
        "none takes sessions, and none can be started",
        "read `Scaled`; if instances drain, raise `replicas.max` or wait",
    ),
    wrong("Ready", "HostConflict", "see `Accepted`", "see `Accepted`"),
    wrong("Ready", "InvalidHost", "see `Accepted`", "see `Accepted`"),
    wrong(
        "Ready",
        "TemplateRefused",
        "the API server, a policy or an admission webhook does not take a SparkApplication of this template",
        "correct `sparkApplicationTemplate`; the message has the words",
    ),
    wrong(
        "Ready",
        "NamespaceQuotaExceeded",
        "a ResourceQuota of the namespace leaves no room for another instance; sessions wait, and it is tried every minute",
        "raise the quota, or end what else uses it up",
    ),
    wrong(
        "Ready",
        "CreationForbidden",
        "the API server does not let the operator create an instance: it has not the right to, or nobody has at the moment",
        "apply `deploy/rbac.yaml`; the message has the API server's words",
    ),
    wrong(
        "Ready",
        "StatusRefused",
        "the pool's status could not be written, since its object would be too large, or a policy or an admission webhook objected; \
         until it can, no instance is started or removed, and sessions wait",
        "read the message, and make the object smaller or correct the policy",
    ),
    wrong("Ready", "NoInterceptor", "see `IdentityEnforced`", "see `IdentityEnforced`"),
    wrong(
        "Ready",
        "InstanceFailed",
        "the last ones failed",
        "read the message; while somebody needs one it is tried again by itself",
    ),
    wrong(
        "Ready",
        "CrashLoop",
        "ten attempts in a row failed, and no other follows",
        "correct the pool, or delete the failed SparkApplication to have it tried once more",
    ),
    usual("Scaled", true, "AsNeeded", "there are as many instances as the load asks for"),
    usual("Scaled", true, "Starting", "some of them do not answer yet"),
    wrong("Scaled", "StartOverdue", "as for `Ready`, also while others serve", "as for `Ready`"),
    wrong("Scaled", "StartBlocked", "as for `Ready`, also while others serve", "as for `Ready`"),
    usual("Scaled", true, "Resized", "their number has just changed"),
    usual(
        "Scaled",
        false,
        "CoolingDown",
        "there are more than needed; they go when that has been so for `cooldownSeconds`",
    ),
    usual(
        "Scaled",
        false,
        "DriversInUse",
        "there are more than needed, each with sessions, and drivers are not shared: each goes with its last session",
    ),
    wrong(
        "Scaled",
        "AtMaximum",
        "the load asks for more than `replicas.max`",
        "if sessions wait (`status.pendingSessions`): raise `replicas.max`",
    ),
    wrong(
        "Scaled",
        "NoRoom",
        "there are fewer than needed, and those that are about to go still count towards `replicas.max`",
        "if users wait: raise `replicas.max`, or set `drainTimeoutSeconds`",
    ),
    wrong(
        "Scaled",
        "BackingOff",
        "there are fewer than needed, since the last ones failed; the message says when the next attempt is",
        "read the message; it is tried again by itself",
    ),
    wrong("Scaled", "CrashLoop", "as for `Ready`, also while others serve", "as for `Ready`"),
    wrong("Scaled", "TemplateRefused", "as for `Ready`, also while others serve", "as for `Ready`"),
    wrong("Scaled", "NamespaceQuotaExceeded", "as for `Ready`, also while others serve", "as for `Ready`"),
    wrong("Scaled", "StatusRefused", "as for `Ready`, also while others serve", "as for `Ready`"),
    wrong("Scaled", "CreationForbidden", "as for `Ready`, also while others serve", "as for `Ready`"),
    wrong(
        "Scaled",
        "NotMeasured",
        "there are no figures of the drivers' CPU or memory, so their number stays",
        "install a metrics server, allow the operator to `list` `pods.metrics.k8s.io`, or give the driver \
         requests: the message says which",
    ),
    wrong("Scaled", "HostConflict", "none is started; see `Accepted`", "see `Accepted`"),
    wrong("Scaled", "InvalidHost", "none is started; see `Accepted`", "see `Accepted`"),
    wrong("Scaled", "NoInterceptor", "none is started; see `IdentityEnforced`", "see `IdentityEnforced`"),
    usual("UpToDate", true, "UpToDate", "no instance is made from an earlier template"),
    usual(
        "UpToDate",
        false,
        "RollingOut",
        "some are, and are being replaced; the message says how far that is",
    ),
    wrong(
        "UpToDate",
        "BackingOff",
        "they are not replaced now, since new ones failed; the message says when the next attempt is",
        "read the message, and correct the template; earlier instances serve on",
    ),
    wrong("UpToDate", "CrashLoop", "they are not replaced any more, since new ones failed", "as for `Ready`"),
    wrong("UpToDate", "TemplateRefused", "as for `Ready`, while earlier instances serve", "as for `Ready`"),
    wrong(
        "UpToDate",
        "NamespaceQuotaExceeded",
        "as for `Ready`, while earlier instances serve",
        "as for `Ready`",
    ),
    wrong("UpToDate", "StatusRefused", "as for `Ready`, while earlier instances serve", "as for `Ready`"),
    wrong("UpToDate", "CreationForbidden", "as for `Ready`, while earlier instances serve", "as for `Ready`"),
    usual("IdentityEnforced", true, "Enforced", "the servers take each request's user from Envoy"),
    wrong(
        "IdentityEnforced",
        "Trusted",
        "`spec.identity` is `Trusted`: the servers believe what requests say",
        "if that is not meant: set `Enforced`",
    ),
    wrong(
        "IdentityEnforced",
        "NoInterceptor",
        "the operator has none to give to the servers, so none is started",
        "start the operator with `--identity-jar-url`, or set `spec.identity: Trusted`",
    ),
    usual(
        "IdentityEnforced",
        false,
        "OutdatedInstances",
        "instances from before run without it; they take no new sessions, and go with their last",
    ),
    usual("CertificateReady", true, "CertificateServed", "the certificate is served"),
    Reason {
        status: true,
        ..wrong(
            "CertificateReady",
            "CertificateExpiresSoon",
            "it is served, and expires within 14 days",
            "renew it",
        )
    },
    wrong("CertificateReady", "CertificateExpired", "it is served, and has expired", "renew it"),
    wrong(
        "CertificateReady",
        "CertificateNotYetValid",
        "it is served, and its time has not come",
        "check the clocks, or put a valid one into the Secret",
    ),
    wrong(
        "CertificateReady",
        "HostNotInCertificate",
        "it is served, and is for other hosts",
        "have one issued for the host",
    ),
    wrong(
        "CertificateReady",
        "CertificateConflict",
        "the other pool with this host names another Secret, and is older",
        "name the same Secret in both",
    ),
    wrong(
        "CertificateReady",
        "SecretNotFound",
        "the Secret is missing",
        "create it; the message has the command",
    ),
    wrong("CertificateReady", "SecretWithoutCertificate", "the Secret has no `tls.crt`", "put it in"),
    wrong("CertificateReady", "SecretWithoutKey", "the Secret has no `tls.key`", "put it in"),
    wrong(
        "CertificateReady",
        "CertificateInvalid",
        "Envoy would refuse it: the message says why",
        "have another one issued",
    ),
    wrong(
        "CertificateReady",
        "TLSOff",
        "the operator gives no certificate to any Envoy",
        "set up mTLS between Envoy and the operator, and `--envoy-tls-listen-addr`",
    ),
    usual(
        "Programmed",
        true,
        "Programmed",
        "an Envoy has the pool's host, and all else that belongs to the pool",
    ),
    wrong(
        "Programmed",
        "RefusedByEnvoy",
        "an Envoy refuses something of it, and keeps what it had before",
        "read Envoy's words in the message",
    ),
    wrong("Programmed", "HostConflict", "no client reaches the pool; see `Accepted`", "see `Accepted`"),
    wrong("Programmed", "InvalidHost", "no client reaches the pool; see `Accepted`", "see `Accepted`"),
];

const SESSION: &[Reason] = &[
    usual("Ready", true, "Placed", "it has a place on an instance that answers"),
    usual("Ready", true, "Idle", "the same, and it is not used; the message says when it ends"),
    usual(
        "Ready",
        true,
        "QueryRunning",
        "the same, and no client uses it, but a query that runs in it keeps it; the message says which",
    ),
    usual("Ready", true, "InstanceDraining", "the same, and the instance takes no new sessions"),
    usual("Ready", false, "InstanceStarting", "its instance is starting again"),
    usual("Ready", false, "StartingInstance", "its instance is being submitted, or has no node yet"),
    usual("Ready", false, "PullingImage", "the driver's container is being created"),
    usual("Ready", false, "StartingSpark", "the driver runs, and does not answer yet"),
    usual("Ready", false, "ApplyingConf", "the instance answers, and gets the session's configuration"),
    wrong(
        "Ready",
        "Queued",
        "all instances are full, and there may be no more",
        "raise `replicas.max` if that happens often",
    ),
    wrong("Ready", "InstanceFailed", "instances fail: it waits, or has failed for that", "see the pool"),
    wrong("Ready", "CrashLoop", "all instances are full, and no other is tried", "see the pool"),
    wrong(
        "Ready",
        "TemplateRefused",
        "no instance can be started: it waits, or has failed for that",
        "see the pool",
    ),
    wrong("Ready", "NamespaceQuotaExceeded", "no instance can be started: it waits for that", "see the pool"),
    wrong(
        "Ready",
        "CreationForbidden",
        "no instance can be started: it waits, or has failed for that",
        "see the pool",
    ),
    wrong(
        "Ready",
        "NoInterceptor",
        "no instance can be started: it waits, or has failed for that",
        "see the pool",
    ),
    wrong("Ready", "HostConflict", "no instance is started", "see the pool"),
    wrong("Ready", "InvalidHost", "no instance is started", "see the pool"),
    wrong(
        "Ready",
        "PoolUnreadable",
        "the operator cannot read the pool; the session is left as it is",
        "correct what the message names; apply the pool again",
    ),
    wrong("Ready", "StartTimeout", "failed: it has waited for `startTimeoutSeconds`", "see the pool"),
    wrong(
        "Ready",
        "QuotaExceeded",
        "failed: its user, or the pool, has as many as allowed",
        "end another one, or raise the quota",
    ),
    wrong(
        "Ready",
        "CloneRefused",
        "failed: it is a copy of a session whose instance takes no new sessions, is full, or is gone",
        "none; its user can open a session of its own",
    ),
    wrong("Ready", "PoolNotFound", "failed: there is no such pool", "correct `spec.pool`"),
    usual("Ready", false, "Released", "ended by its client, as by `spark.stop()`"),
    usual("Ready", false, "Deleted", "ended by `kubectl delete`"),
    usual("Ready", false, "PoolDeleted", "ended with its pool"),
    usual("Ready", false, "IdleTimeout", "ended by the pool's `idleTimeoutMinutes`"),
    usual(
        "Ready",
        false,
        "DisconnectedTimeout",
        "ended by the pool's `disconnectedTimeoutMinutes`: no client was connected for that long",
    ),
    usual(
        "Ready",
        false,
        "ClientGone",
        "ended because its client went away while the session was starting, and did not come back",
    ),
    usual(
        "Ready",
        false,
        "ReplacedByNewer",
        "ended because its client was gone and its user, who was at a limit, opened another session",
    ),
    usual("Ready", false, "LifetimeExceeded", "ended by the pool's `maxLifetimeMinutes`"),
    usual("Ready", false, "InstanceDrained", "ended with its instance, which had a deadline to drain"),
    wrong(
        "Ready",
        "InstanceLost",
        "ended with its driver, which died, was replaced, or could not be reached",
        "read the pool's Events for the cause",
    ),
    usual("Ready", false, "Ended", "ended by an earlier version of the operator, which did not say why"),
];

/// What an Event may be called.
struct Story {
    warning: bool,
    reason: &'static str,
    meaning: &'static str,
}

const fn normal(reason: &'static str, meaning: &'static str) -> Story {
    Story { warning: false, reason, meaning }
}

const fn warning(reason: &'static str, meaning: &'static str) -> Story {
    Story { warning: true, reason, meaning }
}

/// Besides those that tell of a condition.
const OF_POOLS: &[Story] = &[
    normal("ScaledUp", "the pool grows, from how many to how many, and why"),
    normal("ScaledDown", "the pool shrinks, from how many to how many, and why"),
    normal("InstanceCreated", "a SparkApplication was created"),
    normal(
        "InstanceAdopted",
        "an instance that belonged to an earlier object of this name is the pool's again",
    ),
    normal("InstanceReady", "its server answers"),
    warning("InstanceFailed", "it will not answer again; the end of the driver's log"),
    normal("InstanceDraining", "it takes no new sessions, why, and until when"),
    normal("InstanceTakenBack", "it was draining, and is needed again"),
    normal("InstanceRemoved", "its SparkApplication was deleted"),
    normal("RolledOut", "no instance is made from an earlier template any more"),
    warning(
        "NameTaken",
        "somebody else's SparkApplication has the name of a new instance; the next name is used",
    ),
];

const OF_SESSIONS: &[Story] = &[
    normal("SessionWaiting", "what it waits for, each time that is something else"),
    normal("SessionActive", "which instance serves it"),
    normal("SessionTerminating", "why it is being ended"),
    normal("SessionTerminated", "why it has ended"),
    warning("SessionFailed", "why it could not start"),
    warning(
        "StatusRefused",
        "its status cannot be written, since a policy or an admission webhook objects; it is tried again",
    ),
    warning("StatusTooLarge", "its status cannot be written, since the object would be too large"),
];

/// The Event that tells when the pool's condition begins to say this: whether it is a warning, and its reason.
pub(super) fn told(condition: &str, reason: &str) -> Option<(bool, &'static str)> {
    let it = POOL.iter().find(|it| (it.condition, it.reason) == (condition, reason))?;
    warns(condition, reason).map(|warning| (warning, it.reason))
}

/// `None`: no Event tells of it.
fn warns(condition: &str, reason: &str) -> Option<bool> {
    match (condition, reason) {
        ("UpToDate", "RollingOut") => Some(false),
        ("Accepted", "HostConflict" | "InvalidHost")
        | (
            "Ready" | "Scaled" | "UpToDate",
            "TemplateRefused"
            | "NamespaceQuotaExceeded"
            | "CreationForbidden"
            | "StatusRefused"
            | "CrashLoop",
        )
        | ("Ready" | "Scaled", "StartOverdue" | "StartBlocked")
        | ("Scaled", "NotMeasured")
        | ("IdentityEnforced", "NoInterceptor" | "OutdatedInstances")
        | ("Programmed", "RefusedByEnvoy") => Some(true),
        ("CertificateReady", reason) => (reason != "CertificateServed").then_some(true),
        _ => None,
    }
}

/// Whether the page has it.
pub(crate) fn lists_of_pool(finding: &Finding) -> bool {
    POOL.iter().any(|it| it.is(finding))
}

/// Whether the page has it.
pub(super) fn lists_of_session(finding: &Finding) -> bool {
    SESSION.iter().any(|it| it.is(finding))
}

/// Whether the page has it.
pub(crate) fn lists_event(event: &Event) -> bool {
    let is_it = |story: &Story| (story.warning, story.reason) == (event.warning, event.reason);
    match event.about {
        About::Session { .. } => OF_SESSIONS.iter().any(is_it),
        About::Pool { .. } => {
            let tells = |it: &Reason| told(it.condition, it.reason) == Some((event.warning, event.reason));
            OF_POOLS.iter().any(is_it) || POOL.iter().any(tells)
        }
    }
}

/// File name of the page.
pub const PAGE: &str = "reasons.md";

const INTRODUCTION: &str = "# What conditions and Events say

This page is written by `spark-session-operator crds --output-dir crds`, from the operator's own list, and a test compares
them. `kubectl describe` shows a condition's message, which names the instances, figures and causes; where somebody has to
act, it says what to do. Reasons with nothing in the column \"to do\" come and go as a pool works. Of the others, those with a
Warning are worth an alert if they last for minutes: the metric `spark_session_operator_pool_condition{reason=\"CrashLoop\"}` is 1
while it holds, and so for every reason in the first table.
";

/// In Markdown.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Conditions of a SparkSessionPool (`kubectl describe ssp`)\n\n");
    page.push_str("| condition | status | reason | meaning | to do | Event |\n|---|---|---|---|---|---|\n");
    for it in POOL {
        let event = match warns(it.condition, it.reason) {
            Some(true) => "Warning",
            Some(false) => "Normal",
            None => "",
        };
        let Reason { condition, reason, meaning, remedy, .. } = it;
        page.push_str(&format!(
            "| `{condition}` | {} | `{reason}` | {meaning} | {remedy} | {event} |\n",
            word(it.status)
        ));
    }
    page.push_str("\n## Condition `Ready` of a SparkInteractiveSession (`kubectl describe sis`)\n\n");
    page.push_str("| status | reason | meaning | to do |\n|---|---|---|---|\n");
    for it in SESSION {
        let Reason { reason, meaning, remedy, .. } = it;
        page.push_str(&format!("| {} | `{reason}` | {meaning} | {remedy} |\n", word(it.status)));
    }
    page.push_str("\n## Events\n\nBesides those of the pool's conditions, in the table above.\n\n");
    page.push_str("| about | type | reason | what it tells |\n|---|---|---|---|\n");
    for (about, stories) in [("pool", OF_POOLS), ("session", OF_SESSIONS)] {
        for Story { warning, reason, meaning } in stories {
            let kind = if *warning { "Warning" } else { "Normal" };
            page.push_str(&format!("| {about} | {kind} | `{reason}` | {meaning} |\n"));
        }
    }
    page
}

fn word(status: bool) -> &'static str {
    if status { "True" } else { "False" }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_reason_is_explained_twice() {
        for list in [POOL, SESSION] {
            let all: BTreeSet<_> = list.iter().map(|it| (it.condition, it.reason)).collect();
            assert_eq!(all.len(), list.len());
        }
    }

    #[test]
    fn a_reason_is_known_with_its_status_and_of_its_object() {
        let ready = |status, reason| Finding { type_: "Ready", status, reason, message: String::new() };
        assert!(lists_of_pool(&ready(false, "NoRoom")) && !lists_of_pool(&ready(true, "NoRoom")));
        assert!(!lists_of_session(&ready(false, "NoRoom")) && lists_of_session(&ready(false, "Queued")));
    }
}
