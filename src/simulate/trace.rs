//! Traces: who came when, and for how long. Read from CSV and written as CSV.

use std::fmt::Write;

use serde::Deserialize;

use super::clock::{self, Second};

/// Somebody who opens a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub at: Second,
    pub user: String,
    /// Seconds for which the session is used, from when it is there.
    pub stays: Second,
}

/// What is wrong with a trace, and how it would be right.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("the first line has to be `{HEADER}`, not `{0}`")]
    Header(String),
    #[error("line {line}: {what}")]
    Line { line: u64, what: String },
    #[error("there is no session in it: below the header, each line is one, as in `09:00:00,alice,5400`")]
    Empty,
    #[error(transparent)]
    Csv(#[from] csv::Error),
}

const HEADER: &str = "arrival,user,duration";

#[derive(Deserialize)]
struct Line {
    arrival: String,
    user: String,
    duration: String,
}

/// By the time of arrival. Lines may come in any order.
pub fn read(text: &str) -> Result<Vec<Arrival>, TraceError> {
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_reader(text.as_bytes());
    let header = reader.headers()?.clone();
    let columns: Vec<&str> = header.iter().collect();
    if columns.join(",") != HEADER {
        return Err(TraceError::Header(columns.join(",")));
    }
    let mut arrivals = Vec::new();
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => return Err(wrong(&error, line)),
        }
        let line = record.position().map_or(line, csv::Position::line);
        let read: Line = record.deserialize(Some(&header)).map_err(|error| wrong(&error, line))?;
        arrivals.push(arrival(read).map_err(|what| TraceError::Line { line, what })?);
    }
    if arrivals.is_empty() {
        return Err(TraceError::Empty);
    }
    arrivals.sort_by_key(|arrival| arrival.at);
    Ok(arrivals)
}

fn wrong(error: &csv::Error, line: u64) -> TraceError {
    let what = match error.kind() {
        csv::ErrorKind::UnequalLengths { len, .. } => {
            format!("{len} value(s) instead of three: when somebody comes, who, and for how long")
        }
        _ => error.to_string(),
    };
    TraceError::Line { line, what }
}

fn arrival(line: Line) -> Result<Arrival, String> {
    let at = time(&line.arrival).ok_or_else(|| {
        format!(
            "`{}` is no arrival: it is in seconds since a midnight (`32400`) or a time of day (`09:00:00`), ten years at most",
            line.arrival
        )
    })?;
    let stays = time(&line.duration).ok_or_else(|| {
        format!("`{}` is no duration: it is in seconds (`5400`) or `HH:MM:SS` (`01:30:00`)", line.duration)
    })?;
    if line.user.is_empty() {
        return Err("there is no user: who comes decides about quotas and sharing".to_owned());
    }
    Ok(Arrival { at, user: line.user, stays })
}

/// Kubernetes knows the second in which something happens: parts of it are dropped.
fn time(text: &str) -> Option<Second> {
    // Ten years; what is more was meant otherwise.
    const LONGEST: Second = 3650 * clock::DAY;
    let whole = match text.split_once('.') {
        Some((whole, part)) if !part.is_empty() && clock::number(part).is_some() => whole,
        Some(_) => return None,
        None => text,
    };
    let seconds = if whole.contains(':') { clock::parse(whole) } else { clock::number(whole) };
    seconds.filter(|seconds| *seconds <= LONGEST)
}

/// As [`read`] reads it.
pub fn write(arrivals: &[Arrival]) -> String {
    let mut text = format!("{HEADER}\n");
    for Arrival { at, user, stays } in arrivals {
        // Writing into a String does not fail.
        let _ = writeln!(text, "{},{user},{stays}", clock::text(*at));
    }
    text
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn arrival(at: Second, user: &str, stays: Second) -> Arrival {
        Arrival { at, user: user.to_owned(), stays }
    }

    #[test]
    fn times_are_seconds_or_times_of_day_in_any_order() {
        let text = "arrival,user,duration\n# a comment\n32405.75,bob,60\n\n09:00:00, alice ,01:30:00\n";
        assert_eq!(read(text).unwrap(), [arrival(32400, "alice", 5400), arrival(32405, "bob", 60)]);
    }

    #[test]
    fn what_is_written_is_read() {
        let trace = [arrival(5, "alice", 0), arrival(90_000, "bob", 7)];
        assert_eq!(read(&write(&trace)).unwrap(), trace);
    }

    #[rstest]
    #[case::header(
        "user,arrival\n1,alice\n",
        "the first line has to be `arrival,user,duration`, not `user,arrival`"
    )]
    #[case::nothing("", "the first line has to be `arrival,user,duration`, not ``")]
    #[case::only_a_header(
        "arrival,user,duration\n",
        "there is no session in it: below the header, each line is one, as in `09:00:00,alice,5400`"
    )]
    #[case::arrival(
        "arrival,user,duration\n0,a,1\n9am,alice,60\n",
        "line 3: `9am` is no arrival: it is in seconds since a midnight (`32400`) or a time of day (`09:00:00`), ten years at most"
    )]
    #[case::duration(
        "arrival,user,duration\n0,alice,-5\n",
        "line 2: `-5` is no duration: it is in seconds (`5400`) or `HH:MM:SS` (`01:30:00`)"
    )]
    #[case::too_long(
        "arrival,user,duration\n0,alice,99999999999\n",
        "line 2: `99999999999` is no duration: it is in seconds (`5400`) or `HH:MM:SS` (`01:30:00`)"
    )]
    #[case::user(
        "arrival,user,duration\n0,,5\n",
        "line 2: there is no user: who comes decides about quotas and sharing"
    )]
    #[case::columns(
        "arrival,user,duration\n0,alice\n",
        "line 2: 2 value(s) instead of three: when somebody comes, who, and for how long"
    )]
    fn what_is_wrong_is_said_with_its_line(#[case] text: &str, #[case] error: &str) {
        assert_eq!(read(text).unwrap_err().to_string(), error);
    }
}
