//! Which instances to create and which to give up. How many there shall be is `super::size`'s matter.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::application::{application, owner};
use super::conditions::seconds;
use super::counts::{count, int32};
use super::failures::Failures;
use super::outlook::Outlook;
use super::pool_conditions::unreachable;
use super::sessions::Drafts;
use super::{
    About, Action, Event, Observations, Plan, drains, lost, pool_events, size, template, utilization,
};
use crate::api::{DrainReason, DrainStatus, Sharing};
use crate::model::{Instance, InstancePhase, PoolView, TokenState, instance_name};

/// The instances of a pool while its plan is made.
pub(super) struct Fleet<'a> {
    pub view: &'a PoolView,
    pub now: Timestamp,
    /// Sessions by instance.
    pub load: HashMap<&'a str, usize>,
    /// Those that had answered when the pool's status was written.
    answered: HashSet<&'a str>,
    pub outlook: Outlook,
}

pub fn plan_instances(
    view: &PoolView,
    drafts: &Drafts<'_>,
    observations: &Observations,
    now: Timestamp,
    plan: &mut Plan,
) -> Outlook {
    let pool = &view.pool;
    let mut fleet = Fleet::new(view, drafts, observations, now, plan);
    if pool.meta.deleting {
        // The garbage collector removes what the pool owns.
        return fleet.outlook;
    }
    if let Some(refusal) = observations.standing_refusal(pool.meta.generation, now) {
        plan.wake_at(refusal.stands_until());
    }
    if let Some(at) = fleet.outlook.next_attempt {
        plan.wake_at(at);
    }
    if let Some(at) = view.still_leaving(now).filter_map(|driver| driver.killed_at).min() {
        plan.wake_at(at);
    }
    lost::wake(view, now, plan);
    adopt(view, plan);
    fleet.remove_failed(plan);
    keep_tokens(view, plan);
    fleet.take_back();
    fleet.remove_emptied(plan);
    if !fleet.roll_out(plan) {
        fleet.shrink(plan);
    }
    fleet.grow(plan);
    fleet.outlook
}

impl<'a> Fleet<'a> {
    fn new(
        view: &'a PoolView,
        drafts: &Drafts<'a>,
        observations: &Observations,
        now: Timestamp,
        plan: &mut Plan,
    ) -> Self {
        let pool = &view.pool;
        let failures = Failures::count(view, now, plan);
        let stopped = failures.stop(view);
        let outdated = template::outdated(pool, &view.instances);
        let users = drafts.users();
        let present = present(view, &outdated);
        let measured = utilization::of_present(view, present, users.len(), now);
        let outlook = Outlook {
            size: size::size(&pool.spec, &users, &drafts.occupied(), present, measured.as_ref()),
            next_ordinal: next_ordinal(view),
            next_attempt: failures.next_attempt().filter(|at| now < *at && !stopped),
            stopped,
            refusal: observations.refusal_of(pool.meta.generation).cloned(),
            refusal_stands: observations.standing_refusal(pool.meta.generation, now).is_some(),
            drains: drains::known(view, now),
            outdated: outdated.into_iter().map(str::to_owned).collect(),
            failures,
            ..Outlook::default()
        };
        let answered = pool.status.instances.iter().filter(|told| told.has_answered());
        let answered = answered.map(|told| told.name.as_str()).collect();
        Self { view, now, load: drafts.load(), answered, outlook }
    }

    pub fn desired(&self) -> usize {
        count(self.outlook.size.desired)
    }

