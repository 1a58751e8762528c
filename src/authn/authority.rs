//! Asks the provider about one login: verified tokens in, or words for its user. Remembers nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::AuthnSettings;
use super::client_secret::ClientSecret;
use super::discovery::discovery;
use super::error::{AuthnError, AuthnErrorKind};
use super::jwks::Verifier;
use super::remembered::{Granted, Next, Proven, Terms};
use super::token::{TokenError, TokenRules, VerifiedToken};
use super::token_endpoint::{TokenEndpoint, Tokens};
use crate::model::Credentials;

pub(super) struct Authority {
    verifier: Verifier,
    /// `None`: passwords are not accepted.
    token_endpoint: Option<TokenEndpoint>,
    pub terms: Terms,
}

/// A login that failed.
pub(super) struct Failed {
    pub error: AuthnError,
    /// Whether the provider has taken back what it granted before: then no grace applies.
    pub revoked: bool,
}

impl From<AuthnError> for Failed {
    fn from(error: AuthnError) -> Self {
        Self { error, revoked: false }
    }
}

impl Authority {
    /// `None` without an issuer.
    pub fn new(settings: AuthnSettings, http: Client) -> Option<Self> {
        let issuer = settings.issuer_url?;
        let terms = Terms { ttl: settings.cache_ttl, grace: settings.outage_grace };
        let discovery = Arc::new(discovery(issuer.clone(), http.clone()));
        let rules = TokenRules {
            issuer,
            audience: settings.audience,
            user_claim: settings.user_claim,
            groups_claim: settings.groups_claim.into(),
            required_claims: settings.required_claims,
        };
        let verifier = Verifier::new(Arc::clone(&discovery), http.clone(), rules);
        let secret = ClientSecret::new(settings.client_secret, settings.client_secret_file);
        let token_endpoint = settings.client_id.map(|id| TokenEndpoint::new(discovery, http, id, secret));
        Some(Self { verifier, token_endpoint, terms })
    }

    /// `before` is what is known of these very credentials.
    pub async fn prove(&self, credentials: &Credentials, before: Option<&Proven>) -> Result<Proven, Failed> {
        let (user, password) = match credentials {
            Credentials::Password { user, password, .. } => (user, password),
            Credentials::Token(token) => {
                let verified = self.verifier.verify(token.expose_secret(), Timestamp::now()).await?;
                let life = life(&verified);
                return Ok(Proven::by_token(verified.identity, life, Instant::now(), self.terms));
            }
        };
        let endpoint = self.token_endpoint.as_ref().ok_or(AuthnError::PasswordLoginOff)?;
        let mut revoked = false;
        if let Some(before) = before
            && let Next::Refresh(token) = before.next(Instant::now(), self.terms)
        {
            match self.refresh(endpoint, &token, before).await {
                Ok(renewed) => return Ok(renewed),
                Err(error) if error.kind() == AuthnErrorKind::Unavailable => return Err(error.into()),
                // The password decides: refresh tokens end for many reasons, and not all providers give usable ones.
                Err(error) => {
                    tracing::debug!(%error, user, "a login could not be refreshed");
                    revoked = error.kind() == AuthnErrorKind::Rejected;
                }
            }
        }
        let granted = self.log_in(endpoint, user, password).await;
        let granted = granted.map_err(|error| Failed { error, revoked })?;
        Ok(Proven::by_password(granted, Instant::now(), self.terms))
    }

    async fn log_in(
        &self,
        endpoint: &TokenEndpoint,
        user: &str,
        password: &SecretString,
    ) -> Result<Granted, AuthnError> {
        let tokens = endpoint.log_in(user, password).await?;
        self.granted(tokens).await
    }

    async fn refresh(
        &self,
        endpoint: &TokenEndpoint,
        token: &SecretString,
        before: &Proven,
    ) -> Result<Proven, AuthnError> {
        let granted = self.granted(endpoint.refresh(token).await?).await?;
        if granted.identity.user != before.identity.user {
            tracing::warn!("the provider has refreshed a login into another user's: it is not used");
            return Err(AuthnError::Provider);
        }
        Ok(before.renewed(granted, Instant::now(), self.terms))
    }

    async fn granted(&self, tokens: Tokens) -> Result<Granted, AuthnError> {
        let verified = self.verifier.verify(tokens.access_token.expose_secret(), Timestamp::now()).await;
        let verified = verified.map_err(of_access_token)?;
        let life = life(&verified);
        Ok(Granted { identity: verified.identity, life, refresh_token: tokens.refresh_token })
    }
}

fn life(verified: &VerifiedToken) -> Duration {
    Duration::try_from(verified.expires_at.duration_since(Timestamp::now())).unwrap_or_default()
}

/// The user has not chosen this token and cannot get another one: the settings are at fault.
fn of_access_token(error: AuthnError) -> AuthnError {
    let AuthnError::Token(error) = error else { return error };
    tracing::warn!(%error, "the provider's access token for a password login cannot be used");
    let problem = match error {
        TokenError::WrongAudience { expected } => format!(
            "its audience does not name \"{expected}\". The provider must add this audience to the tokens of \
             the operator's client (Keycloak: an audience mapper)."
        ),
        // Not every user has it: that is for the user to know.
        error @ TokenError::ClaimRequired { .. } => return error.into(),
        TokenError::Malformed(_) => "it is not a JWT.".to_owned(),
        other => other.to_string(),
    };
    AuthnError::AccessTokenUnusable { problem }
}
