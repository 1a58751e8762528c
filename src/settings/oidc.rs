//! Flags about logins.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use secrecy::SecretString;

use crate::authn::{AuthnSettings, FailureLimits, read_secret_file};

#[derive(Args, Debug)]
#[command(next_help_heading = "Login (OpenID Connect)")]
pub struct OidcArgs {
    /// Issuer, such as https://keycloak.example.com/realms/spark. Its endpoints are discovered.
    #[arg(long, value_name = "URL", env = "OIDC_ISSUER_URL")]
    oidc_issuer_url: Option<String>,

    /// CA that signs the issuer's certificate, PEM, beside those that the system trusts.
    #[arg(long, value_name = "FILE", env = "OIDC_CA_FILE")]
    oidc_ca_file: Option<PathBuf>,

    /// Audience that tokens must name. Without it any token of the issuer is accepted.
    #[arg(long, value_name = "AUDIENCE", env = "OIDC_AUDIENCE")]
    oidc_audience: Option<String>,

    /// Claim that holds the user name.
    #[arg(long, value_name = "CLAIM", env = "OIDC_USER_CLAIM", default_value = "sub")]
    oidc_user_claim: String,

    /// Claim that holds the user's groups; dots lead into nested claims (`realm_access.roles`).
    #[arg(long, value_name = "CLAIM", env = "OIDC_GROUPS_CLAIM", default_value = "groups")]
    oidc_groups_claim: String,

    /// A claim that tokens must have with this value, or with an array that has it. May be given several times; all
    /// must hold. `exp` and `nbf` are always checked, with 30 s for clocks that differ.
    #[arg(long, value_name = "CLAIM=VALUE", value_parser = claim)]
    oidc_required_claim: Vec<(String, String)>,

    /// Client with which passwords are exchanged for tokens (password grant).
    #[arg(long, value_name = "ID", env = "OIDC_CLIENT_ID")]
    oidc_client_id: Option<String>,

    /// Secret of that client. Visible in the process list: prefer the file or OIDC_CLIENT_SECRET.
    #[arg(long, value_name = "SECRET", env = "OIDC_CLIENT_SECRET", hide_env_values = true)]
    oidc_client_secret: Option<SecretString>,

    /// File with the secret of that client. Read for each login, so that it may change.
    #[arg(long, value_name = "FILE", conflicts_with = "oidc_client_secret")]
    oidc_client_secret_file: Option<PathBuf>,

    /// Accept any user name with any password, and tokens without a check. For development only.
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true)]
    oidc_skip_validation: bool,

    /// Longest time that a login is remembered before the password is shown to the provider again. Access tokens that
    /// expire earlier are refreshed.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    auth_cache_ttl: u64,

    /// How much longer password logins are remembered while the provider does not answer. 0: not at all.
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    auth_outage_grace: u64,

    /// Different wrong passwords for one user before further ones are refused without asking the provider; one more
    /// each minute. 0: any number.
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    auth_failures_per_user: u32,

    /// The same for one address, whoever the users are; one more each second. Behind a load balancer that hides the
    /// clients' addresses all of them share one: then set it high, or 0 for any number.
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    auth_failures_per_address: u32,

    /// Take base64(user:password) or a token from the user_id of Spark Connect URLs, as the Go operator did. Spark shows
    /// what stands there in its UI and logs.
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true)]
    allow_credentials_in_user_id: bool,
}

impl OidcArgs {
    pub fn validate(self) -> anyhow::Result<AuthnSettings> {
        let given = |value: Option<String>| value.filter(|value| !value.is_empty());
        let issuer_url = given(self.oidc_issuer_url);
        if issuer_url.is_none() && !self.oidc_skip_validation {
            bail!(
                "nobody could log in: set --oidc-issuer-url to your OpenID Connect issuer, or, on a development \
                 machine only, --oidc-skip-validation"
            );
        }
        let client_secret =
            match &self.oidc_client_secret_file {
                Some(file) => Some(read_secret_file(file).with_context(|| {
                    format!("--oidc-client-secret-file {} cannot be read", file.display())
                })?),
                None => self.oidc_client_secret,
            };
        let ca = self.oidc_ca_file.map(|file| {
            std::fs::read(&file).with_context(|| format!("--oidc-ca-file {} cannot be read", file.display()))
        });
        Ok(AuthnSettings {
            issuer_url,
            ca_pem: ca.transpose()?,
            audience: given(self.oidc_audience),
            user_claim: self.oidc_user_claim,
            groups_claim: self.oidc_groups_claim,
            required_claims: self.oidc_required_claim,
            client_id: given(self.oidc_client_id),
            client_secret,
            client_secret_file: self.oidc_client_secret_file,
            client_secret_in_arguments: in_arguments(std::env::args_os()),
            skip_validation: self.oidc_skip_validation,
            cache_ttl: Duration::from_secs(self.auth_cache_ttl),
            outage_grace: Duration::from_secs(self.auth_outage_grace),
            failure_limits: FailureLimits {
                per_user: NonZeroU32::new(self.auth_failures_per_user),
                per_address: NonZeroU32::new(self.auth_failures_per_address),
            },
            credentials_in_user_id: self.allow_credentials_in_user_id,
        })
    }
}

/// Whether everybody on the machine can read the secret. The environment variable fills the same field.
fn in_arguments(mut arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.any(|argument| {
        let argument = argument.to_string_lossy();
        argument == "--oidc-client-secret" || argument.starts_with("--oidc-client-secret=")
    })
}

fn claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((claim, value)) if !claim.is_empty() && !value.is_empty() => {
            Ok((claim.to_owned(), value.to_owned()))
        }
        _ => Err("expected CLAIM=VALUE, such as email_verified=true".to_owned()),
    }
}
