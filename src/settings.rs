//! Flags and environment variables, validated once.
//!
//! The Go operator's flags keep their names where they mean the same.

mod explain;
mod grpc_tls;
mod identity;
mod leader_election;
mod oidc;
mod simulate;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Parser, Subcommand};

pub use self::explain::ExplainArgs;
use self::grpc_tls::GrpcTlsArgs;
use self::identity::{IdentityArgs, IdentitySettings};
pub use self::leader_election::LeaderElection;
use self::leader_election::LeaderElectionArgs;
use self::oidc::OidcArgs;
pub use self::simulate::SimulateArgs;
use crate::authn::AuthnSettings;
use crate::broker::MaxHold;
use crate::control_channel::TlsFiles;
use crate::telemetry::{AuditLog, LogFormat};
use crate::xds::RequestRates;

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
    /// Say why a session is where it is: what it waits for, when it ends, which quota and configuration apply, and where
    /// each comes from. It reads the objects in the cluster, with the rights of your kubeconfig, and changes nothing.
    Explain(ExplainArgs),
    /// Say what a pool would have cost, and how long its users would have waited, if they had come as a trace says. It
    /// needs no cluster.
    Simulate(SimulateArgs),
    /// Print the CustomResourceDefinitions, or write them into a folder.
    Crds {
        /// Write one file per definition into this folder instead of printing, and pages of all fields (README.md) and of
        /// what all conditions and Events mean (reasons.md).
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

    /// Address on which Envoy listens for Spark clients without TLS; delivered to it by xDS. 0: off.
    #[arg(long, value_name = "ADDR", default_value = ":10000", value_parser = optional_listen_addr)]
    envoy_listen_addr: OptionalAddr,

    /// Address on which Envoy listens for Spark clients with TLS, once there is a certificate. 0: off.
    #[arg(long, value_name = "ADDR", default_value = ":10443", value_parser = optional_listen_addr)]
    envoy_tls_listen_addr: OptionalAddr,

    /// Secret of type kubernetes.io/tls whose certificate is shown for hosts whose pool names none.
    #[arg(long, value_name = "NAME", env = "TLS_DEFAULT_SECRET")]
    tls_default_secret: Option<String>,

    /// Requests per second that each Envoy lets through, with bursts of twice as many. 0: any number.
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    envoy_rate_limit: u32,

    /// Requests per second that each Envoy lets through from one address, with bursts of twice as many. Behind a load
    /// balancer all clients may have one. 0: any number.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    envoy_rate_limit_per_address: u32,

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

    /// How often at most the last use of a session is written to its status. Envoy tells of requests that are still open
    /// four times as often.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    activity_interval: u64,

    // Before the groups, whose headings would go on over them.
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,

    /// Least severe level that is logged, or filter directives as in `info,kube=debug`. RUST_LOG wins.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,

    /// File to which audit records are appended, one JSON object a line: logins, and what becomes of sessions. `-`:
    /// standard output. Without it they are among the logs (target `audit`), whatever --log-level says.
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,

    #[command(flatten)]
    grpc_tls: GrpcTlsArgs,

    #[command(flatten)]
    leader_election: LeaderElectionArgs,

    #[command(flatten)]
    identity: IdentityArgs,

    #[command(flatten)]
    oidc: OidcArgs,
}

/// What `run` needs, checked.
#[derive(Debug)]
pub struct Settings {
    pub namespace: String,
    pub grpc_addr: SocketAddr,
    /// `None`: plaintext.
    pub grpc_tls: Option<TlsFiles>,
    /// Whether every Envoy has to show a client certificate. Without it no key is sent to one.
    pub control_channel_verified: bool,
    pub identity: IdentitySettings,
    /// `None`: this replica is the only one.
    pub leader_election: Option<LeaderElection>,
    /// `None`: no plaintext.
    pub envoy_listen_addr: Option<SocketAddr>,
    /// `None`: no TLS.
    pub envoy_tls_listen_addr: Option<SocketAddr>,
    pub tls_default_secret: Option<String>,
    /// Of each Envoy.
    pub request_rates: RequestRates,
    pub health_addr: SocketAddr,
    pub metrics_addr: Option<SocketAddr>,
    pub max_hold: MaxHold,
    /// How often at most the last use of a session is written.
    pub activity_interval: Duration,
    pub authn: AuthnSettings,
    pub log_format: LogFormat,
    pub log_level: String,
    pub audit_log: AuditLog,
}

