use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// The streams that Envoys keep open for as long as this replica lets them: their configuration, their access logs. Clones
/// are about the same streams.
#[derive(Clone, Debug)]
pub struct Streams {
    stop: CancellationToken,
    /// Ends those that are open.
    open: Arc<Mutex<CancellationToken>>,
}

impl Streams {
    /// To be asked at the beginning of each stream: what ends it.
    pub fn end(&self) -> CancellationToken {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends those that are open. Envoy begins them anew, at a replica that serves.
    pub fn end_all(&self) {
        let next = self.stop.child_token();
        std::mem::replace(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner), next).cancel();
    }
}

/// They end with the process at the latest.
impl From<CancellationToken> for Streams {
    fn from(stop: CancellationToken) -> Self {
        let open = Arc::new(Mutex::new(stop.child_token()));
        Self { stop, open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_end_when_they_are_told_to_and_with_the_process() {
        let stop = CancellationToken::new();
        let streams = Streams::from(stop.clone());
        let first = streams.end();
        streams.clone().end_all();
        let second = streams.end();
        assert!(first.is_cancelled() && !second.is_cancelled() && !stop.is_cancelled());
        stop.cancel();
        assert!(second.is_cancelled() && streams.end().is_cancelled());
    }
}
