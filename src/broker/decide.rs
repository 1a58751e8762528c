//! What to do with one authenticated request, given what is known right now. Pure.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::api::{SessionState, SparkInteractiveSessionSpec, SparkSessionPoolSpec};
use crate::model::{
    Call, ConnectHead, ConnectMethod, DEFAULT_SESSION_NAME, Denial, DenialKind, Identity, Inventory, Pool,
    Protocol, Route, Session, SessionKey, ThriftHead, TokenState,
};
use crate::plan::quota;

/// The next step for a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Route(Route),
    /// The client ends its session: note it, and pass the request on where it leads anywhere.
    Release {
        session: String,
        route: Option<Route>,
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
    /// Look again when the pool changes. Tells what the session waits for.
    Wait {
        session: String,
        uid: String,
        explanation: String,
    },
    Deny(Denial),
    /// The user may not use the pool or, if it is named, this session, which is another user's.
    Refuse {
        denial: Denial,
        session: Option<String>,
    },
}

/// The request's own past.
#[derive(Clone, Debug)]
pub struct Wait {
    /// When the request came to Envoy. It may have been held before: Envoy asks again after a while,
    /// and when the operator that held it has ended.
    pub since: Timestamp,
    /// UID of the session that it has waited for here.
    pub session: Option<String>,
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
        let message = format!(
            "User {} may not use pool {}. Ask its administrator for access.",
            identity.user,
            pool.name()
        );
        return refuse(message, None);
    }
    let request = Request { inventory, pool, identity, wait, now };
    match call {
        Call::Connect { method, head } => request.connect(*method, head),
        Call::Thrift { session_name, head: Some(head) } => request.thrift(session_name, head),
        Call::Thrift { head: None, .. } => deny(
            DenialKind::BadRequest,
            "This is a Thrift endpoint for JDBC and ODBC clients; the request holds no Thrift message."
                .to_owned(),
        ),
        Call::Malformed { problem, .. } => deny(DenialKind::BadRequest, problem.clone()),
        Call::Other { .. } => deny(DenialKind::UnknownPath, "Nothing is served at this path.".to_owned()),
    }
}

fn deny(kind: DenialKind, message: String) -> Decision {
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

struct Request<'a> {
    inventory: &'a Inventory,
    pool: &'a Pool,
    identity: &'a Identity,
    wait: &'a Wait,
    now: Timestamp,
}

/// For how long a failed Connect session is not tried anew under its id.
const FAILURE_STANDS: SignedDuration = SignedDuration::from_secs(60);

