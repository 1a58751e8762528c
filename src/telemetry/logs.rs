//! Where logs and audit records go, and in which form.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use tracing::Subscriber;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::audit;
use super::log_writer::{LostLines, writer};

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

/// The end of the process waits that long for lines that are not written yet.
const LAST_LINES: Duration = Duration::from_secs(2);

/// What has been logged is written while this lives, and the rest when it is dropped.
pub struct Logs {
    pub lost: LostLines,
    writers: Vec<WorkerGuard>,
}

impl Drop for Logs {
    fn drop(&mut self) {
        let writers = std::mem::take(&mut self.writers);
        let (writing, written) = mpsc::channel::<()>();
        // On a thread of its own: where nobody reads, the writers say so on standard output, and nobody may read that.
        let ending = std::thread::Builder::new().spawn(move || {
            drop(writers);
            drop(writing);
        });
        if ending.is_ok() {
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

/// Logs go to standard error. `RUST_LOG` wins over `level`; neither leaves out audit records.
pub fn init_logs(format: LogFormat, level: &str, audit_log: &AuditLog) -> anyhow::Result<Logs> {
    let directives = std::env::var("RUST_LOG").ok().filter(|directives| !directives.is_empty());
    let filter = filter(directives.as_deref().unwrap_or(level))?;
    let lost = LostLines::default();
    let (logs, logs_end) = writer(std::io::stderr(), &lost.logs);
    // Records have a queue of their own, so that many lines of the log do not make one of them get lost.
    let place: Box<dyn Write + Send> = match audit_log {
        AuditLog::Logs => Box::new(std::io::stderr()),
        AuditLog::Stdout => Box::new(std::io::stdout()),
        AuditLog::File(path) => Box::new(append(path)?),
    };
    let (records, records_end) = writer(place, &lost.records);
    let audit = match audit_log {
        AuditLog::Logs => lines(format, records).with_filter(only_records()).boxed(),
        AuditLog::Stdout | AuditLog::File(_) => audit_layer(records).boxed(),
    };
    Registry::default()
        .with(audit)
        .with(lines(format, logs).with_filter(filter))
        .try_init()
        .context("logging cannot be set up")?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(Logs { lost, writers: vec![logs_end, records_end] })
}

/// Rust's own hook writes to standard error, and would wait for whoever reads it.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    tracing::error!(backtrace = backtrace.map(tracing::field::display), "{panic}");
}

/// Audit records are not among them: they have a layer of their own.
fn filter(directives: &str) -> anyhow::Result<EnvFilter> {
    let directive = format!("{}={}", audit::TARGET, LevelFilter::OFF).parse()?;
    Ok(EnvFilter::try_new(directives)?.add_directive(directive))
}

fn only_records() -> Targets {
    Targets::new().with_target(audit::TARGET, LevelFilter::INFO)
}

fn lines<S, W>(format: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

/// One JSON object a line: `timestamp`, `event`, and what is known about it.
fn audit_layer<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
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
        .with_filter(only_records())
}

fn append(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.with_context(|| format!("--audit-log {} cannot be opened", path.display()))
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
