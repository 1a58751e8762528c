//! Tells Envoy by gRPC's health protocol whether to ask this replica or another one.
//!
//! A replica that has lost the API server goes on seeing uses of sessions, by its Envoys' checks and access logs, and cannot
//! write them down. The one that plans would end sessions in use for want of it. So such a replica says `NOT_SERVING`, and
//! Envoy asks those that serve. Streams stay where they began, so when Envoy has heard of it they are ended, and begin anew
//! elsewhere. Where no replica serves, it is the API server that is away. Nobody ends a session then, and Envoy asks as if all
//! served (`healthy_panic_threshold` in `envoy/bootstrap.yaml`): what is known is served on.
//!
//! [`LOST_AFTER`], [`HEARD_AFTER`] and a quarter of the activity interval, in which the next replica hears of open requests,
//! are together less than the shortest idle timeout (a minute) and what a leader allows for late news.
//!
//! Not here: `/readyz`. By that Kubernetes would take the address of each replica out of the Service, also of the last one.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::control_channel::Streams;

/// Longer than a leader keeps its Lease without renewing it: another one plans by then.
const LOST_AFTER: Duration = Duration::from_secs(20);
/// Later than Envoy's next health check (`interval` and `timeout` in `envoy/bootstrap.yaml`).
const HEARD_AFTER: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Never returns. `reached`: when the API server last answered.
pub async fn follow(
    reached: watch::Receiver<Instant>,
    reporter: HealthReporter,
    streams: Streams,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut status = Status::Serves;
    loop {
        let now = looks.tick().await;
        let next = Status::at(began.max(*reached.borrow()), now);
        match (status, next) {
            (Status::Serves, Status::Lost | Status::Left) => {
                tracing::warn!(
                    "the API server was not reached for {LOST_AFTER:?}: other replicas are to serve Envoy, if they reach it"
                );
                reporter.set_service_status("", ServingStatus::NotServing).await;
            }
            (Status::Lost, Status::Left) => streams.end_all(),
            (Status::Lost | Status::Left, Status::Serves) => {
                tracing::info!("the API server is reached again: this replica serves Envoy");
                reporter.set_service_status("", ServingStatus::Serving).await;
            }
            _ => {}
        }
        // One after the other, also where the process was suspended meanwhile: Envoy has to hear of it first.
        status = if (status, next) == (Status::Serves, Status::Left) { Status::Lost } else { next };
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Serves,
    /// Others are to serve.
    Lost,
    /// They do, if there are any.
    Left,
}

impl Status {
    fn at(reached: Instant, now: Instant) -> Self {
        match now.saturating_duration_since(reached) {
            quiet if quiet < LOST_AFTER => Self::Serves,
            quiet if quiet < LOST_AFTER + HEARD_AFTER => Self::Lost,
            _ => Self::Left,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::server::health_reporter;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_replica_serves_while_it_reaches_the_api_server() {
        let (reporter, service) = health_reporter();
        reporter.set_service_status("", ServingStatus::Serving).await;
        let reached = watch::Sender::new(Instant::now());
        let streams = Streams::from(CancellationToken::new());
        let _following = tokio::spawn(follow(reached.subscribe(), reporter, streams.clone()));
        let open = streams.end();
        let mut client = HealthClient::new(service);
        let mut serves = async || {
            let answer = client.check(HealthCheckRequest::default()).await.unwrap().into_inner();
            answer.status == ServingStatus::Serving as i32
        };
        for _ in 0..3 {
            tokio::time::sleep(LOST_AFTER - LOOK_EVERY).await;
            assert!(serves().await);
            reached.send_replace(Instant::now());
        }
        tokio::time::sleep(LOST_AFTER + LOOK_EVERY).await;
        assert!(!serves().await && !open.is_cancelled(), "Envoy has to hear of it first");
        tokio::time::sleep(HEARD_AFTER).await;
        assert!(open.is_cancelled() && !streams.end().is_cancelled());
        reached.send_replace(Instant::now());
        tokio::time::sleep(2 * LOOK_EVERY).await;
        assert!(serves().await);
    }
}
