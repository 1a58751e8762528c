//! How long a request may be held.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::Protocol;

/// How long requests are held while their session waits.
#[derive(Clone, Copy, Debug)]
pub struct MaxHold {
    pub connect: Duration,
    pub thrift: Duration,
}

impl MaxHold {
    /// How much longer than that Envoy waits for an answer.
    pub const MARGIN: Duration = Duration::from_secs(15);

    pub fn of(self, protocol: Protocol) -> Duration {
        match protocol {
            Protocol::Connect => self.connect,
            Protocol::Thrift => self.thrift,
        }
    }

    /// What is left for a request that came to Envoy at `since` and has perhaps been held before. `since` is by
    /// Envoy's clock: where it cannot be true, since Envoy would have given up, it does not count.
    pub fn left(self, protocol: Protocol, since: Timestamp, now: Timestamp) -> Duration {
        let hold = self.of(protocol);
        let held = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        if held > hold + Self::MARGIN { hold } else { hold.saturating_sub(held) }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::model::fixtures::at;

    #[rstest]
    #[case::came_just_now(1000, 300)]
    #[case::was_held_by_another_replica(900, 200)]
    #[case::has_waited_long_enough(695, 0)]
    #[case::the_clock_of_envoy_is_late(400, 300)]
    #[case::the_clock_of_envoy_is_early(1200, 300)]
    fn a_request_is_held_once_however_often_it_is_asked_about(#[case] since: i64, #[case] left: u64) {
        let hold = MaxHold { connect: Duration::from_secs(60), thrift: Duration::from_secs(300) };
        assert_eq!(hold.left(Protocol::Thrift, at(since), at(1000)), Duration::from_secs(left));
    }
}
