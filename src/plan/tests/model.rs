//! The life of sessions against what everybody may rely on, whatever happens and in whatever order. That a plan repeats
//! itself is checked by [`Cluster::settle`] after every happening.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;
use uuid::Uuid;

use super::cluster::Cluster;
use crate::api::SessionState::{Active, Failed, Idle, Pending, Terminated, Terminating};
use crate::api::{DisconnectCause, Sharing};
use crate::model::fixtures::{at, connect_pool, failed, ready, session, thrift_pool, time};
use crate::model::{
    AppliedConf, Going, Instance, InstancePhase, Pool, Progress, ReleaseOutcome, Session, SparkRuns,
};
use crate::plan::past::{session_in_the_past, times_of_pool, times_of_session};

const USERS: [&str; 3] = ["alice", "bob", "carol"];
const SLACK: i64 = 75;
const IDLE_MINUTES: i32 = 20;
const LIFETIME_MINUTES: i32 = 60;

#[derive(Clone, Debug)]
enum Happening {
    Arrives {
        user: usize,
        named: bool,
    },
    IsUsed(Index),
    /// The last connection of its client ends.
    IsLeft(Index, DisconnectCause),
    IsReleased(Index),
    /// Another program joins a named session, as a client or as a clone of one.
    Joins {
        session: Index,
        cloned: bool,
    },
    /// A client of a named session leaves it. Spark has released what it had.
    Leaves(Index),
    IsDeleted(Index),
    PreparationFails(Index),
    PreparationIsDone(Index),
    SparkHasReleased(Index, bool),
    /// From now on Spark says so when it is asked.
    SparkRuns(Index, Runs),
    ServerAnswers(Index),
    InstanceDies(Index),
    /// Its Pod is deleted, and there is no kubelet that would confirm its end.
    NodeIsLost(Index),
    /// The API server takes nothing that is written of this session; and then it does again.
    BecomesUnwritable(Index),
    BecomesWritable,
    /// A leader whose clock was so far ahead has written all times.
    ClockWasAhead(i64),
    DeletionEnds,
    AnotherReplicaLeads,
    SecondsPass(i64),
    ClockJumps(i64),
}

#[derive(Clone, Copy, Debug)]
enum Runs {
    Something,
    Nothing,
    NobodyKnows,
    NoAnswerYet,
}

fn happening() -> impl Strategy<Value = Happening> {
    let which = any::<Index>;
    prop_oneof![
        6 => (0..USERS.len(), any::<bool>()).prop_map(|(user, named)| Happening::Arrives { user, named }),
        4 => which().prop_map(Happening::IsUsed),
        4 => (which(), cause()).prop_map(|(which, cause)| Happening::IsLeft(which, cause)),
        1 => which().prop_map(Happening::IsReleased),
        4 => (which(), any::<bool>()).prop_map(|(session, cloned)| Happening::Joins { session, cloned }),
        2 => which().prop_map(Happening::Leaves),
        1 => which().prop_map(Happening::IsDeleted),
        1 => which().prop_map(Happening::PreparationFails),
        4 => which().prop_map(Happening::PreparationIsDone),
        2 => (which(), any::<bool>()).prop_map(|(which, gave_up)| Happening::SparkHasReleased(which, gave_up)),
        4 => (which(), runs()).prop_map(|(which, runs)| Happening::SparkRuns(which, runs)),
        4 => which().prop_map(Happening::ServerAnswers),
        1 => which().prop_map(Happening::InstanceDies),
        1 => which().prop_map(Happening::NodeIsLost),
        1 => which().prop_map(Happening::BecomesUnwritable),
        1 => Just(Happening::BecomesWritable),
        1 => (1..100_000_i64).prop_map(Happening::ClockWasAhead),
        2 => Just(Happening::DeletionEnds),
        1 => Just(Happening::AnotherReplicaLeads),
        4 => (1..900_i64).prop_map(Happening::SecondsPass),
        1 => (-600..600_i64).prop_map(Happening::ClockJumps),
    ]
}

fn cause() -> impl Strategy<Value = DisconnectCause> {
    prop_oneof![Just(DisconnectCause::ClosedByClient), Just(DisconnectCause::ConnectionLost)]
}

