//! Thrift: requests carry no id of a session, so that the user and a name tell which it is. OpenSession starts it; all
//! other calls refer to what was opened.

use super::{Decision, Request, why_ended, why_failed};
use crate::api::SessionState;
use crate::model::{Denial, DenialKind, Session, ThriftHead};

impl Request<'_> {
    pub(super) fn thrift(&self, name: &str, head: &ThriftHead) -> Decision {
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
