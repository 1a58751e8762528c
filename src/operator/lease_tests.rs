use proptest::prelude::*;
use rstest::rstest;

use super::*;

const TIMING: LeaseTiming = LeaseTiming::DEFAULT;
const SECOND: Duration = Duration::from_secs(1);

/// Seconds after a moment that is the same in all of one test.
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn at(&self, after: Duration) -> Moment {
        let wall = Timestamp::from_second(1_700_000_000).unwrap();
        Moment { instant: self.0 + after, wall: wall + jiff::SignedDuration::try_from(after).unwrap() }
    }
}

fn candidate(name: &str) -> Election {
    Election::new(HolderIdentity { name: name.to_owned(), same_pod: None }, TIMING)
}

/// One of the processes that ran in a Pod.
fn process(pod_name: &str, pod_uid: Option<&str>, number: usize) -> HolderIdentity {
    HolderIdentity::new(pod_name, pod_uid, Uuid::from_u128(number as u128))
}

fn lease(spec: LeaseSpec) -> Lease {
    Lease { spec: Some(spec), ..Lease::default() }
}

fn held_by(holder: &str, renewed: Duration, clock: &Clock) -> Lease {
    let wall = clock.at(renewed).wall;
    lease(LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(10),
        renew_time: Some(MicroTime(wall)),
        lease_transitions: Some(4),
        ..LeaseSpec::default()
    })
}

/// The candidate has taken what nobody had.
fn leader(clock: &Clock) -> (Election, LeaseSpec) {
    let mut election = candidate("a");
    let Step::Create(spec) = election.step(None, clock.at(Duration::ZERO)) else { panic!("not created") };
    election.written(spec.clone(), clock.at(Duration::ZERO).instant);
    (election, spec)
}

#[test]
fn a_lease_that_nobody_has_made_is_created() {
    let clock = Clock::new();
    let (election, spec) = leader(&clock);
    assert_eq!(spec.holder_identity.as_deref(), Some("a"));
    assert_eq!(spec.lease_duration_seconds, Some(10));
    assert_eq!(spec.lease_transitions, Some(0));
    assert_eq!(spec.acquire_time, Some(MicroTime(clock.at(Duration::ZERO).wall)));
    assert_eq!(election.held_until(), Some(clock.at(7 * SECOND).instant));
    assert_eq!(election.leader(), Some("a"));
}

/// As a restored backup has it: another one may lead by now.
#[test]
fn a_lease_of_ones_own_from_earlier_is_waited_for_as_anyones() {
    let clock = Clock::new();
    let (mut election, spec) = leader(&clock);
    let other = held_by("b", 20 * SECOND, &clock);
    assert_eq!(election.step(Some(&other), clock.at(20 * SECOND)), Step::Wait(clock.at(30 * SECOND).instant));
    let restored = lease(spec);
    let waits = Step::Wait(clock.at(31 * SECOND).instant);
    assert_eq!(election.step(Some(&restored), clock.at(21 * SECOND)), waits);
    assert_eq!(election.held_until(), None);
    assert!(matches!(election.step(Some(&restored), clock.at(31 * SECOND)), Step::Replace(_)));
}

#[test]
fn a_renewal_keeps_the_time_of_acquisition_and_counts_from_before_it_was_sent() {
    let clock = Clock::new();
    let (mut election, spec) = leader(&clock);
    let Step::Replace(renewed) = election.step(Some(&lease(spec.clone())), clock.at(2 * SECOND)) else {
        panic!("not renewed")
    };
    assert_eq!(renewed.acquire_time, spec.acquire_time);
    assert_eq!(renewed.lease_transitions, Some(0));
    assert_eq!(renewed.renew_time, Some(MicroTime(clock.at(2 * SECOND).wall)));
    election.written(renewed, clock.at(2 * SECOND).instant);
    assert_eq!(election.held_until(), Some(clock.at(9 * SECOND).instant));
}

