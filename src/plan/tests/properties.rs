//! Whatever happens, in whatever order: limits hold, names are not used twice, and every plan comes
//! to an end. That a plan repeats itself is checked by [`Cluster::settle`] after every happening.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::cluster::Cluster;
use crate::api::{InstanceState, MetricType, SessionState, Sharing};
use crate::model::fixtures::{at, connect_pool, failed, session, thrift_pool};
use crate::model::{Instance, InstancePhase, LeavingDriver, Pool, ReleaseOutcome};
use crate::plan::Objection;

const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// A number chooses among what there is at that moment.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    SessionCreated {
        user: usize,
    },
    SessionDeleted(usize),
    ServerAnswers(usize),
    InstanceFails(usize),
    /// The SparkApplication is deleted by somebody else.
    InstanceVanishes(usize),
    /// What was being deleted is gone; its driver may run on for a while.
    DeletionEnds(usize),
    LeavingDriverIsGone(usize),
    SecondsPass(i64),
    TemplateIsRefused,
    TemplateIsTaken,
    /// To one of a few: it may be taken back.
    TemplateChanges(u8),
    /// By the annotation.
    ToldToDrain(usize),
    /// As by a node that is drained: it is said to go first, and may be gone, or fail.
    PodDeleted(usize),
    DeletedPodFails(usize),
    /// For a moment, as after a restart of the operator.
    AnswersNoProbe(usize),
    LimitsChange {
        min: i32,
        more: i32,
    },
    /// All drivers that answer use so much of their requests, in thousandths.
    Measured(u32),
    PoolStatusIsLost,
}

pub(super) fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0..USERS.len()).prop_map(|user| Happening::SessionCreated { user }),
        2 => any::<usize>().prop_map(Happening::SessionDeleted),
        4 => any::<usize>().prop_map(Happening::ServerAnswers),
        2 => any::<usize>().prop_map(Happening::InstanceFails),
        1 => any::<usize>().prop_map(Happening::InstanceVanishes),
        3 => any::<usize>().prop_map(Happening::DeletionEnds),
        2 => any::<usize>().prop_map(Happening::LeavingDriverIsGone),
        4 => (1..400_i64).prop_map(Happening::SecondsPass),
        1 => Just(Happening::TemplateIsRefused),
        2 => Just(Happening::TemplateIsTaken),
        1 => (0..3_u8).prop_map(Happening::TemplateChanges),
        2 => (0..3000_u32).prop_map(Happening::Measured),
        1 => any::<usize>().prop_map(Happening::ToldToDrain),
        1 => any::<usize>().prop_map(Happening::PodDeleted),
        1 => any::<usize>().prop_map(Happening::DeletedPodFails),
        1 => any::<usize>().prop_map(Happening::AnswersNoProbe),
        1 => (0..3_i32, 0..3_i32).prop_map(|(min, more)| Happening::LimitsChange { min, more }),
    ]
}

pub(super) fn any_pool() -> impl Strategy<Value = Pool> {
    let sharing = prop_oneof![Just(Sharing::Pool), Just(Sharing::User), Just(Sharing::Session)];
    let limits = (1..4_i32, 1..8_i32, prop_oneof![Just(0), Just(300)]);
    let metric = prop_oneof![2 => Just(MetricType::ActiveSessions), 1 => Just(MetricType::Cpu), 1 => Just(MetricType::Memory)];
    let scaling = (metric, 1..4_i32, 0..3_i32);
    let drain =
        (prop_oneof![3 => Just(None), 1 => Just(Some(200))], prop_oneof![3 => Just(true), 1 => Just(false)]);
    let places = prop_oneof![3 => Just(None), 1 => (1..3_i32).prop_map(Some)];
    (any::<bool>(), sharing, 0..3_i32, 0..3_i32, scaling, limits, (drain, places)).prop_map(
        |(
            connect,
            sharing,
            min,
            more,
            (metric, target, spare),
            (per_user, total, cooldown),
            (drain, places),
        )| {
            let by_sessions = metric == MetricType::ActiveSessions;
            let mut pool = if connect { connect_pool("p") } else { thrift_pool("p") };
            (pool.spec.scaling.drain_timeout_seconds, pool.spec.scaling.drain_before_scale_down) = drain;
            pool.spec.scaling.max_sessions_per_instance = places;
            pool.sized(min, (min + more).max(1))
                .measured_by(metric)
                .sessions_per_instance(if by_sessions { target } else { 20 * target })
                .keeping_spare(spare)
                .shared_by(sharing)
                .allowing_each_user(per_user)
                .allowing_in_total(total)
                .cooling_down(cooldown)
        },
    )
}

