use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::Parser;
use spark_session_operator::plan::reasons;
use spark_session_operator::settings::{Cli, Command};
use spark_session_operator::{api, app, explain, simulate, telemetry};

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(arguments) => {
            let settings = arguments.validate()?;
            // Dropped last: what was logged until then is still written.
            let logs = telemetry::init_logs(settings.log_format, &settings.log_level, &settings.audit_log)?;
            block_on(app::run(settings, logs.lost.clone()))
        }
        Command::Explain(arguments) => {
            let (namespace, subject) =
                arguments.into_subject().context("name a session, or a user and a pool")?;
            print!("{}", block_on(explain::run(&namespace, &subject))?);
            Ok(())
        }
        Command::Simulate(arguments) => {
            let request = arguments.into_request().context("name a pool and a trace")?;
            print(&simulate::command::run(&request)?)
        }
        Command::Crds { output_dir } => print_crds(output_dir.as_deref()),
    }
}

/// Whoever reads may stop in the middle, as `head` does.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed"))?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Into a folder go the pages of all fields and of all reasons, too.
fn print_crds(output_dir: Option<&Path>) -> anyhow::Result<()> {
    let mut files = api::crds::manifests()?;
    let Some(dir) = output_dir else {
        return files.iter().try_for_each(|(_, yaml)| print(&format!("---\n{yaml}")));
    };
    files.push((api::crds::PAGE.to_owned(), api::crds::page()));
    files.push((reasons::PAGE.to_owned(), reasons::page()));
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}
