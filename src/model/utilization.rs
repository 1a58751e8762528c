//! How much of what they request the drivers use, as the API `metrics.k8s.io` measures it.
//!
//! Reads no API and no clock, and draws no conclusions: how many instances a load asks for is said in `crate::plan`.

use jiff::{SignedDuration, Timestamp};

/// Figures that are older count as missing: a metrics server measures every 15 s, some every minute.
pub const STALE_AFTER: SignedDuration = SignedDuration::from_mins(2);

/// What the containers of a Pod request together. `None` where one of them requests nothing: then nothing says how much
/// all of it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub cpu_millis: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// That have to be measured, each of them.
    pub containers: usize,
}

/// What the containers of a Pod used together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// End of the window.
    pub at: Timestamp,
    /// Over which the CPU's use is averaged.
    pub window: SignedDuration,
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub containers: usize,
}

/// What a driver Pod uses, in thousandths of its requests: 1000 is all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utilization {
    /// End of the window.
    pub at: Timestamp,
    pub window: SignedDuration,
    /// `None` where it is not requested.
    pub cpu: Option<u32>,
    pub memory: Option<u32>,
}

impl Utilization {
    /// `None` where a container is not measured yet: the sum would be too small.
    pub fn of(usage: &Usage, requests: &Requests) -> Option<Self> {
        (usage.containers >= requests.containers).then(|| Self {
            at: usage.at,
            window: usage.window,
            cpu: thousandths(usage.cpu_millis, requests.cpu_millis),
            memory: thousandths(usage.memory_bytes, requests.memory_bytes),
        })
    }

    /// Beginning of the window.
    pub fn began(&self) -> Timestamp {
        self.at.checked_sub(self.window).unwrap_or(Timestamp::MIN)
    }

    pub fn is_stale(&self, now: Timestamp) -> bool {
        now.duration_since(self.at) > STALE_AFTER
    }
}

fn thousandths(used: u64, requested: Option<u64>) -> Option<u32> {
    let requested = requested.filter(|requested| *requested > 0)?;
    let part = u128::from(used) * 1000 / u128::from(requested);
    Some(u32::try_from(part).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::model::fixtures::at;

    const USAGE: Usage = Usage {
        at: Timestamp::UNIX_EPOCH,
        window: SignedDuration::from_secs(15),
        cpu_millis: 750,
        memory_bytes: 1 << 30,
        containers: 1,
    };

    #[rstest]
    #[case::a_part(Some(1000), Some(2 << 30), Some(750), Some(500))]
    #[case::more_than_requested(Some(500), Some(1 << 29), Some(1500), Some(2000))]
    #[case::one_is_not_requested(None, Some(1 << 30), None, Some(1000))]
    #[case::nothing_of_nothing(Some(0), Some(0), None, None)]
    #[case::much_of_little(Some(1), Some(1), Some(750_000), Some(u32::MAX))]
    fn what_is_used_is_a_part_of_what_is_requested(
        #[case] cpu_millis: Option<u64>,
        #[case] memory_bytes: Option<u64>,
        #[case] cpu: Option<u32>,
        #[case] memory: Option<u32>,
    ) {
        let found = Utilization::of(&USAGE, &Requests { cpu_millis, memory_bytes, containers: 1 }).unwrap();
        assert_eq!((found.cpu, found.memory), (cpu, memory));
    }

    #[test]
    fn a_pod_with_a_container_that_is_not_measured_has_no_figures() {
        let requests = Requests { cpu_millis: Some(1000), memory_bytes: None, containers: 2 };
        assert_eq!(Utilization::of(&USAGE, &requests), None);
    }

    #[test]
    fn figures_are_stale_after_two_minutes() {
        let found = Utilization { at: at(0), window: SignedDuration::from_secs(15), cpu: None, memory: None };
        assert!(!found.is_stale(at(120)));
        assert!(found.is_stale(at(121)));
        assert_eq!(found.began(), at(-15));
    }
}
