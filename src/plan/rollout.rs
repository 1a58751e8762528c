//! A changed template: instances made from an earlier one are replaced, by surge and drain, within `replicas.max`.
//!
//! Old instances serve until new ones answer. Where the maximum leaves no room for a new one, an old one makes it:
//! one without sessions, or one that others can stand in for, or one whose sessions have a deadline.

use super::Plan;
use super::counts::{count, int32};
use super::instances::{Fleet, leaves};
use crate::api::{DrainReason, Sharing};
use crate::model::{Instance, InstancePhase};

impl Fleet<'_> {
    /// Returns whether there are instances to replace that are not being emptied yet.
    pub(super) fn roll_out(&mut self, plan: &mut Plan) -> bool {
        let (old, new): (Vec<&Instance>, Vec<&Instance>) =
            self.alive().into_iter().partition(|it| self.is_outdated(it));
        if old.is_empty() {
            return false;
        }
        // Those that serve nobody yet, and those that would serve nobody else.
        let alone = self.view.pool.spec.sharing == Sharing::Session;
        let serves = |it: &&Instance| self.has_answered(it) && !(alone && self.load_of(it) > 0);
        let (mut old, useless): (Vec<_>, Vec<_>) = old.into_iter().partition(serves);
        for instance in useless {
            self.give_up(instance, DrainReason::TemplateChanged, plan);
        }
        if alone {
            // Their sessions keep them, and need no others in their place.
            let (min, desired) = (self.view.pool.spec.replicas.min, self.outlook.size.desired);
            let others = desired - int32(self.outlook.drained.len());
            self.outlook.size.desired = others.max(min).min(desired);
        }
        let (desired, kept) = (self.desired(), self.kept_in_rollout(plan));
        let answering = new.iter().filter(|it| it.phase == InstancePhase::Ready).count();
        old.sort_by_key(|it| (self.load_of(it), it.ordinal));
        let superfluous = old.len().saturating_sub(kept.saturating_sub(answering));
        let serving = old.split_off(superfluous);
        for instance in old {
            self.give_up(instance, DrainReason::TemplateChanged, plan);
        }
        // A quarter at a time, and one at least.
        let surge = desired.div_ceil(4).max(1);
        let wanted = desired.min(answering + surge).saturating_sub(new.len());
        if self.create(wanted, plan) == 0 && wanted > 0 && self.may_create() {
            self.make_room(&serving, &new, plan);
        }
        true
    }

    /// How many there shall be, old and new, without those that are there for a moment to replace others. What nobody
    /// uses is not replaced only to cool down.
    fn kept_in_rollout(&mut self, plan: &mut Plan) -> usize {
        let (status, desired) = (&self.view.pool.status, self.outlook.size.desired);
        if desired == 0 || self.view.pool.spec.sharing != Sharing::Pool {
            return count(desired);
        }
        let before = status.scale_down.as_ref().and_then(|window| window.from);
        let number = before.unwrap_or(status.desired_replicas).max(desired);
        count(self.kept(number, plan))
    }

    /// `old`, those with the fewest sessions first. Only one at a time makes room.
    fn make_room(&mut self, old: &[&Instance], new: &[&Instance], plan: &mut Plan) {
        if !self.outlook.removed.is_empty() || !self.outlook.drains.is_empty() || leaves(self.view, self.now)
        {
            return;
        }
        let Some((first, others)) = old.split_first() else { return };
        let sessions = self.load_of(first);
        let has_deadline = self.view.pool.spec.scaling.drain_timeout_seconds.is_some();
        if sessions == 0 || has_deadline || self.can_do_without(others.iter().chain(new)) {
            return self.give_up(first, DrainReason::TemplateChanged, plan);
        }
        self.outlook.roll_waits_for = Some(format!(
            "replicas.max leaves no room for another one, and {} still takes sessions, until it has none of its {sessions}: \
             raise replicas.max to replace it now, or set scaling.drainTimeoutSeconds",
            first.name
        ));
    }

    /// Whether new sessions find a place on these others when one with sessions takes none any more. Where drivers are not
    /// shared, the others are other users'.
    fn can_do_without<'a>(&self, mut others: impl Iterator<Item = &'a &'a Instance>) -> bool {
        let spec = &self.view.pool.spec;
        let places = spec.scaling.max_sessions_per_instance.map_or(usize::MAX, count);
        let takes_more = |it: &&Instance| it.phase == InstancePhase::Ready && self.load_of(it) < places;
        spec.sharing == Sharing::Pool && others.any(takes_more)
    }
}