fn runs() -> impl Strategy<Value = Runs> {
    use Runs::*;
    prop_oneof![Just(Something), Just(Nothing), Just(NobodyKnows), Just(NoAnswerYet)]
}

fn any_pool() -> impl Strategy<Value = Pool> {
    let sharing = prop_oneof![Just(Sharing::Pool), Just(Sharing::User), Just(Sharing::Session)];
    let limits = (1..4_i32, 1..8_i32, prop::option::of(1..3_i32), prop::option::of(Just(LIFETIME_MINUTES)));
    (any::<[bool; 4]>(), sharing, 0..2_i32, 1..3_i32, limits).prop_map(
        |(
            [connect, with_conf, asking, ending_left],
            sharing,
            min,
            max,
            (per_user, total, places, lifetime),
        )| {
            let mut pool = if connect { connect_pool("p") } else { thrift_pool("p") }
                .sized(min, max)
                .shared_by(sharing)
                .allowing_each_user(per_user)
                .allowing_in_total(total)
                .cooling_down(0)
                .ending_idle_sessions(IDLE_MINUTES);
            pool.spec.scaling.max_sessions_per_instance = places;
            pool.spec.session_policy.max_lifetime_minutes = lifetime;
            pool.spec.session_policy.running_queries_keep_sessions = asking;
            pool.spec.session_policy.disconnected_timeout_minutes = ending_left.then_some(10);
            if with_conf {
                pool.spec.session_policy.default_session_conf.insert("a".to_owned(), "1".to_owned());
            }
            pool
        },
    )
}

/// The cluster, and what the tests themselves know of it.
struct World {
    cluster: Cluster,
    /// When sessions were used, by their name: what the operator may forget.
    uses: BTreeMap<String, i64>,
    /// Sessions that were there and had not ended when last looked.
    alive: Vec<String>,
    /// Sessions that were being closed on Spark when last looked.
    ending: Vec<String>,
    /// Sessions that had a place when last looked, and where.
    placed: BTreeMap<String, String>,
    deleted: Vec<String>,
    /// Sessions whose status was not taken, at this time or before.
    refused: BTreeSet<String>,
    serial: u128,
}

impl World {
    fn of(pool: Pool) -> Self {
        let cluster = Cluster::of(pool).watching_since(-100_000);
        let (uses, alive, ending, placed, deleted, refused) = Default::default();
        Self { cluster, uses, alive, ending, placed, deleted, refused, serial: 0 }
    }

    fn named_by(&self, which: Index, fits: impl Fn(&Session) -> bool) -> Option<String> {
        let fitting: Vec<_> = self.cluster.sessions.iter().filter(|it| fits(it)).collect();
        (!fitting.is_empty()).then(|| which.get(&fitting).meta.name.clone())
    }