#[test]
fn another_ones_lease_is_respected_for_as_long_as_it_was_seen_unchanged() {
    let clock = Clock::new();
    let mut election = candidate("b");
    // Renewed an hour ago by its own account: clocks of other machines do not count.
    let old = held_by("a", Duration::ZERO, &clock);
    let seen = 3600 * SECOND;
    let expires = clock.at(seen + 10 * SECOND).instant;
    assert_eq!(election.step(Some(&old), clock.at(seen)), Step::Wait(expires));
    assert_eq!(election.step(Some(&old), clock.at(seen + 9 * SECOND)), Step::Wait(expires));
    let Step::Replace(taken) = election.step(Some(&old), clock.at(seen + 10 * SECOND)) else {
        panic!("an expired Lease was not taken")
    };
    assert_eq!(taken.holder_identity.as_deref(), Some("b"));
    assert_eq!(taken.lease_transitions, Some(5));
    assert_eq!(taken.acquire_time, taken.renew_time);
    assert_eq!(election.held_until(), None, "nothing is held before the API server has taken it");
}

#[test]
fn a_renewal_by_its_holder_begins_the_wait_anew() {
    let clock = Clock::new();
    let mut election = candidate("b");
    election.step(Some(&held_by("a", Duration::ZERO, &clock)), clock.at(Duration::ZERO));
    let renewed = held_by("a", 9 * SECOND, &clock);
    let expires = clock.at(19 * SECOND).instant;
    assert_eq!(election.step(Some(&renewed), clock.at(9 * SECOND)), Step::Wait(expires));
}

#[rstest]
#[case::given_back(LeaseSpec { holder_identity: None, lease_duration_seconds: Some(1), ..LeaseSpec::default() })]
#[case::with_an_empty_holder(LeaseSpec { holder_identity: Some(String::new()), ..LeaseSpec::default() })]
#[case::empty(LeaseSpec::default())]
fn a_free_lease_is_taken_at_once(#[case] free: LeaseSpec) {
    let clock = Clock::new();
    let step = candidate("b").step(Some(&lease(free)), clock.at(Duration::ZERO));
    assert!(matches!(step, Step::Replace(_)), "{step:?}");
}

#[test]
fn a_container_that_is_restarted_in_its_pod_does_not_wait_for_its_own_lease() {
    let clock = Clock::new();
    let (before, now) = (process("operator-0", Some("5d1e"), 1), process("operator-0", Some("5d1e"), 2));
    let old = held_by(before.as_str(), Duration::ZERO, &clock);
    let Step::Replace(taken) = Election::new(now.clone(), TIMING).step(Some(&old), clock.at(SECOND)) else {
        panic!("it waits")
    };
    assert_eq!(taken.holder_identity.as_deref(), Some(now.as_str()));
    assert_eq!((taken.lease_transitions, &taken.acquire_time), (Some(5), &taken.renew_time));
}

#[rstest]
#[case::in_a_namesake_of_the_pod("operator-0", Some("77aa"))]
#[case::in_another_pod("operator-1", Some("5d1e"))]
#[case::somewhere_under_the_same_name("operator-0", None)]
fn a_lease_of_a_process_that_may_live_is_waited_for(#[case] pod_name: &str, #[case] pod_uid: Option<&str>) {
    let clock = Clock::new();
    let (holder, expires) = (process(pod_name, pod_uid, 1), clock.at(10 * SECOND).instant);
    for uid in [Some("5d1e"), None] {
        let mut election = Election::new(process("operator-0", uid, 2), TIMING);
        let step =
            election.step(Some(&held_by(holder.as_str(), Duration::ZERO, &clock)), clock.at(Duration::ZERO));
        assert_eq!(step, Step::Wait(expires), "{uid:?}");
    }
}

#[test]
fn who_renews_lives_whatever_its_name_says() {
    let clock = Clock::new();
    let holder = process("operator-0", Some("5d1e"), 1);
    let renewed = |at| held_by(holder.as_str(), at, &clock);
    let mut election = Election::new(process("operator-0", Some("5d1e"), 2), TIMING);
    let step = election.step(Some(&renewed(Duration::ZERO)), clock.at(SECOND));
    assert!(matches!(step, Step::Replace(_)), "{step:?}");
    // The API server has not taken that: the holder was faster.
    let step = election.step(Some(&renewed(SECOND)), clock.at(2 * SECOND));
    assert_eq!(step, Step::Wait(clock.at(12 * SECOND).instant));
}

