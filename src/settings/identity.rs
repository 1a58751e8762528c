//! Flags about the interceptor that makes Connect servers take the user from Envoy.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::identity_jar::IdentityJar;

/// For pools of type connect with `identity: Enforced`, which is the default.
#[derive(Args, Debug)]
#[command(next_help_heading = "Identity in Spark Connect servers")]
pub struct IdentityArgs {
    /// Jar with the interceptor that makes a server take the user from Envoy (deploy/spark), served to drivers at
    /// --identity-jar-addr.
    #[arg(long, value_name = "FILE", env = "IDENTITY_JAR", requires = "identity_jar_url")]
    identity_jar: Option<PathBuf>,

    /// Address on which drivers fetch that jar (plain HTTP).
    #[arg(long, value_name = "ADDR", default_value = ":18082", value_parser = super::listen_addr)]
    identity_jar_addr: SocketAddr,

    /// URL of the jar for drivers: http://SERVICE:18082/spark-session-identity.jar, or local:///… where their image has
    /// it. Without it only pools with `identity: Trusted` get servers.
    #[arg(long, value_name = "URL", env = "IDENTITY_JAR_URL")]
    identity_jar_url: Option<String>,
}

/// Where the interceptor comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentitySettings {
    /// `None`: the jar is not served from here.
    pub jar: Option<IdentityJar>,
    /// `None`: servers get no interceptor.
    pub jar_url: Option<String>,
}

impl IdentityArgs {
    pub fn validate(self) -> anyhow::Result<IdentitySettings> {
        let listen_addr = self.identity_jar_addr;
        Ok(IdentitySettings {
            jar: self.identity_jar.map(|file| IdentityJar { file, listen_addr }),
            jar_url: self.identity_jar_url.map(jar_url).transpose()?,
        })
    }
}

/// It becomes an item of Spark's list of jars.
fn jar_url(url: String) -> anyhow::Result<String> {
    let known = ["http://", "https://", "local:///"].iter().any(|scheme| url.starts_with(scheme));
    if !known || url.contains(|character: char| character == ',' || character.is_whitespace()) {
        bail!(
            "--identity-jar-url `{url}` is no URL for Spark: expected http://…, https://… or local:///…, without commas"
        );
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        identity: IdentityArgs,
    }

    fn run(flags: &[&str]) -> anyhow::Result<IdentitySettings> {
        Flags::try_parse_from(["run"].iter().chain(flags))?.identity.validate()
    }

    #[test]
    fn drivers_are_told_where_the_jar_is() {
        let (image, served) =
            ("--identity-jar-url=local:///opt/x.jar", "--identity-jar-url=http://op:18082/x.jar");
        assert_eq!(run(&[]).unwrap(), IdentitySettings::default());
        assert_eq!(run(&[image]).unwrap().jar_url.as_deref(), Some("local:///opt/x.jar"));
        let expected = IdentityJar { file: "x.jar".into(), listen_addr: ([0, 0, 0, 0], 18082).into() };
        assert_eq!(run(&[served, "--identity-jar=x.jar"]).unwrap().jar, Some(expected));
        assert!(run(&["--identity-jar=x.jar"]).unwrap_err().to_string().contains("--identity-jar-url"));
        for bad in ["x.jar", "file:///x.jar", "http://op/x.jar,http://op/y.jar", "http://op/x .jar"] {
            let error = run(&[&format!("--identity-jar-url={bad}")]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--identity-jar-url `{bad}` is no URL for Spark")), "{error}");
        }
    }
}