    fn instance(&self, which: Index, phases: &[InstancePhase]) -> Option<String> {
        let fitting: Vec<_> = self.cluster.instances.iter().filter(|it| phases.contains(&it.phase)).collect();
        (!fitting.is_empty()).then(|| which.get(&fitting).name.clone())
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.cluster.now;
        match happening {
            Happening::Arrives { user, named } => {
                self.serial += 1;
                let id = Uuid::from_u128(self.serial);
                // As a connection makes it, or kubectl.
                let name = if named { format!("s{:03}", self.serial) } else { format!("p-{id}") };
                let new = session(&name).of(USERS[user]).created(now);
                let new =
                    if named { new.named("etl").shared_by_clients(&[id]) } else { new.with_spark_id(id) };
                self.alive.push(new.meta.name.clone());
                self.cluster = self.cluster.clone().session(new);
            }
            Happening::IsUsed(which) => {
                if let Some(name) = self.named_by(which, |it| matches!(it.status.state, Active | Idle)) {
                    self.uses.insert(name.clone(), now);
                    self.cluster = self.cluster.clone().used(&name, now);
                    let status = &mut self.cluster.find_session(&name).status;
                    (status.disconnected_at, status.disconnect_cause) = (None, None);
                }
            }
            Happening::IsLeft(which, cause) => {
                // The connections of JDBC clients say nothing.
                let connect = self.cluster.pool.protocol() == crate::model::Protocol::Connect;
                let fits = |it: &Session| connect && !it.is_finished() && it.spec.name.is_none();
                if let Some(name) = self.named_by(which, fits) {
                    let left = self.cluster.find_session(&name);
                    *left = left.clone().disconnected(now, cause);
                }
            }
            Happening::IsReleased(which) => {
                if let Some(name) = self.named_by(which, |it| !it.is_finished()) {
                    self.cluster.find_session(&name).status.released_at =
                        Some(crate::model::fixtures::time(now));
                }
            }
            Happening::Joins { session, cloned } => {
                self.serial += 1;
                let id = Uuid::from_u128(self.serial).to_string();
                if let Some(name) = self.named_by(session, |it| !it.is_finished() && it.spec.name.is_some()) {
                    let status = &mut self.cluster.find_session(&name).status;
                    status.client_session_ids.push(id.clone());
                    // Only of a session that is there can Spark make one.
                    status
                        .cloned_session_ids
                        .extend(status.prepared_session_ids.first().filter(|_| cloned).map(|_| id));
                }
            }
            Happening::Leaves(which) => {
                let shared =
                    |it: &crate::model::Session| !it.is_finished() && it.status.client_session_ids.len() > 1;
                if let Some(name) = self.named_by(which, shared) {
                    let status = &mut self.cluster.find_session(&name).status;
                    let left = status.client_session_ids.remove(0);
                    status.cloned_session_ids.retain(|id| *id != left);
                }
            }
            Happening::IsDeleted(which) => {
                if let Some(name) = self.named_by(which, |_| true) {
                    self.cluster.delete_session(&name);
                    self.deleted.push(name);
                }
            }
            Happening::PreparationFails(which) => {
                self.prepared(which, Progress::Failing("no answer".to_owned()))
            }
            Happening::PreparationIsDone(which) => {
                self.prepared(which, Progress::Done(AppliedConf::default()))
            }
            Happening::SparkRuns(which, runs) => {
                if let Some(name) = self.named_by(which, |it| !it.is_finished()) {
                    let runs = match runs {
                        Runs::Something => Some(SparkRuns::Something("a query runs in it".to_owned())),
                        Runs::Nothing => Some(SparkRuns::Nothing),
                        Runs::NobodyKnows => {
                            Some(SparkRuns::Unknown { reason: "no answer".to_owned(), since: at(now) })
                        }
                        Runs::NoAnswerYet => None,
                    };
                    self.cluster = self.cluster.clone().running(&name, runs);
                }
            }
            Happening::SparkHasReleased(which, gave_up) => self.released(which, gave_up),
            Happening::ServerAnswers(which) => {
                if let Some(name) = self.instance(which, &[InstancePhase::Starting]) {
                    *self.cluster.find_instance(&name) = ready(&name);
                }
            }
            Happening::InstanceDies(which) => {
                if let Some(name) = self.instance(which, &[InstancePhase::Starting, InstancePhase::Ready]) {
                    *self.cluster.find_instance(&name) = failed(&name, "OOM");
                }
            }
            Happening::NodeIsLost(which) => {
                if let Some(name) = self.instance(which, &[InstancePhase::Starting, InstancePhase::Ready]) {
                    let instance = self.cluster.find_instance(&name);
                    instance.phase = InstancePhase::Deleting;
                    instance.going = Some(Going { for_good: false, until: Some(at(now + 30)) });
                }
            }
            Happening::BecomesUnwritable(which) => {
                if let Some(name) = self.named_by(which, |_| true) {
                    self.cluster.unwritable.insert(name.clone());
                    self.refused.insert(name);
                }
            }
            Happening::BecomesWritable => self.become_writable(),
            Happening::ClockWasAhead(seconds) => {
                let ahead = time(now + seconds);
                times_of_pool(&mut self.cluster.pool.status).for_each(|time| *time = ahead.clone());
                for session in &mut self.cluster.sessions {
                    let status = &mut session.status;
                    let others = (
                        status.last_activity_at.take(),
                        status.disconnected_at.take(),
                        status.released_at.take(),
                    );
                    times_of_session(status).for_each(|time| *time = ahead.clone());
                    (status.last_activity_at, status.disconnected_at, status.released_at) = others;
                }
            }
            // Where the node is lost nobody says so.
            Happening::DeletionEnds => {
                let lost = |it: &Instance| it.going.is_some_and(|going| !going.for_good);
                self.cluster.instances.retain(|it| it.phase != InstancePhase::Deleting || lost(it));
            }
            Happening::AnotherReplicaLeads => self.lead_anew(),
            Happening::SecondsPass(seconds) => self.cluster.now += seconds,
            Happening::ClockJumps(seconds) => {
                self.cluster.now += seconds;
                self.write_down_uses();
                self.cluster.observations.watching_since = Some(at(self.cluster.now));
            }
        }
    }

