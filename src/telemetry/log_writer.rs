//! Writes lines on a thread of its own: whoever logs never waits for a disk that is full, or for a pipe that nobody reads.
//! Lines that cannot be written are dropped and counted.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use tokio::time::interval;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::REPEAT_AFTER;
use super::audit::{self, Event, Record};

/// Most lines have less than a kilobyte.
const MAX_WAITING: usize = 10_000;

/// A writer that does not block, and what ends its thread.
pub(super) fn writer(place: impl Write + Send + 'static, lost: &Arc<Lost>) -> (NonBlocking, WorkerGuard) {
    let place = Counting { place, lost: Arc::clone(lost) };
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MAX_WAITING);
    let (writer, end) = builder.finish(place);
    let _ = lost.no_room.set(writer.error_counter());
    (writer, end)
}

/// Lines of the log and audit records that were lost.
#[derive(Clone, Default)]
pub struct LostLines {
    pub(super) logs: Arc<Lost>,
    pub(super) records: Arc<Lost>,
}

/// Of one writer.
#[derive(Default)]
pub(super) struct Lost {
    no_room: OnceLock<ErrorCounter>,
    unwritten: AtomicU64,
}

impl Lost {
    fn lines(&self) -> u64 {
        let no_room = self.no_room.get().map_or(0, ErrorCounter::dropped_lines);
        self.unwritten.load(Ordering::Relaxed).saturating_add(u64::try_from(no_room).unwrap_or(u64::MAX))
    }
}

impl LostLines {
    /// Says in the log and among the audit records how many were lost, as soon as that can be written.
    pub async fn tell(self) -> anyhow::Result<()> {
        let (mut ticks, mut logs, mut records) = (interval(REPEAT_AFTER), 0, 0);
        loop {
            ticks.tick().await;
            let lost = self.logs.lines() - logs;
            if lost > 0 {
                tracing::error!(
                    lost,
                    "lines of the log were lost: they could not be written, or not soon enough"
                );
                logs += lost;
            }
            let lost = self.records.lines() - records;
            if lost > 0 {
                tracing::error!(
                    lost,
                    "audit records were lost: they could not be written, or not soon enough"
                );
                audit::record(Event::RecordsLost, Record { more: lost, ..Record::default() });
                records += lost;
            }
        }
    }
}

impl fmt::Debug for LostLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LostLines").finish_non_exhaustive()
    }
}

impl Collector for LostLines {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let (name, help) = ("spark_session_operator_lost_lines", "Lines that could not be written");
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (log, lost) in [("log", &self.logs), ("audit", &self.records)] {
            ConstCounter::new(lost.lines()).encode(family.encode_family(&[("log", log)])?)?;
        }
        Ok(())
    }
}

/// Counts the lines that its place does not take.
struct Counting<W> {
    place: W,
    lost: Arc<Lost>,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.place.write(line)
    }

    /// A whole line, as the thread writes it.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        self.place.write_all(line).inspect_err(|_| {
            self.lost.unwritten.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.place.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Takes a line whenever it is allowed to, and hands it on.
    struct Slow {
        allowed: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.allowed.recv().map_err(io::Error::other)?;
            self.written.send(line.to_vec()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_logs_does_not_wait_and_what_is_lost_is_counted() {
        let (allow, allowed) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let lost = LostLines::default();
        let (mut log, end) = writer(Slow { allowed, written }, &lost.logs);
        let began = std::time::Instant::now();
        for number in 0..MAX_WAITING + 500 {
            log.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        // One may be in the thread's hand already.
        assert!((499..=500).contains(&lost.logs.lines()), "{}", lost.logs.lines());
        let kept = MAX_WAITING + 500 - usize::try_from(lost.logs.lines()).unwrap();
        (0..kept).for_each(|_| allow.send(()).unwrap());
        drop(end);
        let lines: Vec<_> = lines.try_iter().collect();
        assert_eq!((lines.len(), lines[0].as_slice()), (kept, b"0\n".as_slice()));
    }

    #[test]
    fn a_full_disk_is_counted() {
        let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
        let lost = LostLines::default();
        let (mut log, end) = writer(full, &lost.records);
        for _ in 0..3 {
            log.write_all(b"a record\n").unwrap();
        }
        drop(end);
        assert_eq!(lost.records.lines(), 3);
        let metrics = crate::telemetry::Metrics::default().with(lost).encode().unwrap();
        assert!(metrics.contains("spark_session_operator_lost_lines_total{log=\"audit\"} 3\n"), "{metrics}");
        assert!(metrics.contains("spark_session_operator_lost_lines_total{log=\"log\"} 0\n"), "{metrics}");
    }
}