pub(super) fn happen(cluster: &mut Cluster, happening: Happening, serial: usize) {
    let in_phase = |cluster: &Cluster, phases: &[InstancePhase], n: usize| {
        let names: Vec<_> =
            cluster.instances.iter().filter(|i| phases.contains(&i.phase)).map(|i| i.name.clone()).collect();
        (!names.is_empty()).then(|| names[n % names.len()].clone())
    };
    match happening {
        Happening::SessionCreated { user } => {
            let new = session(&format!("s{serial:03}")).of(USERS[user]).created(cluster.now);
            *cluster = cluster.clone().session(new);
        }
        Happening::SessionDeleted(n) if !cluster.sessions.is_empty() => {
            cluster.sessions.remove(n % cluster.sessions.len());
        }
        Happening::SessionDeleted(_) => {}
        Happening::ServerAnswers(n) => {
            if let Some(name) = in_phase(cluster, &[InstancePhase::Starting], n) {
                *cluster = cluster.clone().answering(&[&name]);
            }
        }
        Happening::InstanceFails(n) => {
            if let Some(name) = in_phase(cluster, &[InstancePhase::Starting, InstancePhase::Ready], n) {
                *cluster.find_instance(&name) = failed(&name, "OOM");
            }
        }
        Happening::InstanceVanishes(n) if !cluster.instances.is_empty() => {
            cluster.instances.remove(n % cluster.instances.len());
        }
        Happening::InstanceVanishes(_) => {}
        Happening::DeletionEnds(n) => {
            if let Some(name) = in_phase(cluster, &[InstancePhase::Deleting], n) {
                cluster.instances.retain(|instance| instance.name != name);
                let killed_at = Some(at(cluster.now + 30)).filter(|_| n.is_multiple_of(2));
                if !cluster.dead.contains(&name) {
                    cluster.leaving.push(LeavingDriver { instance: name, killed_at });
                }
            }
        }
        Happening::LeavingDriverIsGone(n) => {
            if !cluster.leaving.is_empty() {
                cluster.leaving.remove(n % cluster.leaving.len());
            }
        }
        Happening::SecondsPass(seconds) => cluster.now += seconds,
        Happening::TemplateIsRefused => {
            cluster.refuses = Some((Objection::Template, "no".to_owned()));
        }
        Happening::TemplateIsTaken => cluster.refuses = None,
        Happening::TemplateChanges(version) => {
            let template = json!({ "image": format!("spark:{version}") });
            cluster.pool = cluster.pool.clone().with_template(template);
            cluster.pool.meta.generation += 1;
        }
        Happening::ToldToDrain(n) => {
            if let Some(name) = in_phase(cluster, &[InstancePhase::Ready], n) {
                let instance = cluster.find_instance(&name);
                (instance.phase, instance.told_to_drain) = (InstancePhase::Draining, true);
            }
        }
        Happening::PodDeleted(n) => {
            if let Some(name) = in_phase(cluster, &[InstancePhase::Ready, InstancePhase::Draining], n) {
                cluster.find_instance(&name).phase = InstancePhase::Deleting;
            }
        }
        Happening::DeletedPodFails(n) => {
            if let Some(name) = in_phase(cluster, &[InstancePhase::Deleting], n) {
                *cluster.find_instance(&name) = failed(&name, "driver pod not found");
            }
        }
        Happening::AnswersNoProbe(n) => {
            if let Some(name) = in_phase(cluster, &[InstancePhase::Ready], n) {
                cluster.find_instance(&name).phase = InstancePhase::Starting;
            }
        }
        Happening::LimitsChange { min, more } => {
            cluster.pool = cluster.pool.clone().sized(min, (min + more).max(1));
            cluster.pool.meta.generation += 1;
        }
        Happening::Measured(used) => {
            for instance in cluster.instances.iter_mut().filter(|it| it.phase == InstancePhase::Ready) {
                *instance = instance.clone().running_since(0).using(used, used, cluster.now);
            }
        }
        Happening::PoolStatusIsLost => cluster.pool.status = Default::default(),
    }
}

/// A failed driver runs no more, even while its object is being deleted. One that was given up makes room as well, though it may
/// run until it is killed.
fn running(cluster: &Cluster) -> usize {
    let given_up = |it: &Instance| cluster.fleet().contains(&(it.name.as_str(), InstanceState::Failed));
    let failed = |it: &Instance| it.phase == InstancePhase::Failed || given_up(it);
    let runs = |it: &&Instance| !failed(it) && !cluster.dead.contains(&it.name);
    let leaving = cluster.leaving.iter().filter(|driver| driver.may_run(at(cluster.now)));
    cluster.instances.iter().filter(runs).count() + leaving.count()
}

/// `before`: how many instances ran already. They may be more than a maximum that was lowered since.
fn check_limits(cluster: &Cluster, before: usize) {
    let spec = &cluster.pool.spec;
    let max = usize::try_from(spec.replicas.max).unwrap();
    assert!(running(cluster) <= max.max(before), "too many instances");

    let mut of_user: BTreeMap<&str, i32> = BTreeMap::new();
    let mut users_on: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for session in cluster.sessions.iter().filter(|session| !session.is_finished()) {
        *of_user.entry(&session.spec.user).or_default() += 1;
        let Some(place) = &session.status.assigned_instance else { continue };
        assert!(
            cluster.instances.iter().any(|instance| instance.name == *place && instance.is_alive()),
            "session {} is on {place}, which is not alive",
            session.meta.name
        );
        users_on.entry(place).or_default().push(&session.spec.user);
    }
    let policy = &spec.session_policy;
    assert!(of_user.values().all(|count| *count <= policy.max_sessions_per_user), "{of_user:?}");
    assert!(of_user.values().sum::<i32>() <= policy.max_total_sessions, "{of_user:?}");
    for (instance, users) in users_on {
        let places = spec.scaling.max_sessions_per_instance;
        assert!(
            places.is_none_or(|places| users.len() <= usize::try_from(places).unwrap()),
            "{instance}: {users:?}"
        );
        let alone = match spec.sharing {
            Sharing::Pool => true,
            Sharing::User => BTreeSet::from_iter(&users).len() == 1,
            Sharing::Session => users.len() == 1,
        };
        assert!(alone, "{instance} is shared by {users:?}");
    }
}

