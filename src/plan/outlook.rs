//! How a pool's instances stand, and how to say it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::failures::Failures;
use super::refusal::Refusal;
use super::size::Size;
use crate::api::{DrainReason, DrainStatus, ScaleDownStatus, SparkSessionPoolStatus};
use crate::model::Instance;

/// How the pool's instances will stand after this plan.
#[derive(Debug, Default)]
pub struct Outlook {
    pub size: Size,
    pub next_ordinal: i64,
    /// Names of the instances that this plan creates and deletes.
    pub created: Vec<String>,
    pub removed: Vec<String>,
    /// By instance: those that are being emptied, also from now on.
    pub drains: BTreeMap<String, DrainStatus>,
    /// Of these, the ones that this plan decides about, and those that it takes back.
    pub drained: Vec<String>,
    pub taken_back: Vec<String>,
    /// Names of those that were made from an earlier template.
    pub outdated: BTreeSet<String>,
    /// What keeps outdated instances from being replaced, as a clause.
    pub roll_waits_for: Option<String>,
    /// The instances that take sessions before and after this plan, where that is a change of the pool's size.
    pub resized: Option<(usize, usize)>,
    pub scale_down: Option<ScaleDownStatus>,
    pub failures: Failures,
    /// No instance is created before.
    pub next_attempt: Option<Timestamp>,
    /// None is created any more.
    pub stopped: bool,
    /// Why the API server did not let an instance be created.
    pub refusal: Option<Refusal>,
    /// None is created for that. If not, this plan tries once more.
    pub refusal_stands: bool,
}

impl Outlook {
    /// Whether this plan has sessions go, or keeps them from coming, there.
    pub fn gives_up(&self, instance: &str) -> bool {
        self.removed.iter().chain(&self.drained).any(|name| name == instance)
    }

    /// Why the API server did not let an instance be created, if none is created for that.
    pub fn standing_refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref().filter(|_| self.refusal_stands)
    }

    pub fn drains_for(&self, instance: &str, reason: DrainReason) -> bool {
        self.drains.get(instance).is_some_and(|drain| drain.reason == reason)
    }
}

pub fn describe_failure(instance: &Instance) -> String {
    let mut text = match &instance.message {
        Some(message) => format!("instance {} failed: {}", instance.name, first_lines(message)),
        None => format!("instance {} failed ({})", instance.name, or_new(&instance.launcher_state)),
    };
    if let Some(words) = &instance.last_words {
        text.push_str(&format!(". Its driver's log ends: {words}"));
    }
    text
}

/// What a person waiting for this instance should know.
pub fn describe_start(instance: &Instance) -> String {
    format!("instance {} is starting: {}", instance.name, describe_progress(instance))
}

/// How far it has come with starting, as a clause.
pub fn describe_progress(instance: &Instance) -> String {
    let mut text = match (&instance.endpoint, &instance.pod) {
        (_, Some((pod, _))) if instance.creating => {
            format!("driver Pod {pod} is being created, its image pulled if its node lacks it")
        }
        (Some(endpoint), _) => format!("its server does not answer at {endpoint} yet"),
        (None, Some((pod, _))) => format!("driver Pod {pod} has no address yet"),
        (None, None) if instance.launcher_state.is_empty() => {
            "the Spark Operator has not taken it up yet".to_owned()
        }
        (None, None) => format!("the Spark Operator has it as {}", instance.launcher_state),
    };
    if let Some(message) = &instance.message {
        text.push_str(&format!(" ({})", first_lines(message)));
    }
    text
}

fn or_new(state: &str) -> &str {
    if state.is_empty() { "NEW" } else { state }
}

/// Enough of a stack trace to know what happened: status messages are read in a terminal.
fn first_lines(message: &str) -> String {
    const LONGEST: usize = 400;
    const LONGEST_BEFORE_OTHERS: usize = 160;
    // Lines that say why, wherever they stand among those that say where.
    const TELLING: [&str; 6] =
        ["exceeded quota", "forbidden", "Exception in thread", "Error:", "Caused by:", "Message:"];
    // The JVM's warnings stand first and explain nothing.
    let says = |line: &&str| !line.is_empty() && !line.starts_with("WARNING:");
    let lines: Vec<&str> = message.lines().map(str::trim).filter(says).collect();
    let (first, rest) = lines.split_first().map_or(("", &[][..]), |(first, rest)| (*first, rest));
    let mut telling: Vec<&str> =
        rest.iter().copied().filter(|line| TELLING.iter().any(|word| line.contains(word))).collect();
    telling.dedup();
    // "failed to run spark-submit: " and then all that it logged.
    let first = match first.split_once(": ") {
        Some((head, logged))
            if [" INFO ", " WARN ", "WARNING:"].iter().any(|level| logged.contains(level)) =>
        {
            first.get(..=head.len()).unwrap_or(head)
        }
        _ => first,
    };
    let text = if telling.is_empty() {
        lines.into_iter().take(4).collect::<Vec<_>>().join(" ")
    } else {
        let first = shortened(first, LONGEST_BEFORE_OTHERS);
        [&[&*first], &telling[..telling.len().min(3)]].concat().join(" ")
    };
    shortened(text.trim_end_matches('.'), LONGEST)
}

fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Of a clause.
pub fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let rest = characters.as_str();
    let stop = if rest.ends_with(['.', '…', ')']) { "" } else { "." };
    format!("{first}{rest}{stop}")
}

/// Seconds that an instance of this pool takes until it answers: the median of the recent ones.
pub fn usual_start(status: &SparkSessionPoolStatus) -> Option<i64> {
    let mut recent = status.recent_start_seconds.clone();
    recent.sort_unstable();
    recent.get(recent.len() / 2).map(|seconds| i64::from(*seconds))
}

/// In words: "p-0, p-1 and p-2".
pub fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    names.sort_unstable();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => names.concat(),
    }
}
