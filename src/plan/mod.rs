//! What should be done about one pool, computed and not executed.
//!
//! [`plan`] reads a [`PoolView`], what was [observed](Observations) of earlier actions, and the
//! time; it returns [`Action`]s in the order in which they have to be carried out. Planning again
//! without a change in between gives the same actions with the same names, so nothing is made
//! twice. This module calls no API and reads no clock; `operator::apply` is the only one that
//! executes actions.

mod admission;
mod application;
mod certificate;
mod conditions;
mod counts;
mod disconnected;
mod drains;
mod endings;
mod explain;
mod failures;
mod identity;
mod instances;
mod lost;
mod outlook;
mod past;
mod pool_conditions;
mod pool_events;
mod preparation;
pub mod quota;
pub mod reasons;
mod refusal;
mod rollout;
mod running;
mod session_conf;
mod session_objects;
mod session_status;
mod sessions;
mod shrinking;
mod size;
mod status;
mod template;
#[cfg(test)]
mod tests;
mod unwritable;
pub mod utilization;
mod waiting;

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference};
use uuid::Uuid;

use crate::api::{SparkApplication, SparkInteractiveSessionStatus, SparkSessionPoolStatus};
use crate::model::{ConfToSet, PoolView, Session};

pub use admission::fair_order;
pub use application::INSTANCE_LABEL;
pub use application::POOL_LABEL;
pub use conditions::{Finding, merge as merge_conditions};
pub use drains::in_effect as with_drains;
pub use endings::last_use;
pub use explain::{Explanation, explain};
pub use refusal::{Objection, Refusal};
pub use session_conf::session_conf;
pub use session_objects::{plan_unreadable_pool, plan_without_pool};
pub use unwritable::{Noted, Unwritable};
pub use waiting::{Waiting, waiting};

/// One thing to do. The order within a plan is the order of execution.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The fields of the pool's status that the planner owns: all of them.
    UpdatePoolStatus {
        pool: String,
        uid: String,
        status: Box<SparkSessionPoolStatus>,
    },
    /// One condition of the pool's status, which the planner does not own. Any replica may do it.
    UpdatePoolCondition {
        pool: String,
        uid: String,
        condition: Condition,
    },
    CreateInstance {
        pool: String,
        application: Box<SparkApplication>,
    },
    /// Enters the pool as the owner of a SparkApplication that has none.
    AdoptInstance {
        name: String,
        uid: String,
        owner: Box<OwnerReference>,
    },
    /// The Secret with the token of a SparkApplication: the one that is known of it, else a new one. It comes with
    /// `CreateInstance` already.
    CreateToken {
        pool: String,
        instance: String,
        uid: String,
    },
    DeleteInstance {
        name: String,
        uid: String,
    },
    /// The fields of the session's status that the planner owns. Empty here and written by others: `lastActivityAt`,
    /// `releasedAt`, `clientSessionIds`, `clonedSessionIds`, `connections`, `clientConnections`, `disconnectedAt`,
    /// `disconnectCause`, and `sessionId` where the first connection brings it.
    UpdateSessionStatus {
        session: String,
        uid: String,
        status: Box<SparkInteractiveSessionStatus>,
    },
    DeleteSession {
        name: String,
        uid: String,
    },
    /// Puts [`crate::model::FINALIZER`] on the object, or takes it off: then a deleted one is gone.
    SetFinalizer {
        about: About,
        hold: bool,
    },
    /// Sets the configuration of this Spark session on the server that the session was assigned to. What came of it is
    /// in a later view's `spark_sides`; asked twice, it is done once.
    PrepareSpark {
        session: String,
        uid: String,
        instance: String,
        spark_session_id: Uuid,
        conf: ConfToSet,
    },
    /// Asks Spark what runs in the session. The answer, or that there was none, is in a later view's `spark_sides` after
    /// some seconds at most; asked again before that, it is asked once.
    AskSpark {
        session: String,
        uid: String,
        instance: String,
        /// What began later may be missing in the answer.
        asked_at: Timestamp,
    },
    /// Closes on its server what the session has there. What came of it, after some seconds at most, is in a later
    /// view's `spark_sides`; asked twice, it is done once.
    ReleaseSpark {
        session: String,
        uid: String,
        instance: String,
    },
    Event(Event),
}

impl Action {
    /// For logs. The rest of an action may hold what nobody should read there.
    pub fn name(&self) -> &'static str {
        match self {
            Self::UpdatePoolStatus { .. } => "UpdatePoolStatus",
            Self::UpdatePoolCondition { .. } => "UpdatePoolCondition",
            Self::CreateInstance { .. } => "CreateInstance",
            Self::AdoptInstance { .. } => "AdoptInstance",
            Self::CreateToken { .. } => "CreateToken",
            Self::DeleteInstance { .. } => "DeleteInstance",
            Self::UpdateSessionStatus { .. } => "UpdateSessionStatus",
            Self::DeleteSession { .. } => "DeleteSession",
            Self::SetFinalizer { hold: true, .. } => "Hold",
            Self::SetFinalizer { hold: false, .. } => "LetGo",
            Self::PrepareSpark { .. } => "PrepareSpark",
            Self::AskSpark { .. } => "AskSpark",
            Self::ReleaseSpark { .. } => "ReleaseSpark",
            Self::Event(event) => event.reason,
        }
    }

    /// Name of the session that it is about, if it is about one.
    pub fn session(&self) -> Option<&str> {
        match self {
            Self::UpdateSessionStatus { session, .. }
            | Self::PrepareSpark { session, .. }
            | Self::AskSpark { session, .. }
            | Self::ReleaseSpark { session, .. } => Some(session),
            Self::DeleteSession { name, .. } => Some(name),
            Self::SetFinalizer { about, .. } => about.session(),
            Self::Event(event) => event.about.session(),
            _ => None,
        }
    }
}

