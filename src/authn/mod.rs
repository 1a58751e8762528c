//! Who is asking: credentials in, [`Identity`] out.
//!
//! ```text
//! headers ─► credentials ─► logins ──► limits ─► turns ─► token_endpoint ─► access or ID token ─┐
//!                           │ ▲ │      password, refresh token                                  │
//!                           │ │ └────► grant ─► revocations                                     │
//!                           │ └─────── remembered, outage                                       │
//!                           └───────── token ───────────────────────────────────────────────────┴► jwks ─► token ─► groups ─► Identity
//!                                                     discovery ─► endpoints, key URL ──────────────┘      userinfo ─┘
//! ```
//!
//! Decides nothing about what a user may do, and knows no Envoy protobuf.
//!
//! A password is shown to the provider at least every [`AuthnSettings::cache_ttl`], and a refresh token whenever the
//! access token has expired: so a changed password ends access within that time, and a disabled account within the
//! life of an access token. While the provider does not answer, logins that it has confirmed go on for
//! [`AuthnSettings::outage_grace`]. Tokens that clients bring count until they expire, whatever happens to the account.

mod authority;
pub(crate) mod bucket;
mod claims;
mod client_secret;
mod credentials;
mod discovery;
mod error;
mod fair_queue;
mod fetched;
mod flights;
mod grant;
mod groups;
mod jwks;
mod jwt;
mod key_set;
mod limits;
mod logins;
mod oauth_client;
mod one_login;
mod outage;
mod passwords;
mod provider;
mod reception;
mod refusals;
mod remembered;
mod revocations;
mod settings;
mod text;
mod token;
mod token_answer;
mod token_endpoint;
mod turns;
mod user_name;
mod userinfo;

#[cfg(test)]
mod renewal_tests;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

pub use client_secret::read_secret_file;
pub use credentials::{read as read_credentials, read_user_id};
pub use error::{AuthnError, AuthnErrorKind};
pub use key_set::KeySet;
pub use limits::FailureLimits;
pub use limits::network;
pub use provider::{client, client_builder};
pub use refusals::Refusals;
pub use revocations::Revoker;
pub use settings::{AuthnSettings, PasswordToken};
pub use token::{LEEWAY, TokenError, TokenRules, VerifiedToken, verify};
pub use token_answer::{Tokens, read as read_token_answer};
pub use user_name::UserNameError;

use std::net::IpAddr;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use secrecy::ExposeSecret;

use crate::model::{Credentials, Identity};
use crate::telemetry::{Outcome, Repeats};
use reception::Reception;

/// Warnings that can come with every login, by what they are about.
type Warnings = Repeats<&'static str>;

/// To be logged, as a warning, when the operator starts with [`AuthnSettings::skip_validation`].
pub const SKIP_VALIDATION_WARNING: &str = "OIDC VALIDATION IS OFF: every user name is believed without a password \
     and every token without a signature. Anybody who reaches this service can be anybody. For development only.";

/// To be logged, as a warning, with [`AuthnSettings::client_secret_in_arguments`].
pub const SECRET_IN_ARGUMENTS_WARNING: &str = "the client secret stands in the list of processes, where every user of this \
     machine can read it: use --oidc-client-secret-file or OIDC_CLIENT_SECRET instead of --oidc-client-secret";

/// From where somebody logs in, and to what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    pub address: Option<IpAddr>,
    pub pool: Option<&'a str>,
}

/// Authenticates users. Share one per process: it holds the logins and the keys.
pub struct Authenticator {
    mode: Mode,
    takes_user_id: bool,
    refusals: Arc<Refusals>,
}

enum Mode {
    /// `skip_validation`.
    Believe {
        user_claim: String,
        groups_claim: Arc<str>,
    },
    NoProvider,
    Provider(Arc<Reception>),
}

impl Authenticator {
    /// Asks nothing of the provider yet. Build `http` from [`client_builder`]: a client that
    /// follows redirects could hand passwords to another server.
    pub fn new(settings: AuthnSettings, http: reqwest::Client) -> Self {
        let refusals = Arc::<Refusals>::default();
        Self {
            takes_user_id: settings.credentials_in_user_id,
            mode: Mode::new(settings, http, Arc::clone(&refusals)),
            refusals,
        }
    }

    /// What is told of logins that fail.
    pub fn refusals(&self) -> &Arc<Refusals> {
        &self.refusals
    }

    /// Whether credentials in Spark Connect's `user_id` count.
    pub fn takes_user_id(&self) -> bool {
        self.takes_user_id
    }

    /// The task that gives logins back to the provider when they are not needed any more, and counts what became of
    /// them in `outcomes`. `None` without password logins. Until it runs, the newest four thousand wait.
    pub fn revoker(&self, outcomes: Family<Outcome, Counter>) -> Option<Revoker> {
        match &self.mode {
            Mode::Provider(reception) => Revoker::new(Arc::clone(reception), outcomes),
            Mode::Believe { .. } | Mode::NoProvider => None,
        }
    }

    /// [`Self::log_in`] from nowhere in particular.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Arc<Identity>, AuthnError> {
        self.log_in(credentials, Origin::default()).await
    }

    /// Who presents `credentials`. Concurrent calls with the same ones ask the provider once.
    ///
    /// Takes up to about 45 s when the provider hangs (20 s for a turn, five requests of 5 s), some microseconds when the
    /// login is remembered. Dropping the future is safe, and gives up a login that nobody else waits for and that had no
    /// turn yet.
    pub async fn log_in(
        &self,
        credentials: &Credentials,
        origin: Origin<'_>,
    ) -> Result<Arc<Identity>, AuthnError> {
        if let Credentials::Password { user, .. } = credentials {
            user_name::check(user)?;
        }
        match &self.mode {
            Mode::Believe { user_claim, groups_claim } => believe(credentials, user_claim, groups_claim),
            Mode::NoProvider => Err(AuthnError::NoProvider),
            Mode::Provider(reception) => {
                reception.log_in(credentials, origin).await.map_err(|error| error.of(credentials))
            }
        }
    }
}

impl Mode {
    fn new(settings: AuthnSettings, http: reqwest::Client, refusals: Arc<Refusals>) -> Self {
        if settings.skip_validation {
            let AuthnSettings { user_claim, groups_claim, .. } = settings;
            return Self::Believe { user_claim, groups_claim: groups_claim.into() };
        }
        match Reception::new(settings, http, refusals) {
            Some(reception) => Self::Provider(Arc::new(reception)),
            None => Self::NoProvider,
        }
    }
}

fn believe(
    credentials: &Credentials,
    user_claim: &str,
    groups_claim: &Arc<str>,
) -> Result<Arc<Identity>, AuthnError> {
    let identity = match credentials {
        Credentials::Password { user, .. } => Identity::new(user.as_str()),
        Credentials::Token(token) => token::read_unverified(token.expose_secret(), user_claim, groups_claim)?,
    };
    Ok(Arc::new(identity))
}
