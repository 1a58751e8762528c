use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::audit;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for log collectors.
    Json,
}

/// Where the audit records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditLog {
    /// Among the logs.
    Logs,
    Stdout,
    /// Appended to.
    File(PathBuf),
}

/// Logs go to standard error. `RUST_LOG` wins over `level`; neither leaves out audit records.
pub fn init_logs(format: LogFormat, level: &str, audit_log: &AuditLog) -> anyhow::Result<()> {
    let directives = std::env::var("RUST_LOG").ok().filter(|directives| !directives.is_empty());
    let filter = filter(directives.as_deref().unwrap_or(level), audit_log)?;
    let logs = fmt::layer().with_writer(std::io::stderr);
    let logs = match format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => logs.json().flatten_event(true).boxed(),
    };
    let audit = match audit_log {
        AuditLog::Logs => None,
        AuditLog::Stdout => Some(audit_layer(BoxMakeWriter::new(std::io::stdout))),
        AuditLog::File(path) => Some(audit_layer(BoxMakeWriter::new(append(path)?))),
    };
    Registry::default()
        .with(audit)
        .with(logs.with_filter(filter))
        .try_init()
        .context("logging cannot be set up")
}

fn filter(directives: &str, audit_log: &AuditLog) -> anyhow::Result<EnvFilter> {
    let audit = if *audit_log == AuditLog::Logs { LevelFilter::INFO } else { LevelFilter::OFF };
    let directive = format!("{}={audit}", audit::TARGET).parse()?;
    Ok(EnvFilter::try_new(directives)?.add_directive(directive))
}

/// One JSON object a line: `timestamp`, `event`, and what is known about it.
fn audit_layer<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    fmt::layer()
        .json()
        .flatten_event(true)
        .with_level(false)
        .with_target(false)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(writer)
        .with_filter(Targets::new().with_target(audit::TARGET, LevelFilter::INFO))
}

fn append(path: &Path) -> anyhow::Result<Mutex<std::fs::File>> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    Ok(Mutex::new(file.with_context(|| format!("--audit-log {} cannot be opened", path.display()))?))
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
