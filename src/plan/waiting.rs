//! What the waiting sessions wait for, in words, and which of them wait in vain.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::conditions::seconds;
use super::counts::{count, int32};
use super::endings::after;
use super::failures::FAILURES_BEFORE_GIVING_UP;
use super::outlook::{Outlook, describe_start, sentence, usual_start};
use super::refusal::Objection;
use super::sessions::{Draft, Drafts};
use super::{Action, Observations, Plan};
use crate::api::{SessionPolicy, SessionState, Sharing, WaitPhase, WaitStatus};
use crate::model::{Instance, InstancePhase, PoolView, Session};

/// `sessionPolicy.startTimeoutSeconds` where the pool does not say.
pub(super) const DEFAULT_START_TIMEOUT: SignedDuration = SignedDuration::from_mins(15);
/// The place in the queue is written down at most this often: with one place that becomes free all others move.
const POSITION_EVERY: SignedDuration = SignedDuration::from_secs(15);

pub(super) const QUEUED: &str = "Queued";
const START_TIMEOUT: &str = "StartTimeout";

/// What a session waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub phase: WaitPhase,
    /// One word for machines: the phase, unless something is wrong.
    pub reason: &'static str,
    /// Of a queued session: its place in the queue, from 1, and how many are queued.
    pub position: Option<(i32, i32)>,
    /// When the wait should be over, by the pool's recent starts.
    pub expected_at: Option<Timestamp>,
    /// A clause without a full stop.
    cause: String,
}

impl Waiting {
    fn new(phase: WaitPhase, cause: String) -> Self {
        let reason = match phase {
            WaitPhase::Queued => QUEUED,
            WaitPhase::StartingInstance => "StartingInstance",
            WaitPhase::PullingImage => "PullingImage",
            WaitPhase::StartingSpark => "StartingSpark",
            WaitPhase::ApplyingConf => "ApplyingConf",
        };
        Self { phase, reason, position: None, expected_at: None, cause }
    }

    /// Sentences that are as true tomorrow as today, for conditions and Events.
    pub fn message(&self, view: &PoolView) -> String {
        let (cause, position) = (&self.cause, self.position.filter(|_| self.reason == QUEUED));
        if let Some((place, of)) = position {
            return format!("Position {place} of {of} in the queue: {cause}.");
        }
        let mut text = sentence(cause);
        if let (Some(at), Some(usual)) = (self.expected_at, usual_start(&view.pool.status)) {
            let at = at.strftime("%H:%M:%S UTC");
            text.push_str(&format!(" Expected about {at} (recent starts of this pool took {usual} s)."));
        }
        text
    }

    /// A clause for somebody who waits right now: what is waited for, and how long it should still take.
    pub fn words(&self, now: Timestamp) -> String {
        if let Some((place, of)) = self.position.filter(|_| self.reason == QUEUED) {
            return format!("it is at position {place} of {of} in the queue, since {}", self.cause);
        }
        let left = self.expected_at.map(|at| at.duration_since(now).as_secs());
        match left {
            Some(left) if left > 0 => format!("{}, expected in about {left} s", self.cause),
            Some(_) => format!("{}, expected any moment", self.cause),
            None => self.cause.clone(),
        }
    }
}

/// What this session waits for at this moment; `None` for one that does not wait, or whose status knows better. Exact,
/// where the session's status follows the queue a little later.
pub fn waiting(view: &PoolView, session: &str, now: Timestamp) -> Option<Waiting> {
    let (observations, mut scratch) = (Observations::default(), Plan::default());
    let in_effect = &super::in_effect(view, now);
    let (drafts, outlook) = super::place_all(view, in_effect, &observations, now, &mut scratch);
    let n = drafts.drafts.iter().position(|draft| draft.session.name() == session)?;
    let waiting = drafts.waits(&outlook).remove(&n)?;
    // What the API server refuses is not observed here: the session's status knows better than that one is created.
    let refused =
        drafts.drafts[n].session.explanation().is_some_and(|(reason, _)| Objection::is_reason(reason));
    (!refused || outlook.created.is_empty()).then_some(waiting)
}

