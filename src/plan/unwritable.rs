//! Sessions whose status the API server does not take: their object is too large, or a policy or an admission webhook objects.
//!
//! Such a session is left out of plans, so that it holds nothing that others could have, and nothing is told of it that
//! is not so. One without a place gets none. One that has a place goes on; when it ends, what it has on Spark is released, and its
//! instance may go, but as long as its object says otherwise its user's quota counts it.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::endings::after;
use crate::model::Session;

const FIRST_RETRY: SignedDuration = SignedDuration::from_secs(1);
const LONGEST_RETRY: SignedDuration = SignedDuration::from_secs(60);

/// Sessions whose last write was refused, by UID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwritable {
    refused: HashMap<String, Refused>,
}

/// What a refusal says beyond those that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// Nobody was told of it yet.
    News,
    /// As it was when it was tried last.
    Again,
    /// It was known, and the plan tried all the same.
    InSpiteOfIt,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    /// The version of the object. Another one is tried at once.
    version: u64,
    at: Timestamp,
    /// In a row.
    times: u32,
    message: String,
}

impl Refused {
    fn stands_until(&self) -> Timestamp {
        after(self.at, (FIRST_RETRY * 2_i32.pow(self.times.clamp(1, 10) - 1)).min(LONGEST_RETRY))
    }
}

impl Unwritable {
    /// Notes that this version of the session was refused.
    pub fn note(&mut self, uid: &str, version: u64, message: &str, now: Timestamp) -> Noted {
        let known = self.refused.get(uid);
        let noted = match known {
            Some(known) if known.message != message => Noted::News,
            Some(known) if known.version == version && now < known.stands_until() => Noted::InSpiteOfIt,
            Some(_) => Noted::Again,
            None => Noted::News,
        };
        let times = known.map_or(0, |known| known.times).saturating_add(1);
        let refused = Refused { version, at: now, times, message: message.to_owned() };
        self.refused.insert(uid.to_owned(), refused);
        noted
    }

    /// Forgets those that are not there any more. No refusal lies in the future: the clock may have been set back.
    pub fn keep<'a>(&mut self, there: impl Iterator<Item = &'a Session>, now: Timestamp) {
        if self.refused.is_empty() {
            return;
        }
        let there: Vec<&str> = there.map(|session| session.meta.uid.as_str()).collect();
        self.refused.retain(|uid, _| there.contains(&uid.as_str()));
        self.refused.values_mut().for_each(|refused| refused.at = refused.at.min(now));
    }

    /// When the session as it is now is to be written again, if it could not be written.
    pub fn next_attempt(&self, session: &Session) -> Option<Timestamp> {
        let refused = self.refused.get(&session.meta.uid)?;
        (refused.version == session.meta.resource_version).then(|| refused.stands_until())
    }
}
