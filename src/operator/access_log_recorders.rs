//! Where the entries of Envoys' access logs go on this replica: into the uses of sessions and the connections of clients.
//!
//! Not here: what an entry says (`edge::access_log`), and how it gets into statuses ([`super::activity`],
//! [`super::client_connections`]).

use std::sync::Arc;

use jiff::Timestamp;

use super::activity::Activity;
use super::client_connections::ConnectionRecorder;
use super::stores::Stores;
use crate::edge::AccessLogSink;
use crate::model::{EndedConnection, Session, UsedConnection};

/// Hands each entry to the recorder that it is for.
pub struct AccessLogRecorders {
    pub activity: Activity,
    pub connections: ConnectionRecorder,
    pub stores: Arc<Stores>,
}

impl AccessLogSink for AccessLogRecorders {
    fn used(&self, session: &str, at: Timestamp) {
        self.activity.note(session, at);
    }

    fn open(&self, session: &str, used: UsedConnection) {
        let is_known = |session: &Arc<Session>| session.is_connected_over(&used.connection);
        if !self.stores.read(|inventory| inventory.session(session).is_none_or(is_known)) {
            self.connections.used(session, used);
        }
    }

    fn ended(&self, connection: EndedConnection) {
        self.connections.ended(connection);
    }
}