impl RunArgs {
    pub fn validate(self) -> anyhow::Result<Settings> {
        let grpc_tls = self.grpc_tls.validate()?;
        let (plaintext, tls) = (self.envoy_listen_addr.0, self.envoy_tls_listen_addr.0);
        if plaintext.is_none() && tls.is_none() {
            bail!("nobody could connect: --envoy-listen-addr and --envoy-tls-listen-addr are both 0");
        }
        let control_channel_verified = grpc_tls.as_ref().is_some_and(|files| files.client_ca.is_some());
        if plaintext.is_none() && !control_channel_verified {
            bail!(
                "nobody could connect: --envoy-listen-addr 0 leaves TLS only, and certificates are sent to Envoy only \
                 over a control channel with mTLS"
            );
        }
        if plaintext == tls {
            bail!("--envoy-listen-addr and --envoy-tls-listen-addr must not be the same address");
        }
        Ok(Settings {
            control_channel_verified,
            grpc_tls,
            leader_election: self.leader_election.validate(&self.namespace),
            namespace: self.namespace,
            grpc_addr: self.grpc_addr,
            envoy_listen_addr: plaintext,
            envoy_tls_listen_addr: tls,
            tls_default_secret: self.tls_default_secret.filter(|name| !name.is_empty()),
            request_rates: RequestRates {
                in_all: NonZeroU32::new(self.envoy_rate_limit),
                of_an_address: NonZeroU32::new(self.envoy_rate_limit_per_address),
            },
            health_addr: self.health_probe_bind_address,
            metrics_addr: self.metrics_bind_address.0,
            identity: self.identity.validate()?,
            max_hold: MaxHold {
                connect: Duration::from_secs(self.connect_max_hold),
                thrift: Duration::from_secs(self.thrift_max_hold),
            },
            activity_interval: Duration::from_secs(self.activity_interval),
            authn: self.oidc.validate()?,
            log_format: self.log_format,
            log_level: self.log_level,
            audit_log: match self.audit_log {
                None => AuditLog::Logs,
                Some(path) if path.as_os_str() == "-" => AuditLog::Stdout,
                Some(path) => AuditLog::File(path),
            },
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
            _ => unreachable!(),
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
    fn envoy_has_to_listen_somewhere() {
        let error = |flags: &[&str]| {
            let flags: Vec<_> = flags.iter().copied().chain(["--oidc-skip-validation"]).collect();
            run(&flags).unwrap_err().to_string()
        };
        assert_eq!(
            error(&["--envoy-listen-addr", "0", "--envoy-tls-listen-addr", "0"]),
            "nobody could connect: --envoy-listen-addr and --envoy-tls-listen-addr are both 0"
        );
        let tls_only = error(&["--envoy-listen-addr", "0"]);
        assert!(tls_only.ends_with("only over a control channel with mTLS"), "{tls_only}");
        assert_eq!(
            error(&["--envoy-listen-addr", ":1", "--envoy-tls-listen-addr", ":1"]),
            "--envoy-listen-addr and --envoy-tls-listen-addr must not be the same address"
        );
    }

    #[test]
    fn each_rate_limit_can_be_off() {
        let rates = |flags: &[&str]| {
            let flags: Vec<_> = ["--oidc-skip-validation"].iter().chain(flags).copied().collect();
            let RequestRates { in_all, of_an_address } = run(&flags).unwrap().request_rates;
            [in_all, of_an_address].map(|rate| rate.map_or(0, NonZeroU32::get))
        };
        let (in_all, of_an_address) = ("--envoy-rate-limit", "--envoy-rate-limit-per-address");
        assert_eq!(rates(&[]), [10_000, 1000]);
        assert_eq!(rates(&[in_all, "0", of_an_address, "7"]), [0, 7]);
        assert_eq!(rates(&[in_all, "7", of_an_address, "0"]), [7, 0]);
    }

    #[test]
    fn the_go_operators_spelling_of_a_boolean_is_understood() {
        assert!(run(&["--oidc-skip-validation=true"]).unwrap().authn.skip_validation);
        assert!(run(&["--oidc-skip-validation=false"]).is_err());
    }

    #[test]
    fn tls_takes_certificate_and_key_and_may_take_a_client_ca() {
        let files = |flags: &[&str]| {
            let flags: Vec<_> = ["--oidc-skip-validation"].iter().chain(flags).copied().collect();
            run(&flags).map(|settings| (settings.grpc_tls, settings.control_channel_verified))
        };
        let (certificate, key, ca) =
            ("--grpc-tls-cert-file=tls.crt", "--grpc-tls-key-file=tls.key", "--grpc-client-ca-file=ca.crt");
        let tls = |client_ca: Option<&str>| TlsFiles {
            certificate: "tls.crt".into(),
            key: "tls.key".into(),
            client_ca: client_ca.map(Into::into),
        };
        assert_eq!(files(&[]).unwrap(), (None, false));
        assert_eq!(files(&[certificate, key]).unwrap(), (Some(tls(None)), false));
        assert_eq!(files(&[certificate, key, ca]).unwrap(), (Some(tls(Some("ca.crt"))), true));
        for (given, said) in [
            (&[certificate][..], "--grpc-tls-key-file is missing beside --grpc-tls-cert-file:"),
            (&[key], "--grpc-tls-cert-file is missing beside --grpc-tls-key-file:"),
            (&[ca], "--grpc-tls-cert-file and --grpc-tls-key-file are missing beside --grpc-client-ca-file:"),
            (
                &[key, ca],
                "--grpc-tls-cert-file is missing beside --grpc-tls-key-file and --grpc-client-ca-file:",
            ),
        ] {
            let error = files(given).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
            assert!(error.ends_with("or none of them for plaintext"), "{error}");
        }
    }

    #[test]
    fn a_pod_that_knows_its_name_takes_part_in_the_election() {
        let elected = |flags: &[&str]| {
            let flags: Vec<_> = ["--oidc-skip-validation"].iter().chain(flags).copied().collect();
            run(&flags).unwrap().leader_election.map(|election| election.lease)
        };
        let pod = "--pod-name=operator-0";
        assert!(elected(&["--pod-name="]).is_none());
        assert!(elected(&[pod, "--leader-elect=false"]).is_none());
        assert!(elected(&["--leader-elect"]).is_some());
        let lease = elected(&[pod, "--namespace=spark", "--leader-elect-lease-name=spark-leader"]).unwrap();
        assert_eq!((lease.namespace.as_str(), lease.name.as_str()), ("spark", "spark-leader"));
        assert!(lease.identity.as_str().starts_with("operator-0_"), "{:?}", lease.identity);
        assert_ne!(lease.identity, elected(&[pod]).unwrap().identity);
        let lease = elected(&[pod, "--pod-uid=5d1e"]).unwrap();
        assert!(lease.identity.as_str().starts_with("operator-0_5d1e_"), "{:?}", lease.identity);
        let lease = elected(&[pod, "--pod-uid="]).unwrap();
        assert_eq!(lease.identity.as_str().split('_').count(), 2, "{:?}", lease.identity);
    }

    #[test]
    fn a_required_claim_has_a_name_and_a_value() {
        let claims = |flag: &str| {
            run(&["--oidc-skip-validation", flag]).map(|settings| settings.authn.required_claims)
        };
        let expected = vec![("realm_access.roles".to_owned(), "a=b".to_owned())];
        assert_eq!(claims("--oidc-required-claim=realm_access.roles=a=b").unwrap(), expected);
        let error = claims("--oidc-required-claim=email_verified").unwrap_err().to_string();
        assert!(error.contains("expected CLAIM=VALUE, such as email_verified=true"), "{error}");
    }

    #[test]
    fn files_that_cannot_be_read_are_told_at_the_start() {
        for flag in ["--oidc-ca-file", "--oidc-client-secret-file"] {
            let error = run(&["--oidc-skip-validation", flag, "/nowhere/at/all"]).unwrap_err().to_string();
            assert_eq!(error, format!("{flag} /nowhere/at/all cannot be read"));
        }
    }

    #[test]
    fn limits_and_grace_of_logins_can_be_off() {
        let flags = ["--auth-outage-grace=0", "--auth-failures-per-user=0", "--auth-failures-per-address=0"];
        let authn = run(&[&["--oidc-skip-validation"], &flags[..]].concat()).unwrap().authn;
        assert_eq!(authn.outage_grace, Duration::ZERO);
        assert!(authn.failure_limits.per_user.is_none() && authn.failure_limits.per_address.is_none());
    }

    #[test]
    fn audit_records_go_where_they_are_told() {
        let place = |flags: &[&str]| run(&[&["--oidc-skip-validation"], flags].concat()).unwrap().audit_log;
        assert_eq!(place(&[]), AuditLog::Logs);
        assert_eq!(place(&["--audit-log=-"]), AuditLog::Stdout);
        assert_eq!(place(&["--audit-log=audit.log"]), AuditLog::File("audit.log".into()));
    }

    #[test]
    fn a_secret_does_not_show_in_the_settings() {
        let settings = run(&["--oidc-skip-validation", "--oidc-client-secret", "hunter2"]).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
