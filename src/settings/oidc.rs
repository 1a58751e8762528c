//! Flags about logins.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use secrecy::SecretString;

use crate::authn::{AuthnSettings, FailureLimits, PasswordToken, read_secret_file};

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

    /// What is asked for with a password, separated by spaces or given several times: `openid groups` where groups come
    /// only with a scope of their own, `api://spark/.default` where the provider otherwise gives a token for others.
    #[arg(long, value_name = "SCOPE", env = "OIDC_SCOPE", default_value = "openid")]
    oidc_scope: Vec<String>,

    /// Which of the tokens that the provider gives for a password says who has logged in. An access token must be a JWT
    /// for --oidc-audience; an ID token must be for --oidc-client-id, whatever --oidc-audience says.
    #[arg(
        long,
        value_enum,
        value_name = "TOKEN",
        env = "OIDC_PASSWORD_TOKEN",
        default_value = "access_token"
    )]
    oidc_password_token: PasswordTokenArg,

    /// Ask the provider's userinfo endpoint for the groups where a token does not tell them. A login whose groups cannot
    /// be had is then refused.
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true)]
    oidc_groups_from_userinfo: bool,

    /// Accept any user name with any password, and tokens without a check. For development only.
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true)]
    oidc_skip_validation: bool,

    /// Longest time that a login is remembered before the password is shown to the provider again. Access tokens that
    /// expire earlier are refreshed.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    auth_cache_ttl: u64,

    /// How much longer password logins are remembered while the provider does not answer, or says nothing about the user.
    /// 0: not at all.
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

/// The flag's values are called what the provider calls the tokens in its answers.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PasswordTokenArg {
    #[value(name = "access_token")]
    AccessToken,
    #[value(name = "id_token")]
    IdToken,
}

impl From<PasswordTokenArg> for PasswordToken {
    fn from(argument: PasswordTokenArg) -> Self {
        match argument {
            PasswordTokenArg::AccessToken => Self::AccessToken,
            PasswordTokenArg::IdToken => Self::IdToken,
        }
    }
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
        let scope = scope(&self.oidc_scope)?;
        let client_id = given(self.oidc_client_id);
        let password_token = PasswordToken::from(self.oidc_password_token);
        let asks_for_openid = scope.split(' ').any(|name| name == "openid");
        if password_token == PasswordToken::IdToken {
            if client_id.is_none() {
                bail!(
                    "--oidc-password-token=id_token is about password logins, which need a client: set --oidc-client-id"
                );
            }
            if !asks_for_openid {
                bail!(
                    "--oidc-password-token=id_token needs the scope openid, without which providers give no ID token: add it \
                     to --oidc-scope"
                );
            }
        }
        if self.oidc_groups_from_userinfo && client_id.is_some() && !asks_for_openid {
            bail!(
                "--oidc-groups-from-userinfo needs the scope openid, without which the userinfo endpoint takes no token: add \
                 it to --oidc-scope"
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
            client_id,
            client_secret,
            client_secret_file: self.oidc_client_secret_file,
            client_secret_in_arguments: in_arguments(std::env::args_os()),
            scope,
            password_token,
            groups_from_userinfo: self.oidc_groups_from_userinfo,
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

/// All scopes once, separated by spaces. `openid` is not needed: there are providers whose tokens for an API of one's own
/// come without it.
fn scope(given: &[String]) -> anyhow::Result<String> {
    let mut all: Vec<&str> = Vec::new();
    for name in given.iter().flat_map(|text| text.split_whitespace()) {
        // RFC 6749 §3.3 allows a comma, but who writes one means two scopes.
        let allowed =
            |character: char| character.is_ascii_graphic() && !matches!(character, '"' | '\\' | ',');
        if !name.chars().all(allowed) {
            bail!(
                "--oidc-scope `{name}` is no scope: expected names separated by spaces, such as \"openid groups\""
            );
        }
        if !all.contains(&name) {
            all.push(name);
        }
    }
    if all.is_empty() {
        bail!("--oidc-scope is empty: leave it out for \"openid\"");
    }
    Ok(all.join(" "))
}

fn claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((claim, value)) if !claim.is_empty() && !value.is_empty() => {
            Ok((claim.to_owned(), value.to_owned()))
        }
        _ => Err("expected CLAIM=VALUE, such as email_verified=true".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rstest::rstest;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        oidc: OidcArgs,
    }

    fn run(flags: &[&str]) -> anyhow::Result<AuthnSettings> {
        let mut usual = vec!["run", "--oidc-issuer-url=https://idp"];
        if !flags.contains(&"--oidc-client-id=") {
            usual.push("--oidc-client-id=spark");
        }
        Flags::try_parse_from(usual.iter().chain(flags))?.oidc.validate()
    }

    #[rstest]
    #[case::default(&[], "openid")]
    #[case::in_one_word(&["--oidc-scope=openid  groups "], "openid groups")]
    #[case::several_times(&["--oidc-scope=openid", "--oidc-scope", "groups openid"], "openid groups")]
    #[case::of_an_api(&["--oidc-scope=api://spark/.default"], "api://spark/.default")]
    fn scopes_are_separated_by_spaces_or_given_several_times(#[case] flags: &[&str], #[case] scope: &str) {
        assert_eq!(run(flags).unwrap().scope, scope);
    }

    #[rstest]
    #[case(&["--oidc-scope=openid,groups"], "--oidc-scope `openid,groups` is no scope: expected names separated by spaces")]
    #[case(&["--oidc-scope= "], "--oidc-scope is empty")]
    #[case(
        &["--oidc-scope=groups", "--oidc-password-token=id_token"],
        "--oidc-password-token=id_token needs the scope openid"
    )]
    #[case(
        &["--oidc-client-id=", "--oidc-password-token=id_token"],
        "--oidc-password-token=id_token is about password logins, which need a client: set --oidc-client-id"
    )]
    #[case(
        &["--oidc-scope=groups", "--oidc-groups-from-userinfo"],
        "--oidc-groups-from-userinfo needs the scope openid"
    )]
    fn what_cannot_work_is_refused_at_the_start(#[case] flags: &[&str], #[case] words: &str) {
        let error = run(flags).unwrap_err().to_string();
        assert!(error.starts_with(words), "{error}");
    }

    #[test]
    fn the_token_that_counts_is_named_as_the_provider_names_it() {
        assert_eq!(run(&[]).unwrap().password_token, PasswordToken::AccessToken);
        let settings = run(&["--oidc-password-token=id_token", "--oidc-groups-from-userinfo"]).unwrap();
        assert_eq!((settings.password_token, settings.groups_from_userinfo), (PasswordToken::IdToken, true));
    }
}
