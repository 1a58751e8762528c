//! Who is asking: credentials in, [`Identity`] out.
//!
//! ```text
//! headers ─► credentials ─► cache ──► password_grant ─► access token ─┐
//!                             └─────► token ──────────────────────────┴► jwks ─► token ─► Identity
//!                                        discovery ─► endpoints, key URL ─┘
//! ```
//!
//! Decides nothing about what a user may do, knows no Envoy protobuf, and does not limit rates.
//! A changed password or a disabled account takes effect when the remembered login ends, at most
//! [`AuthnSettings::cache_ttl`] later.

mod cache;
mod claims;
mod credentials;
mod discovery;
mod error;
mod fetched;
mod jwks;
mod jwt;
mod key_set;
mod password_grant;
mod provider;
mod text;
mod token;
mod user_name;

#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

pub use credentials::read as read_credentials;
pub use error::{AuthnError, AuthnErrorKind};
pub use key_set::KeySet;
pub use provider::client_builder;
pub use token::{LEEWAY, TokenError, TokenRules, VerifiedToken, verify};
pub use user_name::UserNameError;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::model::{Credentials, Identity};
use cache::{Cache, Login};
use jwks::Verifier;
use password_grant::PasswordGrant;

/// To be logged, as a warning, when the operator starts with [`AuthnSettings::skip_validation`].
pub const SKIP_VALIDATION_WARNING: &str = "OIDC VALIDATION IS OFF: every user name is believed without a password \
     and every token without a signature. Anybody who reaches this service can be anybody. For development only.";

/// How users log in.
#[derive(Clone, Debug)]
pub struct AuthnSettings {
    /// The OIDC issuer's URL. Without it nobody can log in, unless validation is skipped.
    pub issuer_url: Option<String>,
    /// Must be in a token's `aud`. Without it, tokens for any audience are accepted.
    pub audience: Option<String>,
    /// Path of the claim with the user's name: `sub`, `preferred_username`, …
    pub user_claim: String,
    /// Path of the claim with the user's groups: `groups`, `realm_access.roles`, …
    pub groups_claim: String,
    /// The operator's client at the provider. Without it, passwords are not accepted.
    pub client_id: Option<String>,
    /// `None` for a public client.
    pub client_secret: Option<SecretString>,
    /// Believes every name and every token; for development only.
    pub skip_validation: bool,
    /// How long a login is remembered at most; shorter if its token expires earlier.
    pub cache_ttl: Duration,
}

impl Default for AuthnSettings {
    fn default() -> Self {
        Self {
            issuer_url: None,
            audience: None,
            user_claim: "sub".to_owned(),
            groups_claim: "groups".to_owned(),
            client_id: None,
            client_secret: None,
            skip_validation: false,
            cache_ttl: Duration::from_secs(300),
        }
    }
}

/// Authenticates users. Share one per process: it holds the cache and the keys.
pub struct Authenticator {
    mode: Mode,
    cache: Cache,
    cache_ttl: Duration,
}

enum Mode {
    /// `skip_validation`.
    Believe {
        user_claim: String,
        groups_claim: String,
    },
    NoProvider,
    Provider {
        verifier: Verifier,
        password_grant: Option<PasswordGrant>,
    },
}

impl Authenticator {
    /// Asks nothing of the provider yet. Build `http` from [`client_builder`]: a client that
    /// follows redirects could hand passwords to another server.
    pub fn new(settings: AuthnSettings, http: reqwest::Client) -> Self {
        let cache_ttl = settings.cache_ttl;
        Self { mode: Mode::new(settings, http), cache: Cache::new(), cache_ttl }
    }

    /// Who presents `credentials`. Concurrent calls with the same ones ask the provider once.
    ///
    /// Takes up to about 20 s when the provider hangs (four requests of 5 s), some microseconds
    /// when the login is remembered. Dropping the future is safe.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Arc<Identity>, AuthnError> {
        if let Credentials::Password { user, .. } = credentials {
            user_name::check(user)?;
        }
        let (verifier, password_grant) = match &self.mode {
            Mode::Believe { user_claim, groups_claim } => {
                return believe(credentials, user_claim, groups_claim);
            }
            Mode::NoProvider => return Err(AuthnError::NoProvider),
            Mode::Provider { verifier, password_grant } => (verifier, password_grant.as_ref()),
        };
        let login = async {
            let verified = match credentials {
                Credentials::Token(token) => verifier.verify(token.expose_secret(), Timestamp::now()).await?,
                Credentials::Password { user, password } => {
                    let grant = password_grant.ok_or(AuthnError::PasswordLoginOff)?;
                    let token = grant.access_token(user, password).await?;
                    verifier.verify(token.expose_secret(), Timestamp::now()).await.map_err(of_access_token)?
                }
            };
            let life = verified.expires_at.duration_since(Timestamp::now());
            let life = Duration::try_from(life).unwrap_or_default();
            Ok(Login { identity: Arc::new(verified.identity), ttl: life.min(self.cache_ttl) })
        };
        self.cache.get_or(credentials, login).await
    }
}

impl Mode {
    fn new(settings: AuthnSettings, http: reqwest::Client) -> Self {
        let AuthnSettings { user_claim, groups_claim, audience, .. } = settings;
        if settings.skip_validation {
            return Self::Believe { user_claim, groups_claim };
        }
        let Some(issuer) = settings.issuer_url else { return Self::NoProvider };
        let discovery = Arc::new(discovery::discovery(issuer.clone(), http.clone()));
        let rules = TokenRules { issuer, audience, user_claim, groups_claim };
        let verifier = Verifier::new(Arc::clone(&discovery), http.clone(), rules);
        let password_grant =
            settings.client_id.map(|id| PasswordGrant::new(discovery, http, id, settings.client_secret));
        Self::Provider { verifier, password_grant }
    }
}

fn believe(
    credentials: &Credentials,
    user_claim: &str,
    groups_claim: &str,
) -> Result<Arc<Identity>, AuthnError> {
    let identity = match credentials {
        Credentials::Password { user, .. } => Identity::new(user.as_str()),
        Credentials::Token(token) => token::read_unverified(token.expose_secret(), user_claim, groups_claim)?,
    };
    Ok(Arc::new(identity))
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
        TokenError::Malformed(_) => "it is not a JWT.".to_owned(),
        other => other.to_string(),
    };
    AuthnError::AccessTokenUnusable { problem }
}
