//! Arguments of the command `simulate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::simulate::command::{Compare, Output, Request, Simulate};

#[derive(Args, Debug)]
#[command(
    after_help = "The trace is CSV: who came when, and for how long their session lasted. A session that nobody closes \
    lasts for the pool's idleTimeoutMinutes beyond its use.\n\n  \
    arrival,user,duration\n  \
    09:00:00,alice,5400\n  \
    09:00:20,bob,01:30:00\n\n\
    Or it is what the operator wrote with --audit-log: then the sessions count that were opened in this pool. Of several \
    replicas all logs are needed: cat audit-*.jsonl.\n\n\
    Examples:\n  \
    spark-session-operator simulate --generate-trace day > day.csv\n  \
    spark-session-operator simulate --pool pool.yaml --arrivals day.csv\n  \
    kubectl get ssp dev -o yaml | spark-session-operator simulate --pool - --arrivals audit.jsonl\n  \
    spark-session-operator simulate --pool pool.yaml --arrivals day.csv --timeline --compare none\n\n\
    A pool from the cluster brings its recent start times with it; of one from a file they are 40 s, or what \
    --start-seconds says. Change spec.replicas or spec.scaling and see what it costs, and who waits."
)]
pub struct SimulateArgs {
    /// Manifest of the pool (YAML); `-`: standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "generate_trace")]
    pool: Option<PathBuf>,

    /// Trace of the sessions (CSV), or the operator's audit log; `-`: standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "generate_trace")]
    arrivals: Option<PathBuf>,

    /// Seconds from an instance's creation until its server answers. Without it, the recent starts of the pool's
    /// status, or 40.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(0..=86_400))]
    start_seconds: Option<i64>,

    /// Of a pool that is sized by cpu or memory: how many percent of what a driver requests one session uses on average,
    /// all its pauses included.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    use_per_session: Option<u32>,

    /// Decides what chance does: the same seed, the same outcome.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,

    /// Show every change of the instances, and why.
    #[arg(long)]
    timeline: bool,

    /// In which form the figures are printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,

    /// What the pool is compared with.
    #[arg(long, value_enum, default_value = "all")]
    compare: Compare,

    /// Print an example of a trace instead: some 2,000 sessions of 400 people and of jobs at night.
    #[arg(long, value_name = "KIND", value_enum, conflicts_with_all = ["pool", "arrivals"])]
    generate_trace: Option<Example>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Example {
    /// A day at an office.
    Day,
}

impl SimulateArgs {
    /// `None` where clap should have refused.
    pub fn into_request(self) -> Option<Request> {
        if let Some(Example::Day) = self.generate_trace {
            return Some(Request::OfficeDay { seed: self.seed });
        }
        Some(Request::Simulate(Simulate {
            pool: self.pool?,
            arrivals: self.arrivals?,
            start_seconds: self.start_seconds,
            use_per_session: self.use_per_session,
            seed: self.seed,
            timeline: self.timeline,
            output: self.output,
            compare: self.compare,
        }))
    }
}
