//! How a pool's instances stand, and how to say it.

use jiff::Timestamp;

use crate::api::SparkSessionPoolStatus;
use crate::model::Instance;

/// After so many failures in a row, sessions stop waiting for the next attempt.
pub const FAILURES_BEFORE_GIVING_UP: i32 = 3;

/// How the pool's instances will stand after this plan.
#[derive(Debug, Default)]
pub struct Outlook {
    pub desired: i32,
    pub next_ordinal: i64,
    /// Names of the instances that this plan creates and deletes.
    pub created: Vec<String>,
    pub removed: Vec<String>,
    pub failures: Failures,
    /// No instance is created before.
    pub next_attempt: Option<Timestamp>,
    /// The template is refused: what the API server said.
    pub refusal: Option<String>,
    pub scaled: bool,
}

/// Failures in a row, as the pool's status keeps them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failures {
    pub consecutive: i32,
    pub last_time: Option<Timestamp>,
    pub last_message: Option<String>,
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
    let mut text = format!("instance {} is starting", instance.name);
    match (&instance.endpoint, &instance.pod) {
        (_, Some((pod, _))) if instance.creating => {
            text.push_str(&format!(
                ": driver Pod {pod} is being created, its image pulled if its node lacks it"
            ));
        }
        (Some(endpoint), _) => text.push_str(&format!(": its server does not answer at {endpoint} yet")),
        (None, Some((pod, _))) => text.push_str(&format!(": driver Pod {pod} has no address yet")),
        (None, None) => {
            text.push_str(&format!(": the Spark Operator has it as {}", or_new(&instance.launcher_state)));
        }
    }
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
    const TELLING: [&str; 4] = ["exceeded quota", "forbidden", "Caused by:", "Message:"];
    // The JVM's warnings stand first and explain nothing.
    let says = |line: &&str| !line.is_empty() && !line.starts_with("WARNING:");
    let lines: Vec<&str> = message.lines().map(str::trim).filter(says).collect();
    let (first, rest) = lines.split_first().map_or(("", &[][..]), |(first, rest)| (*first, rest));
    let mut telling: Vec<&str> =
        rest.iter().copied().filter(|line| TELLING.iter().any(|word| line.contains(word))).collect();
    telling.dedup();
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
