//! Percentiles, and the machine they are from.

use std::fmt::Write;
use std::time::Duration;

/// Measured times of one kind.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn extend(&mut self, times: Self) {
        self.0.extend(times.0);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that this share of all, from 0 to 1, does not exceed.
    pub fn at(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted[rank.clamp(1, sorted.len()) - 1]
    }

    pub fn p50(&self) -> Duration {
        self.at(0.50)
    }

    pub fn p99(&self) -> Duration {
        self.at(0.99)
    }
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub fn ratio(ours: Duration, theirs: Duration) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64()
}

/// What a goal is worth when it is not named beside the figure.
pub fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "MISSED" }
}

/// Processor, cores, memory and kernel.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0_u64);
    let mut text = format!("machine: {}", field(&read("/proc/cpuinfo"), "model name"));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let _ = write!(text, ", {cores} cores, {} GiB", memory >> 20);
    let _ = write!(text, ", Linux {}", read("/proc/sys/kernel/osrelease").trim());
    let build = if cfg!(debug_assertions) { "; a DEBUG build: its figures mean nothing" } else { "" };
    text + build
}
