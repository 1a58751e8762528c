//! Reads what is asked, has it simulated, and says what came of it.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use kube::ResourceExt;

use super::clock::Second;
use super::policies::Policy;
use super::report::{self, StartsFrom};
use super::simulation::{Answer, Question};
use super::starts::StartTimes;
use super::world::WorldError;
use super::{audit_trace, office_day, pool_file, trace};
use crate::api::{MetricType, Sharing, SparkSessionPool};

/// Where nothing is known of the pool's starts.
const START_SECONDS: Second = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Simulate(Simulate),
    /// An example of a trace.
    OfficeDay {
        seed: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulate {
    /// `-`: standard input.
    pub pool: PathBuf,
    pub arrivals: PathBuf,
    /// `None`: the pool's recent starts, or else 40.
    pub start_seconds: Option<Second>,
    /// Percent of a driver's requests.
    pub use_per_session: Option<u32>,
    pub seed: u64,
    pub timeline: bool,
    pub output: Output,
    pub compare: Compare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compare {
    /// The pool alone, in a quarter of the time.
    None,
    /// Beside it as many instances as it may have all the time, the Go operator's rule, and an HPA alone.
    All,
}

/// Returns what is to be printed.
pub fn run(request: &Request) -> anyhow::Result<String> {
    match request {
        Request::OfficeDay { seed } => Ok(trace::write(&office_day::office_day(*seed))),
        Request::Simulate(simulate) => {
            let Simulate { pool, arrivals, .. } = simulate;
            ensure!(
                !(is_stdin(pool) && is_stdin(arrivals)),
                "--pool and --arrivals cannot both be standard input: put one into a file"
            );
            let pool = pool_file::read(&text(pool)?).with_context(|| name(pool))?;
            let trace = text(arrivals)?;
            let read = if audit_trace::is_audit_log(&trace) {
                audit_trace::read(&trace, &pool.name_any()).map_err(anyhow::Error::from)
            } else {
                trace::read(&trace).map_err(anyhow::Error::from)
            };
            answer(simulate, pool, read.with_context(|| name(arrivals))?)
        }
    }
}

fn answer(
    simulate: &Simulate,
    pool: SparkSessionPool,
    arrivals: Vec<trace::Arrival>,
) -> anyhow::Result<String> {
    let (starts, from) = starts(simulate, &pool);
    let policies: Vec<Policy> = match simulate.compare {
        Compare::None => vec![Policy::AsWritten],
        Compare::All => Policy::ALL.into_iter().filter(|policy| policy.applies_to(&pool)).collect(),
    };
    let metric = pool.spec.scaling.metrics.metric_type;
    let measured = metric != MetricType::ActiveSessions && pool.spec.sharing == Sharing::Pool;
    ensure!(
        !measured || simulate.use_per_session.is_some(),
        "spec.scaling.metrics.type is {0}: say with --use-per-session how many percent of the {0} that a driver requests one \
         session uses on average, all its pauses included",
        metric.name()
    );
    let percent_per_session = simulate.use_per_session.filter(|_| measured);
    let question = Question { pool, arrivals, starts, percent_per_session };
    let answers = all(&question, &policies)?;
    Ok(match simulate.output {
        Output::Table => report::text(&question, &from, &answers, simulate.timeline),
        Output::Json => {
            let json = report::json(&question, &from, &answers, simulate.timeline);
            format!("{}\n", serde_json::to_string_pretty(&json)?)
        }
    })
}

/// Each by a thread of its own. On a terminal it is shown how far they are.
fn all(question: &Question, policies: &[Policy]) -> anyhow::Result<Vec<Answer>> {
    let hours = u64::try_from(question.hours()).unwrap_or(0) * policies.len() as u64;
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} simulated hours, {eta} left")?;
    let progress = ProgressBar::new(hours).with_style(style).with_finish(ProgressFinish::AndClear);
    std::thread::scope(|scope| {
        let running: Vec<_> = policies
            .iter()
            .map(|policy| scope.spawn(|| question.answer(*policy, || progress.inc(1))))
            .collect();
        let ended = running.into_iter().zip(policies).map(|(thread, policy)| {
            let answer: Result<Answer, WorldError> =
                thread.join().map_err(|_| anyhow!("{} has panicked", policy.name()))?;
            answer.with_context(|| format!("{} could not be simulated", policy.name()))
        });
        ended.collect()
    })
}

fn starts(simulate: &Simulate, pool: &SparkSessionPool) -> (StartTimes, StartsFrom) {
    let recent = pool.status.as_ref().map_or(&[][..], |status| &status.recent_start_seconds);
    let sampled: Vec<Second> = recent.iter().map(|seconds| Second::from(*seconds).max(0)).collect();
    match (simulate.start_seconds, StartTimes::sampled(&sampled, simulate.seed)) {
        (None, Some(starts)) => {
            let (seconds, seed) = (recent.to_vec(), simulate.seed);
            (starts, StartsFrom::RecentStarts { seconds, seed })
        }
        (seconds, _) => {
            let seconds = seconds.unwrap_or(START_SECONDS);
            (StartTimes::Constant(seconds), StartsFrom::Seconds(seconds))
        }
    }
}

fn text(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if is_stdin(file) {
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    }
    Ok(text)
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn name(file: &Path) -> String {
    if is_stdin(file) { "standard input".to_owned() } else { file.display().to_string() }
}