    /// Another version of the object, with less in it.
    fn become_writable(&mut self) {
        let unwritable = std::mem::take(&mut self.cluster.unwritable);
        for session in self.cluster.sessions.iter_mut().filter(|it| unwritable.contains(&it.meta.name)) {
            session.meta.resource_version += 1;
        }
    }

    /// What was under way is forgotten. The replicas have written down what they saw.
    fn lead_anew(&mut self) {
        self.write_down_uses();
        self.cluster.spark_sides.clear();
        self.cluster.activity.clear();
        self.cluster.releases.clear();
        self.cluster.preparations.clear();
        self.cluster.observations.refusal = None;
        self.cluster.observations.watching_since = Some(at(self.cluster.now));
    }

    fn write_down_uses(&mut self) {
        let activity = self.cluster.activity.clone();
        for session in &mut self.cluster.sessions {
            if let Some(used) = activity.get(&session.meta.name) {
                session.status.last_activity_at = Some(super::super::conditions::seconds(*used));
            }
        }
    }

    fn prepared(&mut self, which: Index, progress: Progress) {
        let asked: Vec<_> = self.cluster.preparations.keys().cloned().collect();
        if asked.is_empty() {
            return;
        }
        let (name, instance, id) = which.get(&asked).clone();
        if self.is_on(&name, &instance) {
            self.cluster = self.cluster.clone().prepared(&name, id, progress);
        }
    }

    /// Whether the session is on that instance, and its server has an address.
    fn is_on(&self, session: &str, instance: &str) -> bool {
        let mut sessions = self.cluster.sessions.iter();
        let there = sessions.any(|it| {
            it.meta.name == session
                && !it.is_finished()
                && it.status.assigned_instance.as_deref() == Some(instance)
        });
        there && self.cluster.instances.iter().any(|it| it.name == instance && it.cluster().is_some())
    }

    fn released(&mut self, which: Index, gave_up: bool) {
        let outcome =
            if gave_up { ReleaseOutcome::GaveUp("no answer".to_owned()) } else { ReleaseOutcome::Released };
        if let Some(name) = self.named_by(which, |it| it.status.state == Terminating) {
            self.cluster = self.cluster.clone().released(&name, outcome);
        }
    }

    fn settle_and_check(&mut self) {
        self.cluster.settle();
        // What runs is a use, too.
        for (name, used) in &self.cluster.activity {
            let used = used.as_second() - at(0).as_second();
            self.uses.entry(name.clone()).and_modify(|last| *last = used.max(*last)).or_insert(used);
        }
        self.check_limits();
        self.check_sessions();
        self.check_releases();
        let sessions = &self.cluster.sessions;
        let placed = sessions.iter().filter(|it| matches!(it.status.state, Active | Idle | Terminating));
        let place =
            |it: &crate::model::Session| Some((it.meta.name.clone(), it.status.assigned_instance.clone()?));
        self.placed = placed.filter_map(place).collect();
        self.alive = sessions.iter().filter(|it| !it.is_finished()).map(|it| it.meta.name.clone()).collect();
        let ending = sessions.iter().filter(|it| it.status.state == Terminating);
        self.ending = ending.map(|it| it.meta.name.clone()).collect();
    }

