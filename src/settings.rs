//! Flags and environment variables, validated once.
//!
//! The Go operator's flags keep their names where they mean the same.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;

use crate::authn::AuthnSettings;
use crate::broker::MaxHold;
use crate::telemetry::LogFormat;

#[derive(Parser, Debug)]
#[command(
    version,
    about,
    long_about = "Kubernetes operator and Envoy control plane for pools of interactive Spark servers.\n\n\
    It reconciles SparkSessionPools and SparkInteractiveSessions, serves xDS to Envoy and answers Envoy's \
    ext_authz checks: it logs users in, finds or creates their session, waits until an instance serves it, and \
    names the instance."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the operator and control plane.
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions, or write them into a folder.
    Crds {
        /// Write one file per definition into this folder instead of printing.
        #[arg(long, value_name = "DIR")]
        output_dir: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
pub struct RunArgs {
    /// Namespace whose pools and sessions are managed.
    #[arg(long, env = "NAMESPACE", default_value = "spark-dev")]
    namespace: String,

    /// Address of the gRPC server for Envoy: xDS and ext_authz. An address may leave out the host (`:18000`).
    #[arg(long, value_name = "ADDR", default_value = ":18000", value_parser = listen_addr)]
    grpc_addr: SocketAddr,

    /// Address on which Envoy listens for Spark clients; delivered to it by xDS.
    #[arg(long, value_name = "ADDR", default_value = ":10000", value_parser = listen_addr)]
    envoy_listen_addr: SocketAddr,

    /// Address of /healthz and /readyz.
    #[arg(long, value_name = "ADDR", default_value = ":8081", value_parser = listen_addr)]
    health_probe_bind_address: SocketAddr,

    /// Address of /metrics (OpenMetrics, plain HTTP). 0: off.
    #[arg(long, value_name = "ADDR", default_value = "0", value_parser = optional_listen_addr)]
    metrics_bind_address: OptionalAddr,

    /// Longest time a Spark Connect request is held while its session starts. The client then hears
    /// UNAVAILABLE and comes back by itself.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    connect_max_hold: u64,

    /// Longest time a Thrift request is held while its session starts. JDBC clients do not come back by
    /// themselves: they show an error.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    thrift_max_hold: u64,

    #[command(flatten)]
    oidc: OidcArgs,

    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,

    /// Least severe level that is logged, or filter directives as in `info,kube=debug`. RUST_LOG wins.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Login (OpenID Connect)")]
struct OidcArgs {
    /// Issuer, such as https://keycloak.example.com/realms/spark. Its endpoints are discovered.
    #[arg(long, value_name = "URL", env = "OIDC_ISSUER_URL")]
    oidc_issuer_url: Option<String>,

    /// Audience that tokens must name. Without it any token of the issuer is accepted.
    #[arg(long, value_name = "AUDIENCE", env = "OIDC_AUDIENCE")]
    oidc_audience: Option<String>,

    /// Claim that holds the user name.
    #[arg(long, value_name = "CLAIM", env = "OIDC_USER_CLAIM", default_value = "sub")]
    oidc_user_claim: String,

    /// Claim that holds the user's groups; dots lead into nested claims (`realm_access.roles`).
    #[arg(long, value_name = "CLAIM", env = "OIDC_GROUPS_CLAIM", default_value = "groups")]
    oidc_groups_claim: String,

    /// Client with which passwords are exchanged for tokens (password grant).
    #[arg(long, value_name = "ID", env = "OIDC_CLIENT_ID")]
    oidc_client_id: Option<String>,

    /// Secret of that client. Visible in the process list: prefer the file or OIDC_CLIENT_SECRET.
    #[arg(long, value_name = "SECRET", env = "OIDC_CLIENT_SECRET", hide_env_values = true)]
    oidc_client_secret: Option<SecretString>,

    /// File with the secret of that client.
    #[arg(long, value_name = "FILE", conflicts_with = "oidc_client_secret")]
    oidc_client_secret_file: Option<PathBuf>,

    /// Accept any user name with any password, and tokens without a check. For development only.
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", require_equals = true)]
    oidc_skip_validation: bool,

    /// Longest time that a login is remembered before the provider is asked again.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    auth_cache_ttl: u64,
}

/// What `run` needs, checked.
#[derive(Debug)]
pub struct Settings {
    pub namespace: String,
    pub grpc_addr: SocketAddr,
    pub envoy_listen_addr: SocketAddr,
    pub health_addr: SocketAddr,
    pub metrics_addr: Option<SocketAddr>,
    pub max_hold: MaxHold,
    pub authn: AuthnSettings,
    pub log_format: LogFormat,
    pub log_level: String,
}

impl RunArgs {
    pub fn validate(self) -> anyhow::Result<Settings> {
        Ok(Settings {
            namespace: self.namespace,
            grpc_addr: self.grpc_addr,
            envoy_listen_addr: self.envoy_listen_addr,
            health_addr: self.health_probe_bind_address,
            metrics_addr: self.metrics_bind_address.0,
            max_hold: MaxHold {
                connect: Duration::from_secs(self.connect_max_hold),
                thrift: Duration::from_secs(self.thrift_max_hold),
            },
            authn: self.oidc.validate()?,
            log_format: self.log_format,
            log_level: self.log_level,
        })
    }
}

impl OidcArgs {
    fn validate(self) -> anyhow::Result<AuthnSettings> {
        let given = |value: Option<String>| value.filter(|value| !value.is_empty());
        let issuer_url = given(self.oidc_issuer_url);
        if issuer_url.is_none() && !self.oidc_skip_validation {
            bail!(
                "nobody could log in: set --oidc-issuer-url to your OpenID Connect issuer, or, on a development \
                 machine only, --oidc-skip-validation"
            );
        }
        let client_secret = match self.oidc_client_secret_file {
            Some(file) => {
                let text = std::fs::read_to_string(&file).with_context(|| {
                    format!("--oidc-client-secret-file {} cannot be read", file.display())
                })?;
                Some(SecretString::from(text.trim_end_matches(['\r', '\n'])))
            }
            None => self.oidc_client_secret,
        };
        Ok(AuthnSettings {
            issuer_url,
            audience: given(self.oidc_audience),
            user_claim: self.oidc_user_claim,
            groups_claim: self.oidc_groups_claim,
            client_id: given(self.oidc_client_id),
            client_secret,
            skip_validation: self.oidc_skip_validation,
            cache_ttl: Duration::from_secs(self.auth_cache_ttl),
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct OptionalAddr(Option<SocketAddr>);

/// `:8081` means every address of the machine, as in Go.
fn listen_addr(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map_err(|_| format!("`{text}` is no address to listen on: expected IP:PORT or :PORT"))
}

fn optional_listen_addr(text: &str) -> Result<OptionalAddr, String> {
    if text == "0" { Ok(OptionalAddr(None)) } else { listen_addr(text).map(|addr| OptionalAddr(Some(addr))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(flags: &[&str]) -> anyhow::Result<Settings> {
        let arguments = ["spark-session-operator", "run"].iter().chain(flags);
        match Cli::try_parse_from(arguments)?.command {
            Command::Run(run) => run.validate(),
            Command::Crds { .. } => unreachable!(),
        }
    }

    #[test]
    fn an_address_without_a_host_means_all_addresses() {
        let settings = run(&["--oidc-skip-validation", "--grpc-addr", ":1234"]).unwrap();
        assert_eq!(settings.grpc_addr.to_string(), "0.0.0.0:1234");
        assert_eq!(settings.metrics_addr, None);
    }

    #[test]
    fn without_an_issuer_the_operator_says_what_to_set() {
        let error = run(&[]).unwrap_err().to_string();
        assert!(error.contains("--oidc-issuer-url"), "{error}");
    }

    #[test]
    fn the_go_operators_spelling_of_a_boolean_is_understood() {
        assert!(run(&["--oidc-skip-validation=true"]).unwrap().authn.skip_validation);
        assert!(run(&["--oidc-skip-validation=false"]).is_err());
    }

    #[test]
    fn a_secret_does_not_show_in_the_settings() {
        let settings = run(&["--oidc-skip-validation", "--oidc-client-secret", "hunter2"]).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
