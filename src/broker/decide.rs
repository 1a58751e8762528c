//! What to do with one authenticated request, given what is known right now. Pure.
//!
//! ```text
//! connect  a Spark Connect call finds its session by Spark's id of it, or by its name
//! thrift   a Thrift call finds it by the user and a name
//! ```
//!
//! Nothing is decided here for good: sessions are placed, counted and ended by `crate::plan`.

mod connect;
mod start;
mod thrift;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::named_clients::Joining;
use crate::api::{SessionState, SparkInteractiveSessionSpec, SparkSessionPoolSpec};
use crate::model::{
    Call, DEFAULT_SESSION_NAME, Denial, DenialKind, Identity, Inventory, Pool, Protocol, Route, Session,
    SessionKey, TokenState,
};

/// The next step for a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Route(Route),
    /// The client ends its session: note it, and pass the request on where it leads anywhere.
    Release {
        session: String,
        route: Option<Route>,
    },
    /// One of several clients of a named session ends its own part of it.
    Leave {
        session: String,
        session_id: Uuid,
        route: Option<Route>,
    },
    /// A JDBC client closes one of its connections.
    Close {
        session: String,
        connection: Uuid,
        route: Route,
    },
    /// Create the session object under this name, then look again.
    Create(Draft),
    /// An ended session has the name: delete that very object, create the new one, then look again.
    Replace {
        uid: String,
        draft: Draft,
    },
    /// Give this session, which has none yet, the client's Spark session id, then look again.
    Claim {
        session: String,
        resource_version: u64,
        session_id: Uuid,
    },
    /// Enter the client's Spark session among those that share this named session, then look again.
    Join {
        session: String,
        joining: Joining,
    },
    /// Another replica may know the session already: ask the API server for those of the user, then look again.
    Refresh,
    /// Look again when the pool changes. Tells what the session waits for.
    Wait {
        session: String,
        /// Where the request waits for this very session to begin, and not for an old one to be gone.
        uid: Option<String>,
        explanation: String,
    },
    Deny(Denial),
    /// The user may not use the pool or, if it is named, this session, which is another user's.
    Refuse {
        denial: Denial,
        session: Option<String>,
    },
}

impl Decision {
    /// The session that the request belongs to, where it goes on there or waits for it.
    pub fn session_in_use(&self) -> Option<&str> {
        match self {
            Self::Route(Route { session, .. }) | Self::Wait { session, .. } => Some(session),
            _ => None,
        }
    }
}

/// The request's own past.
#[derive(Clone, Debug)]
pub struct Wait {
    /// When the request came to Envoy. It may have been held before: Envoy asks again after a while,
    /// and when the operator that held it has ended.
    pub since: Timestamp,
    /// UID of the session that it has waited for here.
    pub session: Option<String>,
    /// The API server has been asked, too.
    pub refreshed: bool,
}

/// A session that should exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub name: String,
    pub spec: SparkInteractiveSessionSpec,
}

/// If the session that the request created or waited for failed, the client hears it. One that
/// failed before the request came is tried anew, but not at once: PySpark swallows the first error
/// of a session and sends its next call, and a clean-up call at its exit, which would have to wait
/// as long again.
pub fn decide(
    inventory: &Inventory,
    pool: &Pool,
    identity: &Identity,
    call: &Call,
    wait: &Wait,
    now: Timestamp,
) -> Decision {
    if !may_use(&pool.spec, identity) {
        return refuse(why_not(pool, identity), None);
    }
    let request = Request { inventory, pool, identity, wait, now };
    match call {
        Call::Connect { method, head, session_name: None } => request.connect(*method, head),
        Call::Connect { method, head, session_name: Some(name) } => request.named(*method, head, name),
        Call::Thrift { session_name, head: Some(head) } => request.thrift(session_name, head),
        Call::Thrift { head: None, .. } => deny(
            DenialKind::BadRequest,
            "This is a Thrift endpoint for JDBC and ODBC clients; the request holds no Thrift message.",
        ),
        Call::Malformed { problem, .. } => deny(DenialKind::BadRequest, problem.as_str()),
        Call::Other { .. } => deny(DenialKind::UnknownPath, "Nothing is served at this path."),
    }
}

fn deny(kind: DenialKind, message: impl Into<String>) -> Decision {
    Decision::Deny(Denial::new(kind, message))
}

fn refuse(message: String, session: Option<String>) -> Decision {
    Decision::Refuse { denial: Denial::new(DenialKind::PermissionDenied, message), session }
}

fn may_use(spec: &SparkSessionPoolSpec, identity: &Identity) -> bool {
    spec.access.as_ref().is_none_or(|access| {
        access.users.contains(&identity.user)
            || access.groups.iter().any(|group| identity.groups.contains(group))
    })
}