impl Request<'_> {
    fn connect(&self, method: ConnectMethod, head: &ConnectHead) -> Decision {
        let pool = self.pool.name();
        let sessions = self.inventory.sessions_with_spark_id(pool, head.session_id);
        // Where somebody made a second object for the same id, the one that is alive counts.
        let session = sessions.iter().find(|session| !session.is_finished()).or(sessions.last());
        if let Some(session) = session {
            if session.spec.user != self.identity.user {
                let message = format!(
                    "Spark session {} belongs to another user. Start a session of your own.",
                    head.session_id
                );
                return refuse(message, Some(session.meta.name.clone()));
            }
            return self.use_session(session, Some(method), || self.connect_draft(head.session_id));
        }
        if !method.starts_session() {
            return deny(
                DenialKind::SessionClosed,
                format!(
                    "Spark session {} is not open in pool {pool}: there is nothing to release.",
                    head.session_id
                ),
            );
        }
        let unclaimed = self.inventory.sessions_of(pool, &self.identity.user);
        let unclaimed = unclaimed.into_iter().find(|session| {
            session.spark_session_id().is_none()
                && session.spec.name.is_none()
                && !session.is_finished()
                && !session.meta.deleting
        });
        match unclaimed {
            Some(session) => Decision::Claim {
                session: session.meta.name.clone(),
                resource_version: session.meta.resource_version,
                session_id: head.session_id,
            },
            None => self.create(self.connect_draft(head.session_id)),
        }
    }

    fn thrift(&self, name: &str, head: &ThriftHead) -> Decision {
        let (pool, user) = (self.pool.name(), &self.identity.user);
        let opens = head.method == "OpenSession";
        let sessions = self.inventory.sessions_of(pool, user);
        let named: Vec<_> = sessions.into_iter().filter(|session| session.called() == name).collect();
        let draft = || self.thrift_draft(name);
        match named.iter().find(|session| !session.is_finished()).or(named.last()) {
            Some(session) if opens || !session.is_finished() => self.use_session(session, None, draft),
            // Only OpenSession starts something: every other call refers to what is gone.
            _ if !opens => deny(
                DenialKind::SessionClosed,
                format!("Session {name} of user {user} is not open in pool {pool}. Connect again."),
            ),
            _ => self.create(draft()),
        }
    }

    fn use_session(
        &self,
        session: &Session,
        method: Option<ConnectMethod>,
        draft: impl FnOnce() -> Draft,
    ) -> Decision {
        match session.status.state {
            _ if session.meta.deleting => self.wait(session),
            SessionState::Failed if self.has_waited_for(session) || self.failure_stands(session, method) => {
                Decision::Deny(why_failed(session))
            }
            SessionState::Failed if method.is_some_and(|method| !method.starts_session()) => {
                Decision::Deny(why_failed(session))
            }
            SessionState::Failed => match self.quota() {
                Err(denial) => Decision::Deny(denial),
                Ok(()) => self.replace(draft()),
            },
            SessionState::Terminated | SessionState::Terminating => match method {
                Some(_) => Decision::Deny(why_ended(session)),
                None => self.replace(draft()),
            },
            _ if method == Some(ConnectMethod::ReleaseSession) => {
                Decision::Release { session: session.meta.name.clone(), route: self.route(session) }
            }
            SessionState::Pending => self.wait(session),
            SessionState::Active | SessionState::Idle => match self.route(session) {
                Some(route) => Decision::Route(route),
                None => self.wait(session),
            },
        }
    }

    fn route(&self, session: &Session) -> Option<Route> {
        let instance = self.inventory.instance(session.status.assigned_instance.as_deref()?)?;
        let cluster = instance.cluster().filter(|_| instance.is_alive())?;
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

    fn wait(&self, session: &Session) -> Decision {
        let explanation = session.explanation().map_or("It has just been created.", |(_, message)| message);
        Decision::Wait {
            session: session.meta.name.clone(),
            uid: session.meta.uid.clone(),
            explanation: explanation.to_owned(),
        }
    }

    fn has_waited_for(&self, session: &Session) -> bool {
        self.wait.session.as_ref() == Some(&session.meta.uid)
            || (why_failed(session).kind != DenialKind::QuotaExceeded
                && failed_at(session).as_second() >= self.wait.since.as_second())
    }

    /// A quota is not waited for: it is counted anew for every request.
    fn failure_stands(&self, session: &Session, method: Option<ConnectMethod>) -> bool {
        method.is_some()
            && why_failed(session).kind != DenialKind::QuotaExceeded
            && self.now < failed_at(session).checked_add(FAILURE_STANDS).unwrap_or(Timestamp::MAX)
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

    fn create(&self, draft: Draft) -> Decision {
        match self.quota() {
            Ok(()) => Decision::Create(draft),
            Err(denial) => Decision::Deny(denial),
        }
    }

    /// What the planner would refuse is refused here already, without an object.
    fn quota(&self) -> Result<(), Denial> {
        let (pool, identity) = (self.pool, self.identity);
        let alive = |session: &&std::sync::Arc<Session>| !session.is_finished() && !session.meta.deleting;
        let of_user =
            self.inventory.sessions_of(pool.name(), &identity.user).into_iter().filter(alive).count();
        let in_total = self.inventory.sessions_in(pool.name()).filter(alive).count();
        quota::check(
            &pool.spec.session_policy,
            pool.name(),
            &identity.user,
            &identity.groups,
            of_user,
            in_total,
        )
        .map_err(|exceeded| Denial::new(DenialKind::QuotaExceeded, exceeded.to_string()))
    }

    fn connect_draft(&self, session_id: Uuid) -> Draft {
        let key = SessionKey::Connect { pool: self.pool.meta.name.clone(), session_id };
        self.draft(&key, Some(session_id.to_string()), None)
    }

    fn thrift_draft(&self, name: &str) -> Draft {
        let key = SessionKey::Thrift {
            pool: self.pool.meta.name.clone(),
            user: self.identity.user.clone(),
            name: name.to_owned(),
        };
        self.draft(&key, None, Some(name).filter(|name| *name != DEFAULT_SESSION_NAME).map(str::to_owned))
    }

    fn draft(&self, key: &SessionKey, session_id: Option<String>, name: Option<String>) -> Draft {
        Draft {
            name: key.object_name(),
            spec: SparkInteractiveSessionSpec {
                user: self.identity.user.clone(),
                pool: self.pool.meta.name.clone(),
                groups: self.identity.groups.clone(),
                spark_conf: std::collections::BTreeMap::new(),
                session_id,
                name,
            },
        }
    }
}

/// In whole seconds.
fn failed_at(session: &Session) -> Timestamp {
    session.status.finished_at.as_ref().map_or(Timestamp::MIN, |at| at.0)
}

fn why_failed(session: &Session) -> Denial {
    let (reason, message) = session.explanation().unwrap_or(("Failed", "The session could not start."));
    let kind = if reason == "QuotaExceeded" { DenialKind::QuotaExceeded } else { DenialKind::StartFailed };
    Denial::new(kind, message)
}

fn why_ended(session: &Session) -> Denial {
    let (reason, message) = session.explanation().unwrap_or(("Terminated", "The session has ended."));
    let kind = if reason == "InstanceLost" { DenialKind::SessionChanged } else { DenialKind::SessionClosed };
    Denial::new(kind, message)
}

/// No pool has the host, or none for the protocol.
pub fn unknown_host(inventory: &Inventory, host: &str, protocol: Protocol) -> Denial {
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
#[path = "decide_tests.rs"]
mod tests;
