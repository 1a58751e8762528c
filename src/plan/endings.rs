//! Which sessions end, and why. An end that is decided while the session has something on a server that answers is
//! first carried out there: until that is over, or has failed, the session is `Terminating`. Sessions that fail before
//! they have a place are not here.

use jiff::{SignedDuration, Timestamp};

use super::conditions::seconds;
use super::disconnected::{CLIENT_GONE, DISCONNECTED_TIMEOUT};
use super::drains::INSTANCE_DRAINED;
use super::running::{Asking, MayEnd};
use super::sessions::{Draft, Drafts, Verdict};
use super::{Action, Observations, Plan};
use crate::api::SessionState;
use crate::model::{Instance, Protocol, REPLACED_BY_NEWER, ReleaseOutcome, Session};

const RELEASED: &str = "Released";
const DELETED: &str = "Deleted";
const POOL_DELETED: &str = "PoolDeleted";
const INSTANCE_LOST: &str = "InstanceLost";
const LIFETIME_EXCEEDED: &str = "LifetimeExceeded";
const IDLE_TIMEOUT: &str = "IdleTimeout";
/// Of a session that is being released for a reason that nobody knows any more.
const ENDED: &str = "Ended";

/// The reasons with which a session may be `Terminating`.
const REASONS: [&str; 9] = [
    RELEASED,
    DELETED,
    POOL_DELETED,
    INSTANCE_DRAINED,
    LIFETIME_EXCEEDED,
    IDLE_TIMEOUT,
    DISCONNECTED_TIMEOUT,
    CLIENT_GONE,
    REPLACED_BY_NEWER,
];

/// A session is shown as idle after this long, or after half of its idle timeout if that is shorter.
const SHOWN_IDLE_AFTER: SignedDuration = SignedDuration::from_mins(10);

impl<'a> Drafts<'a> {
    /// Decides about every session that is not over. An end that was decided before stays as it was decided.
    pub fn end(&mut self, observations: &Observations, plan: &mut Plan) {
        self.go_on_ending();
        self.end_deleted();
        self.end_released();
        self.release_lost();
        self.end_drained(plan);
        self.end_at_their_time(observations, plan);
        self.end_disconnected(plan);
        self.release(plan);
    }

    fn go_on_ending(&mut self) {
        let terminating = |draft: &&mut Draft<'_>| draft.state == SessionState::Terminating;
        for draft in self.drafts.iter_mut().filter(terminating) {
            let (reason, message) =
                draft.session.explanation().unwrap_or((ENDED, "The session has ended. Start a new session."));
            let reason = REASONS.into_iter().find(|known| *known == reason).unwrap_or(ENDED);
            draft.verdict = Some(Verdict { reason, message: message.to_owned() });
        }
    }

    fn end_deleted(&mut self) {
        let pool = &self.view.pool;
        for draft in self.drafts.iter_mut().filter(|draft| draft.goes_on()) {
            if draft.session.meta.deleting {
                draft.condemn(DELETED, "The session was deleted (kubectl delete). Start a new session.");
            } else if pool.meta.deleting && draft.instance.is_some() {
                draft.condemn(
                    POOL_DELETED,
                    format!("Pool {} was deleted, and the session with it.", pool.name()),
                );
            } else if pool.meta.deleting {
                let message = format!("Pool {} is being deleted: no session starts in it.", pool.name());
                draft.end(SessionState::Failed, POOL_DELETED, message);
            }
        }
    }

    /// A session that its client has released is over: its id does not come back.
    fn end_released(&mut self) {
        for draft in self.drafts.iter_mut().filter(|draft| draft.goes_on()) {
            if draft.session.status.released_at.is_some() {
                draft.condemn(RELEASED, "The client ended the session.");
            }
        }
    }

    /// A driver that is gone takes its Connect sessions with it: their temporary views and cached data were there. So
    /// does one that has a successor in its instance, also where that happened while nobody watched: the status names
    /// the driver. A Thrift session is opened anew elsewhere.
    fn release_lost(&mut self) {
        for draft in self.drafts.iter_mut().filter(|draft| draft.goes_on()) {
            let Some(name) = draft.instance else { continue };
            let instance = self.instances.get(name).filter(|instance| instance.is_alive());
            let is_waiting = draft.state == SessionState::Pending;
            let lost = match instance {
                None => format!("Instance {name}, which held this session, is gone."),
                Some(instance) if !is_waiting && draft.session.has_lost_driver_of(instance) => {
                    format!("The driver of instance {name}, which held this session, was replaced.")
                }
                Some(_) => continue,
            };
            draft.instance = None;
            match self.view.pool.protocol() {
                Protocol::Connect if !is_waiting => {
                    draft.condemn(INSTANCE_LOST, format!("{lost} Start a new session."));
                }
                // A session that nobody could use yet has nothing to lose either.
                _ => draft.state = SessionState::Pending,
            }
        }
    }

    fn end_at_their_time(&mut self, observations: &Observations, plan: &mut Plan) {
        let (view, now) = (self.view, self.now);
        let policy = &view.pool.spec.session_policy;
        let asking = Asking { view, instances: &self.instances, now };
        for draft in self.drafts.iter_mut().filter(|draft| draft.goes_on()) {
            if let Some(minutes) = policy.max_lifetime_minutes {
                let at = after(began(draft.session), SignedDuration::from_mins(minutes.into()));
                if at <= now {
                    let message = format!(
                        "The session ended because it had reached its maximum lifetime of {minutes} min. Start a new one."
                    );
                    draft.condemn(LIFETIME_EXCEEDED, message);
                    continue;
                }
                plan.wake_at(at);
            }
            let last_use = last_use(draft.session, view.activity.get(draft.session.name()).copied());
            let last_use = observations.clock_jumped_at.map_or(last_use, |jump| jump.max(last_use));
            end_idle(draft, last_use, observations, asking, plan);
        }
    }

