//! The whole of one Thrift message: TCLIService's OpenSession call, to read its configuration and write it anew.
//!
//! ```text
//! OpenSession(1: TOpenSessionReq {1: client_protocol, 2: username, 3: password, 4: configuration map<string, string>})
//! ```
//!
//! Thrift's binary protocol in both forms of its head (`thrift_head`). Everything but the configuration comes out byte
//! for byte as it came in, fields of later versions included. What its entries mean is not known here, see
//! `thrift_open_session_conf`.

use super::thrift_bytes::{Bytes, MAX_DEPTH, Malformed};
use super::thrift_head::{self, HeadError};
use super::thrift_type::{MAP, STRING, STRUCT};

/// Why a message cannot be read, in words for the person who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenSessionError {
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error("The request is not an OpenSession call.")]
    OtherMethod,
    #[error("The OpenSession call ends before it is complete.")]
    Cut,
    #[error("The OpenSession call holds a length that is negative.")]
    NegativeLength,
    #[error("The OpenSession call holds a value of a type that Thrift does not have.")]
    UnknownType,
    #[error("The OpenSession call is nested too deeply.")]
    TooDeep,
    #[error("The OpenSession call has no request in it.")]
    NoRequest,
    /// The server would take the last one; nobody sends it but to hide one from us.
    #[error("The OpenSession call has a field twice.")]
    Twice,
    #[error("The configuration in the OpenSession call is not a map of texts.")]
    NotTexts,
}

use OpenSessionError::{Cut, NoRequest, NotTexts, OtherMethod, Twice};

impl From<Malformed> for OpenSessionError {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Cut => Self::Cut,
            Malformed::NegativeLength => Self::NegativeLength,
            Malformed::UnknownType => Self::UnknownType,
            Malformed::TooDeep => Self::TooDeep,
        }
    }
}

/// One pair of the configuration. Bytes, since Thrift's strings need not be UTF-8.
pub type Entry<'a> = (&'a [u8], &'a [u8]);

/// An OpenSession call whose configuration can be replaced. Borrows the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession<'a> {
    before: &'a [u8],
    configuration: Vec<Entry<'a>>,
    after: &'a [u8],
}

const METHOD: &str = "OpenSession";
/// `OpenSession_args.req`
const REQUEST: i16 = 1;
/// `TOpenSessionReq.configuration`
const CONFIGURATION: i16 = 4;

/// Reads one call. Takes memory for the entries only, each of which takes eight bytes of the message at least.
pub fn read(message: &[u8]) -> Result<OpenSession<'_>, OpenSessionError> {
    let (head, arguments) = thrift_head::split(message)?;
    if head.method != METHOD {
        return Err(OtherMethod);
    }
    let mut bytes = Bytes(arguments);
    let mut found = None;
    while let Some((kind, id)) = bytes.field()? {
        if (kind, id) == (STRUCT, REQUEST) {
            let request = read_request(message, &mut bytes)?;
            if found.replace(request).is_some() {
                return Err(Twice);
            }
        } else {
            bytes.skip(kind, MAX_DEPTH)?;
        }
    }
    found.ok_or(NoRequest)
}

/// Reads the fields of TOpenSessionReq, of which `bytes`, the end of `message`, holds the first next.
fn read_request<'a>(message: &'a [u8], bytes: &mut Bytes<'a>) -> Result<OpenSession<'a>, OpenSessionError> {
    let mut found = None;
    loop {
        let start = message.len() - bytes.0.len();
        let Some((kind, id)) = bytes.field()? else {
            let (before, after) = message.split_at_checked(start).ok_or(Cut)?;
            return Ok(found.unwrap_or(OpenSession { before, configuration: Vec::new(), after }));
        };
        if (kind, id) == (MAP, CONFIGURATION) {
            let configuration = texts(bytes)?;
            let before = message.get(..start).ok_or(Cut)?;
            if found.replace(OpenSession { before, configuration, after: bytes.0 }).is_some() {
                return Err(Twice);
            }
        } else {
            bytes.skip(kind, MAX_DEPTH)?;
        }
    }
}

impl<'a> OpenSession<'a> {
    /// In the order of the message. A key may come twice; the server takes the last one.
    pub fn configuration(&self) -> &[Entry<'a>] {
        &self.configuration
    }

    /// The message with these entries instead of its own. `None` if they are more, or longer, than Thrift can say.
    pub fn with_configuration(&self, entries: &[Entry<'_>]) -> Option<Vec<u8>> {
        let length: usize = entries.iter().map(|(key, value)| 8 + key.len() + value.len()).sum();
        let mut message = Vec::with_capacity(self.before.len() + 9 + length + self.after.len());
        message.extend_from_slice(self.before);
        message.push(MAP);
        message.extend_from_slice(&CONFIGURATION.to_be_bytes());
        message.extend_from_slice(&[STRING, STRING]);
        message.extend_from_slice(&i32::try_from(entries.len()).ok()?.to_be_bytes());
        for text in entries.iter().flat_map(|(key, value)| [key, value]) {
            message.extend_from_slice(&i32::try_from(text.len()).ok()?.to_be_bytes());
            message.extend_from_slice(text);
        }
        message.extend_from_slice(self.after);
        Some(message)
    }
}

fn texts<'a>(bytes: &mut Bytes<'a>) -> Result<Vec<Entry<'a>>, OpenSessionError> {
    let kinds: [u8; 2] = bytes.array()?;
    let count = bytes.length()?;
    // Of an empty map some writers leave the types out. HiveServer2 reads texts whatever they say.
    if count > 0 && kinds != [STRING, STRING] {
        return Err(NotTexts);
    }
    // Grows with what is really there, not with what the message claims.
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push((bytes.text()?, bytes.text()?));
    }
    Ok(entries)
}

#[cfg(test)]
#[path = "thrift_open_session_tests.rs"]
mod tests;
