//! Reads what a client presents out of its headers. Pure: nothing here asks whether it is right.
//!
//! What clients really send was observed: PySpark's `;token=` carries a JWT or base64(user:password), the Scala client strips its padding and
//! called the key `Authentication` in some versions, hive-jdbc invents a user when it has none.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{jwt, user_name};
use crate::model::{Charset, Credentials, CredentialsError};

/// What hive-jdbc and beeline send when the user named nobody. PyHive's `user:pass` and the like
/// could be real and are left to the identity provider to refuse.
const NOBODY: (&str, &str) = ("anonymous", "anonymous");

const STANDARD: GeneralPurpose = lenient(&alphabet::STANDARD);
const URL_SAFE: GeneralPurpose = lenient(&alphabet::URL_SAFE);

const fn lenient(alphabet: &alphabet::Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}

/// Reads the first credentials among `authorization`, `authentication`, and the pair
/// `x-spark-username` and `x-spark-password`; `header` is asked for lower-case names.
///
/// A header that holds none (hive-jdbc's `anonymous:anonymous`) gives way to the next one; a
/// malformed one is an error, so that a typing error never logs in as somebody else.
pub fn read<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Result<Credentials, CredentialsError> {
    for (name, shown) in [("authorization", "Authorization"), ("authentication", "Authentication")] {
        match header(name).map_or(Err(CredentialsError::Missing), |value| one_of(value, shown)) {
            Err(CredentialsError::Missing) => {}
            read => return read,
        }
    }
    match (header("x-spark-username"), header("x-spark-password")) {
        (Some(user), Some(password)) => match (sent_twice(user), sent_twice(password)) {
            (Some(user), Some(password)) => pair(user, password, Charset::Utf8),
            _ => pair(user, password, Charset::Utf8),
        },
        (Some(_), None) => malformed("x-spark-username was sent without x-spark-password"),
        (None, Some(_)) => malformed("x-spark-password was sent without x-spark-username"),
        (None, None) => Err(CredentialsError::Missing),
    }
}

/// Envoy shows several headers of one name as one, joined by commas, which neither base64 nor a JWT contains. Those
/// that say the same login count as one.
fn one_of(value: &str, header: &'static str) -> Result<Credentials, CredentialsError> {
    let mut first = None;
    for part in value.split(',') {
        let read = match authorization(part) {
            Err(CredentialsError::Missing) => continue,
            read => read,
        };
        match (&first, &read) {
            (None, _) => first = Some(read),
            // A scheme such as Digest has commas of its own.
            (Some(Err(error)), _) => return Err(error.clone()),
            (Some(Ok(one)), Ok(other)) if one.are_the_same_as(other) => {}
            (Some(Ok(_)), _) => return Err(CredentialsError::Different { header }),
        }
    }
    first.unwrap_or(Err(CredentialsError::Missing))
}

/// The text that Envoy has joined with itself. A name or a password may have a comma of its own, so only a pair both
/// halves of which are doubled is taken apart.
fn sent_twice(value: &str) -> Option<&str> {
    let (first, rest) = value.split_at_checked(value.len() / 2)?;
    (rest.strip_prefix(',')?.trim_start() == first).then_some(first)
}

/// The login in a Spark Connect `user_id`, where users of other gateways write base64(user:password): Spark would show
/// it in its UI and in logs. Nothing is read out of names that could be one by chance only.
pub fn read_user_id(user_id: &str) -> Option<Credentials> {
    if jwt::looks_like_jwt(user_id) {
        return Some(Credentials::Token(user_id.into()));
    }
    let plain = || {
        user_id
            .split_once(':')
            .map_or(Err(CredentialsError::Missing), |(user, password)| pair(user, password, Charset::Utf8))
    };
    let encoded = || match decoded(user_id).map(String::from_utf8) {
        Some(Ok(text)) => split(&text, Charset::Utf8),
        _ => None,
    };
    match encoded().unwrap_or_else(plain) {
        Ok(Credentials::Password { user, .. }) if user_name::check(&user).is_err() => None,
        read => read.ok(),
    }
}

fn authorization(value: &str) -> Result<Credentials, CredentialsError> {
    let value = value.trim();
    if value.is_empty() {
        return Err(CredentialsError::Missing);
    }
    let (scheme, rest) = value.split_once([' ', '\t']).unwrap_or((value, ""));
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("basic") {
        let not_text = "after \"Basic\" there is base64, but not of user:password in UTF-8 or Latin-1";
        basic(rest, "after \"Basic\" there is no base64 of user:password", not_text)
    } else if scheme.eq_ignore_ascii_case("bearer") {
        if jwt::looks_like_jwt(rest) {
            return Ok(Credentials::Token(rest.into()));
        }
        let not_text = "the bearer token is neither a JWT nor base64 of user:password in UTF-8 or Latin-1";
        basic(rest, "the bearer token is neither a JWT nor base64 of user:password", not_text)
    } else {
        malformed("the authorization scheme is neither Basic nor Bearer")
    }
}

/// `problem` is why there is no login in `encoded`, `not_text` the same where it encodes bytes that are no text.
fn basic(
    encoded: &str,
    problem: &'static str,
    not_text: &'static str,
) -> Result<Credentials, CredentialsError> {
    let Some(bytes) = decoded(encoded) else { return malformed(problem) };
    match String::from_utf8(bytes) {
        Ok(text) => split(&text, Charset::Utf8).unwrap_or_else(|| malformed(problem)),
        Err(error) => {
            let read = latin1(error.as_bytes()).and_then(|text| split(&text, Charset::Latin1));
            read.unwrap_or_else(|| malformed(not_text))
        }
    }
}

fn decoded(encoded: &str) -> Option<Vec<u8>> {
    let engine = if encoded.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    engine.decode(encoded).ok()
}

/// Older JDBC drivers encode with Java's ISO-8859-1. Any bytes at all can be read so, also those of an opaque token,
/// whose beginning must not become a user name in logs: text has no control characters, and random bytes nearly always
/// have some.
fn latin1(bytes: &[u8]) -> Option<String> {
    let text: String = bytes.iter().copied().map(char::from).collect();
    (!text.contains(char::is_control)).then_some(text)
}

fn split(text: &str, charset: Charset) -> Option<Result<Credentials, CredentialsError>> {
    text.split_once(':').map(|(user, password)| pair(user, password, charset))
}

/// Tools that only know passwords send a JWT as the password, with any user name (dbt: `token`).
fn pair(user: &str, password: &str, charset: Charset) -> Result<Credentials, CredentialsError> {
    if jwt::looks_like_jwt(password) {
        return Ok(Credentials::Token(password.into()));
    }
    if (user, password) == NOBODY {
        return Err(CredentialsError::Missing);
    }
    if user.is_empty() {
        return malformed("the user name is empty");
    }
    Ok(Credentials::Password { user: user.to_owned(), password: password.into(), charset })
}

fn malformed(reason: &'static str) -> Result<Credentials, CredentialsError> {
    Err(CredentialsError::Malformed { reason })
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