/// Why the user may not use the pool. Where it is open to groups, it matters that the login told none.
fn why_not(pool: &Pool, identity: &Identity) -> String {
    let refused = format!("User {} may not use pool {}.", identity.user, pool.name());
    let by_groups = pool.spec.access.as_ref().is_some_and(|access| !access.groups.is_empty());
    match identity.untold.as_ref().filter(|_| by_groups) {
        Some(untold) => format!("{refused} {untold}"),
        None => format!("{refused} Ask its administrator for access."),
    }
}

struct Request<'a> {
    inventory: &'a Inventory,
    pool: &'a Pool,
    identity: &'a Identity,
    wait: &'a Wait,
    now: Timestamp,
}

/// For how long a failed Connect session is not tried anew under its id.
const FAILURE_STANDS: SignedDuration = SignedDuration::from_secs(60);

/// For how long clients of a session whose object is gone hear why it ended. Then its id is free again.
const END_STANDS: SignedDuration = SignedDuration::from_mins(60);

impl Request<'_> {
    /// The user's sessions of this name: the one that is alive, else the last one.
    fn called(&self, name: &str, fits: impl Fn(&Session) -> bool) -> Option<&Session> {
        let sessions = self.inventory.sessions_of(self.pool.name(), &self.identity.user);
        let named: Vec<_> =
            sessions.into_iter().filter(|session| session.called() == name && fits(session)).collect();
        let alive = named.iter().find(|session| !session.is_finished());
        alive.or(named.last()).map(|session| &***session)
    }

    /// None to a driver that the session was not placed on: what it had is gone, and the planner will say so.
    fn route(&self, session: &Session) -> Option<Route> {
        let instance = self.inventory.instance(session.status.assigned_instance.as_deref()?)?;
        let is_there = instance.is_alive() && !session.has_lost_driver_of(&instance);
        let cluster = instance.cluster().filter(|_| is_there)?;
        let token = self.inventory.token(&instance.name).cloned();
        if token.is_none() && instance.token != TokenState::NotAsked {
            return None;
        }
        Some(Route {
            cluster,
            token,
            session: session.meta.name.clone(),
            pool: self.pool.meta.name.clone(),
            user: self.identity.user.clone(),
        })
    }

    /// A place alone is not enough: a Spark Connect session, which has an id of Spark's, needs its configuration, too.
    fn use_placed(&self, session: &Session, spark_id: Option<Uuid>) -> Decision {
        if !matches!(session.status.state, SessionState::Active | SessionState::Idle) {
            return self.wait(session);
        }
        let Some(id) = spark_id.filter(|id| !session.is_prepared(*id)) else {
            return self.route(session).map_or_else(|| self.wait(session), Decision::Route);
        };
        match session.setup_failure(id) {
            Some(failure) if failure.gave_up => deny(DenialKind::StartFailed, &*failure.message),
            Some(failure) => self.wait_since(session, &failure.message),
            None => self.wait_since(session, "Its configuration is being set."),
        }
    }

    fn wait(&self, session: &Session) -> Decision {
        let explanation = session.explanation().map_or("It has just been created.", |(_, message)| message);
        self.wait_since(session, explanation)
    }

    fn wait_since(&self, session: &Session, explanation: &str) -> Decision {
        Decision::Wait {
            session: session.meta.name.clone(),
            uid: Some(session.meta.uid.clone()),
            explanation: explanation.to_owned(),
        }
    }

    /// Until the object of a session that is over makes room for a new one.
    fn wait_until_gone(&self, session: &Session) -> Decision {
        Decision::Wait {
            session: session.meta.name.clone(),
            uid: None,
            explanation: "The last session of this name is being released.".to_owned(),
        }
    }

    /// The client's end of the session is noted, perhaps by a replica that died before it answered: Spark has to hear of
    /// it, too, and hears it twice without harm.
    fn release_again(&self, session: &Session) -> Decision {
        self.route(session).map_or_else(|| Decision::Deny(why_ended(session)), Decision::Route)
    }

    fn waits_for(&self, session: &Session) -> bool {
        self.wait.session.as_ref() == Some(&session.meta.uid)
    }

    /// Whether a request that has waited, here or before, hears that the session failed.
    fn hears_failure(&self, session: &Session) -> bool {
        self.waits_for(session)
            || (why_failed(session).kind != DenialKind::QuotaExceeded
                && ended_at(session).as_second() >= self.wait.since.as_second())
    }

    /// A quota is not waited for: it is counted anew for every request.
    fn failure_stands(&self, session: &Session) -> bool {
        why_failed(session).kind != DenialKind::QuotaExceeded && self.is_within(FAILURE_STANDS, session)
    }

    fn is_within(&self, duration: SignedDuration, session: &Session) -> bool {
        self.now < ended_at(session).checked_add(duration).unwrap_or(Timestamp::MAX)
    }

    /// The ended session may have another name than the new one gets: somebody made it by hand.
    fn replace(&self, draft: Draft) -> Decision {
        match self.inventory.session(&draft.name) {
            Some(ended) if ended.is_finished() && ended.spec.user == self.identity.user => {
                Decision::Replace { uid: ended.meta.uid.clone(), draft }
            }
            _ => Decision::Create(draft),
        }
    }

    /// The session is not known, and the call refers to what should be there.
    fn missing(&self, departed: Option<&Session>, message: String) -> Decision {
        match departed {
            Some(ended) if self.is_within(END_STANDS, ended) => Decision::Deny(why_ended(ended)),
            _ if self.wait.refreshed => deny(DenialKind::SessionClosed, message),
            _ => Decision::Refresh,
        }
    }

    fn key(&self, name: &str) -> SessionKey {
        SessionKey::Named {
            pool: self.pool.meta.name.clone(),
            user: self.identity.user.clone(),
            name: name.to_owned(),
        }
    }

    fn draft(&self, key: &SessionKey) -> Draft {
        let (session_id, name) = match key {
            SessionKey::Connect { session_id, .. } => (Some(session_id.to_string()), None),
            SessionKey::Named { name, .. } => (None, Some(name.clone())),
        };
        Draft {
            name: key.object_name(),
            spec: SparkInteractiveSessionSpec {
                user: self.identity.user.clone(),
                pool: self.pool.meta.name.clone(),
                groups: self.identity.groups.clone(),
                spark_conf: std::collections::BTreeMap::new(),
                session_id,
                cloned_from: None,
                name: name
                    .filter(|name| self.pool.protocol() == Protocol::Connect || name != DEFAULT_SESSION_NAME),
            },
        }
    }
}

