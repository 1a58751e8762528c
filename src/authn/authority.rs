//! Asks the provider about one login: verified tokens in, or words for its user. Remembers nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::client_secret::ClientSecret;
use super::discovery::discovery;
use super::error::AuthnError;
use super::jwks::Verifier;
use super::oauth_client::OauthClient;
use super::passwords::Passwords;
use super::remembered::{Proven, Terms};
use super::revocations::RevocationEndpoint;
use super::token::{TokenRules, VerifiedToken};
use super::token_endpoint::TokenEndpoint;
use super::userinfo::{Userinfo, UserinfoError};
use super::{AuthnSettings, Warnings};

pub(super) struct Authority {
    verifier: Arc<Verifier>,
    /// `None`: tokens that tell no groups have none.
    userinfo: Option<Arc<Userinfo>>,
    /// `None`: passwords are not accepted.
    pub passwords: Option<Arc<Passwords>>,
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
    pub fn new(settings: AuthnSettings, http: Client, warnings: &Arc<Warnings>) -> Option<Self> {
        let issuer = settings.issuer_url?;
        let terms = Terms { ttl: settings.cache_ttl, grace: settings.outage_grace };
        let discovery = Arc::new(discovery(issuer.clone(), http.clone()));
        let groups_claim: Arc<str> = settings.groups_claim.into();
        let rules = TokenRules {
            issuer,
            audience: settings.audience,
            authorized_party: None,
            user_claim: settings.user_claim,
            groups_claim: Arc::clone(&groups_claim),
            required_claims: settings.required_claims,
        };
        let verifier = Arc::new(Verifier::new(Arc::clone(&discovery), http.clone(), rules));
        let userinfo = settings.groups_from_userinfo.then(|| {
            Arc::new(Userinfo {
                discovery: Arc::clone(&discovery),
                http: http.clone(),
                groups_claim,
                warnings: Arc::clone(warnings),
            })
        });
        let secret =
            ClientSecret::new(settings.client_secret, settings.client_secret_file, Arc::clone(warnings));
        let passwords = settings.client_id.map(|id| {
            let client = Arc::new(OauthClient { http, id, secret });
            let endpoint = TokenEndpoint {
                discovery: Arc::clone(&discovery),
                client: Arc::clone(&client),
                scope: settings.scope,
                warnings: Arc::clone(warnings),
            };
            Arc::new(Passwords::new(
                endpoint,
                settings.password_token,
                Arc::clone(&verifier),
                userinfo.clone(),
                terms,
                RevocationEndpoint { discovery, client },
                Arc::clone(warnings),
            ))
        });
        Some(Self { verifier, userinfo, passwords, terms })
    }

    pub async fn verify(&self, token: &SecretString) -> Result<VerifiedToken, AuthnError> {
        self.verifier.verify(token.expose_secret(), Timestamp::now()).await
    }

    /// Whether [`Self::complete`] asks the provider.
    pub fn asks_userinfo(&self, verified: &VerifiedToken) -> bool {
        self.userinfo.is_some() && verified.identity.untold.is_some()
    }

    /// A login by `token`, with the groups of its user.
    pub async fn complete(
        &self,
        mut verified: VerifiedToken,
        token: &SecretString,
    ) -> Result<Proven, AuthnError> {
        let mut grace = Duration::ZERO;
        if let (Some(userinfo), Some(untold)) = (&self.userinfo, verified.identity.untold.clone()) {
            verified = userinfo.complete(verified, token).await.map_err(|error| match error {
                UserinfoError::Login(error) => error,
                UserinfoError::Unusable(problem) => AuthnError::UserinfoUnusable { problem },
                UserinfoError::Refused(problem) => AuthnError::GroupsRefused { claim: untold.claim, problem },
            })?;
            // Otherwise the token alone decides, which can be verified during an outage.
            grace = self.terms.grace;
        }
        let life = life(&verified);
        Ok(Proven::by_token(verified.identity, life, Instant::now(), self.terms, grace))
    }
}

/// What is left of it.
pub(super) fn life(verified: &VerifiedToken) -> Duration {
    Duration::try_from(verified.expires_at.duration_since(Timestamp::now())).unwrap_or_default()
}
