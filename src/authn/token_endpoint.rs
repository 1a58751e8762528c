//! Exchanges user name and password (RFC 6749 §4.3), or a refresh token (§6), for an access token at the discovered
//! endpoint.
//!
//! Neither verifies tokens nor remembers anything: `authority` and `logins` do.

use std::sync::Arc;

use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::discovery::Discovery;
use super::error::AuthnError;
use super::oauth_client::OauthClient;
use super::provider;
use super::text::one_line;
use super::turns::Turns;

pub(super) struct TokenEndpoint {
    discovery: Arc<Discovery>,
    client: Arc<OauthClient>,
    /// Separated by spaces.
    scope: String,
    turns: Arc<Turns>,
}

/// What the endpoint gives; unverified.
#[derive(Debug, Deserialize)]
pub(super) struct Tokens {
    pub access_token: SecretString,
    pub id_token: Option<SecretString>,
    pub refresh_token: Option<SecretString>,
}

impl TokenEndpoint {
    /// `scope` has all scopes to ask for, separated by spaces.
    pub fn new(
        discovery: Arc<Discovery>,
        client: Arc<OauthClient>,
        scope: String,
        turns: Arc<Turns>,
    ) -> Self {
        Self { discovery, client, scope, turns }
    }

    pub async fn log_in(&self, user: &str, password: &SecretString) -> Result<Tokens, AuthnError> {
        // An empty password can count as an anonymous LDAP bind behind the provider (RFC 4513 §5.1.2).
        if password.expose_secret().is_empty() {
            return Err(AuthnError::NoPassword);
        }
        let password = password.expose_secret();
        let scope = ("scope", self.scope.as_str());
        let form = [("grant_type", "password"), scope, ("username", user), ("password", password)];
        self.ask(&form, password).await
    }

    /// Names the scope again: without it Microsoft's answer has no ID token.
    pub async fn refresh(&self, token: &SecretString) -> Result<Tokens, AuthnError> {
        let (token, scope) = (token.expose_secret(), ("scope", self.scope.as_str()));
        self.ask(&[("grant_type", "refresh_token"), scope, ("refresh_token", token)], token).await
    }

    /// `secret` only serves to keep it out of what is shown.
    async fn ask(&self, form: &[(&str, &str)], secret: &str) -> Result<Tokens, AuthnError> {
        let metadata = self.discovery.get().await?;
        let Some(endpoint) = &metadata.token_endpoint else {
            tracing::warn!(issuer = %metadata.issuer, "the identity provider has no token endpoint");
            return Err(AuthnError::PasswordLoginOff);
        };
        let request = self.client.post(endpoint, &metadata.token_endpoint_auth_methods_supported, form);
        let _turn = self.turns.take().await?;
        let (status, body) = provider::send(request).await.map_err(|error| {
            tracing::warn!(%error, "a login got no answer");
            AuthnError::from(error)
        })?;
        let outcome = read_answer(status, &body, secret).map_err(|error| self.of_scope(error));
        if let Err(
            error @ (AuthnError::ClientRefused { .. }
            | AuthnError::ScopeRefused { .. }
            | AuthnError::Provider
            | AuthnError::Unavailable
            | AuthnError::Busy),
        ) = &outcome
        {
            tracing::warn!(%status, %endpoint, client_id = %self.client.id, code = %error_code(&body), %error,
                "the identity provider does not let the operator log users in");
        }
        outcome
    }

    fn of_scope(&self, error: AuthnError) -> AuthnError {
        match error {
            AuthnError::ClientRefused { code } if code == "invalid_scope" => {
                AuthnError::ScopeRefused { scope: self.scope.clone() }
            }
            error => error,
        }
    }
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
        return serde_json::from_slice(body).map_err(|_| AuthnError::GrantUnusable {
            token: "access token",
            problem: "the answer has none.".to_owned(),
        });
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
