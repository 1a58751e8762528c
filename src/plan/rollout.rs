//! A changed template: instances made from an earlier one are replaced, by surge and drain, within `replicas.max`.
//!
//! Old instances serve until new ones answer. Where the maximum leaves no room for a new one, an old one makes it:
//! one without sessions, or one that others can stand in for, or one whose sessions have a deadline.

use super::Plan;
use super::instances::Fleet;
use crate::api::DrainReason;
use crate::model::{Instance, InstancePhase};

impl Fleet<'_> {
    /// Returns whether there are instances to replace that are not being emptied yet.
    pub(super) fn roll_out(&mut self, plan: &mut Plan) -> bool {
        let alive = self.alive();
        let (old, new): (Vec<&Instance>, Vec<&Instance>) =
            alive.into_iter().partition(|it| self.is_outdated(it));
        if old.is_empty() {
            return false;
        }
        let starting = |it: &&Instance| it.phase == InstancePhase::Starting;
        let (useless, mut old): (Vec<_>, Vec<_>) = old.into_iter().partition(starting);
        for instance in useless {
            self.remove(instance, plan);
        }
        let answering = new.iter().filter(|it| !starting(it)).count();
        let desired = self.desired();
        old.sort_by_key(|it| (self.load_of(it), it.ordinal));
        let superfluous = old.len().saturating_sub(desired.saturating_sub(answering));
        let kept = old.split_off(superfluous);
        for instance in old {
            self.give_up(instance, DrainReason::TemplateChanged, plan);
        }
        // A quarter at a time, and one at least.
        let surge = desired.div_ceil(4).max(1);
        let wanted = desired.min(answering + surge).saturating_sub(new.len());
        if self.create(wanted, plan) < wanted && self.may_create() {
            self.make_room(&kept, !new.is_empty(), plan);
        }
        true
    }

    /// `old`, those with the fewest sessions first. Only one at a time makes room.
    fn make_room(&mut self, old: &[&Instance], others_take_sessions: bool, plan: &mut Plan) {
        let outlook = &self.outlook;
        let leaves =
            |it: &Instance| it.phase == InstancePhase::Deleting || outlook.drains.contains_key(&it.name);
        if !outlook.removed.is_empty() || self.view.instances.iter().any(leaves) {
            return;
        }
        let Some(first) = old.first() else { return };
        let sessions = self.load_of(first);
        let has_deadline = self.view.pool.spec.scaling.drain_timeout_seconds.is_some();
        if sessions == 0 || old.len() > 1 || others_take_sessions || has_deadline {
            return self.give_up(first, DrainReason::TemplateChanged, plan);
        }
        self.outlook.roll_waits_for = Some(format!(
            "replicas.max leaves no room for another one, and {} still takes sessions, until it has none of its {sessions}: \
             raise replicas.max to replace it now, or set scaling.drainTimeoutSeconds",
            first.name
        ));
    }
}
