//! Keeps the Lease for this replica, and tells its other parts whether they may write.
//!
//! What holds the writers back is the clock: they look at the time until which the Lease is ours, so
//! a renewal that hangs cannot keep them writing. A write that was sent just before that and arrives
//! late still meets its guards in the API server: resource versions, UIDs, names that are used once.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::history::History;
use super::lease::{Election, HolderIdentity, LeaseTiming, Moment, Step};
use crate::telemetry::Causes;

/// Of one request to the API server.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

/// Which Lease, and as whom.
#[derive(Clone, Debug)]
pub struct LeaseName {
    pub namespace: String,
    pub name: String,
    pub identity: HolderIdentity,
}

/// One time of leading without a break. A plan made in one term is not carried out in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Standby,
    /// `until` is `None` where nobody else can lead.
    Leading {
        term: Term,
        until: Option<Instant>,
    },
    /// Stopping: what runs may end, nothing begins.
    Leaving {
        term: Term,
        until: Option<Instant>,
    },
}

impl Standing {
    fn term(self) -> Option<Term> {
        match self {
            Self::Standby => None,
            Self::Leading { term, .. } | Self::Leaving { term, .. } => Some(term),
        }
    }

    fn leading(self) -> Option<Term> {
        self.term().filter(|_| matches!(self, Self::Leading { .. }))
    }
}

/// Whether this replica may write. Clones share the answer.
#[derive(Clone, Debug)]
pub struct Leadership {
    standing: watch::Receiver<Standing>,
    writing: TaskTracker,
}

impl Leadership {
    /// For the only replica.
    pub fn always() -> Self {
        let standing = watch::Sender::new(Standing::Leading { term: Term(1), until: None });
        Self { standing: standing.subscribe(), writing: TaskTracker::new() }
    }

    /// And what gives it a term, or takes it away.
    #[cfg(test)]
    pub fn for_a_test() -> (Self, impl Fn(Option<u64>)) {
        let standing = watch::Sender::new(Standing::Standby);
        let leadership = Self { standing: standing.subscribe(), writing: TaskTracker::new() };
        let lead = move |term: Option<u64>| {
            let leading = |term| Standing::Leading { term: Term(term), until: None };
            standing.send_replace(term.map_or(Standing::Standby, leading));
        };
        (leadership, lead)
    }

    /// The present term, if this replica leads.
    pub fn term(&self) -> Option<Term> {
        match *self.standing.borrow() {
            Standing::Leading { term, until } if until.is_none_or(|until| Instant::now() < until) => {
                Some(term)
            }
            _ => None,
        }
    }

    /// Waits for a term after `last`.
    pub async fn next_term(&self, last: Option<Term>) -> Term {
        let mut standing = self.standing.clone();
        loop {
            match *standing.borrow_and_update() {
                Standing::Leading { term, .. } if Some(term) > last => return term,
                _ => {}
            }
            if standing.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Does one write of a plan made in `term`. `None` when the term is over: then nothing was begun,
    /// or what was begun is abandoned.
    pub async fn in_term<T>(&self, term: Term, write: impl Future<Output = T>) -> Option<T> {
        let _counted = self.writing.token();
        if self.term() != Some(term) {
            return None;
        }
        tokio::select! {
            done = write => Some(done),
            () = self.over(term, Standing::term) => None,
        }
    }

    /// Does what follows from a plan made in `term`, and is not a write to the API server. `None` when the term is over
    /// or this replica begins to stop, which does not wait for it: then nothing was begun, or what was begun is abandoned.
    pub async fn while_leading<T>(&self, term: Term, work: impl Future<Output = T>) -> Option<T> {
        if self.term() != Some(term) {
            return None;
        }
        tokio::select! {
            done = work => Some(done),
            () = self.over(term, Standing::leading) => None,
        }
    }

    async fn over(&self, term: Term, of: impl Fn(Standing) -> Option<Term>) {
        let mut standing = self.standing.clone();
        loop {
            let now = *standing.borrow_and_update();
            let until = match now {
                Standing::Leading { until, .. } | Standing::Leaving { until, .. }
                    if of(now) == Some(term) && until.is_none_or(|until| Instant::now() < until) =>
                {
                    until
                }
                _ => return,
            };
            let expired = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Looked at again: the Lease may have been renewed in the same moment.
                () = expired => {}
                changed = standing.changed() => if changed.is_err() {
                    return match until {
                        Some(until) => sleep_until(until).await,
                        None => std::future::pending().await,
                    };
                },
            }
        }
    }
}

/// This replica as a candidate for the Lease.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    timing: LeaseTiming,
    election: Election,
    /// As the API server answered our last write: a renewal need not read it first, since whoever changed it meanwhile
    /// made that one a conflict.
    held: Option<Lease>,
    standing: watch::Sender<Standing>,
    writing: TaskTracker,
    last_term: u64,
    leads: Gauge,
    told: Told,
    recoveries: Option<watch::Receiver<u64>>,
    history: History,
    /// Of the Lease, as it was last read or written.
    version: u64,
    /// When the API server last answered.
    reached: watch::Sender<Instant>,
}