    /// Those that take sessions after what is decided so far, without those that are created.
    pub fn alive(&self) -> Vec<&'a Instance> {
        let taken_back = |instance: &Instance| self.outlook.taken_back.contains(&instance.name);
        let instances = self.view.instances.iter();
        instances
            .filter(|it| (it.takes_sessions() && !self.outlook.gives_up(&it.name)) || taken_back(it))
            .collect()
    }

    pub fn load_of(&self, instance: &Instance) -> usize {
        self.load.get(instance.name.as_str()).copied().unwrap_or(0)
    }

    /// Also one that does not answer at the moment: after a start of the operator it may be too busy for the first probe.
    pub fn has_answered(&self, instance: &Instance) -> bool {
        instance.phase == InstancePhase::Ready || self.answered.contains(instance.name.as_str())
    }

    pub fn is_outdated(&self, instance: &Instance) -> bool {
        self.outlook.outdated.contains(&instance.name)
    }

    /// Instances that may be created beside all that there are. One that is being emptied or deleted still takes the
    /// room of one, as does a driver that runs on after its SparkApplication is gone.
    pub fn room(&self) -> usize {
        let occupied = self.view.instances.iter().filter(|it| it.may_run(self.now)).count();
        let occupied = occupied + self.view.still_leaving(self.now).count();
        let max = count(self.view.pool.spec.replicas.max);
        max.saturating_sub(occupied + self.outlook.created.len())
    }

    pub fn may_create(&self) -> bool {
        let (view, outlook) = (self.view, &self.outlook);
        unreachable(view).is_none()
            && !outlook.stopped
            && !outlook.refusal_stands
            && outlook.next_attempt.is_none()
    }

    /// Returns how many it could create.
    pub fn create(&mut self, wanted: usize, plan: &mut Plan) -> usize {
        if !self.may_create() {
            return 0;
        }
        let (pool, created) = (&self.view.pool, wanted.min(self.room()));
        for _ in 0..created {
            let name = instance_name(pool.name(), self.outlook.next_ordinal);
            self.outlook.next_ordinal += 1;
            let application = Box::new(application(pool, &name, self.view.interceptor()));
            plan.actions.push(Action::CreateInstance { pool: pool.meta.name.clone(), application });
            self.outlook.created.push(name);
        }
        created
    }

    pub fn remove(&mut self, instance: &Instance, plan: &mut Plan) {
        plan.actions.push(Action::DeleteInstance { name: instance.name.clone(), uid: instance.uid.clone() });
        self.outlook.removed.push(instance.name.clone());
    }

    /// Removes it, if it has no sessions, or has it keep those that it has until they end.
    pub fn give_up(&mut self, instance: &Instance, reason: DrainReason, plan: &mut Plan) {
        if self.load_of(instance) == 0 {
            return self.remove(instance, plan);
        }
        let drain = DrainStatus { reason, since: seconds(self.now) };
        self.outlook.drains.insert(instance.name.clone(), drain);
        self.outlook.drained.push(instance.name.clone());
    }

    fn remove_failed(&mut self, plan: &mut Plan) {
        let failed = self.view.instances.iter().filter(|it| it.phase == InstancePhase::Failed);
        let failed: Vec<_> = failed.collect();
        if failed.is_empty() || self.outlook.stopped {
            return;
        }
        let kept_until = self.outlook.failures.kept_until();
        if self.now < kept_until {
            return plan.wake_at(kept_until);
        }
        for failed in failed {
            self.remove(failed, plan);
        }
    }

    /// Before another instance is started, one that was about to go stays. Of those that were made from an earlier template
    /// only where no other can be started; where that is for want of room, one of them goes on to make it.
    fn take_back(&mut self) {
        let missing = self.desired().saturating_sub(self.alive().len());
        let goes = |it: &&Instance| {
            let goes_for = |reason| self.outlook.drains_for(&it.name, reason);
            !it.told_to_drain && (goes_for(DrainReason::ScaleDown) || goes_for(DrainReason::TemplateChanged))
        };
        let mut leaving: Vec<&Instance> = self.view.instances.iter().filter(goes).collect();
        leaving.sort_by_key(|it| (Reverse(self.load_of(it)), Reverse(it.ordinal)));
        let (old, new): (Vec<_>, Vec<_>) = leaving.into_iter().partition(|it| self.is_outdated(it));
        let new = new.into_iter().take(missing);
        let still_missing = missing - new.len();
        let stand_in = match (self.view.pool.spec.sharing, self.may_create()) {
            (Sharing::Pool, false) => still_missing,
            (Sharing::Pool, true) if self.room() == 0 => {
                let others_make_it =
                    leaves(self.view, self.now) || self.view.instances.iter().any(|it| it.told_to_drain);
                still_missing.saturating_sub(usize::from(!others_make_it))
            }
            _ => 0,
        };
        let old = old.into_iter().filter(|it| self.has_answered(it)).take(stand_in);
        for instance in new.chain(old).collect::<Vec<_>>() {
            self.outlook.drains.remove(&instance.name);
            self.outlook.taken_back.push(instance.name.clone());
        }
    }

    fn remove_emptied(&mut self, plan: &mut Plan) {
        let draining = self.view.instances.iter().filter(|it| it.phase == InstancePhase::Draining);
        for instance in draining {
            if self.load_of(instance) == 0 && !self.outlook.taken_back.contains(&instance.name) {
                self.remove(instance, plan);
            }
        }
    }

    fn grow(&mut self, plan: &mut Plan) {
        let alive = self.alive().len();
        let missing = self.desired().saturating_sub(alive + self.outlook.created.len());
        let came = self.create(missing, plan) + self.outlook.taken_back.len();
        if self.outlook.refusal.is_some() {
            // Told when the API server has taken it.
            return;
        }
        // What replaces a failed instance is no growth.
        let failed = self.view.instances.iter().filter(|it| it.phase == InstancePhase::Failed).count();
        if came > failed {
            let before = alive - self.outlook.taken_back.len();
            self.outlook.resized = Some((before + failed, before + came));
        }
    }
}

