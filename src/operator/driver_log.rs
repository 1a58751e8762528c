//! What the drivers of failed instances said last. A Pod tells an exit code; why it ended so is in its log.
//!
//! Only the end of the log, once for each Pod, and without lines that name a secret: the words go into the pool's
//! status, which more people may read than logs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::stores::Stores;
use crate::spark::secret_words::{names_a_secret, without_secrets};
use crate::telemetry::Causes;

/// What is read; frames of stacks are among it.
const TAIL_LINES: i64 = 100;
const TAIL_BYTES: i64 = 64 * 1024;
/// What is kept.
const LINES: usize = 4;
const LONGEST_LINE: usize = 200;
const PATIENCE: Duration = Duration::from_secs(5);
/// Between attempts: the kubelet may be away for a moment.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

pub struct DriverLogs {
    pods: Api<Pod>,
    stores: Arc<Stores>,
}

impl DriverLogs {
    pub fn new(client: &Client, namespace: &str, stores: Arc<Stores>) -> Self {
        Self { pods: Api::namespaced(client.clone(), namespace), stores }
    }

    pub async fn run(self) -> anyhow::Result<()> {
        self.stores.until_synced().await;
        let mut read: HashSet<String> = HashSet::new();
        let mut reading = JoinSet::new();
        loop {
            let failed = self.stores.read(|inventory| inventory.failed_drivers());
            read.retain(|uid| failed.iter().any(|(_, failed)| failed == uid));
            for (pod, uid) in failed {
                if read.insert(uid.clone()) {
                    reading.spawn(tell(self.pods.clone(), self.stores.clone(), pod, uid));
                }
            }
            tokio::select! {
                () = self.stores.drivers_changed.notified() => {}
                Some(ended) = reading.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(%error, "reading a driver's log failed");
                    }
                }
            }
        }
    }
}

async fn tell(pods: Api<Pod>, stores: Arc<Stores>, pod: String, uid: String) {
    let params =
        LogParams { tail_lines: Some(TAIL_LINES), limit_bytes: Some(TAIL_BYTES), ..LogParams::default() };
    let mut pauses = PAUSES.into_iter();
    loop {
        match timeout(PATIENCE, pods.logs(&pod, &params)).await {
            Ok(Ok(log)) => return stores.driver_said(&uid, last_words(&log)),
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => return,
            Ok(Err(error)) => {
                tracing::debug!(pod, error = %Causes(&error), "the failed driver's log cannot be read");
            }
            Err(_) => tracing::debug!(pod, "the failed driver's log was not read within {PATIENCE:?}"),
        }
        let Some(pause) = pauses.next() else { return };
        tokio::time::sleep(pause).await;
    }
}

/// The last lines that say something, joined by ` | `. Empty if there are none.
fn last_words(log: &str) -> String {
    let lines = log.lines().map(str::trim_end).filter(|line| !line.trim().is_empty());
    // The frames of a stack: what happened stands in front of them.
    let lines: Vec<&str> =
        lines.filter(|line| !line.starts_with("\tat ") && !line.starts_with("\t... ")).collect();
    // Spark closes itself down in an orderly way after it has failed, and tells about that at length.
    // And warns about the machine at its start, whatever happens then.
    let telling = without(&["WARN"], without(&["INFO", "DEBUG", "TRACE"], lines));
    let last = &telling[telling.len().saturating_sub(LINES)..];
    let words: Vec<String> = last.iter().map(|line| shown(line.trim())).collect();
    words.join(" | ")
}