/// Whether it takes a place of its user's. Who stops one session and starts the next need not wait for the planner in
/// between, nor need who has got the place of a session that is still being closed.
pub fn counts(session: &Session) -> bool {
    !session.is_finished() && session.status.released_at.is_none() && !session.has_made_room()
}

/// In whole seconds. A session that is still being released ended when it stopped being ready.
fn ended_at(session: &Session) -> Timestamp {
    let told = || session.status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let finished = session.status.finished_at.as_ref();
    finished
        .map(|at| at.0)
        .or_else(|| told().map(|ready| ready.last_transition_time.0))
        .unwrap_or(Timestamp::MIN)
}

fn why_failed(session: &Session) -> Denial {
    let (reason, message) = session.explanation().unwrap_or(("Failed", "The session could not start."));
    let kind = if reason == "QuotaExceeded" { DenialKind::QuotaExceeded } else { DenialKind::StartFailed };
    Denial::new(kind, message)
}

/// Of a session that has ended, or is about to.
fn why_ended(session: &Session) -> Denial {
    use SessionState::{Failed, Terminated, Terminating};
    let (reason, message) = match session.status.state {
        Failed => return why_failed(session),
        Terminating | Terminated => session.explanation().unwrap_or(("Terminated", "The session has ended.")),
        _ => ("Deleted", "The session was deleted (kubectl delete). Start a new session."),
    };
    let kind = if reason == "InstanceLost" { DenialKind::SessionChanged } else { DenialKind::SessionClosed };
    Denial::new(kind, message)
}

/// No pool has the host, or none for the protocol.
pub fn unknown_host(inventory: &Inventory, host: &str, protocol: Protocol, call: &Call) -> Denial {
    // A client whose pool was deleted under it. That of a Thrift session is told by its call alone, since nobody can log
    // in where no pool is: with all but OpenSession it goes on with what it has opened.
    if let Call::Thrift { head: Some(head), .. } = call
        && head.method != "OpenSession"
        && let Some(pool) = inventory.departed_pool(host, protocol)
    {
        let message = format!("Pool {pool} was deleted, and the session with it.");
        return Denial::new(DenialKind::SessionClosed, message);
    }
    if let Call::Connect { head, .. } = call
        && let Some(ended) = inventory.ended_with_spark_id(head.session_id)
        && inventory.pool(&ended.spec.pool).is_none()
    {
        return why_ended(ended);
    }
    let message = if inventory.serves_host(host) {
        format!("Host {host} has no pool of type {protocol}.")
    } else {
        format!(
            "No pool has host {host}. Check the host name in the connection URL; `kubectl get ssp -o wide` lists the pools with their hosts."
        )
    };
    Denial::new(DenialKind::UnknownHost, message)
}

#[cfg(test)]
mod tests;