/// An instance that is not there yet, and the places that it will have.
struct Coming<'a> {
    name: &'a str,
    /// `None` where this plan creates it.
    instance: Option<&'a Instance>,
    owner: Option<&'a str>,
    places: usize,
}

impl Drafts<'_> {
    /// By the index of the session: what those wait for that cannot be used yet and have not ended.
    pub fn waits(&self, outlook: &Outlook) -> HashMap<usize, Waiting> {
        let mut waits = HashMap::new();
        for (n, draft) in self.drafts.iter().enumerate().filter(|(_, draft)| draft.goes_on()) {
            if let Some(preparing) = draft.preparing() {
                waits.insert(n, Waiting::new(WaitPhase::ApplyingConf, clause(preparing)));
            }
        }
        let queue = self.queue();
        if queue.is_empty() {
            return waits;
        }
        let mut coming = self.coming(outlook);
        let trouble = trouble(self.view, outlook);
        let mut queued = Vec::new();
        for n in queue {
            match self.takes_place(&mut coming, n) {
                Some(coming) => drop(waits.insert(n, self.waits_for(coming))),
                None => queued.push(n),
            }
        }
        let (reason, cause) = trouble.unwrap_or_else(|| no_place(self.view, outlook, self.now));
        let of = int32(queued.len());
        for (place, n) in queued.into_iter().enumerate() {
            let waiting = Waiting::new(WaitPhase::Queued, cause.clone());
            waits.insert(n, Waiting { reason, position: Some((int32(place + 1), of)), ..waiting });
        }
        waits
    }

    fn coming<'b>(&'b self, outlook: &'b Outlook) -> Vec<Coming<'b>> {
        let spec = &self.view.pool.spec;
        let most = spec.scaling.max_sessions_per_instance.map(count);
        let places = if spec.sharing == Sharing::Session { 1 } else { most.unwrap_or(usize::MAX) };
        let starting = self.view.instances.iter().filter(|it| it.phase == InstancePhase::Starting);
        let starting = starting.map(|instance| (instance.name.as_str(), Some(instance)));
        // What was refused a moment ago does not come, most likely.
        let created = outlook.created.iter().filter(|_| outlook.refusal.is_none());
        let created = created.map(|name| (name.as_str(), None));
        starting
            .chain(created)
            .map(|(name, instance)| Coming { name, instance, owner: None, places })
            .collect()
    }

    fn takes_place<'b, 'c>(&'b self, coming: &'c mut [Coming<'b>], n: usize) -> Option<&'c Coming<'b>> {
        let user = self.drafts[n].session.spec.user.as_str();
        let own = self.view.pool.spec.sharing == Sharing::User;
        let fits = |it: &Coming<'_>| it.places > 0 && (!own || it.owner.is_none_or(|owner| owner == user));
        let chosen = coming.iter().position(|it| it.owner == Some(user) && fits(it));
        let chosen = &mut coming[chosen.or_else(|| coming.iter().position(fits))?];
        chosen.places -= 1;
        chosen.owner = Some(user);
        Some(chosen)
    }

    fn waits_for(&self, coming: &Coming<'_>) -> Waiting {
        let usual = usual_start(&self.view.pool.status).map(SignedDuration::from_secs);
        let (phase, cause, began) = match coming.instance {
            Some(instance) => (phase_of(instance), describe_start(instance), instance.created_at),
            None => {
                let cause = format!("instance {} is being created", coming.name);
                (WaitPhase::StartingInstance, cause, self.now)
            }
        };
        let expected_at = usual.map(|usual| after(seconds(began).0, usual));
        Waiting { expected_at, ..Waiting::new(phase, cause) }
    }

    /// Ends the waiting of those for whom no instance will come, with the cause.
    pub fn give_up(&mut self, waits: &HashMap<usize, Waiting>, outlook: &Outlook, plan: &mut Plan) {
        let (view, now) = (self.view, self.now);
        let patience = patience(&view.pool.spec.session_policy);
        let hopeless = hopeless(view, outlook);
        for (n, draft) in self.drafts.iter_mut().enumerate() {
            let in_vain = draft.setup.as_ref().and_then(|setup| setup.in_vain(draft.session));
            if let Some(message) = in_vain.map(str::to_owned).filter(|_| draft.goes_on()) {
                draft.end(SessionState::Failed, START_TIMEOUT, message);
                release_what_is_there(draft, plan);
                continue;
            }
            let Some(waiting) = waits.get(&n) else { continue };
            if let Some((reason, message)) = hopeless.as_ref().filter(|_| draft.instance.is_none()) {
                draft.end(SessionState::Failed, reason, message.clone());
                continue;
            }
            let deadline = after(waiting_since(draft.session, now), patience);
            if now < deadline {
                plan.wake_at(deadline);
                continue;
            }
            let (pool, cause) = (view.pool.name(), &waiting.cause);
            let what = match waiting.phase {
                WaitPhase::ApplyingConf => format!("The session was not set up in pool {pool}"),
                WaitPhase::Queued if waiting.reason == QUEUED => {
                    format!("No place in pool {pool} became free")
                }
                _ => format!("No instance of pool {pool} was ready"),
            };
            let message = format!("{what} within {} s: {cause}. {MORE}", patience.as_secs());
            draft.end(SessionState::Failed, START_TIMEOUT, message);
            release_what_is_there(draft, plan);
        }
    }
}

