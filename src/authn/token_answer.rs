//! What an answer of the token endpoint says: tokens, something about the user, or nothing about the user. Pure.
//!
//! An answer speaks of the user only if it is OAuth's own (RFC 6749 §5.2): JSON with a code that is about the resource
//! owner, with a status that such answers have. Whatever else comes (a page of an ingress, an empty body, an error of
//! the client) may stand for anybody's login, and ends none (`AuthnError::speaks_of_the_user`).

use reqwest::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::AuthnError;
use super::provider;
use super::text::one_line;

/// What the endpoint gives; unverified.
#[derive(Debug, Deserialize)]
pub struct Tokens {
    pub access_token: SecretString,
    pub id_token: Option<SecretString>,
    pub refresh_token: Option<SecretString>,
}

/// RFC 6749 §5.2.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

/// `secret`, a password or a refresh token, only serves to keep it out of what is shown.
///
/// # Errors
///
/// Why nobody is let in. [`AuthnErrorKind::Rejected`](super::AuthnErrorKind::Rejected) only if the answer speaks of the user.
pub fn read(status: StatusCode, body: &[u8], secret: &str) -> Result<Tokens, AuthnError> {
    if status.is_success() {
        return serde_json::from_slice(body).map_err(|_| without_token(body));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Err(AuthnError::Busy);
    }
    if provider::is_outage(status) {
        return Err(AuthnError::Unavailable);
    }
    let Ok(refusal) = serde_json::from_slice::<Refusal>(body) else {
        return Err(AuthnError::Provider);
    };
    Err(match refusal.error.as_str() {
        "temporarily_unavailable" | "server_error" => AuthnError::Unavailable,
        "slow_down" | "too_many_attempts" => AuthnError::Busy,
        "invalid_client"
        | "unauthorized_client"
        | "unsupported_grant_type"
        | "invalid_scope"
        | "invalid_request" => AuthnError::ClientRefused { code: refusal.error },
        _ => of_user(status, &refusal, secret).unwrap_or(AuthnError::Provider),
    })
}

/// Only an OAuth server sends a JSON object: the user was let in, but without what it takes.
fn without_token(body: &[u8]) -> AuthnError {
    match serde_json::from_slice::<Map<String, Value>>(body) {
        Ok(_) => {
            AuthnError::GrantUnusable { token: "access token", problem: "the answer has none.".to_owned() }
        }
        Err(_) => AuthnError::Provider,
    }
}

/// `None`: it does not speak of the user.
fn of_user(status: StatusCode, refusal: &Refusal, secret: &str) -> Option<AuthnError> {
    let speaks = [StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
    let echoed = shows(&refusal.error_description, secret);
    let description = one_line(&refusal.error_description, 200);
    let description = description.trim_end_matches('.');
    let refused = || AuthnError::AccountRefused { reason: description.to_owned() };
    match refusal.error.as_str() {
        _ if !speaks => None,
        "invalid_grant" | "access_denied" if says_wrong_password(description) || echoed => {
            Some(AuthnError::WrongPassword)
        }
        "invalid_grant" | "access_denied" => Some(refused()),
        // Auth0. Others mean the operator's client by the first of them.
        "unauthorized" if description == "user is blocked" => Some(refused()),
        "password_leaked" if !echoed => Some(refused()),
        // Auth0 and Microsoft; RFC 6749 has no code for it.
        "mfa_required" | "interaction_required" | "consent_required" | "login_required" => {
            Some(AuthnError::InteractiveLoginNeeded)
        }
        _ => None,
    }
}

/// Whether the description says no more than that user name or password are wrong: Keycloak
/// "Invalid user credentials", Auth0 "Wrong email or password.", Okta "The credentials provided
/// were invalid.", Microsoft "AADSTS50126: Error validating credentials due to invalid username …".
fn says_wrong_password(description: &str) -> bool {
    let text = description.to_ascii_lowercase();
    let wrong = ["invalid", "wrong", "incorrect", "bad"].iter().any(|word| text.contains(word));
    text.is_empty() || (wrong && (text.contains("credential") || text.contains("password")))
}

/// Whether `secret` can be read in it, as it came or in the line that is shown of it.
fn shows(text: &str, secret: &str) -> bool {
    text.contains(secret) || one_line(text, usize::MAX).contains(secret)
}

/// The provider's error code as it came: not for people. Empty if there is none.
pub(super) fn error_code(body: &[u8]) -> String {
    serde_json::from_slice::<Refusal>(body).unwrap_or_default().error
}

/// The same for the log. Empty also if it holds `secret`.
pub(super) fn shown_code(body: &[u8], secret: &str) -> String {
    let code = error_code(body);
    if shows(&code, secret) { String::new() } else { one_line(&code, 60) }
}

#[cfg(test)]
#[path = "token_answer_tests.rs"]
mod tests;
