//! What the simulated policies came to, for people and for programs.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::clock;
use super::cluster::MEASURED_EVERY;
use super::policies::Policy;
use super::simulation::{Answer, Figures, Question};
use super::timeline::{Detail, timeline};
use crate::api::Sharing;
use crate::plan::quota;

/// From where it is known how long instances take to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StartsFrom {
    /// `status.recentStartSeconds` of the pool, drawn with this seed.
    RecentStarts { seconds: Vec<i32>, seed: u64 },
    /// `--start-seconds`, or its default.
    Seconds(i64),
}

/// Of a header of the table: its words, and how wide its column is.
const COLUMNS: [(&str, usize); 13] = [
    ("policy", 23),
    ("p50", 6),
    ("p95", 6),
    ("p99", 6),
    ("max", 6),
    ("over 1 s", 9),
    ("inst. hours", 12),
    ("most", 5),
    ("fullest", 8),
    ("scalings", 9),
    ("ended", 6),
    ("refused", 8),
    ("gave up", 8),
];

pub fn text(question: &Question, starts: &StartsFrom, answers: &[Answer], with_timeline: bool) -> String {
    let mut text = header(question, starts, answers);
    let mut head = String::new();
    for (n, (words, width)) in COLUMNS.iter().enumerate() {
        head.push_str(&cell(n, words, *width));
    }
    // Writing into a String does not fail.
    let _ = write!(text, "\n{:23}{:>24}\n{head}\n", "", "waited [s]");
    for answer in answers {
        for (n, (words, (_, width))) in row(answer.policy, &answer.figures).iter().zip(COLUMNS).enumerate() {
            text.push_str(&cell(n, words, width));
        }
        text.push('\n');
    }
    text.push_str(LEGEND);
    if with_timeline {
        for answer in answers {
            let _ = write!(text, "\n{}\n{}", answer.policy.name(), timeline(&answer.rows, Detail::Instances));
        }
    }
    text
}

const LEGEND: &str = "
waited     from somebody's coming until their session can be used, or they give up; over 1 s: how many waited for longer
inst.      instances exist from their creation until their driver is gone; most: of them at the same time
fullest    sessions on the fullest instance: without maxSessionsPerInstance nobody waits for a place on a crowded one
scalings   how often instances were started or removed, several at once counting as one
ended      sessions in use that were ended by the operator, or with their instance; refused: by a quota, when they came;
           gave up: found no place in time
";

fn header(question: &Question, starts: &StartsFrom, answers: &[Answer]) -> String {
    let pool = &question.pool;
    let spec = &pool.spec;
    let (target, metric) = (spec.scaling.metrics.target(), spec.scaling.metrics.metric_type.name());
    let each = match (spec.sharing, question.percent_per_session) {
        (Sharing::User, _) => "each for one user".to_owned(),
        (Sharing::Session, _) => "each for one session".to_owned(),
        (Sharing::Pool, None) => format!("{target} sessions each"),
        (Sharing::Pool, Some(_)) => format!("{target} % of its {metric} each"),
    };
    let mut text = format!(
        "Simulated: pool {}, {} to {} instances, {each}; {} session(s) of {} user(s), {} to {}.\n",
        pool.metadata.name.as_deref().unwrap_or_default(),
        spec.replicas.min,
        spec.replicas.max,
        question.arrivals.len(),
        question.users(),
        clock::text(question.begin()),
        clock::text(question.end()),
    );
    text.push_str(&match starts {
        StartsFrom::Seconds(seconds) => {
            format!("An instance answers {seconds} s after its creation (--start-seconds)")
        }
        StartsFrom::RecentStarts { seconds, seed } => {
            let seconds: Vec<String> = seconds.iter().map(i32::to_string).collect();
            format!(
                "An instance answers after {} s, the pool's recent starts (drawn with --seed {seed})",
                seconds.join(", ")
            )
        }
    });
    let busy = match question.percent_per_session {
        None => "how busy a driver is, is not known".to_owned(),
        Some(percent) => format!(
            "each\nuses {percent} % of the {metric} that a driver requests (--use-per-session), which is measured every {MEASURED_EVERY} s"
        ),
    };
    let _ = writeln!(
        text,
        ", and always finds room.\nNothing fails, sessions are in use until their users leave, and {busy}."
    );
    if question.percent_per_session.is_some() && answers.len() > 1 {
        text.push_str("The other operators' rules are left out: they count sessions.\n");
    }
    if quota::names_groups(&spec.session_policy) {
        text.push_str(
            "A trace has no groups: quotas by group are not applied, and the pool's own count instead.\n",
        );
    }
    if spec.sharing != Sharing::Pool && answers.len() > 1 {
        text.push_str(
            "The other operators' rules are left out: they know nothing of spec.sharing, which this pool asks for.\n",
        );
    }
    text
}

fn row(policy: Policy, figures: &Figures) -> [String; 13] {
    let waited = &figures.waited;
    [
        policy.name().to_owned(),
        waited.p50.to_string(),
        waited.p95.to_string(),
        waited.p99.to_string(),
        waited.max.to_string(),
        waited.more_than_one_second.to_string(),
        format!("{:.1}", figures.instance_hours),
        figures.most_instances.to_string(),
        figures.most_sessions_on_one_instance.to_string(),
        figures.scale_actions.to_string(),
        figures.ended_by_operator.to_string(),
        figures.refused.to_string(),
        figures.gave_up.to_string(),
    ]
}

fn cell(column: usize, words: &str, width: usize) -> String {
    if column == 0 { format!("{words:<width$}") } else { format!("{words:>width$}") }
}

pub fn json(question: &Question, starts: &StartsFrom, answers: &[Answer], with_timeline: bool) -> Value {
    let policies: Vec<Value> = answers
        .iter()
        .map(|answer| {
            let mut policy = json!({ "policy": answer.policy, "figures": answer.figures });
            if with_timeline {
                policy["timeline"] = json!(answer.rows);
            }
            policy
        })
        .collect();
    json!({
        "pool": question.pool.metadata.name,
        "sessions": question.arrivals.len(),
        "users": question.users(),
        "from": clock::text(question.begin()),
        "to": clock::text(question.end()),
        "starts": starts,
        "percentPerSession": question.percent_per_session,
        "policies": policies,
    })
}
