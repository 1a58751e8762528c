//! Exchanges user name and password (RFC 6749 §4.3), or a refresh token (§6), for an access token at the discovered
//! endpoint.
//!
//! Neither verifies tokens nor remembers anything: `authority` and `logins` do.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderValue;
use reqwest::{Client, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::client_secret::ClientSecret;
use super::discovery::{Discovery, Metadata};
use super::error::AuthnError;
use super::provider;
use super::text::one_line;

/// Logins at the same time: hashing a password is the dearest thing that the provider does, and everybody comes at nine.
const MAX_AT_ONCE: usize = 32;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct TokenEndpoint {
    discovery: Arc<Discovery>,
    http: Client,
    turns: Semaphore,
    client_id: String,
    client_secret: Option<ClientSecret>,
}

/// What the endpoint gives; unverified.
#[derive(Debug, Deserialize)]
pub(super) struct Tokens {
    pub access_token: SecretString,
    pub refresh_token: Option<SecretString>,
}

impl TokenEndpoint {
    pub fn new(
        discovery: Arc<Discovery>,
        http: Client,
        client_id: String,
        client_secret: Option<ClientSecret>,
    ) -> Self {
        Self { discovery, http, turns: Semaphore::new(MAX_AT_ONCE), client_id, client_secret }
    }

    pub async fn log_in(&self, user: &str, password: &SecretString) -> Result<Tokens, AuthnError> {
        // An empty password can count as an anonymous LDAP bind behind the provider (RFC 4513 §5.1.2).
        if password.expose_secret().is_empty() {
            return Err(AuthnError::NoPassword);
        }
        let password = password.expose_secret();
        let form =
            [("grant_type", "password"), ("scope", "openid"), ("username", user), ("password", password)];
        self.ask(&form, password).await
    }

    pub async fn refresh(&self, token: &SecretString) -> Result<Tokens, AuthnError> {
        let token = token.expose_secret();
        self.ask(&[("grant_type", "refresh_token"), ("refresh_token", token)], token).await
    }

    /// `secret` only serves to keep it out of what is shown.
    async fn ask(&self, form: &[(&str, &str)], secret: &str) -> Result<Tokens, AuthnError> {
        let metadata = self.discovery.get().await?;
        let Some(endpoint) = &metadata.token_endpoint else {
            tracing::warn!(issuer = %metadata.issuer, "the identity provider has no token endpoint");
            return Err(AuthnError::PasswordLoginOff);
        };
        let request = self.request(endpoint, &metadata, form);
        let Ok(_turn) = timeout(PATIENCE, self.turns.acquire()).await else {
            tracing::warn!(at_once = MAX_AT_ONCE, "a login did not get its turn at the identity provider");
            return Err(AuthnError::TooManyLogins);
        };
        let (status, body) = provider::send(request).await.map_err(|error| {
            tracing::warn!(%error, "a login got no answer");
            AuthnError::from(error)
        })?;
        let outcome = read_answer(status, &body, secret);
        if let Err(
            error @ (AuthnError::ClientRefused { .. }
            | AuthnError::Provider
            | AuthnError::Unavailable
            | AuthnError::Busy),
        ) = &outcome
        {
            tracing::warn!(%status, %endpoint, client_id = %self.client_id, code = %error_code(&body), %error,
                "the identity provider does not let the operator log users in");
        }
        outcome
    }

    fn request(&self, endpoint: &str, metadata: &Metadata, form: &[(&str, &str)]) -> RequestBuilder {
        let mut form = form.to_vec();
        let request = self.http.post(endpoint).header("accept", "application/json");
        let Some(secret) = self.client_secret.as_ref().map(ClientSecret::current) else {
            form.push(("client_id", &self.client_id));
            return request.form(&form);
        };
        // Basic is what every server must know (RFC 6749 §2.3.1), but servers disagree on the
        // encoding of special characters in it: the body is safer where it is supported.
        let methods = &metadata.token_endpoint_auth_methods_supported;
        if methods.iter().any(|method| method == "client_secret_post") {
            form.push(("client_id", &self.client_id));
            form.push(("client_secret", secret.expose_secret()));
            return request.form(&form);
        }
        let request = match basic(&self.client_id, secret.expose_secret()) {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        request.form(&form)
    }
}

/// Client authentication by Basic, both parts percent-encoded first.
fn basic(id: &str, secret: &str) -> Option<HeaderValue> {
    let id = utf8_percent_encode(id, NON_ALPHANUMERIC);
    let secret = utf8_percent_encode(secret, NON_ALPHANUMERIC);
    let mut value =
        HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// RFC 6749 §5.2.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Maps the provider's answer. `secret` only serves to keep it out of what is shown.
fn read_answer(status: StatusCode, body: &[u8], secret: &str) -> Result<Tokens, AuthnError> {
    if status.is_success() {
        return serde_json::from_slice(body)
            .map_err(|_| AuthnError::AccessTokenUnusable { problem: "the answer has none.".to_owned() });
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
    let echoed = refusal.error_description.contains(secret);
    let description = one_line(&refusal.error_description, 200);
    let description = description.trim_end_matches('.');
    Err(match refusal.error.as_str() {
        "invalid_grant" | "access_denied" if says_wrong_password(description) || echoed => {
            AuthnError::WrongPassword
        }
        "invalid_grant" | "access_denied" => AuthnError::AccountRefused { reason: description.to_owned() },
        // Auth0 and Microsoft; RFC 6749 has no code for it.
        "mfa_required" | "interaction_required" | "consent_required" | "login_required" => {
            AuthnError::InteractiveLoginNeeded
        }
        "temporarily_unavailable" | "server_error" => AuthnError::Unavailable,
        "slow_down" | "too_many_attempts" => AuthnError::Busy,
        "invalid_client"
        | "unauthorized_client"
        | "unsupported_grant_type"
        | "invalid_scope"
        | "invalid_request" => AuthnError::ClientRefused { code: refusal.error },
        _ => AuthnError::Provider,
    })
}

/// Whether the description says no more than that user name or password are wrong: Keycloak
/// "Invalid user credentials", Auth0 "Wrong email or password.", Okta "The credentials provided
/// were invalid.", Microsoft "AADSTS50126: Error validating credentials due to invalid username …".
fn says_wrong_password(description: &str) -> bool {
    let text = description.to_ascii_lowercase();
    let wrong = ["invalid", "wrong", "incorrect", "bad"].iter().any(|word| text.contains(word));
    text.is_empty() || (wrong && (text.contains("credential") || text.contains("password")))
}

/// The provider's error code, for the log.
fn error_code(body: &[u8]) -> String {
    one_line(&serde_json::from_slice::<Refusal>(body).unwrap_or_default().error, 60)
}

#[cfg(test)]
#[path = "token_endpoint_tests.rs"]
mod tests;