    /// Has those that end closed on their servers, and ends those where that is over.
    fn release(&mut self, plan: &mut Plan) {
        for n in 0..self.drafts.len() {
            self.release_one(n, plan);
        }
    }

    /// The same for one of them.
    pub(super) fn release_one(&mut self, n: usize, plan: &mut Plan) {
        {
            let draft = &self.drafts[n];
            if draft.verdict.is_none() || draft.state.is_finished() {
                return;
            }
            let session = draft.session;
            let outcome = self.view.spark_sides.get(&session.meta.uid).and_then(|side| side.release.as_ref());
            // Whether Spark has heard of what a client of its released, or has refused it, nobody knows. The connections of
            // JDBC clients are closed one by one before.
            let closed =
                session.status.released_at.is_some() && self.view.pool.protocol() == Protocol::Thrift;
            let open = outcome.is_none() && !closed;
            let server = self.server_of(session).filter(|_| open);
            let server = server.map(|instance| instance.name.clone());
            let draft = &mut self.drafts[n];
            if let Some(instance) = server {
                draft.state = SessionState::Terminating;
                let (session, uid) = (session.meta.name.clone(), session.meta.uid.clone());
                plan.actions.push(Action::ReleaseSpark { session, uid, instance });
                return;
            }
            draft.state = SessionState::Terminated;
            if let (Some(ReleaseOutcome::GaveUp(words)), Some(verdict)) = (outcome, &mut draft.verdict) {
                let words = words.trim_end_matches('.');
                verdict.message.push_str(&format!(
                    " It could not be closed on Spark's side ({words}); Spark does that itself after its own timeout."
                ));
            }
        }
    }

    /// The server where something of the session may be left.
    fn server_of(&self, session: &Session) -> Option<&'a Instance> {
        let assigned = session.status.assigned_instance.iter();
        let mut names =
            assigned.chain(session.status.connections.iter().map(|connection| &connection.instance));
        names.find_map(|name| {
            let instance = self.instances.get(name.as_str()).copied();
            let is_it = |it: &&Instance| it.is_alive() && !session.has_lost_driver_of(it);
            instance.filter(is_it).filter(|instance| instance.cluster().is_some())
        })
    }
}

/// Ends the session, or shows it as idle, or plans again when that is due. No end comes before uses of a whole
/// interval were watched for: another replica, or an earlier leader, may know of one that is not written down yet.
fn end_idle(
    draft: &mut Draft<'_>,
    last_use: Timestamp,
    observations: &Observations,
    asking: Asking<'_>,
    plan: &mut Plan,
) {
    let (now, timeout_minutes) = (asking.now, asking.view.pool.spec.session_policy.idle_timeout_minutes);
    let in_use = matches!(draft.state, SessionState::Active | SessionState::Idle) && draft.instance.is_some();
    let Some(watching_since) = observations.watching_since.filter(|_| in_use) else { return };
    if let Some(words) = asking.keeps(draft.session, last_use, plan) {
        return keep(draft, words);
    }
    let slack = observations.activity_slack;
    let timeout = SignedDuration::from_mins(timeout_minutes.into());
    let all_seen = after(watching_since, slack);
    let mut ends = after(after(last_use, timeout), slack).max(all_seen);
    if ends <= now {
        match asking.may_end(draft.session, ends, plan) {
            MayEnd::Yes { unknown } => {
                let since = seconds(last_use).0;
                let unknown = unknown.map_or_else(String::new, |reason| unanswered(&reason));
                let message = format!(
                    "The session ended because it was not used for {timeout_minutes} min (since {since}).{unknown} Start a \
                     new session."
                );
                return draft.condemn(IDLE_TIMEOUT, message);
            }
            MayEnd::No(words) => return keep(draft, words),
            MayEnd::Asked { ends: later } => ends = later,
        }
    }
    let idle = after(after(last_use, SHOWN_IDLE_AFTER.min(timeout / 2)), slack);
    // One that was found idle stays so until somebody is seen to use it.
    let idle = if draft.state == SessionState::Idle { idle } else { idle.max(all_seen) };
    if idle <= now {
        draft.state = SessionState::Idle;
        draft.unused = Some(Unused { since: last_use, ends });
        plan.wake_at(ends);
    } else {
        draft.state = SessionState::Active;
        plan.wake_at(idle);
    }
}

/// Keeps the session for what runs in it.
pub(super) fn keep(draft: &mut Draft<'_>, words: String) {
    draft.state = SessionState::Active;
    draft.kept = Some(words);
}

pub(super) fn unanswered(reason: &str) -> String {
    let reason = reason.trim_end_matches('.');
    format!(" Whether a query was still running in it is not known: {reason}.")
}

/// What is to be said of an idle session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unused {
    pub since: Timestamp,
    pub ends: Timestamp,
}

impl std::fmt::Display for Unused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (since, ends) = (seconds(self.since).0, seconds(self.ends).0);
        write!(f, "Not used since {since}; ends at {ends} unless it is used.")
    }
}

/// When the session was last used, as far as its status and this replica know. Becoming active counts as a use.
pub fn last_use(session: &Session, seen: Option<Timestamp>) -> Timestamp {
    let status = &session.status;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let active = ready.map_or_else(|| began(session), |condition| condition.last_transition_time.0);
    let written = status.last_activity_at.as_ref().map(|at| at.0);
    [written, seen].into_iter().flatten().fold(active, Timestamp::max)
}

/// When the session's lifetime began.
pub fn began(session: &Session) -> Timestamp {
    session.status.created_at.as_ref().map_or(session.meta.created_at, |at| at.0)
}

pub fn after(at: Timestamp, duration: SignedDuration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}