#[test]
fn of_two_processes_that_believe_to_be_in_one_pod_the_second_leads_and_the_first_yields() {
    let clock = Clock::new();
    let mut first = Election::new(process("operator-0", Some("5d1e"), 1), TIMING);
    let Step::Create(spec) = first.step(None, clock.at(Duration::ZERO)) else { panic!("not created") };
    first.written(spec.clone(), clock.at(Duration::ZERO).instant);
    let mut second = Election::new(process("operator-0", Some("5d1e"), 2), TIMING);
    let Step::Replace(taken) = second.step(Some(&lease(spec)), clock.at(SECOND)) else { panic!("it waits") };
    second.written(taken.clone(), clock.at(SECOND).instant);
    let step = first.step(Some(&lease(taken)), clock.at(2 * SECOND));
    assert_eq!((step, first.held_until()), (Step::Wait(clock.at(12 * SECOND).instant), None));
}

#[test]
fn who_sees_another_holder_leads_no_more() {
    let clock = Clock::new();
    let (mut election, _) = leader(&clock);
    let step = election.step(Some(&held_by("b", SECOND, &clock)), clock.at(SECOND));
    assert!(matches!(step, Step::Wait(_)), "{step:?}");
    assert_eq!(election.held_until(), None);
    assert_eq!(election.leader(), Some("b"));
}

#[test]
fn who_cannot_renew_stops_before_anyone_may_take_over() {
    let clock = Clock::new();
    let (leader, spec) = leader(&clock);
    let mut other = candidate("b");
    let Step::Wait(expires) = other.step(Some(&lease(spec)), clock.at(Duration::ZERO)) else {
        panic!("taken while it was held")
    };
    let margin = expires - leader.held_until().unwrap();
    assert_eq!(margin, 3 * SECOND);
}

#[test]
fn a_lease_is_given_back_by_its_holder_only() {
    let clock = Clock::new();
    let (mut election, spec) = leader(&clock);
    let wall = clock.at(SECOND).wall;
    assert_eq!(election.given_up(&held_by("b", SECOND, &clock), wall), None);
    let free = election.given_up(&lease(spec), wall).unwrap();
    assert_eq!((free.holder_identity, free.lease_duration_seconds), (None, Some(1)));
    assert_eq!(election.held_until(), None);
}

#[test]
fn a_number_in_the_lease_locks_nobody_out() {
    let clock = Clock::new();
    let mut stuck = held_by("a", Duration::ZERO, &clock);
    stuck.spec.as_mut().unwrap().lease_duration_seconds = Some(i32::MAX);
    let step = candidate("b").step(Some(&stuck), clock.at(Duration::ZERO));
    assert_eq!(step, Step::Wait(clock.at(60 * SECOND).instant));
    for nonsense in [None, Some(0), Some(-5)] {
        stuck.spec.as_mut().unwrap().lease_duration_seconds = nonsense;
        let step = candidate("b").step(Some(&stuck), clock.at(Duration::ZERO));
        assert_eq!(step, Step::Wait(clock.at(10 * SECOND).instant));
    }
}

/// What may happen to three replicas and their requests.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// A replica reads the Lease, and decides.
    Reads(usize),
    /// What it decided arrives at the API server; the answer may be lost.
    Writes {
        replica: usize,
        answered: bool,
    },
    /// A request is lost on its way.
    Loses(usize),
    /// A replica crashes; another process takes its place, in the same Pod.
    Crashes(usize),
    GivesUp(usize),
    Passes(Duration),
}

fn happenings() -> impl Strategy<Value = Happens> {
    let replica = 0..3_usize;
    prop_oneof![
        4 => replica.clone().prop_map(Happens::Reads),
        4 => (replica.clone(), prop::bool::weighted(0.8))
            .prop_map(|(replica, answered)| Happens::Writes { replica, answered }),
        1 => replica.clone().prop_map(Happens::Loses),
        1 => replica.clone().prop_map(Happens::Crashes),
        1 => replica.prop_map(Happens::GivesUp),
        4 => (1..6_000_u64).prop_map(|millis| Happens::Passes(Duration::from_millis(millis))),
    ]
}

