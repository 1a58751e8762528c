//! Asks Spark what runs in a session, where the planner wants to know that before it ends the session.
//!
//! Each question has an answer within [`PATIENCE`], if only that Spark gave none; whether to ask again is the planner's
//! business. A question is no use of the session. What runs in it is one, and is noted as such.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{DEFECT, IDS_AT_A_TIME, Place, SparkSessions, Stores, Term, Work, cluster_of, place};
use crate::model::{Session, SparkRuns};
use crate::spark::connect_client::{self, Caller, Running};
use crate::telemetry::panic_text;

/// Sessions at a time that are asked about: each question takes a thread of its driver for a moment.
const AT_A_TIME: usize = 16;
/// From the first call for a session to the last, however many clients share it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Streaming queries that are named in the words; the others are counted.
const NAMED: usize = 3;
/// Characters of a query's name in the words: a user may give it any length.
const LONGEST_NAME: usize = 60;

pub(super) fn work() -> Work<(Term, String)> {
    Work::new(AT_A_TIME)
}

impl SparkSessions {
    /// Asks once, however often it is called until there is an answer.
    pub fn ask(&self, session: String, uid: String, instance: String, asked_at: Timestamp) {
        // This replica leads no more: the next leader asks by itself.
        let Some(term) = self.leadership.term() else { return };
        let (stores, leadership) = (Arc::clone(&self.stores), self.leadership.clone());
        let activity = self.activity.clone();
        self.questions.start((term, uid.clone()), |permits| async move {
            let asked = AssertUnwindSafe(answer(&stores, &session, &uid, &instance, &permits)).catch_unwind();
            let Some(asked) = leadership.while_leading(term, asked).await else { return };
            let answer = asked.unwrap_or_else(|panic| {
                tracing::error!(session, panic = panic_text(&*panic), "the question what runs panicked");
                Err(DEFECT.to_owned())
            });
            let runs = match answer {
                Ok(running) if running.is_nothing() => SparkRuns::Nothing,
                Ok(running) => SparkRuns::Something(words(&running)),
                Err(reason) => {
                    tracing::warn!(session, instance, reason, "Spark does not say what runs");
                    SparkRuns::Unknown { reason, since: asked_at }
                }
            };
            if matches!(runs, SparkRuns::Something(_)) {
                activity.note(&session, asked_at);
            }
            stores.note_spark_side(&session, &uid, |side| side.note_running(asked_at, runs));
        });
    }
}

async fn answer(
    stores: &Stores,
    session: &str,
    uid: &str,
    instance: &str,
    permits: &Semaphore,
) -> Result<Running, String> {
    // Closed by nobody.
    let _permit = permits.acquire().await.map_err(|_| DEFECT.to_owned())?;
    let found = stores.read(|inventory| {
        cluster_of(inventory, session, uid, instance)?;
        let session = inventory.session(session)?;
        Some((Arc::clone(session), place(inventory, session, instance)?))
    });
    // The next plan knows better where it is.
    let Some((session, place)) = found else { return Err(format!("it is not on instance {instance} now")) };
    timeout(PATIENCE, of_all_clients(&place?, &session))
        .await
        .unwrap_or_else(|_| Err(format!("Spark has not answered within {} s", PATIENCE.as_secs())))
}

/// Of a named session all clients are asked about, and what runs for any of them runs in it. An answer that something
/// runs needs no other; that nothing runs is known only when all have been asked.
async fn of_all_clients(place: &Place, session: &Session) -> Result<Running, String> {
    let calls = session.spark_session_ids().map(|session_id| async move {
        let caller = Caller { user: place.user.clone(), session_id };
        connect_client::running(&place.server, &caller).await.map_err(|error| error.to_string())
    });
    let mut answers = stream::iter(calls).buffer_unordered(IDS_AT_A_TIME);
    let mut failed = None;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(running) if running.is_nothing() => {}
            Ok(running) => return Ok(running),
            Err(reason) => failed = Some(reason),
        }
    }
    failed.map_or_else(|| Ok(Running::default()), Err)
}

/// As part of a sentence. They do not change while the same things run.
fn words(running: &Running) -> String {
    let queries = &running.streaming_queries;
    let names: Vec<String> = queries.iter().take(NAMED).map(|name| quoted(name)).collect();
    let more = queries.len().saturating_sub(NAMED);
    let streaming = match (queries.len(), more) {
        (0, _) => None,
        (1, _) => Some(format!("streaming query {} runs in it", names.join(", "))),
        (_, 0) => Some(format!("streaming queries {} run in it", names.join(", "))),
        _ => Some(format!("streaming queries {} and {more} more run in it", names.join(", "))),
    };
    let executions = match running.executions.unwrap_or(0) {
        0 => None,
        1 => Some("a query whose client has gone runs in it".to_owned()),
        n => Some(format!("{n} queries whose clients have gone run in it")),
    };
    streaming.into_iter().chain(executions).collect::<Vec<_>>().join(" and ")
}

fn quoted(name: &str) -> String {
    let mut shown: String = name.chars().take(LONGEST_NAME).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    format!("\"{}\"", shown.escape_debug())
}

#[cfg(test)]
#[path = "asking_tests.rs"]
mod tests;