impl About {
    fn session(&self) -> Option<&str> {
        match self {
            Self::Session { name, .. } => Some(name),
            Self::Pool { .. } => None,
        }
    }
}

/// A Kubernetes Event: tells the story of an object in `kubectl describe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub about: About,
    pub warning: bool,
    /// One word in CamelCase, for machines.
    pub reason: &'static str,
    /// A sentence, for people.
    pub note: String,
}

impl Event {
    /// Whether it says that instances came, went or were adopted which did not.
    pub fn tells_of(&self, not_created: &[String], not_changed: &[String]) -> bool {
        let is_of =
            |names: &[String], note: fn(&str) -> String| names.iter().any(|name| self.note == note(name));
        match self.reason {
            pool_events::SCALED_UP => !not_created.is_empty(),
            pool_events::INSTANCE_CREATED => is_of(not_created, pool_events::created),
            pool_events::INSTANCE_REMOVED => is_of(not_changed, pool_events::removed),
            pool_events::INSTANCE_ADOPTED => is_of(not_changed, pool_events::adopted),
            _ => false,
        }
    }
}

/// The object that an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    Pool { name: String, uid: String },
    Session { name: String, uid: String },
}

/// What earlier actions on this pool met, kept in memory only: a restart learns it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observations {
    pub refusal: Option<Refusal>,
    pub unwritable: Unwritable,
    /// Since when activity is seen without a gap: since this replica leads, or since the clock last jumped. Uses from
    /// before may be known to others only, who write them down about once a minute. As long as it is `None` no session
    /// is found idle.
    pub watching_since: Option<Timestamp>,
    /// When the clock last jumped: uses from before were noted by another time, and count as one at that moment.
    pub clock_jumped_at: Option<Timestamp>,
    /// How long a use of a session may be known to another replica only: the interval at which uses are written down,
    /// and what it takes until the write is seen here.
    pub activity_slack: SignedDuration,
}

impl Default for Observations {
    fn default() -> Self {
        Self {
            refusal: None,
            unwritable: Unwritable::default(),
            watching_since: None,
            clock_jumped_at: None,
            activity_slack: SignedDuration::from_secs(75),
        }
    }
}

impl Observations {
    /// Before a plan. The clock may have been set back: nothing was observed after `now`.
    pub fn begin_plan<'a>(&mut self, sessions: impl Iterator<Item = &'a Session>, now: Timestamp) {
        if let Some(refusal) = &mut self.refusal {
            refusal.at = refusal.at.min(now);
        }
        self.unwritable.keep(sessions, now);
    }

    /// The refusal that still stands for this version of the pool.
    fn standing_refusal(&self, generation: i64, now: Timestamp) -> Option<&Refusal> {
        self.refusal_of(generation).filter(|refusal| now < refusal.stands_until())
    }

    /// The last refusal of this version of the pool, also one after which it is time to try again.
    fn refusal_of(&self, generation: i64) -> Option<&Refusal> {
        self.refusal.as_ref().filter(|refusal| refusal.generation == generation)
    }
}

/// Actions, and when to plan again if nothing changes until then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn wake_at(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// Plans one pool: its instances, its sessions, and what their statuses say.
pub fn plan(view: &PoolView, observations: &Observations, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let (known, view) = (view, &in_effect(view, now));
    let (mut drafts, outlook) = place_all(known, view, observations, now, &mut plan);
    let waits = drafts.waits(&outlook);
    drafts.give_up(&waits, &outlook, &mut plan);
    let certificate = certificate::finding(view, now, &mut plan);
    let status = status::pool_status(view, &drafts, &outlook, certificate.as_ref(), now);
    let status_changed = status != known.pool.status;
    if let Some(at) = pool_conditions::start_trouble_at(view, now) {
        plan.wake_at(at);
    }
    let events = pool_events::events(view, &status, &outlook);
    if status_changed {
        // First: it holds the next ordinal, which must be written before an instance uses it.
        let update = Action::UpdatePoolStatus {
            pool: view.pool.meta.name.clone(),
            uid: view.pool.meta.uid.clone(),
            status: Box::new(status),
        };
        plan.actions.insert(0, update);
    }
    drafts.hold(&mut plan);
    drafts.report(&waits, &mut plan);
    plan.actions.extend(events.into_iter().map(Action::Event));
    let unlisted = |action: &&Action| matches!(action, Action::Event(event) if !reasons::lists_event(event));
    debug_assert_eq!(plan.actions.iter().find(unlisted), None, "not on the page of reasons");
    plan
}

/// The view that a plan is made from: what the watches know, at this time, and after what earlier plans have decided.
fn in_effect(view: &PoolView, now: Timestamp) -> Cow<'_, PoolView> {
    drains::carried_on(lost::given_up(past::in_the_past(view, now), now))
}

/// What is decided about sessions and instances, up to where each session is. `known`: the view as the watches know it.
fn place_all<'a>(
    known: &'a PoolView,
    view: &'a PoolView,
    observations: &Observations,
    now: Timestamp,
    plan: &mut Plan,
) -> (sessions::Drafts<'a>, outlook::Outlook) {
    let mut drafts = sessions::Drafts::new(known, view, &observations.unwritable, now, plan);
    drafts.end(observations, plan);
    drafts.admit(plan);
    let outlook = instances::plan_instances(view, &drafts, observations, now, plan);
    drafts.place(&outlook);
    drafts.prepare(plan);
    (drafts, outlook)
}