/// Without lines of these levels, by Log4j's patterns and its JSON; all of them, where there are no others.
fn without<'a>(levels: &[&str], lines: Vec<&'a str>) -> Vec<&'a str> {
    let is_of = |line: &str, level: &&str| {
        line.contains(&format!(" {level} ")) || line.contains(&format!(r#""level":"{level}""#))
    };
    let others = lines.iter().copied().filter(|line| !levels.iter().any(|level| is_of(line, level)));
    let others: Vec<&str> = others.collect();
    if others.is_empty() { lines } else { others }
}

fn shown(line: &str) -> String {
    if names_a_secret(line) {
        return "(a line that names a secret)".to_owned();
    }
    let line = without_secrets(line);
    match line.char_indices().nth(LONGEST_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;
    use crate::model::Object;
    use crate::model::fixtures::{application, connect_pool, driver};

    /// The last words of the driver of `p-0`, which has failed, when the log can be read at the n-th attempt.
    async fn told_at_attempt(n: usize) -> (Option<String>, usize) {
        let attempts = Arc::new(AtomicUsize::new(0));
        let counted = attempts.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            assert_eq!(request.uri().path(), "/api/v1/namespaces/ns/pods/p-0-driver/log");
            let can_be_read = counted.fetch_add(1, Ordering::Relaxed) + 1 >= n;
            let response = Response::builder().status(if can_be_read { 200 } else { 502 });
            std::future::ready(Ok::<_, Infallible>(
                response.body(Body::from(b"Out of memory".to_vec())).unwrap(),
            ))
        });
        let stores = Stores::new();
        stores.shown(Object::Pool(connect_pool("p")));
        stores.shown(Object::Application(application("p-0").reported("FAILED")));
        stores.shown(Object::Pod(driver("p-0")));
        let pods = Api::namespaced(Client::new(service, "ns"), "ns");
        tell(pods, stores.clone(), "p-0-driver".to_owned(), "uid-of-p-0-driver".to_owned()).await;
        let words = stores.read(|inventory| inventory.instance("p-0").unwrap().last_words);
        (words, attempts.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_cannot_be_read_at_once_is_read_later() {
        assert_eq!(told_at_attempt(3).await, (Some("Out of memory".to_owned()), 3));
        assert_eq!(told_at_attempt(99).await, (None, 1 + PAUSES.len()));
    }

    #[test]
    fn what_happened_is_told_and_not_where() {
        let log = "26/11/22 INFO SparkContext: Running Spark\nException in thread \"main\" java.net.BindException: in use\n\
                   \tat java.base/sun.nio.ch.Net.bind0(Native Method)\n\t... 12 more\nCaused by: port 15002 is taken\n\n\
                   26/11/22 INFO SparkContext: Successfully stopped SparkContext\n{\"level\":\"INFO\",\"msg\":\"bye\"}\n";
        assert_eq!(
            last_words(log),
            "Exception in thread \"main\" java.net.BindException: in use | Caused by: port 15002 is taken"
        );
    }

    #[test]
    fn warnings_are_told_only_where_nothing_worse_is() {
        let warning = "26/11/30 WARN NativeCodeLoader: Unable to load native-hadoop library";
        let log = format!(
            "{warning}\n26/11/30 ERROR SparkConnectServer: Error starting\njava.lang.ClassNotFoundException: x\n"
        );
        assert_eq!(
            last_words(&log),
            "26/11/30 ERROR SparkConnectServer: Error starting | java.lang.ClassNotFoundException: x"
        );
        assert_eq!(last_words(&format!("26/11/30 INFO SparkContext: Running\n{warning}\n")), warning);
    }

    #[test]
    fn only_the_end_is_told_and_long_lines_are_cut() {
        let log: String = (0..100).map(|n| format!("line {n}\n")).collect();
        assert_eq!(last_words(&log), "line 96 | line 97 | line 98 | line 99");
        assert_eq!(last_words(&"ä".repeat(300)), format!("{}…", "ä".repeat(200)));
        assert_eq!(last_words(""), "");
        assert_eq!(
            last_words("26/11/22 INFO SparkContext: Running Spark\n"),
            "26/11/22 INFO SparkContext: Running Spark"
        );
    }

    #[test]
    fn lines_that_name_a_secret_are_left_out() {
        let log = "spark.hadoop.fs.s3a.secret.key=hunter2\nPassword: hunter2\nOut of memory\n\
                   GET https://bob:hunter2@repo/x.jar\n";
        assert_eq!(
            last_words(log),
            "(a line that names a secret) | (a line that names a secret) | Out of memory | GET https://…@repo/x.jar"
        );
    }
}
