//! How users log in, as `crate::settings` reads it from flags.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::limits::FailureLimits;

/// Which of the tokens that the provider gives for a password says who has logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordToken {
    /// It must be a JWT that fits `audience`.
    AccessToken,
    /// Its audience must be the operator's client, whatever `audience` says.
    IdToken,
}

#[derive(Clone, Debug)]
pub struct AuthnSettings {
    /// The OIDC issuer's URL. Without it nobody can log in, unless validation is skipped.
    pub issuer_url: Option<String>,
    /// Certificates that vouch for the issuer beside those that the system trusts, PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Must be in a token's `aud`. Without it, tokens for any audience are accepted.
    pub audience: Option<String>,
    /// Path of the claim with the user's name: `sub`, `preferred_username`, …
    pub user_claim: String,
    /// Path of the claim with the user's groups: `groups`, `realm_access.roles`, …
    pub groups_claim: String,
    /// Paths of further claims, and what each must say.
    pub required_claims: Vec<(String, String)>,
    /// The operator's client at the provider. Without it, passwords are not accepted.
    pub client_id: Option<String>,
    /// `None` for a public client.
    pub client_secret: Option<SecretString>,
    /// From where the secret came, to read it again.
    pub client_secret_file: Option<PathBuf>,
    /// Whether the secret stands in the list of processes.
    pub client_secret_in_arguments: bool,
    /// What is asked for with passwords, separated by spaces.
    pub scope: String,
    pub password_token: PasswordToken,
    /// Whether the provider is asked for the groups where a token does not tell them.
    pub groups_from_userinfo: bool,
    /// Believes every name and every token; for development only.
    pub skip_validation: bool,
    /// How long a login is remembered at most; shorter if its token expires earlier.
    pub cache_ttl: Duration,
    /// How much longer a password login is remembered while the provider does not answer.
    pub outage_grace: Duration,
    pub failure_limits: FailureLimits,
    /// Whether a login in Spark Connect's `user_id`, which Spark shows and logs, is taken.
    pub credentials_in_user_id: bool,
}

impl Default for AuthnSettings {
    fn default() -> Self {
        Self {
            issuer_url: None,
            ca_pem: None,
            audience: None,
            user_claim: "sub".to_owned(),
            groups_claim: "groups".to_owned(),
            required_claims: Vec::new(),
            client_id: None,
            client_secret: None,
            client_secret_file: None,
            client_secret_in_arguments: false,
            scope: "openid".to_owned(),
            password_token: PasswordToken::AccessToken,
            groups_from_userinfo: false,
            skip_validation: false,
            cache_ttl: Duration::from_secs(300),
            outage_grace: Duration::from_secs(900),
            failure_limits: FailureLimits::default(),
            credentials_in_user_id: false,
        }
    }
}
