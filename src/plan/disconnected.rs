//! Sessions whose clients have gone: when they end, and how they make room for newer sessions of their users.
//!
//! A session's status says since when no connection of its clients is open. Nothing is decided by that alone: a user at a limit
//! gets the place of the session that was left first, the pool's `disconnectedTimeoutMinutes` ends sessions by time, and a
//! session that nobody has waited for to its end has no use. What runs in a session keeps it in the first two cases.
//!
//! Not here: which connections are open (`model::client_connections`), and which sessions a limit counts (`quota`).

use jiff::{SignedDuration, Timestamp};

use super::conditions::seconds;
use super::endings::{after, last_use, unanswered};
use super::quota::{self, Exceeded};
use super::running::{Asking, MayEnd};
use super::sessions::{Draft, Drafts};
use super::{Plan, endings};
use crate::api::SessionState;
use crate::model::{REPLACED_BY_NEWER, Session};

pub(super) const CLIENT_GONE: &str = "ClientGone";
pub(super) const DISCONNECTED_TIMEOUT: &str = "DisconnectedTimeout";

/// The outcome of the search for a session that makes room.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Room<'a> {
    /// This session ends for it.
    Made(&'a Session),
    /// Spark is being asked what runs in the session that would end. The answer brings a plan within seconds.
    Asking,
    /// No session of the user makes room. `kept` says what keeps those that were left, a sentence each.
    None { kept: Vec<String> },
}

impl<'a> Drafts<'a> {
    /// Ends sessions that nobody came back to.
    pub fn end_disconnected(&mut self, plan: &mut Plan) {
        let (view, now) = (self.view, self.now);
        let timeout = view.pool.spec.session_policy.disconnected_timeout_minutes;
        let asking = Asking { view, instances: &self.instances, now };
        for draft in self.drafts.iter_mut().filter(|draft| draft.goes_on()) {
            let Some(since) = draft.session.disconnected_at() else { continue };
            if was_left_waiting(draft.session, since) {
                end_left_waiting(draft, since, asking, plan);
            }
            // Whether the client of an unused connection has gone, nobody knows: the idle timeout ends such a session.
            if let Some(minutes) = timeout.filter(|_| draft.goes_on() && draft.session.was_left()) {
                // What ran in it after its client had gone was a use, too.
                let last_use = last_use(draft.session, view.activity.get(draft.session.name()).copied());
                let due = after(since.max(last_use), SignedDuration::from_mins(minutes.into()));
                end_when_due(draft, minutes, (since, due), asking, plan);
            }
        }
    }

    /// Ends the session of this user that was left first, so that the session at `n` may get its place. `exceeded`: the limit
    /// that is reached.
    pub fn make_room(&mut self, n: usize, exceeded: &Exceeded, plan: &mut Plan) -> Room<'a> {
        let newer = self.drafts[n].session;
        // The next plan knows only from its status that it has made room.
        let own = self.drafts.iter().filter(|draft| {
            draft.goes_on() && draft.unwritable.is_none() && draft.session.spec.user == newer.spec.user
        });
        let original = newer.spec.cloned_from.as_deref();
        let candidates = quota::replaceable(own.map(|draft| draft.session), original, self.now);
        let asking = Asking { view: self.view, instances: &self.instances, now: self.now };
        let mut kept = Vec::new();
        for session in candidates {
            let name = session.name();
            let Some((since, given_up)) = session.disconnected_at().zip(session.given_up_at()) else {
                continue;
            };
            if asking.asks_anew(session, newer.meta.created_at, plan) {
                return Room::Asking;
            }
            // A client may be coming back at this moment. Its request counts before the status shows its connection.
            let due = given_up.max(last_use(session, self.view.activity.get(session.name()).copied()));
            match asking.may_end(session, due, plan) {
                MayEnd::Yes { unknown } => {
                    let unknown = unknown.map_or_else(String::new, |reason| unanswered(&reason));
                    let message = format!(
                        "The session ended to make room for a newer one of the same user: its client was gone since {}, and \
                         {}.{unknown} Start a new session.",
                        seconds(since).0,
                        exceeded.limit_in_words(),
                    );
                    let place = self.drafts.iter().position(|draft| draft.session.name() == session.name());
                    let Some(place) = place else { continue };
                    self.drafts[place].condemn(REPLACED_BY_NEWER, message);
                    self.release_one(place, plan);
                    return Room::Made(session);
                }
                MayEnd::Asked { ends } if ends <= self.now => return Room::Asking,
                // The session that was left next may do.
                MayEnd::Asked { .. } => {
                    kept.push(format!("{name} keeps its place: Spark does not say what runs in it."))
                }
                MayEnd::No(words) => kept.push(format!("{name} keeps its place: {words}.")),
            }
        }
        Room::None { kept }
    }
}