/// From now on nothing fails and everything is quick.
fn calm_down(cluster: &mut Cluster) {
    cluster.refuses = None;
    cluster.leaving.clear();
    for _ in 0..10 {
        cluster.now += 301;
        cluster.settle();
        cluster.instances.retain(|instance| instance.phase != InstancePhase::Deleting);
        let starting = cluster.instances.iter().filter(|it| it.phase == InstancePhase::Starting);
        let starting: Vec<String> = starting.map(|it| it.name.clone()).collect();
        for name in starting {
            *cluster = cluster.clone().answering(&[&name]);
        }
        let closing = cluster.sessions.iter().filter(|it| it.status.state == SessionState::Terminating);
        let closing: Vec<String> = closing.map(|it| it.meta.name.clone()).collect();
        for name in closing {
            *cluster = cluster.clone().released(&name, ReleaseOutcome::Released);
        }
        let before = running(cluster);
        cluster.settle();
        check_limits(cluster, before);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn limits_hold_and_plans_come_to_an_end_whatever_happens(
        pool in any_pool(),
        happenings in prop::collection::vec(happening(), 1..40),
    ) {
        let mut cluster = Cluster::of(pool);
        for (serial, happening) in happenings.into_iter().enumerate() {
            happen(&mut cluster, happening, serial);
            let before = running(&cluster);
            cluster.settle();
            check_limits(&cluster, before);
        }
    }

    #[test]
    fn every_session_is_placed_or_ended_once_nothing_fails_any_more(
        pool in any_pool(),
        happenings in prop::collection::vec(happening(), 1..40),
    ) {
        let mut cluster = Cluster::of(pool.giving_up_after(86_400));
        for (serial, happening) in happenings.into_iter().enumerate() {
            happen(&mut cluster, happening, serial);
            cluster.settle();
        }
        calm_down(&mut cluster);
        let waiting = cluster.sessions.iter().any(|session| session.status.state == SessionState::Pending);
        let full = cluster.instances.len() >= usize::try_from(cluster.pool.spec.replicas.max).unwrap();
        let spec = &cluster.pool.spec;
        let drained = cluster.instances.iter().any(|it| it.told_to_drain);
        let limited = spec.sharing != Sharing::Pool || spec.scaling.max_sessions_per_instance.is_some() || drained;
        prop_assert!(!waiting || full && limited, "someone waits though there is room: {:#?}", cluster.sessions);
        let serves = |it: &Instance| matches!(it.phase, InstancePhase::Ready | InstancePhase::Draining);
        prop_assert!(cluster.instances.iter().all(serves));

        cluster.now += 86_400;
        cluster.settle();
        let waiting = cluster.sessions.iter().any(|session| session.status.state == SessionState::Pending);
        prop_assert!(!waiting, "someone waits for ever");
    }

    #[test]
    fn ended_sessions_and_idle_instances_are_cleared_away(
        pool in any_pool(),
        happenings in prop::collection::vec(happening(), 1..40),
    ) {
        let mut cluster = Cluster::of(pool);
        for (serial, happening) in happenings.into_iter().enumerate() {
            happen(&mut cluster, happening, serial);
            cluster.settle();
        }
        cluster.sessions.retain(|session| session.is_finished());
        calm_down(&mut cluster);
        cluster.now += 3600;
        cluster.settle();
        prop_assert_eq!(&cluster.sessions, &[]);
        let spec = &cluster.pool.spec;
        let spare = spec.scaling.spare_instances.filter(|_| spec.replicas.min > 0).unwrap_or(0);
        let stay = spec.replicas.min.max(spare).min(spec.replicas.max);
        prop_assert_eq!(cluster.instances.len(), usize::try_from(stay).unwrap());
        prop_assert!(cluster.condition("UpToDate").0, "{:?}", cluster.condition("UpToDate"));
    }

    #[test]
    fn a_lost_status_of_the_pool_does_not_bring_existing_names_back(
        happenings in prop::collection::vec(happening(), 1..20),
    ) {
        let mut cluster = Cluster::of(connect_pool("p").sized(2, 4));
        for (serial, happening) in happenings.into_iter().enumerate() {
            // Nothing existing vanishes here: then nobody could know that its name was used.
            if matches!(happening, Happening::InstanceVanishes(_) | Happening::DeletionEnds(_)) {
                continue;
            }
            happen(&mut cluster, happening, serial);
            happen(&mut cluster, Happening::PoolStatusIsLost, serial);
            cluster.settle();
        }
    }
}
