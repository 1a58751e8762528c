//! When to ask the API server again that did not answer.
//!
//! Each failure makes whoever asks wait longer, up to half a minute: a request that can never succeed, like that for a
//! resource which is not installed, must not be a burden. An outage is no such failure. While one lasts, a single small
//! request at a time (`/readyz`) finds out when it is over, and then everybody who waits goes on at once: neither do a
//! server's first moments belong to lists from all of us every second, nor do users wait for the rest of a pause that
//! grew meanwhile.
//!
//! Not here: what failed, and what is asked again.

use std::time::Duration;

use http::{Request, StatusCode};
use kube::Client;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Who has gone on for so many times as long as the last pause took has recovered: the next failure is a first one.
const FORGOTTEN_AFTER: u32 = 10;
/// Nor is it one that merely takes long, unless it takes longer than any request.
const SURELY_WORKS_AFTER: Duration = Duration::from_secs(90);
/// Between two looks whether the API server is back.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Over this time all replicas' watches are spread, when it is.
const SPREAD: Duration = Duration::from_millis(50);

/// Whether the API server can be reached, as far as anybody had a reason to ask.
#[derive(Debug, Default)]
pub struct ApiServer {
    suspected: Notify,
    recoveries: watch::Sender<u64>,
}

impl ApiServer {
    /// A request to it has failed.
    pub fn suspect(&self) {
        self.suspected.notify_one();
    }

    /// Changes each time when it is back after it was seen to be away.
    pub fn recoveries(&self) -> watch::Receiver<u64> {
        self.recoveries.subscribe()
    }

    /// Looks for as long as this is polled; `recovered` is called first when it is back.
    pub async fn follow(&self, client: &Client, recovered: impl Fn()) {
        loop {
            self.suspected.notified().await;
            let mut away_since = None;
            while !is_there(client).await {
                away_since.get_or_insert_with(Instant::now);
                sleep(LOOK_EVERY).await;
            }
            if let Some(since) = away_since {
                tracing::info!("the API server answers again, after {:.1?}", since.elapsed());
                recovered();
                self.recoveries.send_modify(|times| *times = times.wrapping_add(1));
            }
        }
    }
}

/// Whether the API server answers. Someone who may not ask is answered, too.
pub(super) async fn is_there(client: &Client) -> bool {
    let Ok(request) = Request::get("/readyz").body(Vec::new()) else { return true };
    match timeout(ANSWERS_WITHIN, client.request_text(request)).await {
        Ok(Ok(_)) => true,
        Ok(Err(kube::Error::Api(status))) => {
            StatusCode::from_u16(status.code).is_ok_and(|code| !code.is_server_error() && code != 429)
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

/// The pauses of one who asks again and again.
#[derive(Debug)]
pub struct Pauses {
    next: Duration,
    last: Duration,
    /// When the last one will be forgotten, unless something fails before.
    forgotten_at: Option<Instant>,
    recoveries: watch::Receiver<u64>,
}

impl Pauses {
    pub fn of(api_server: &ApiServer) -> Self {
        Self {
            next: FIRST_PAUSE,
            last: Duration::ZERO,
            forgotten_at: None,
            recoveries: api_server.recoveries(),
        }
    }

    /// To be told when something has succeeded.
    pub fn went_well(&mut self) {
        let at = Instant::now() + self.last * FORGOTTEN_AFTER;
        self.forgotten_at = Some(self.forgotten_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// To be waited for after each failure.
    pub async fn pause(&mut self) {
        if self.forgotten_at.is_some_and(|at| at <= Instant::now()) {
            self.next = FIRST_PAUSE;
        }
        // Nobody of many who failed together comes together with the others again.
        let pause = self.next.mul_f64(rand::random_range(1.0..1.5));
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        let recovered = async {
            if self.recoveries.changed().await.is_err() {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = recovered => {
                self.next = FIRST_PAUSE;
                sleep(SPREAD.mul_f64(rand::random_range(0.0..1.0))).await;
            }
        }
        self.last = pause;
        self.forgotten_at = Some(Instant::now() + SURELY_WORKS_AFTER.max(pause * FORGOTTEN_AFTER));
    }
}

#[cfg(test)]
#[path = "outage_tests.rs"]
mod tests;
