//! Reads what a client presents out of its headers. Pure: nothing here asks whether it is right.
//!
//! What clients really send was observed: PySpark's `;token=` carries a JWT or base64(user:password), the Scala client strips its padding and
//! called the key `Authentication` in some versions, hive-jdbc invents a user when it has none.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{jwt, user_name};
use crate::model::{Credentials, CredentialsError};

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
    for name in ["authorization", "authentication"] {
        match header(name).map_or(Err(CredentialsError::Missing), authorization) {
            Err(CredentialsError::Missing) => {}
            read => return read,
        }
    }
    match (header("x-spark-username"), header("x-spark-password")) {
        (Some(user), Some(password)) => pair(user, password),
        (Some(_), None) => malformed("x-spark-username was sent without x-spark-password"),
        (None, Some(_)) => malformed("x-spark-password was sent without x-spark-username"),
        (None, None) => Err(CredentialsError::Missing),
    }
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
            .map_or(Err(CredentialsError::Missing), |(user, password)| pair(user, password))
    };
    match basic(user_id, "").or_else(|_| plain()) {
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
        basic(rest, "after \"Basic\" there is no base64 of user:password")
    } else if scheme.eq_ignore_ascii_case("bearer") {
        if jwt::looks_like_jwt(rest) {
            return Ok(Credentials::Token(rest.into()));
        }
        basic(rest, "the bearer token is neither a JWT nor base64 of user:password")
    } else {
        malformed("the authorization scheme is neither Basic nor Bearer")
    }
}

fn basic(encoded: &str, problem: &'static str) -> Result<Credentials, CredentialsError> {
    let engine = if encoded.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    let Some(text) = engine.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()) else {
        return malformed(problem);
    };
    match text.split_once(':') {
        Some((user, password)) => pair(user, password),
        None => malformed(problem),
    }
}

/// Tools that only know passwords send a JWT as the password, with any user name (dbt: `token`).
fn pair(user: &str, password: &str) -> Result<Credentials, CredentialsError> {
    if jwt::looks_like_jwt(password) {
        return Ok(Credentials::Token(password.into()));
    }
    if (user, password) == NOBODY {
        return Err(CredentialsError::Missing);
    }
    if user.is_empty() {
        return malformed("the user name is empty");
    }
    Ok(Credentials::Password { user: user.to_owned(), password: password.into() })
}

fn malformed(reason: &'static str) -> Result<Credentials, CredentialsError> {
    Err(CredentialsError::Malformed { reason })
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