struct Replica {
    election: Election,
    /// What was decided, on which version, and when.
    under_way: Option<(LeaseSpec, Option<u64>, Instant)>,
}

/// The API server's Lease, and those who want it.
struct World {
    clock: Clock,
    passed: Duration,
    stored: Option<(LeaseSpec, u64)>,
    replicas: Vec<Replica>,
    processes: usize,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            clock: Clock::new(),
            passed: Duration::ZERO,
            stored: None,
            replicas: Vec::new(),
            processes: 0,
        };
        for _ in 0..3 {
            let replica = world.process(world.replicas.len());
            world.replicas.push(replica);
        }
        world
    }

    /// The next one in this Pod.
    fn process(&mut self, pod: usize) -> Replica {
        self.processes += 1;
        let identity = process("operator", Some(&format!("uid-{pod}")), self.processes);
        Replica { election: Election::new(identity, TIMING), under_way: None }
    }

    fn now(&self) -> Moment {
        self.clock.at(self.passed)
    }

    fn happens(&mut self, what: Happens) {
        let now = self.now();
        match what {
            Happens::Passes(time) => self.passed += time,
            Happens::Crashes(replica) => self.replicas[replica] = self.process(replica),
            Happens::Loses(replica) => self.replicas[replica].under_way = None,
            Happens::Reads(replica) => {
                let found = self.stored.as_ref().map(|(spec, _)| lease(spec.clone()));
                let version = self.stored.as_ref().map(|(_, version)| *version);
                let replica = &mut self.replicas[replica];
                replica.under_way = match replica.election.step(found.as_ref(), now) {
                    Step::Create(spec) | Step::Replace(spec) => Some((spec, version, now.instant)),
                    Step::Wait(_) => None,
                };
            }
            Happens::Writes { replica, answered } => {
                let replica = &mut self.replicas[replica];
                let Some((spec, version, sent)) = replica.under_way.take() else { return };
                if version == self.stored.as_ref().map(|(_, version)| *version) {
                    self.stored = Some((spec.clone(), version.unwrap_or(0) + 1));
                    if answered {
                        replica.election.written(spec, sent);
                    }
                }
            }
            Happens::GivesUp(replica) => {
                let replica = &mut self.replicas[replica];
                replica.under_way = None;
                if let Some((spec, version)) = &mut self.stored
                    && let Some(free) = replica.election.given_up(&lease(spec.clone()), now.wall)
                {
                    (*spec, *version) = (free, *version + 1);
                }
            }
        }
    }

    fn leaders(&self) -> usize {
        let now = self.now().instant;
        let leads = |replica: &&Replica| replica.election.held_until().is_some_and(|until| now < until);
        self.replicas.iter().filter(leads).count()
    }
}

proptest! {
    #[test]
    fn there_are_never_two_leaders(story in prop::collection::vec(happenings(), 0..200)) {
        let mut world = World::new();
        for what in story {
            world.happens(what);
            prop_assert!(world.leaders() <= 1, "after {what:?}");
        }
    }

    #[test]
    fn whatever_has_happened_there_is_soon_a_leader(
        story in prop::collection::vec(happenings(), 0..60),
        survivor in 0..3_usize,
    ) {
        let mut world = World::new();
        for what in story {
            world.happens(what);
        }
        let mut waited = Duration::ZERO;
        loop {
            world.happens(Happens::Reads(survivor));
            world.happens(Happens::Writes { replica: survivor, answered: true });
            if world.replicas[survivor].election.held_until().is_some() && world.leaders() == 1 {
                break;
            }
            world.happens(Happens::Passes(TIMING.retry));
            waited += TIMING.retry;
            prop_assert!(waited <= TIMING.duration + 2 * TIMING.retry, "nobody leads after {waited:?}");
        }
    }
}
