//! Whether a Thrift call can be about one session only, the one whose handle its head shows (`thrift_session::of_call`).
//!
//! Spark's reader takes the last of several fields with the same number, and ignores what follows the first 16 bytes of a
//! handle's halves. So a call could show the gateway one session and Spark another one, also in what the gateway does not
//! see of a long call. Real clients write each field once, and in order: a long call is long because of its statement,
//! behind which there is no room for another handle.
//!
//! Not here: whose session it is (`broker::decide`), and calls on an operation, which name none.

use super::thrift_bytes::{Bytes, MAX_DEPTH, Malformed};
use super::thrift_head;
use super::thrift_session::carries_session;
use super::thrift_type::{STRING, STRUCT};

/// Why a call is refused, in words for the person who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("The request names its Thrift session more than once, which no JDBC client does.")]
    Twice,
    #[error("The request cannot be read as far as the Thrift session that it is about.")]
    Unreadable,
    #[error(
        "The request is so long that the gateway does not see all of it, and behind its statement there is room for the \
         handle of another session. Send the statement without settings of its own, or make it shorter."
    )]
    Hidden,
}

/// `call {1: request {1: handle {1: identifier {1: guid}}}}`: levels above the guid.
const LEVELS: u8 = 3;
const REQUEST: u8 = 2;

/// The least that one more handle takes in a request, in bytes: three heads of structs or fields, two halves of 16 bytes
/// with their heads and lengths, two ends. Behind its statement hive-jdbc sends 26, the others less.
const ROOM_FOR_A_HANDLE: usize = 3 + 3 + 2 * (3 + 4 + 16) + 2;

/// `body` is a call or its beginning, `length` what it has in all, if that is known.
pub fn check(body: &[u8], length: Option<usize>) -> Result<(), SessionError> {
    let (head, arguments) = thrift_head::split(body).map_err(|_| SessionError::Unreadable)?;
    if !carries_session(&head.method) {
        return Ok(());
    }
    let unseen = length.map(|length| length.saturating_sub(body.len()));
    let mut call = Call { bytes: Bytes(arguments), unseen };
    match call.level(LEVELS) {
        // What is whole, and ends too early for us, does so for Spark.
        Err(Stop::At(Malformed::Cut)) if unseen != Some(0) => Err(SessionError::Hidden),
        Err(Stop::At(_)) => Err(SessionError::Unreadable),
        Err(Stop::For(error)) => Err(error),
        Err(Stop::NothingMore) | Ok(()) => Ok(()),
    }
}

struct Call<'a> {
    bytes: Bytes<'a>,
    /// Bytes behind those that are seen. `None`: nobody knows.
    unseen: Option<usize>,
}

/// Why the reading has ended.
enum Stop {
    At(Malformed),
    For(SessionError),
    /// What is not seen is too short for a handle.
    NothingMore,
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::At(malformed)
    }
}

impl Call<'_> {
    /// A struct whose field 1 leads to the guid, with so many levels between.
    fn level(&mut self, above: u8) -> Result<(), Stop> {
        let on_the_way = if above == 0 { STRING } else { STRUCT };
        let mut seen = false;
        while let Some((kind, number)) = self.bytes.field()? {
            if (kind, number) == (on_the_way, 1) {
                if std::mem::replace(&mut seen, true) {
                    return Err(Stop::For(SessionError::Twice));
                }
                if above > 0 {
                    self.level(above - 1)?;
                } else if self.bytes.text()?.len() != 16 {
                    return Err(Stop::For(SessionError::Unreadable));
                }
            } else if kind == STRING && above == REQUEST {
                self.statement()?;
            } else {
                self.bytes.skip(kind, MAX_DEPTH)?;
            }
        }
        Ok(())
    }

    /// A text of the request, which may go on beyond what is seen.
    fn statement(&mut self) -> Result<(), Stop> {
        let length = self.bytes.length()?;
        let Some(beyond) = length.checked_sub(self.bytes.0.len()).filter(|beyond| *beyond > 0) else {
            self.bytes.take(length)?;
            return Ok(());
        };
        match self.unseen.and_then(|unseen| unseen.checked_sub(beyond)) {
            Some(behind) if behind < ROOM_FOR_A_HANDLE => Err(Stop::NothingMore),
            _ => Err(Stop::At(Malformed::Cut)),
        }
    }
}

#[cfg(test)]
#[path = "thrift_one_session_tests.rs"]
mod tests;