    fn check_limits(&self) {
        let spec = &self.cluster.pool.spec;
        let mut of_user: BTreeMap<&str, i32> = BTreeMap::new();
        let mut on: BTreeMap<&str, i32> = BTreeMap::new();
        // One that can be given no place takes none.
        let unplaced = |it: &Session| {
            it.status.assigned_instance.is_none() && self.cluster.unwritable.contains(&it.meta.name)
        };
        let counted = self.cluster.sessions.iter().filter(|it| !it.is_finished() && !self.is_held_back(it));
        let counted = counted.filter(|it| !unplaced(it));
        for session in counted {
            // Where nothing can be written, its client's word is all that says so.
            let unwritable = self.cluster.unwritable.contains(&session.meta.name);
            let released = unwritable && session.status.released_at.is_some();
            if !session.has_made_room() && !released {
                *of_user.entry(&session.spec.user).or_default() += 1;
            }
            // One that has ended without a word has left its place. A leader that comes after that cannot know it.
            let may_have_ended = self.refused.contains(&session.meta.name);
            if let Some(place) = session.status.assigned_instance.as_deref().filter(|_| !may_have_ended) {
                *on.entry(place).or_default() += 1;
            }
        }
        assert!(
            of_user.values().all(|count| *count <= spec.session_policy.max_sessions_per_user),
            "{of_user:?}"
        );
        assert!(of_user.values().sum::<i32>() <= spec.session_policy.max_total_sessions, "{of_user:?}");
        let places = spec.scaling.max_sessions_per_instance.unwrap_or(i32::MAX);
        assert!(on.values().all(|count| *count <= places), "{on:?}");
    }

    /// Each waits, has a place on an instance that lives, or has ended with a reason that holds.
    fn check_sessions(&self) {
        let cluster = &self.cluster;
        for name in &self.alive {
            let gone = !cluster.has_session(name);
            assert!(!gone || self.deleted.contains(name), "{name} is lost");
        }
        for session in &cluster.sessions {
            if self.is_held_back(session) || cluster.unwritable.contains(&session.meta.name) {
                continue;
            }
            let (name, status) = (&session.meta.name, &session.status);
            let (state, reason, message) = cluster.told(name);
            let place = status.assigned_instance.as_deref();
            let lives = cluster.instances.iter().any(|it| Some(it.name.as_str()) == place && it.is_alive());
            match state {
                Pending => {
                    assert!(status.wait.is_some() && (place.is_none() || reason == "ApplyingConf"), "{name}")
                }
                Active | Idle | Terminating => assert!(lives, "{name} is on {place:?}"),
                Terminated | Failed => assert!(!reason.is_empty() && status.finished_at.is_some(), "{name}"),
            }
            assert!(!message.is_empty());
            assert!(session.is_finished() || state == Pending || session.meta.held, "{name} is not held");
            if self.alive.contains(name)
                && matches!(state, Terminating | Terminated)
                && reason == "IdleTimeout"
                && !self.ending.contains(name)
            {
                self.check_idle_end(name);
            }
            if self.alive.contains(name) && !self.ending.contains(name) {
                self.check_end_without_a_client(session);
            }
            self.check_conf(session);
        }
    }

    /// Nothing of a Connect session is left on a server that lives, whoever ended it and however many have joined it.
    fn check_releases(&self) {
        let cluster = &self.cluster;
        if cluster.pool.protocol() != crate::model::Protocol::Connect {
            return;
        }
        for session in cluster.sessions.iter().filter(|it| it.status.state == Terminated) {
            let name = &session.meta.name;
            let Some(place) = self.placed.get(name) else { continue };
            let lives = cluster.instances.iter().any(|it| it.name == *place && it.is_alive());
            assert!(
                !lives || cluster.releases.get(name) == Some(place),
                "{name} was not released on {place}"
            );
        }
    }

    /// Whether it depends on what Spark is about to say of another session that its user has left.
    fn is_held_back(&self, session: &Session) -> bool {
        let waits = session.status.state == Pending && session.status.assigned_instance.is_none();
        let asked = |it: &Session| self.cluster.spark_runs.get(&it.meta.name) == Some(&None);
        let mut others = self.cluster.sessions.iter().filter(|it| it.spec.user == session.spec.user);
        waits && others.any(|it| it.is_replaceable(at(self.cluster.now)) && asked(it))
    }

