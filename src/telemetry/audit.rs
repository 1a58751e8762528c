//! Who got in and what became of their sessions: one record per event, for whoever has to account for it later.
//!
//! A record is an event of the tracing target `audit`; `logs` decides where it goes, whatever the level of the logs is.
//! No field can hold a credential: names, an address, and a word of a closed set as the reason.

use std::net::IpAddr;

/// The target of all records.
pub const TARGET: &str = "audit";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A user got in with credentials that were not known from a login before.
    Login,
    /// The provider refused a login, or a token was not valid; `user` is who was named, if anybody.
    LoginRefused,
    /// Too many failures: not even asked. Told once until the next attempt is free.
    LoginLimited,
    /// Records that could not be written; `more` says how many.
    RecordsLost,
    SessionCreated,
    /// A session made in advance got its first client.
    SessionClaimed,
    /// A user may not use the pool, or came with another one's session id.
    SessionRefused,
    SessionEnded,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "Login",
            Self::LoginRefused => "LoginRefused",
            Self::LoginLimited => "LoginLimited",
            Self::RecordsLost => "RecordsLost",
            Self::SessionCreated => "SessionCreated",
            Self::SessionClaimed => "SessionClaimed",
            Self::SessionRefused => "SessionRefused",
            Self::SessionEnded => "SessionEnded",
        }
    }
}

/// What is known about an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    pub user: Option<&'a str>,
    pub pool: Option<&'a str>,
    /// Name of the SparkInteractiveSession.
    pub session: Option<&'a str>,
    /// The client's, as Envoy sees it.
    pub address: Option<IpAddr>,
    /// A word for programs, such as `WrongPassword`; never a sentence, which could quote something.
    pub reason: Option<&'a str>,
    /// How many of the same kind were left out: of one reason, and from one address.
    pub more: u64,
}

pub fn record(event: Event, record: Record<'_>) {
    let Record { user, pool, session, address, reason, more } = record;
    let address = address.map(tracing::field::display);
    let more = Some(more).filter(|more| *more > 0);
    tracing::info!(target: TARGET, event = event.name(), user, pool, session, address, reason, more);
}