/// How long anybody is kept waiting for a session.
pub(super) fn patience(policy: &SessionPolicy) -> SignedDuration {
    let seconds = policy.start_timeout_seconds;
    seconds.map_or(DEFAULT_START_TIMEOUT, |seconds| SignedDuration::from_secs(seconds.into()))
}

/// Of one that fails while it is set up: nobody waits for the outcome.
fn release_what_is_there(draft: &Draft<'_>, plan: &mut Plan) {
    let Some(instance) = draft.instance else { return };
    plan.actions.push(Action::ReleaseSpark {
        session: draft.session.meta.name.clone(),
        uid: draft.session.meta.uid.clone(),
        instance: instance.to_owned(),
    });
}

/// What the session's status says of its wait, and its condition. A change of its place in the queue alone waits for
/// its turn.
pub fn written(
    session: &Session,
    waiting: &Waiting,
    view: &PoolView,
    now: Timestamp,
    plan: &mut Plan,
) -> (WaitStatus, String) {
    let message = waiting.message(view);
    let new = WaitStatus {
        phase: waiting.phase,
        position: waiting.position.map(|(place, _)| place),
        expected_at: waiting.expected_at.map(seconds),
        as_of: seconds(now),
    };
    let (Some(old), Some((reason, said))) = (&session.status.wait, session.explanation()) else {
        return (new, message);
    };
    if said == message && *old == (WaitStatus { as_of: old.as_of.clone(), ..new.clone() }) {
        return (old.clone(), message);
    }
    let again = after(old.as_of.0, POSITION_EVERY);
    let moved = old.phase == WaitPhase::Queued && reason == QUEUED && waiting.reason == QUEUED;
    if moved && (old.as_of.0..again).contains(&now) {
        plan.wake_at(again);
        return (old.clone(), said.to_owned());
    }
    (new, message)
}

/// Since when the session waits: since its `Ready` condition became false, or since it exists.
fn waiting_since(session: &Session, now: Timestamp) -> Timestamp {
    let ready = session.status.conditions.iter().find(|condition| condition.type_ == "Ready");
    match ready {
        Some(condition) if condition.status == "False" => condition.last_transition_time.0,
        Some(_) => now,
        None => session.meta.created_at,
    }
}

pub(super) const MORE: &str =
    "Try again later; the pool's administrator finds more with `kubectl describe ssp`.";

