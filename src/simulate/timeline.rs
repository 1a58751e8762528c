//! The rows of a ledger as lines for people: when, how many sessions and instances, and why.

use std::fmt::Write;

use super::carried::Event;
use super::clock;
use super::ledger::{Happened, Row};

/// Which rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// All.
    Everything,
    /// Those in which the instances change, or something is said of the pool.
    Instances,
}

const HEAD: &str = "time       placed waiting   starting  ready draining   what happened\n";
/// Of the columns before the last.
const INDENT: usize = 55;

pub fn timeline(rows: &[Row], detail: Detail) -> String {
    let mut text = HEAD.to_owned();
    let mut before = (0, 0, 0);
    for row in rows {
        let counts = row.counts;
        let instances = (counts.starting, counts.ready, counts.draining);
        let shown = instances != before || !row.happened.events.is_empty() || !row.happened.script.is_empty();
        before = instances;
        if detail == Detail::Instances && !shown {
            continue;
        }
        let mut line = format!(
            "{:<10} {:>6} {:>7}   {:>8} {:>6} {:>8}   ",
            clock::text(row.at),
            counts.placed,
            counts.waiting,
            counts.starting,
            counts.ready,
            counts.draining
        );
        for said in words(&row.happened) {
            line.push_str(&said);
            // Writing into a String does not fail.
            let _ = writeln!(text, "{}", line.trim_end());
            line = " ".repeat(INDENT);
        }
        if !line.trim().is_empty() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text
}

fn words(happened: &Happened) -> Vec<String> {
    let mut words: Vec<String> = happened.script.iter().map(|line| format!("> {line}")).collect();
    let sessions: Vec<String> =
        happened.sessions.iter().map(|(became, count)| format!("{count} {became}")).collect();
    if !sessions.is_empty() {
        words.push(sessions.join("; "));
    }
    words.extend(grouped(&happened.events));
    words
}

/// Events that say the same of several instances are one line: `InstanceReady: Instance p-0, p-1 answers.`
fn grouped(events: &[Event]) -> Vec<String> {
    let mut groups: Vec<(&Event, String, Vec<&str>)> = Vec::new();
    for event in events {
        let name = event.note.split([' ', '.', ',', ':']).find(|word| is_instance(word)).unwrap_or_default();
        let rest = if name.is_empty() { event.note.clone() } else { event.note.replacen(name, "\0", 1) };
        match groups.iter_mut().find(|(first, same, _)| first.reason == event.reason && *same == rest) {
            Some((.., names)) => names.push(name),
            None => groups.push((event, rest, vec![name])),
        }
    }
    let line = |(event, rest, names): (&Event, String, Vec<&str>)| {
        let warning = if event.warning { "! " } else { "" };
        format!("{warning}{}: {}", event.reason, rest.replacen('\0', &names.join(", "), 1))
    };
    groups.into_iter().map(line).collect()
}

/// A pool's name and an ordinal.
fn is_instance(word: &str) -> bool {
    crate::model::ordinal_of(word).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(note: &str) -> Event {
        Event { warning: false, reason: "InstanceReady", note: note.to_owned() }
    }

    #[test]
    fn what_is_said_of_several_instances_alike_is_said_once() {
        let events = ["Instance p-0 answers.", "Instance p-10 answers.", "Instance p-2 is full."].map(event);
        assert_eq!(
            grouped(&events),
            ["InstanceReady: Instance p-0, p-10 answers.", "InstanceReady: Instance p-2 is full."]
        );
    }
}
