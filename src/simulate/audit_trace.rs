//! The sessions that an audit log tells of (`run --audit-log`), as a trace: who opened one in this pool, when, and how long
//! it lasted, the time included in which nobody used it. What was made by kubectl is not in it.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use serde::Deserialize;

use super::clock::{DAY, Second};
use super::trace::Arrival;

/// What is wrong with an audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("line {line}: this is no record of an audit log: {error}")]
    Line { line: usize, error: serde_json::Error },
    #[error("no session of pool `{pool}` was opened in it{others}")]
    NoSession { pool: String, others: String },
}

#[derive(Deserialize)]
struct Record {
    timestamp: Timestamp,
    event: String,
    user: Option<String>,
    pool: Option<String>,
    session: Option<String>,
}

/// Whether it is one, or a trace.
pub fn is_audit_log(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// By the time of arrival, from the midnight before the first one (UTC). What had not ended by the last record, or when
/// another session of its name began, is taken as ended then. Of several replicas all logs are needed, in any order: one
/// tells who came, and another one, the leader, when they went.
pub fn read(text: &str, pool: &str) -> Result<Vec<Arrival>, AuditError> {
    let lines = text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty());
    let records = lines.map(|(line, text)| {
        serde_json::from_str(text).map_err(|error| AuditError::Line { line: line + 1, error })
    });
    let mut records: Vec<Record> = records.collect::<Result<_, _>>()?;
    records.sort_by_key(|record| record.timestamp);
    let last = records.last().map_or(Timestamp::MIN, |record| record.timestamp);
    let mut sessions: Vec<(Timestamp, String, Option<Timestamp>)> = Vec::new();
    let mut open: HashMap<String, usize> = HashMap::new();
    let mut others = BTreeSet::new();
    for record in records {
        let Record { timestamp, event, user: Some(user), pool: Some(of), session: Some(session) } = record
        else {
            continue;
        };
        if of != pool {
            others.insert(of);
            continue;
        }
        let begins = event == "SessionCreated";
        if (begins || event == "SessionEnded")
            && let Some(n) = open.remove(&session)
        {
            sessions[n].2 = Some(timestamp);
        }
        if begins {
            open.insert(session, sessions.len());
            sessions.push((timestamp, user, None));
        }
    }
    let Some((first, ..)) = sessions.first() else {
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        let others = match others.as_slice() {
            [] => String::new(),
            others => format!("; it tells of {}", others.join(", ")),
        };
        return Err(AuditError::NoSession { pool: pool.to_owned(), others });
    };
    let midnight = first.as_second() - first.as_second().rem_euclid(DAY);
    let arrivals = sessions.iter().map(|(begin, user, end)| {
        let stays: Second = end.unwrap_or(last).as_second() - begin.as_second();
        Arrival { at: begin.as_second() - midnight, user: user.clone(), stays: stays.max(0) }
    });
    Ok(arrivals.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(time: &str, event: &str, user: &str, pool: &str, session: &str) -> String {
        format!(
            r#"{{"timestamp":"2026-11-30T{time}Z","event":"{event}","user":"{user}","pool":"{pool}","session":"{session}"}}"#
        )
    }

    #[test]
    fn sessions_last_from_their_creation_to_their_end_or_to_that_of_the_log() {
        let log = [
            r#"{"timestamp":"2026-11-30T08:59:59.5Z","event":"Login","user":"alice","address":"10.0.0.1"}"#
                .to_owned(),
            record("09:00:00.25", "SessionCreated", "alice", "lab", "a"),
            record("09:00:10", "SessionCreated", "bob", "lab", "b"),
            record("09:00:20", "SessionCreated", "carol", "other", "c"),
            record("09:30:00.75", "SessionEnded", "alice", "lab", "a"),
            record("10:00:00", "SessionEnded", "carol", "other", "c"),
            record("10:00:01", "SessionEnded", "dave", "lab", "opened-before-the-log"),
        ];
        let arrival = |at, user: &str, stays| Arrival { at, user: user.to_owned(), stays };
        let trace = read(&log.join("\n"), "lab").unwrap();
        assert_eq!(trace, [arrival(32_400, "alice", 1800), arrival(32_410, "bob", 3591)]);
    }

    #[test]
    fn the_logs_of_two_replicas_may_come_one_after_the_other() {
        let leader = [record("09:10:00", "SessionEnded", "alice", "lab", "default")];
        let other = [
            record("09:00:00", "SessionCreated", "alice", "lab", "default"),
            record("09:20:00", "SessionCreated", "alice", "lab", "default"),
            record("09:50:00", "SessionCreated", "alice", "lab", "default"),
            record("10:00:00", "SessionRefused", "bob", "lab", "default"),
        ];
        let trace = read(&[&leader[..], &other[..]].concat().join("\n"), "lab").unwrap();
        let stays: Vec<Second> = trace.iter().map(|arrival| arrival.stays).collect();
        assert_eq!(stays, [600, 1800, 600]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| read(text, "lab").unwrap_err().to_string();
        let other = record("09:00:00", "SessionCreated", "alice", "adhoc", "a");
        assert_eq!(error(&other), "no session of pool `lab` was opened in it; it tells of adhoc");
        let broken = error(&format!("{other}\n{{\"timestamp\":\"yesterday\"}}"));
        assert!(broken.starts_with("line 2: this is no record of an audit log: "), "{broken}");
    }
}
