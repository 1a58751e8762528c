//! Thrift: requests carry no id of a session, so that the user and a name tell which it is. OpenSession starts it; all
//! other calls refer to what was opened, most of them by its handle, which must not be another user's.

use uuid::Uuid;

use super::{Decision, Request, refuse, why_ended, why_failed};
use crate::api::SessionState;
use crate::model::{Denial, DenialKind, Session, ThriftHead};

impl Request<'_> {
    pub(super) fn thrift(&self, name: &str, head: &ThriftHead) -> Decision {
        if let Some(theirs) = head.session_handle.and_then(|handle| self.another_users(handle)) {
            let message = "The Thrift session that this request names belongs to another user. Connect again to open one of \
                           your own.";
            return refuse(message.to_owned(), Some(theirs.meta.name.clone()));
        }
        let session = self.called(name, |_| true);
        match session {
            _ if head.method == "OpenSession" => self.open(session, name),
            Some(session) if head.method == "CloseSession" && session.status.released_at.is_some() => {
                self.release_again(session)
            }
            Some(session) if !session.is_finished() => self.use_opened(session, head),
            _ => {
                let (pool, user) = (self.pool.name(), &self.identity.user);
                let departed = self.inventory.departed_named(pool, user, name);
                let departed = session.or(departed.map(AsRef::as_ref));
                let told = departed.filter(|session| session.explanation().is_some());
                let message =
                    format!("Session {name} of user {user} is not open in pool {pool}. Connect again.");
                self.missing(told, message)
            }
        }
    }

    /// The session of another user that has the connection with this handle. Whoever has got hold of both its halves would
    /// have the session: the Thrift Server does not compare users.
    fn another_users(&self, handle: Uuid) -> Option<&Session> {
        let mut theirs = self.inventory.sessions_with_connection(handle);
        theirs.find(|session| session.spec.user != self.identity.user).map(AsRef::as_ref)
    }

    fn open(&self, session: Option<&Session>, name: &str) -> Decision {
        let draft = || self.draft(&self.key(name));
        let Some(session) = session else { return self.start(|_| Decision::Create(draft())) };
        match session.status.state {
            _ if session.meta.deleting => self.wait_until_gone(session),
            SessionState::Terminating => self.wait_until_gone(session),
            SessionState::Failed if self.hears_failure(session) => Decision::Deny(why_failed(session)),
            // It ended while its client was waiting for it.
            SessionState::Terminated if self.waits_for(session) => Decision::Deny(why_ended(session)),
            SessionState::Failed | SessionState::Terminated => self.start(|request| request.replace(draft())),
            // Its last connection was closed, and the planner has yet to see it.
            _ if session.status.released_at.is_some() => self.wait_until_gone(session),
            SessionState::Pending | SessionState::Active | SessionState::Idle => {
                self.use_placed(session, None)
            }
        }
    }

    fn use_opened(&self, session: &Session, head: &ThriftHead) -> Decision {
        if session.meta.deleting || session.status.state == SessionState::Terminating {
            return Decision::Deny(why_ended(session));
        }
        if let Some(instance) = self.lost_with(session, head) {
            let message = format!(
                "Instance {instance}, which held this connection, is gone. Connect again: the session goes on with \
                 another instance, without its temporary views and cached data."
            );
            return Decision::Deny(Denial::new(DenialKind::SessionChanged, message));
        }
        let used = self.use_placed(session, None);
        match (head.session_handle.filter(|_| head.method == "CloseSession"), used) {
            (Some(connection), Decision::Route(route)) => {
                Decision::Close { session: session.meta.name.clone(), connection, route }
            }
            (_, used) => used,
        }
    }

    /// The instance on which the call's connection was opened, if the session has moved since then. Calls about an
    /// operation name no connection: they are lost while none is left.
    fn lost_with<'s>(&self, session: &'s Session, head: &ThriftHead) -> Option<&'s str> {
        let status = &session.status;
        let elsewhere =
            |instance: &str| status.assigned_instance.as_deref().is_none_or(|assigned| assigned != instance);
        let named = head.session_handle.map(|handle| handle.to_string());
        let connection = match named {
            Some(id) => status.connections.iter().find(|connection| connection.id == id)?,
            None if status.connections.iter().all(|connection| elsewhere(&connection.instance)) => {
                status.connections.first()?
            }
            None => return None,
        };
        Some(connection.instance.as_str()).filter(|instance| elsewhere(instance))
    }
}