/// Whether one is being deleted, or its driver ended: then there is room for another one soon.
pub(super) fn leaves(view: &PoolView, now: Timestamp) -> bool {
    view.instances.iter().any(|it| it.phase == InstancePhase::Deleting && it.may_run(now))
        || view.still_leaving(now).next().is_some()
}

/// How many instances the pool has, where nothing is a reason for another number. While a template is rolled out that is
/// what it had before: some are there for a moment to replace others. One that has failed is replaced.
pub(super) fn present(view: &PoolView, outdated: &HashSet<&str>) -> i32 {
    let alive = || view.instances.iter().filter(|instance| instance.takes_sessions());
    let (current, before) = (int32(alive().count()), view.pool.status.desired_replicas);
    if alive().any(|instance| outdated.contains(instance.name.as_str())) {
        return before;
    }
    let failed = view.instances.iter().filter(|instance| instance.phase == InstancePhase::Failed);
    current.max(before.min(current + int32(failed.count())))
}

/// Instances that lost their owner are this pool's by their label, and would outlive it.
fn adopt(view: &PoolView, plan: &mut Plan) {
    let pool = &view.pool;
    for orphan in view.instances.iter().filter(|it| it.orphaned && it.phase != InstancePhase::Deleting) {
        let owner = Box::new(owner(pool));
        let (name, uid) = (orphan.name.clone(), orphan.uid.clone());
        let note = pool_events::adopted(&name);
        plan.actions.push(Action::AdoptInstance { name, uid, owner });
        let about = About::Pool { name: pool.meta.name.clone(), uid: pool.meta.uid.clone() };
        plan.actions.push(Action::Event(Event {
            about,
            warning: false,
            reason: pool_events::INSTANCE_ADOPTED,
            note,
        }));
    }
}

/// A token is made with its instance; here it is made good where that, or its Secret, was lost.
fn keep_tokens(view: &PoolView, plan: &mut Plan) {
    let lost = |token| matches!(token, TokenState::Remembered | TokenState::Unknown);
    for instance in view.instances.iter().filter(|instance| instance.is_alive() && lost(instance.token)) {
        plan.actions.push(Action::CreateToken {
            pool: view.pool.meta.name.clone(),
            instance: instance.name.clone(),
            uid: instance.uid.clone(),
        });
    }
}

/// Never an ordinal that was used before: the status remembers, and what exists is asked too,
/// for the case that the status was lost.
fn next_ordinal(view: &PoolView) -> i64 {
    view.pool.status.next_ordinal.max(view.free_ordinal)
}
