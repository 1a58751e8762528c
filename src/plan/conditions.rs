use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub type_: &'static str,
    pub status: bool,
    pub reason: &'static str,
    pub message: String,
}

/// The new list of conditions. A transition time moves only when the status of its condition does;
/// conditions of other types are kept.
pub fn merge(old: &[Condition], findings: &[Finding], generation: i64, now: Timestamp) -> Vec<Condition> {
    let mut merged: Vec<Condition> = old
        .iter()
        .filter(|condition| findings.iter().all(|finding| finding.type_ != condition.type_))
        .cloned()
        .collect();
    for finding in findings {
        let status = if finding.status { "True" } else { "False" };
        let before =
            old.iter().find(|condition| condition.type_ == finding.type_ && condition.status == status);
        merged.push(Condition {
            type_: finding.type_.to_owned(),
            status: status.to_owned(),
            reason: finding.reason.to_owned(),
            message: finding.message.clone(),
            observed_generation: Some(generation),
            last_transition_time: before
                .map_or_else(|| seconds(now), |before| before.last_transition_time.clone()),
        });
    }
    merged.sort_by(|a, b| a.type_.cmp(&b.type_));
    merged
}

/// A time as the API server stores it: whole seconds, so that what is read back equals what was
/// written and an unchanged status is not written again.
pub fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}
