//! Exchanges user name and password (RFC 6749 §4.3), or a refresh token (§6), for an access token at the discovered
//! endpoint.
//!
//! Neither verifies tokens nor remembers anything: `authority` and `logins` do. What an answer means is `token_answer`'s
//! business, whose turn it is to ask `turns`'.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::discovery::Discovery;
use super::error::AuthnError;
use super::oauth_client::OauthClient;
use super::token_answer::{self, Tokens};
use super::{Warnings, provider};

pub(super) struct TokenEndpoint {
    pub discovery: Arc<Discovery>,
    pub client: Arc<OauthClient>,
    /// All scopes to ask for, separated by spaces.
    pub scope: String,
    pub warnings: Arc<Warnings>,
}

impl TokenEndpoint {
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
            if let Some(more) = self.warnings.note("no token endpoint", Instant::now()) {
                tracing::warn!(issuer = %metadata.issuer, more, "the identity provider has no token endpoint");
            }
            return Err(AuthnError::PasswordLoginOff);
        };
        let request = self.client.post(endpoint, &metadata.token_endpoint_auth_methods_supported, form);
        let (status, body) = provider::send(request).await.map_err(|error| {
            if let Some(more) = self.warnings.note("no answer to a login", Instant::now()) {
                tracing::warn!(%error, more, "a login got no answer");
            }
            AuthnError::from(error)
        })?;
        let outcome = token_answer::read(status, &body, secret).map_err(|error| self.of_scope(error));
        if let Err(error) = &outcome
            && !error.speaks_of_the_user()
            && let Some(more) = self.warnings.note(error.reason(), Instant::now())
        {
            let (client_id, code) = (&self.client.id, token_answer::shown_code(&body, secret));
            tracing::warn!(%status, %endpoint, %client_id, code, %error, more,
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
