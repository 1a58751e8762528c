//! Tells Envoy by gRPC's health protocol whether to ask this replica or another one.
//!
//! A replica that has lost the API server goes on seeing uses of sessions, by its Envoys' checks and access logs, and cannot
//! write them down. The one that plans would end sessions in use for want of it. So such a replica says `NOT_SERVING`, and
//! Envoy asks those that serve. Where no replica serves, it is the API server that is away. Nobody ends a session then, and Envoy asks as if all
//! served (`healthy_panic_threshold` in `envoy/bootstrap.yaml`): what is known is served on.
//!
//! Not here: `/readyz`. By that Kubernetes would take the address of each replica out of the Service, also of the last one.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Longer than a leader keeps its Lease without renewing it: another one plans by then.
const LOST_AFTER: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Never returns. `reached`: when the API server last answered.
pub async fn follow(reached: watch::Receiver<Instant>, reporter: HealthReporter) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut serves = true;
    loop {
        let now = looks.tick().await;
        let last = began.max(*reached.borrow());
        match (serves, is_lost(last, now)) {
            (true, true) => {
                tracing::warn!(
                    "the API server was not reached for {LOST_AFTER:?}: other replicas are to serve Envoy, if they reach it"
                );
                reporter.set_service_status("", ServingStatus::NotServing).await;
            }
            (false, false) => {
                tracing::info!("the API server is reached again: this replica serves Envoy");
                reporter.set_service_status("", ServingStatus::Serving).await;
            }
            _ => {}
        }
        serves = !is_lost(last, now);
    }
}

fn is_lost(reached: Instant, now: Instant) -> bool {
    now.saturating_duration_since(reached) >= LOST_AFTER
}

#[cfg(test)]
mod tests {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::server::health_reporter;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_replica_serves_while_it_reaches_the_api_server() {
        let (reporter, service) = health_reporter();
        reporter.set_service_status("", ServingStatus::Serving).await;
        let reached = watch::Sender::new(Instant::now());
        let _following = tokio::spawn(follow(reached.subscribe(), reporter));
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
        assert!(!serves().await);
        reached.send_replace(Instant::now());
        tokio::time::sleep(2 * LOOK_EVERY).await;
        assert!(serves().await);
    }
}