    /// Nobody loses a session whose client is there, or in which something runs.
    fn check_end_without_a_client(&self, session: &Session) {
        let (name, now) = (&session.meta.name, at(self.cluster.now));
        let (state, reason, _) = self.cluster.told(name);
        if !matches!(reason, "ReplacedByNewer" | "DisconnectedTimeout" | "ClientGone") {
            return;
        }
        // Who left in the future, by a clock that was ahead, left now.
        let gone = session_in_the_past(session, now).given_up_at().is_some_and(|at| at <= now);
        assert!(gone && session.was_made_on_connection(), "{name} ended by {reason} with its client there");
        let asks = self.cluster.pool.spec.session_policy.running_queries_keep_sessions;
        if asks && reason != "ClientGone" && state == Terminating {
            let side = self.cluster.spark_sides.get(&session.meta.uid);
            let said = side.and_then(|side| side.running.as_ref()).map(|answer| &answer.runs);
            let may = matches!(said, Some(SparkRuns::Nothing | SparkRuns::Unknown { .. }));
            assert!(may, "{name} ended by {reason}, though Spark said {said:?}");
        }
    }

    fn check_idle_end(&self, name: &str) {
        let session = self.cluster.sessions.iter().find(|it| it.meta.name == name).unwrap();
        let ready = session.status.conditions.iter().find(|it| it.type_ == "Ready").unwrap();
        // When the end was decided.
        let decided = ready.last_transition_time.0.as_second() - at(0).as_second();
        let used = self.uses.get(name).copied().unwrap_or(i64::MIN / 2);
        let least = i64::from(IDLE_MINUTES) * 60 + SLACK;
        assert!(decided >= used + least, "{name} was used at {used} and ended for idleness at {decided}");
        let spec = &self.cluster.pool.spec;
        let asked = self.cluster.pool.protocol() == crate::model::Protocol::Connect
            && spec.session_policy.running_queries_keep_sessions;
        // One that had ended at once, without a server to be asked, has no answer either.
        if asked && session.status.state == Terminating && !self.ending.iter().any(|it| it == name) {
            let side = self.cluster.spark_sides.get(&session.meta.uid);
            let said = side.and_then(|side| side.running.as_ref()).map(|answer| &answer.runs);
            let may = matches!(said, Some(SparkRuns::Nothing | SparkRuns::Unknown { .. }));
            assert!(may, "{name} ended for idleness, though Spark said {said:?}");
        }
    }

    /// Nobody uses a Spark session that has not its configuration.
    fn check_conf(&self, session: &Session) {
        let policy = &self.cluster.pool.spec.session_policy;
        if policy.default_session_conf.is_empty() || session.is_finished() {
            return;
        }
        let own = session.status.prepared_session_ids.is_empty() && session.spec.session_id.is_some();
        let connect = self.cluster.pool.protocol() == crate::model::Protocol::Connect;
        let usable = matches!(session.status.state, Active | Idle);
        assert!(!(connect && usable && own), "{} is active without its configuration", session.meta.name);
    }

    /// From now on nobody comes and nothing fails; what is asked for is done.
    fn wind_down(&mut self) {
        self.cluster.spark_runs.clear();
        self.become_writable();
        for _ in 0..12 {
            self.cluster.now += 600;
            self.settle_and_check();
            for (name, instance, id) in self.cluster.preparations.keys().cloned().collect::<Vec<_>>() {
                if self.is_on(&name, &instance) {
                    let done = Progress::Done(AppliedConf::default());
                    self.cluster = self.cluster.clone().prepared(&name, id, done);
                }
            }
            let ending = self.cluster.sessions.iter().filter(|it| it.status.state == Terminating);
            for name in ending.map(|it| it.meta.name.clone()).collect::<Vec<_>>() {
                self.cluster = self.cluster.clone().released(&name, ReleaseOutcome::Released);
            }
            self.happen(Happening::DeletionEnds);
            for instance in self.cluster.instances.iter_mut().filter(|it| it.phase == InstancePhase::Starting)
            {
                *instance = ready(&instance.name);
            }
            self.settle_and_check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn sessions_live_as_promised_and_all_of_them_end(
        pool in any_pool(),
        happenings in prop::collection::vec(happening(), 1..60),
    ) {
        let mut world = World::of(pool);
        for happening in happenings {
            world.happen(happening);
            world.settle_and_check();
        }
        world.wind_down();
        let cluster = &mut world.cluster;
        prop_assert!(cluster.sessions.iter().all(|it| it.is_finished()), "{:#?}", cluster.sessions);
        cluster.now += 3600;
        cluster.settle();
        prop_assert_eq!(&cluster.sessions, &[]);
    }
}