/// How long a program that was told that its session is not ready has to come back over another connection. Refusals ask for
/// that within ten seconds (RetryInfo).
const COMES_BACK: SignedDuration = SignedDuration::from_secs(15);

/// How late the end of a connection may be in the session's status.
const REPORTED_LATE: SignedDuration = SignedDuration::from_secs(15);

/// Whether its client went before the session could be used. A later request would have connected it again. A session that
/// waited ends as soon as its client is given up, so one that could be used only later was used before: its instance was
/// away for a while.
fn was_left_waiting(session: &Session, since: Timestamp) -> bool {
    let ready = session.status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let usable = ready.filter(|ready| ready.status == "True").map(|ready| ready.last_transition_time.0);
    let ends = waiting_ends_at(session).unwrap_or(since);
    session.was_made_on_connection()
        && (session.status.state == SessionState::Pending
            || usable.is_some_and(|usable| since < usable && usable <= after(ends, REPORTED_LATE)))
}

/// When a session ends whose client left while it waited, unless a request comes before.
fn waiting_ends_at(session: &Session) -> Option<Timestamp> {
    Some(after(session.given_up_at()?, COMES_BACK))
}

fn end_left_waiting(draft: &mut Draft<'_>, since: Timestamp, asking: Asking<'_>, plan: &mut Plan) {
    let Some(at) = waiting_ends_at(draft.session) else { return };
    if at > asking.now {
        return plan.wake_at(at);
    }
    let session = draft.session;
    // Where it was used after all, something may run in it.
    let due = at.max(last_use(session, asking.view.activity.get(session.name()).copied()));
    let may_end = match session.status.state {
        SessionState::Pending => MayEnd::Yes { unknown: None },
        _ => asking.may_end(session, due, plan),
    };
    match may_end {
        MayEnd::Yes { .. } => {
            let since = seconds(since).0;
            let message = format!(
                "The session ended because its client went away at {since}, before the session could be used, and did not come \
                 back. Start a new session."
            );
            draft.condemn(CLIENT_GONE, message);
        }
        MayEnd::No(words) => endings::keep(draft, words),
        MayEnd::Asked { .. } => {}
    }
}

fn end_when_due(
    draft: &mut Draft<'_>,
    minutes: i32,
    (since, due): (Timestamp, Timestamp),
    asking: Asking<'_>,
    plan: &mut Plan,
) {
    if due > asking.now {
        return plan.wake_at(due);
    }
    match asking.may_end(draft.session, due, plan) {
        MayEnd::Yes { unknown } => {
            let since = seconds(since).0;
            let unknown = unknown.map_or_else(String::new, |reason| unanswered(&reason));
            let message = format!(
                "The session ended because its client was gone for {minutes} min (since {since}).{unknown} Start a new session."
            );
            draft.condemn(DISCONNECTED_TIMEOUT, message);
        }
        MayEnd::No(words) => endings::keep(draft, words),
        MayEnd::Asked { .. } => {}
    }
}
