//! Spark Connect: whoever comes with the id of a session has it, if it is theirs.

use uuid::Uuid;

use super::{Decision, Joining, Request, deny, refuse, why_ended, why_failed};
use crate::api::SessionState;
use crate::model::{ConnectHead, ConnectMethod, DenialKind, Route, Session, SessionKey, spark_version};

impl Request<'_> {
    pub(super) fn connect(&self, method: ConnectMethod, head: &ConnectHead) -> Decision {
        let (pool, id) = (self.pool.name(), head.session_id);
        if let Some(session) = self.with_id(id) {
            if session.spec.user != self.identity.user {
                return another_users(id, session);
            }
            if session.spec.name.is_some() {
                return self.use_named_or_clone(session, method, head);
            }
            return match (self.use_unnamed(session, method, id), head.clone) {
                (Decision::Route(route), Some(clone)) => self.clone_of(session, clone.session_id, route),
                (decision, _) => decision,
            };
        }
        if let Some(closed) = self.unknown_id(method, head) {
            return closed;
        }
        let unclaimed = self.inventory.sessions_of(pool, &self.identity.user);
        let unclaimed = unclaimed.into_iter().find(|session| {
            session.spark_session_id().is_none()
                && session.spec.name.is_none()
                && !session.is_finished()
                && session.status.state != SessionState::Terminating
                && !session.meta.deleting
        });
        match unclaimed {
            Some(session) => Decision::Claim {
                session: session.meta.name.clone(),
                resource_version: session.meta.resource_version,
                session_id: id,
            },
            None => self.start(|request| Decision::Create(request.draft(&request.key_of(id)))),
        }
    }

    /// Its client names the session: several programs may share it, one after the other or at the same time.
    pub(super) fn named(&self, method: ConnectMethod, head: &ConnectHead, name: &str) -> Decision {
        let id = head.session_id;
        if let Some(other) = self.with_id(id).filter(|session| session.spec.user != self.identity.user) {
            return another_users(id, other);
        }
        match self.called(name, |session| session.spec.name.is_some()) {
            Some(session) => self.use_named_or_clone(session, method, head),
            None => self
                .unknown_id(method, head)
                .unwrap_or_else(|| self.start(|request| Decision::Create(request.draft(&request.key(name))))),
        }
    }

    /// The session of this id: the user's own before one of somebody else who took the same id, and where somebody made a
    /// second object for it the one that is alive.
    fn with_id(&self, id: Uuid) -> Option<&Session> {
        let sessions = self.inventory.sessions_with_spark_id(self.pool.name(), id);
        let (own, others): (Vec<_>, Vec<_>) =
            sessions.into_iter().partition(|session| session.spec.user == self.identity.user);
        let candidates = if own.is_empty() { others } else { own };
        let alive = candidates.iter().find(|session| !session.is_finished());
        alive.or(candidates.last()).map(|session| &***session)
    }

    /// What a call hears that cannot be the first of its session; `None` for one that can.
    fn unknown_id(&self, method: ConnectMethod, head: &ConnectHead) -> Option<Decision> {
        let (pool, id) = (self.pool.name(), head.session_id);
        let departed = self.inventory.ended_with_spark_id(id);
        let departed =
            departed.filter(|ended| ended.spec.pool == pool && ended.spec.user == self.identity.user);
        if !method.starts_session() {
            let message =
                format!("Spark session {id} is not open in pool {pool}: there is nothing to release.");
            return Some(self.missing(departed.map(AsRef::as_ref), message));
        }
        // The client has talked to a server under this id.
        if head.observed_server_session_id.is_some() {
            let message =
                format!("Spark session {id} is not known in pool {pool} any more. Start a new session.");
            return Some(self.missing(departed.map(AsRef::as_ref), message));
        }
        let ended = departed.filter(|ended| !is_failed(ended) && self.is_within(super::END_STANDS, ended))?;
        Some(Decision::Deny(why_ended(ended)))
    }

    fn use_named_or_clone(&self, session: &Session, method: ConnectMethod, head: &ConnectHead) -> Decision {
        match (self.use_named(session, method, head.session_id), head.clone) {
            (Decision::Route(route), Some(clone)) => self.clone_in_named(session, clone.session_id, route),
            (decision, _) => decision,
        }
    }

    /// A clone of a named session has no place of its own. It is one of the session's clients before Spark makes it, so
    /// that it is counted and released as they are, whether or not anybody ever uses it.
    fn clone_in_named(&self, session: &Session, id: Uuid, route: Route) -> Decision {
        if !spark_version::has_clone_session(&self.pool.spec) {
            return Decision::Route(route);
        }
        match self.with_id(id) {
            None => {
                Decision::Join { session: session.meta.name.clone(), joining: Joining { id, cloned: true } }
            }
            Some(other) if other.spec.user != self.identity.user => another_users(id, other),
            // Its id is taken, which Spark says itself, or it is listed by now.
            Some(_) => Decision::Route(route),
        }
    }

    /// The clone has a place before Spark makes it: on its parent's instance, since no other one could.
    fn clone_of(&self, parent: &Session, id: Uuid, route: Route) -> Decision {
        if !spark_version::has_clone_session(&self.pool.spec) {
            return Decision::Route(route);
        }
        match self.with_id(id) {
            None => self.start_beside(Some(parent.name()), |request| {
                let mut draft = request.draft(&request.key_of(id));
                draft.spec.cloned_from = Some(parent.meta.name.clone());
                Decision::Create(draft)
            }),
            Some(session) if session.spec.user != self.identity.user => another_users(id, session),
            // Its id is taken, which Spark says itself.
            Some(session) if session.spec.cloned_from.as_deref() != Some(parent.name()) => {
                Decision::Route(route)
            }
            Some(session) => match session.status.state {
                SessionState::Pending => self.wait(session),
                SessionState::Failed => Decision::Deny(why_failed(session)),
                _ => Decision::Route(route),
            },
        }
    }

    fn use_unnamed(&self, session: &Session, method: ConnectMethod, id: Uuid) -> Decision {
        let replace = || self.start(|request| request.replace(request.draft(&request.key_of(id))));
        match session.status.state {
            SessionState::Failed => self.use_failed(session, method, replace),
            _ if method == ConnectMethod::ReleaseSession && session.status.released_at.is_some() => {
                self.release_again(session)
            }
            _ if session.meta.deleting => Decision::Deny(why_ended(session)),
            SessionState::Terminated | SessionState::Terminating => Decision::Deny(why_ended(session)),
            _ if method == ConnectMethod::ReleaseSession => {
                self.release(session, |route| Decision::Release { session: session.meta.name.clone(), route })
            }
            _ => self.use_placed(session, Some(id)),
        }
    }

    fn use_named(&self, session: &Session, method: ConnectMethod, id: Uuid) -> Decision {
        let is_client = session.status.client_session_ids.contains(&id.to_string());
        let name = session.called();
        let replace = || self.start(|request| request.replace(request.draft(&request.key(name))));
        match session.status.state {
            SessionState::Failed => self.use_failed(session, method, replace),
            _ if is_client
                && method == ConnectMethod::ReleaseSession
                && session.status.released_at.is_some() =>
            {
                self.release_again(session)
            }
            SessionState::Terminated | SessionState::Terminating if is_client => {
                Decision::Deny(why_ended(session))
            }
            _ if session.meta.deleting && is_client => Decision::Deny(why_ended(session)),
            _ if !is_client && !method.starts_session() => {
                let message =
                    format!("Spark session {id} is not open in session {name}: there is nothing to release.");
                deny(DenialKind::SessionClosed, message)
            }
            // A new client of an old name.
            SessionState::Terminated if !session.meta.deleting => replace(),
            SessionState::Terminating | SessionState::Terminated => self.wait_until_gone(session),
            _ if session.meta.deleting => self.wait_until_gone(session),
            // Its last client has left, and the planner has yet to see it.
            _ if !is_client && session.status.released_at.is_some() => self.wait_until_gone(session),
            _ if !is_client => {
                Decision::Join { session: session.meta.name.clone(), joining: Joining { id, cloned: false } }
            }
            _ if method == ConnectMethod::ReleaseSession => self.release(session, |route| Decision::Leave {
                session: session.meta.name.clone(),
                session_id: id,
                route,
            }),
            _ => self.use_placed(session, Some(id)),
        }
    }

    fn use_failed(
        &self,
        session: &Session,
        method: ConnectMethod,
        replace: impl FnOnce() -> Decision,
    ) -> Decision {
        if session.meta.deleting {
            self.wait_until_gone(session)
        } else if self.hears_failure(session) || self.failure_stands(session) || !method.starts_session() {
            Decision::Deny(why_failed(session))
        } else {
            replace()
        }
    }

    /// Spark has to hear of it, so that the way there must be known. A session that waits has none yet; but then this
    /// replica's watch may be behind the one that answered the client before.
    fn release(&self, session: &Session, end: impl FnOnce(Option<Route>) -> Decision) -> Decision {
        match (session.status.state, self.route(session)) {
            (SessionState::Pending, _) if !self.wait.refreshed => Decision::Refresh,
            (SessionState::Pending, _) => end(None),
            (_, Some(route)) => end(Some(route)),
            (_, None) => self.wait(session),
        }
    }

    fn key_of(&self, session_id: Uuid) -> SessionKey {
        SessionKey::Connect { pool: self.pool.meta.name.clone(), session_id }
    }
}

fn is_failed(session: &Session) -> bool {
    session.status.state == SessionState::Failed
}

fn another_users(id: Uuid, session: &Session) -> Decision {
    let message = format!("Spark session {id} belongs to another user. Start a session of your own.");
    refuse(message, Some(session.meta.name.clone()))
}
