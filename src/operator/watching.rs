//! Since when this replica's picture of the sessions' uses has no gap: since it leads, or since the clock last jumped.
//!
//! Reads no clock itself.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// More than what synchronisation corrects while nobody looks; a suspended machine misses more.
const JUMP: SignedDuration = SignedDuration::from_secs(30);

#[derive(Clone, Copy, Debug)]
pub struct Watching {
    since: Timestamp,
    /// When the wall clock last jumped, by what it says since then.
    pub jumped_at: Option<Timestamp>,
    last: (Instant, Timestamp),
}

impl Watching {
    pub fn begin(instant: Instant, wall: Timestamp) -> Self {
        Self { since: wall, jumped_at: None, last: (instant, wall) }
    }

    /// To be asked with the time of both clocks. A wall clock that does not go on as the other one makes a new beginning:
    /// uses were noted by another time than the one by which they are judged now.
    pub fn since(&mut self, instant: Instant, wall: Timestamp) -> Timestamp {
        let (before, wall_before) = self.last;
        let passed = SignedDuration::try_from(instant.saturating_duration_since(before));
        let expected = passed.ok().and_then(|passed| wall_before.checked_add(passed).ok());
        if expected.is_none_or(|expected| wall.duration_since(expected).abs() > JUMP) {
            self.since = wall;
            self.jumped_at = Some(wall);
        }
        self.last = (instant, wall);
        self.since
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;
    use crate::model::fixtures::at;

    /// What both clocks say, in seconds, one look after the other; and the beginning at the end.
    #[rstest]
    #[case::both_go_on(&[(100, 100), (5000, 5000)], 0)]
    #[case::corrected_a_little(&[(100, 129), (200, 200), (300, 271)], 0)]
    #[case::set_forward(&[(100, 100), (110, 200)], 200)]
    #[case::set_back(&[(100, 100), (110, 50)], 50)]
    #[case::there_and_back(&[(100, 4000), (200, 200)], 200)]
    #[case::goes_on_after_a_jump(&[(100, 4000), (200, 4100)], 4000)]
    fn without_a_gap_since(#[case] looks: &[(u64, i64)], #[case] since: i64) {
        let beginning = Instant::now();
        let mut watching = Watching::begin(beginning, at(0));
        let mut told = at(0);
        for &(monotonic, wall) in looks {
            told = watching.since(beginning + Duration::from_secs(monotonic), at(wall));
        }
        assert_eq!(watching.jumped_at, (since > 0).then(|| at(since)));
        assert_eq!(told, at(since));
    }
}