/// Whether waiting is in vain, and why.
fn hopeless(view: &PoolView, outlook: &Outlook) -> Option<(&'static str, String)> {
    let pool = view.pool.name();
    if view.instances.iter().any(|instance| instance.takes_sessions()) {
        return None;
    }
    if let Some(refusal) = outlook.standing_refusal() {
        let remedy = refusal.objection.remedy()?;
        let message = format!("Pool {pool} cannot start an instance: {}. {remedy}", refusal.describe());
        return Some((refusal.objection.reason(), message));
    }
    if view.lacks_interceptor() {
        let message = format!(
            "Pool {pool} cannot start an instance: its spec.identity is Enforced, and the operator was started without \
             --identity-jar-url. The administrator of the operator has to set it."
        );
        return Some(("NoInterceptor", message));
    }
    let failures = &outlook.failures;
    let awaited = outlook.next_attempt.is_some() || outlook.stopped;
    if failures.consecutive >= FAILURES_BEFORE_GIVING_UP && awaited {
        let cause = failures.last_message.as_deref().unwrap_or("no cause is known");
        let message = format!(
            "Pool {pool} cannot start an instance, {} in a row failed. The last: {cause}. {MORE}",
            failures.consecutive
        );
        return Some(("InstanceFailed", message));
    }
    None
}

/// Why no instance is started for anybody.
fn trouble(view: &PoolView, outlook: &Outlook) -> Option<(&'static str, String)> {
    if let Some(other) = &view.host_taken_by {
        return Some(("HostConflict", format!("pool {other} has this pool's host and type already")));
    }
    if view.host_invalid {
        let cause = "the host of this pool is no DNS name, so no instance is started";
        return Some(("InvalidHost", cause.to_owned()));
    }
    let refusal = outlook.refusal.as_ref()?;
    Some((refusal.objection.reason(), refusal.describe()))
}

fn no_place(view: &PoolView, outlook: &Outlook, now: Timestamp) -> (&'static str, String) {
    if let Some(at) = outlook.next_attempt {
        let cause = outlook.failures.last_message.as_deref().unwrap_or("the last instance failed");
        return ("InstanceFailed", format!("{cause}; the next attempt is at {}", seconds(at).0));
    }
    if outlook.stopped {
        let cause = outlook.failures.last_message.as_deref().unwrap_or("the last instances failed");
        return (
            "CrashLoop",
            format!("every instance of the pool is full, and no other is started: {cause}"),
        );
    }
    if view.lacks_interceptor() {
        let cause = "every instance of the pool is full, and no other is started, since the operator has no interceptor";
        return ("NoInterceptor", cause.to_owned());
    }
    if view.instances.is_empty()
        && let Some(driver) = view.still_leaving(now).next()
    {
        let (max, instance) = (view.pool.spec.replicas.max, &driver.instance);
        return (
            QUEUED,
            format!(
                "replicas.max of {max} has no room for an instance until the driver of {instance} is gone"
            ),
        );
    }
    let full = if view.pool.spec.sharing == Sharing::Pool { "full" } else { "in use" };
    let (pool, max) = (view.pool.name(), view.pool.spec.replicas.max);
    (QUEUED, format!("every instance of pool {pool} is {full}, and the pool is at its maximum of {max}"))
}

fn phase_of(instance: &Instance) -> WaitPhase {
    let image = ["ErrImage", "ImagePull", "InvalidImage"];
    let image_trouble =
        instance.message.as_ref().is_some_and(|message| image.iter().any(|word| message.starts_with(word)));
    if instance.creating || image_trouble {
        WaitPhase::PullingImage
    } else if instance.endpoint.is_some() {
        WaitPhase::StartingSpark
    } else {
        WaitPhase::StartingInstance
    }
}

pub(super) fn clause(sentence: &str) -> String {
    let mut characters = sentence.trim_end_matches('.').chars();
    let first = characters.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    first + characters.as_str()
}
