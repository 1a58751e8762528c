//! Who of several replicas leads: the state machine of one candidate for a coordination.k8s.io Lease.
//! Pure: it is told what was read and what was written, and when.
//!
//! As in client-go, clocks of different machines are never compared: a candidate times how long *it*
//! has seen the Lease unchanged. The holder counts from before it asked for the renewal, and gives up
//! some seconds before anyone else may take over.
//!
//! There is one Lease that nobody has to wait for: that of the process which ran before in the very same Pod. A kubelet
//! runs one process of a container at a time, so the holder has ended. What it sent before meets its guards in the API
//! server. It goes by the Pod's UID: a namesake, as a StatefulSet makes it, may run beside a lost one.
//!
//! Not here: reading and writing the Lease, and what a leader does (`leadership`, `reconcile`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;
use uuid::Uuid;

/// How long things take. A crashed leader is replaced within `duration` plus two `retry`.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTiming {
    /// Nobody takes a Lease that was seen to change within this time. Whole seconds.
    pub duration: Duration,
    /// The holder stops leading this long after its last renewal. What it has sent until then has the
    /// rest of `duration` to arrive.
    pub renew_deadline: Duration,
    /// Between renewals.
    pub renew: Duration,
    /// Between two looks of a candidate, and after a failure.
    pub retry: Duration,
}

impl LeaseTiming {
    pub const DEFAULT: Self = Self::lasting(Duration::from_secs(10));

    /// For a Lease of whole seconds.
    pub const fn lasting(duration: Duration) -> Self {
        let tenth = Duration::from_millis(duration.as_secs() * 100);
        Self {
            duration,
            renew_deadline: tenth.saturating_mul(7),
            renew: tenth.saturating_mul(2),
            retry: tenth,
        }
    }
}

/// One moment on the process's own clock, by which everything is decided, and on the wall, which is
/// written into the Lease for people to read.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub instant: Instant,
    pub wall: Timestamp,
}

/// What to do about the Lease as it was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nobody has made it yet.
    Create(LeaseSpec),
    /// It is free or ours: replace it, guarded by the resource version that was read.
    Replace(LeaseSpec),
    /// Another process leads; its time is up at this moment, unless it renews.
    Wait(Instant),
}

/// By which name a process holds the Lease: no other process that ever ran has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderIdentity {
    name: String,
    /// How the names of all processes in this Pod begin, if it is known which Pod it is.
    same_pod: Option<String>,
}

impl HolderIdentity {
    pub fn new(pod_name: &str, pod_uid: Option<&str>, process: Uuid) -> Self {
        match pod_uid {
            None => Self { name: format!("{pod_name}_{process}"), same_pod: None },
            Some(uid) => {
                let same_pod = format!("{pod_name}_{uid}_");
                Self { name: format!("{same_pod}{process}"), same_pod: Some(same_pod) }
            }
        }
    }

    pub fn as_str(&self) -> &str {
        &self.name
    }

    fn is_of_same_pod(&self, holder: &str) -> bool {
        self.same_pod.as_ref().is_some_and(|same_pod| holder.starts_with(same_pod))
    }
}

/// One candidate.
#[derive(Debug)]
pub struct Election {
    identity: HolderIdentity,
    timing: LeaseTiming,
    /// Whether the Lease is as it was when this process came. Whoever has written it since then is alive, whatever its
    /// name says.
    as_found: bool,
    /// Whether this process has asked for the Lease since it last saw another one hold it. Else a Lease with its name is one
    /// from earlier, as a restored backup has it: the other one may still lead.
    claimed: bool,
    seen: Option<Seen>,
    held_until: Option<Instant>,
}

#[derive(Debug)]
struct Seen {
    spec: LeaseSpec,
    /// When it was first seen like this.
    at: Instant,
}

impl Election {
    pub fn new(identity: HolderIdentity, timing: LeaseTiming) -> Self {
        Self { identity, timing, as_found: true, claimed: false, seen: None, held_until: None }
    }

    /// `now` is a moment after the Lease was read.
    pub fn step(&mut self, found: Option<&Lease>, now: Moment) -> Step {
        let Some(lease) = found else {
            (self.seen, self.as_found, self.claimed) = (None, false, true);
            return Step::Create(self.ours(None, now.wall));
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let since = match &self.seen {
            Some(seen) if seen.spec == spec => seen.at,
            Some(_) => {
                self.as_found = false;
                now.instant
            }
            None => now.instant,
        };
        let expires = since + self.promised(&spec);
        let ended = |holder: &str| self.as_found && self.identity.is_of_same_pod(holder);
        let is_ours = self.is_ours(&spec) && self.claimed;
        let taken = holder(&spec).is_some_and(|holder| !is_ours && !ended(holder));
        let waits = taken && now.instant < expires;
        let step = if waits { Step::Wait(expires) } else { Step::Replace(self.ours(Some(&spec), now.wall)) };
        self.claimed = !waits;
        if taken {
            self.held_until = None;
        }
        self.seen = Some(Seen { spec, at: since });
        step
    }

    /// The API server has taken what `step` said. `sent` is a moment before it was sent.
    pub fn written(&mut self, spec: LeaseSpec, sent: Instant) {
        self.held_until = Some(sent + self.timing.renew_deadline);
        self.seen = Some(Seen { spec, at: sent });
    }

    /// Until when this replica leads, if nothing more is heard. It may lie in the past.
    pub fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// Who is known to hold the Lease.
    pub fn leader(&self) -> Option<&str> {
        self.seen.as_ref().and_then(|seen| holder(&seen.spec))
    }

    /// What to write so that another replica takes over at once; `None` where the Lease is not ours.
    pub fn given_up(&mut self, found: &Lease, wall: Timestamp) -> Option<LeaseSpec> {
        self.held_until = None;
        let spec = found.spec.as_ref().filter(|spec| self.is_ours(spec))?;
        Some(LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(wall)),
            ..spec.clone()
        })
    }

    fn is_ours(&self, spec: &LeaseSpec) -> bool {
        holder(spec) == Some(self.identity.as_str())
    }

    fn ours(&self, before: Option<&LeaseSpec>, wall: Timestamp) -> LeaseSpec {
        let renewed = before.filter(|spec| self.is_ours(spec));
        let transitions = before.and_then(|spec| spec.lease_transitions);
        LeaseSpec {
            holder_identity: Some(self.identity.name.clone()),
            lease_duration_seconds: Some(i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: renewed.and_then(|spec| spec.acquire_time.clone()).or(Some(MicroTime(wall))),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: match (before, renewed) {
                (None, _) => Some(0),
                (_, Some(_)) => transitions,
                _ => Some(transitions.unwrap_or(0).saturating_add(1)),
            },
            ..before.cloned().unwrap_or_default()
        }
    }

    /// What the holder asks others to wait, which during an upgrade need not be what we would ask.
    /// Never longer than a minute: nobody may lock everyone out by a number.
    fn promised(&self, spec: &LeaseSpec) -> Duration {
        const LONGEST: Duration = Duration::from_secs(60);
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        match seconds {
            None | Some(0) => self.timing.duration,
            Some(seconds) => Duration::from_secs(seconds).min(LONGEST),
        }
    }
}

fn holder(spec: &LeaseSpec) -> Option<&str> {
    spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
