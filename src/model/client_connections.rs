//! The connections over which the clients of a Connect session reach Envoy, and when the last of them ended.
//!
//! A program that ends without `spark.stop()` sends nothing: the end of its connection is all that is known of it. Envoy names
//! the connection in every check and once more when the connection ends, so both can be brought together whichever replica
//! hears of them. Everything here errs on the side of a connected session: where an end was not reported, or where a
//! connection carries several users, the session stays connected.
//!
//! Not here: who hears of connections (`edge`), how that gets into statuses (`operator::client_connections`), and what follows
//! from it (`plan`). Thrift sessions have none of this, because JDBC clients may open a connection for each call.

use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

use super::{Session, SessionKey};
use crate::api::{ClientConnectionStatus, DisconnectCause, SessionState};

/// Connections that a session lists. A client with more of them is taken for a proxy.
pub const MOST_CONNECTIONS: usize = 16;

/// How long a client whose connection broke has to come back before its place may be given to a newer session.
const RECONNECT_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// After this long without a use, the end of a connection is no sign that the client has gone. gRPC's clients close a connection
/// that was idle for 30 minutes (`GRPC_ARG_CLIENT_IDLE_TIMEOUT_MS`), and Envoy after an hour; uses are written late.
const UNUSED_AFTER: SignedDuration = SignedDuration::from_mins(25);

/// A client's connection to an Envoy. The operating systems give the same name to a later connection at the earliest when this
/// one has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientConnection {
    /// `node.id` of the Envoy.
    pub envoy: String,
    /// Address and port of the client, as that Envoy sees them.
    pub client: SocketAddr,
    /// Port of the Envoy's listener.
    pub listener_port: u16,
}

/// A connection that a request of a session came over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedConnection {
    pub connection: ClientConnection,
    /// When the request came, by the Envoy's clock.
    pub since: Timestamp,
    /// The request says that it went through a proxy. The proxy, not the client, holds the connection.
    pub proxied: bool,
}

/// A connection that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedConnection {
    pub connection: ClientConnection,
    /// When it ended, by the Envoy's clock.
    pub at: Timestamp,
    pub cause: DisconnectCause,
}

impl ClientConnectionStatus {
    /// `None` where somebody wrote an address that is none.
    pub fn connection(&self) -> Option<ClientConnection> {
        let client = self.client.parse().ok()?;
        Some(ClientConnection { envoy: self.envoy.clone(), client, listener_port: self.listener_port })
    }

    fn is(&self, other: &ClientConnection) -> bool {
        self.listener_port == other.listener_port
            && self.envoy == other.envoy
            && self.client.parse() == Ok(other.client)
    }
}

/// The part of a session's status that is about the connections of its clients.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientConnections {
    pub open: Vec<ClientConnectionStatus>,
    pub disconnected: Option<(Time, DisconnectCause)>,
}

impl ClientConnections {
    pub fn of(session: &Session) -> Self {
        let status = &session.status;
        let cause = status.disconnect_cause.unwrap_or(DisconnectCause::ConnectionLost);
        Self {
            open: status.client_connections.clone(),
            disconnected: status.disconnected_at.clone().map(|at| (at, cause)),
        }
    }

    /// A request came over this connection. `shared`: requests of other users come over it, too.
    pub fn opened(&mut self, used: &UsedConnection, shared: bool) {
        let shared = shared || used.proxied;
        self.disconnected = None;
        let known = self.open.iter_mut().find(|open| open.is(&used.connection));
        match known {
            Some(known) => known.shared |= shared,
            None => self.open.push(ClientConnectionStatus {
                envoy: used.connection.envoy.clone(),
                client: used.connection.client.to_string(),
                listener_port: used.connection.listener_port,
                since: MicroTime(used.since),
                shared,
            }),
        }
        if self.open.len() > MOST_CONNECTIONS {
            let newest = self.open.split_off(self.open.len() - 1);
            self.open =
                newest.into_iter().map(|open| ClientConnectionStatus { shared: true, ..open }).collect();
        }
    }

    /// This connection ended. A namesake that was opened later stays. `last_use` is the session's, as far as it is known.
    pub fn ended(&mut self, ended: &EndedConnection, last_use: Timestamp) {
        let is_it = |open: &ClientConnectionStatus| {
            !open.shared && open.is(&ended.connection) && open.since.0 <= ended.at
        };
        let before = self.open.len();
        self.open.retain(|open| !is_it(open));
        if self.open.is_empty() && before > 0 {
            let at = Timestamp::from_second(ended.at.as_second()).unwrap_or(ended.at);
            let unused = ended.at.duration_since(last_use) >= UNUSED_AFTER;
            let cause = if unused { DisconnectCause::Unused } else { ended.cause };
            self.disconnected = Some((Time(at), cause));
        }
    }
}

/// The reason with which a session ends whose place a newer one of its user gets.
pub const REPLACED_BY_NEWER: &str = "ReplacedByNewer";

impl Session {
    /// Whether its place belongs to another session already, or to the next one of its client, though it is still being
    /// closed.
    pub fn has_made_room(&self) -> bool {
        let replaced = || self.explanation().is_some_and(|(reason, _)| reason == REPLACED_BY_NEWER);
        self.status.state == SessionState::Terminating && (self.status.released_at.is_some() || replaced())
    }

    /// Whether a request over this connection changes nothing about the session's connections.
    pub fn is_connected_over(&self, connection: &ClientConnection) -> bool {
        self.status.disconnected_at.is_none()
            && self.status.client_connections.iter().any(|open| open.shared || open.is(connection))
    }

    /// Since when no connection of its clients is open. `None` while one is, or where that is not known.
    pub fn disconnected_at(&self) -> Option<Timestamp> {
        self.status.disconnected_at.as_ref().map(|at| at.0)
    }

    /// The time after which its client is not expected to come back by itself.
    pub fn given_up_at(&self) -> Option<Timestamp> {
        let grace = match self.status.disconnect_cause {
            Some(DisconnectCause::ClosedByClient | DisconnectCause::Unused) => SignedDuration::ZERO,
            Some(DisconnectCause::ConnectionLost) | None => RECONNECT_GRACE,
        };
        self.disconnected_at()?.checked_add(grace).ok()
    }

    /// Whether its client has probably gone, and has not just let an unused connection go.
    pub fn was_left(&self) -> bool {
        self.disconnected_at().is_some() && self.status.disconnect_cause != Some(DisconnectCause::Unused)
    }

    /// Whether a connection of its user made it. Others made it in advance, with kubectl or the API.
    pub fn was_made_on_connection(&self) -> bool {
        let pool = self.spec.pool.clone();
        let key = match (&self.spec.name, self.spec.session_id.as_deref().map(str::parse)) {
            (Some(name), _) => SessionKey::Named { pool, user: self.spec.user.clone(), name: name.clone() },
            (None, Some(Ok(session_id))) => SessionKey::Connect { pool, session_id },
            _ => return false,
        };
        key.object_name() == self.meta.name
    }

    /// Whether a newer session of its user may get its place: its client has gone, and nobody made or named it to keep it.
    pub fn is_replaceable(&self, now: Timestamp) -> bool {
        matches!(self.status.state, SessionState::Active | SessionState::Idle)
            && !self.meta.deleting
            && self.status.released_at.is_none()
            && self.spec.name.is_none()
            && self.given_up_at().is_some_and(|at| at <= now)
            && self.was_made_on_connection()
    }
}

#[cfg(test)]
#[path = "client_connections_tests.rs"]
mod tests;