/// What the log said last.
#[derive(Debug, Default)]
struct Told {
    leader: Option<String>,
    problem: Option<String>,
}

impl Candidate {
    /// `leads` is 1 while this replica does.
    pub fn new(client: &Client, lease: LeaseName, timing: LeaseTiming, leads: Gauge) -> (Self, Leadership) {
        let (sender, receiver) = watch::channel(Standing::Standby);
        let writing = TaskTracker::new();
        let candidate = Self {
            api: Api::namespaced(client.clone(), &lease.namespace),
            name: lease.name,
            timing,
            election: Election::new(lease.identity, timing),
            held: None,
            standing: sender,
            writing: writing.clone(),
            last_term: 0,
            leads,
            told: Told::default(),
            recoveries: None,
            history: History::default(),
            version: 0,
            reached: watch::Sender::new(Instant::now()),
        };
        (candidate, Leadership { standing: receiver, writing })
    }

    /// Tries again at once when this changes, and not only after its pause: the API server is back.
    pub fn woken_by(mut self, recoveries: watch::Receiver<u64>) -> Self {
        self.recoveries = Some(recoveries);
        self
    }

    /// Tells of a Lease that is older than it was.
    pub fn doubting(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// When this replica's questions about the Lease, of which there is one every few seconds, were last answered.
    pub fn reached(&self) -> watch::Receiver<Instant> {
        self.reached.subscribe()
    }

    fn answered(&mut self, lease: Option<&Lease>) {
        self.reached.send_replace(Instant::now());
        let version = lease.and_then(|lease| lease.metadata.resource_version.as_deref()?.parse().ok());
        if let Some(version) = version {
            if version < self.version {
                self.history.doubt();
            }
            self.version = version;
        }
    }

    async fn recovery(&mut self) {
        let Some(recoveries) = &mut self.recoveries else { return std::future::pending().await };
        if recoveries.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Takes part from when `ready` ends until `stop`; then gives the Lease back, so that another
    /// replica need not wait for it to expire.
    pub async fn run(
        mut self,
        ready: impl Future<Output = ()>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        tokio::select! {
            () = ready => {}
            () = stop.cancelled() => return Ok(()),
        }
        loop {
            let pause = self.round().await;
            tokio::select! {
                () = sleep(pause) => {}
                () = self.recovery() => {}
                () = stop.cancelled() => break,
            }
        }
        self.leave().await;
        Ok(())
    }

    /// Returns how long to pause.
    async fn round(&mut self) -> Duration {
        let outcome = self.attempt().await;
        self.announce();
        match outcome {
            Ok(pause) => {
                self.told.problem = None;
                pause
            }
            Err(problem) => {
                if self.told.problem.as_ref() != Some(&problem) {
                    tracing::warn!(
                        lease = self.name,
                        "{problem}; trying again every {:?}",
                        self.timing.retry
                    );
                    self.told.problem = Some(problem);
                }
                self.timing.retry
            }
        }
    }

    async fn attempt(&mut self) -> Result<Duration, String> {
        if let Some(held) = self.held.take()
            && let Step::Replace(spec) = self.election.step(Some(&held), moment())
            && self.write(held.metadata, spec).await?
        {
            return Ok(self.timing.renew);
        }
        let found = request("read", self.api.get_opt(&self.name)).await?;
        self.answered(found.as_ref());
        let now = moment();
        let (metadata, spec) = match self.election.step(found.as_ref(), now) {
            Step::Wait(expires) => {
                return Ok(self.timing.retry.min(expires.saturating_duration_since(now.instant)));
            }
            Step::Create(spec) => {
                (ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() }, spec)
            }
            Step::Replace(spec) => (found.map(|lease| lease.metadata).unwrap_or_default(), spec),
        };
        let written = self.write(metadata, spec).await?;
        Ok(if written { self.timing.renew } else { self.timing.retry })
    }

    /// Whether the API server took it: false when another replica was faster, or the Lease is gone.
    async fn write(&mut self, metadata: ObjectMeta, spec: LeaseSpec) -> Result<bool, String> {
        let (lease, params, sent) =
            (Lease { metadata, spec: Some(spec) }, PostParams::default(), Instant::now());
        let known = lease.metadata.resource_version.is_some();
        let written = if known {
            timeout(REQUEST_LIMIT, self.api.replace(&self.name, &params, &lease)).await
        } else {
            timeout(REQUEST_LIMIT, self.api.create(&params, &lease)).await
        };
        match written {
            Ok(Err(kube::Error::Api(status))) if status.code == 409 || (known && status.code == 404) => {
                self.answered(None);
                Ok(false)
            }
            Ok(Ok(lease)) => {
                self.answered(Some(&lease));
                self.election.written(lease.spec.clone().unwrap_or_default(), sent);
                self.held = Some(lease);
                Ok(true)
            }
            other => described("write", other).map(|_| true),
        }
    }

    /// Tells everyone what the election has come to.
    fn announce(&mut self) {
        let until = self.election.held_until().filter(|until| Instant::now() < *until);
        let before = *self.standing.borrow();
        let now = match (before, until) {
            (_, None) => Standing::Standby,
            // Only if it never ran out: writers have gone by the clock meanwhile.
            (Standing::Leading { term, until: Some(earlier) }, Some(until)) if Instant::now() < earlier => {
                Standing::Leading { term, until: Some(until) }
            }
            (_, Some(until)) => {
                self.last_term += 1;
                Standing::Leading { term: Term(self.last_term), until: Some(until) }
            }
        };
        self.standing.send_replace(now);
        let (led, leads) = (before.term(), now.term());
        self.leads.set(i64::from(leads.is_some()));
        let (lease, leader) = (&self.name, self.election.leader().map(str::to_owned));
        if leads > led {
            tracing::info!(lease, "this replica leads: it plans and writes");
        } else if leads < led {
            tracing::warn!(lease, leader, "this replica does not lead any more; it goes on answering Envoy");
        } else if leads.is_none() && self.told.leader != leader {
            tracing::info!(lease, leader, "another replica leads");
        }
        self.told.leader = leader;
    }

    async fn leave(mut self) {
        let before = *self.standing.borrow();
        let Standing::Leading { term, until } = before else {
            return;
        };
        self.standing.send_replace(Standing::Leaving { term, until });
        self.writing.close();
        if let Some(until) = until
            && timeout_at(until, self.writing.wait()).await.is_err()
        {
            tracing::warn!("some writes did not end in time and were abandoned");
        }
        self.standing.send_replace(Standing::Standby);
        self.leads.set(0);
        match self.give_up().await {
            Ok(()) => tracing::info!(lease = self.name, "gave the lease back"),
            Err(problem) => tracing::warn!(lease = self.name, "{problem}; it has to expire"),
        }
    }

    async fn give_up(&mut self) -> Result<(), String> {
        let Some(mut lease) = request("read", self.api.get_opt(&self.name)).await? else {
            return Ok(());
        };
        let Some(spec) = self.election.given_up(&lease, Timestamp::now()) else {
            return Ok(());
        };
        lease.spec = Some(spec);
        request("write", self.api.replace(&self.name, &PostParams::default(), &lease)).await.map(drop)
    }
}

fn moment() -> Moment {
    Moment { instant: Instant::now(), wall: Timestamp::now() }
}

async fn request<T>(verb: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    described(verb, timeout(REQUEST_LIMIT, request).await)
}

fn described<T, E>(verb: &str, outcome: Result<kube::Result<T>, E>) -> Result<T, String> {
    match outcome {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
            Err(format!("the operator may not {verb} the Lease (apply deploy/rbac.yaml): {}", status.message))
        }
        Ok(Err(error)) => Err(format!("the request to {verb} the Lease failed: {}", Causes(&error))),
        Err(_) => Err(format!("no answer within {REQUEST_LIMIT:?} from the API server about the Lease")),
    }
}

#[cfg(test)]
#[path = "leadership_tests.rs"]
mod tests;
