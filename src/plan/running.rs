//! Whether something runs in a session that nobody uses: a streaming query that was started and left, or a query whose
//! client has gone. Spark alone knows that, so it is asked before such a session ends, and what runs keeps the session.
//!
//! Not here: when a session counts as unused (`endings`), and the question itself (`operator::spark_sessions`). An answer
//! that something runs is noted there as a use of the session, so that `lastActivityAt` has it.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::endings::after;
use super::preparation::serves;
use super::{Action, Plan};
use crate::model::{Instance, PoolView, Protocol, RunningAnswer, Session, SparkRuns};

/// Spark is asked this often while something runs, or every `idleTimeoutMinutes` if that is shorter.
const ASK_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// Spark is asked this often while it does not answer.
const ASK_AGAIN: SignedDuration = SignedDuration::from_mins(1);
/// An answer is good for this long while a newer session waits for the place.
const GOOD_FOR: SignedDuration = SignedDuration::from_secs(10);
/// A server that has not answered for this long keeps no session any more.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// What it takes to ask about the sessions of a plan.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub view: &'a PoolView,
    pub instances: &'a HashMap<&'a str, &'a Instance>,
    pub now: Timestamp,
}

/// Whether a session may be ended for want of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MayEnd {
    /// Nothing runs in it, or nobody can say. `unknown`: why not, in words for its status, where Spark was asked in vain.
    Yes { unknown: Option<String> },
    /// Spark is being asked. The answer, or that there is none, brings a plan within seconds. `ends`: when the session may
    /// end if nothing runs in it, as far as that is known.
    Asked { ends: Timestamp },
    /// Something runs, in words for its status. Spark will be asked again; the plan wakes up for that.
    No(String),
}

impl Asking<'_> {
    /// Asks whether a session may be ended (or its place given to somebody else), as far as what runs in it is concerned.
    ///
    /// `due`: the moment since which the end is justified, in the same clock as `now`, and not before the last use of the
    /// session: only a request can begin something, so an answer to a question that was asked at `due` or later tells of
    /// all there is. An older one is not looked at, and Spark is asked again. Call it in every plan as long as the end is
    /// wanted; the same question is asked once. Ends that do not come from want of use (the lifetime, a deletion, a
    /// drain) need no question.
    pub fn may_end(&self, session: &Session, due: Timestamp, plan: &mut Plan) -> MayEnd {
        let Some(instance) = self.server_of(session) else { return MayEnd::Yes { unknown: None } };
        let answer = self.answer(session).filter(|answer| due <= answer.asked_at);
        match answer.map(|answer| (&answer.runs, answer.asked_at)) {
            None => {
                self.ask(session, instance, plan);
                MayEnd::Asked { ends: due }
            }
            Some((SparkRuns::Nothing, _)) => MayEnd::Yes { unknown: None },
            Some((SparkRuns::Something(words), asked_at)) => {
                self.ask_after(asked_at, self.every(), session, instance, plan);
                MayEnd::No(words.clone())
            }
            Some((SparkRuns::Unknown { reason, since }, asked_at)) => {
                let by = after(due.max(*since), PATIENCE);
                if by <= self.now {
                    return MayEnd::Yes { unknown: Some(reason.clone()) };
                }
                plan.wake_at(by);
                self.ask_after(asked_at, ASK_AGAIN, session, instance, plan);
                MayEnd::Asked { ends: by }
            }
        }
    }

    /// Asks anew, and says so, where Spark has answered before the session came that waits for this one's place (at
    /// `waits_since`): a query that ran then may have ended. Each newer session brings about one question.
    pub fn asks_anew(&self, session: &Session, waits_since: Timestamp, plan: &mut Plan) -> bool {
        let Some(instance) = self.server_of(session) else { return false };
        let good_since = self.now.checked_sub(GOOD_FOR).unwrap_or(Timestamp::MIN).min(waits_since);
        // A server that does not answer is asked again in its own time.
        let is_old = |answer: &&RunningAnswer| {
            answer.asked_at < good_since && !matches!(answer.runs, SparkRuns::Unknown { .. })
        };
        let old = self.answer(session).filter(is_old).is_some();
        if old {
            self.ask(session, instance, plan);
        }
        old
    }

    /// What keeps the session in use though no client has used it since Spark was last asked, in words for its status.
    /// Spark is asked again and again as long as that is so.
    pub fn keeps(&self, session: &Session, last_use: Timestamp, plan: &mut Plan) -> Option<String> {
        let answer = self.answer(session).filter(|answer| last_use <= answer.asked_at)?;
        let SparkRuns::Something(words) = &answer.runs else { return None };
        let instance = self.server_of(session)?;
        self.ask_after(answer.asked_at, self.every(), session, instance, plan);
        Some(words.clone())
    }

    /// `None` where nobody is asked. A Thrift Server has no call that tells what runs in a session of somebody else's.
    fn server_of(&self, session: &Session) -> Option<&Instance> {
        let pool = &self.view.pool;
        let asked =
            pool.protocol() == Protocol::Connect && pool.spec.session_policy.running_queries_keep_sessions;
        let name = session.status.assigned_instance.as_deref().filter(|_| asked)?;
        let instance = self.instances.get(name).copied()?;
        let serves = serves(instance) && instance.cluster().is_some();
        (serves && !session.has_lost_driver_of(instance)).then_some(instance)
    }

    fn answer(&self, session: &Session) -> Option<&RunningAnswer> {
        self.view.spark_sides.get(&session.meta.uid)?.running.as_ref()
    }

    fn every(&self) -> SignedDuration {
        let idle = self.view.pool.spec.session_policy.idle_timeout_minutes;
        ASK_EVERY.min(SignedDuration::from_mins(idle.into()))
    }

    fn ask_after(
        &self,
        asked_at: Timestamp,
        pause: SignedDuration,
        session: &Session,
        instance: &Instance,
        plan: &mut Plan,
    ) {
        let next = after(asked_at, pause);
        if next <= self.now {
            self.ask(session, instance, plan);
        } else {
            plan.wake_at(next);
        }
    }

    fn ask(&self, session: &Session, instance: &Instance, plan: &mut Plan) {
        plan.actions.push(Action::AskSpark {
            session: session.meta.name.clone(),
            uid: session.meta.uid.clone(),
            instance: instance.name.clone(),
            asked_at: self.now,
        });
    }
}
