//! When a pool shrinks, and by which instances.

use jiff::SignedDuration;

use super::Plan;
use super::conditions::seconds;
use super::counts::{count, int32};
use super::endings::after;
use super::instances::Fleet;
use crate::api::{DrainReason, ScaleDownStatus, Sharing};
use crate::model::{Instance, InstancePhase};

impl Fleet<'_> {
    /// Gives up what has been too much for the whole cooldown: down to the most instances that were needed in that
    /// time, so that a dip of the load costs nobody their place. Where drivers are not shared, only empty ones go.
    pub(super) fn shrink(&mut self, plan: &mut Plan) {
        let (alive, desired) = (self.alive(), self.outlook.size.desired);
        let number = int32(alive.len());
        if number <= desired {
            return;
        }
        let spec = &self.view.pool.spec;
        let cooldown = SignedDuration::from_secs(spec.scaling.cooldown_seconds.into());
        let fresh = || ScaleDownStatus { since: seconds(self.now), to: desired };
        let told = self.view.pool.status.scale_down.clone();
        let window = told.filter(|told| told.to < number && !cooldown.is_zero()).unwrap_or_else(fresh);
        let window = ScaleDownStatus { to: window.to.max(desired), ..window };
        let due = after(window.since.0, cooldown);
        if self.now < due {
            plan.wake_at(due);
            self.outlook.scale_down = Some(window);
            return;
        }
        let surplus = count(number - window.to);
        let goes = |it: &&Instance| spec.sharing == Sharing::Pool || self.load_of(it) == 0;
        let mut victims: Vec<&Instance> = alive.iter().copied().filter(goes).collect();
        // Those that serve nobody yet, or not for long; then the fewest sessions; then the oldest.
        victims.sort_by_key(|it| {
            (it.phase != InstancePhase::Starting, !self.is_outdated(it), self.load_of(it), it.ordinal)
        });
        victims.truncate(surplus);
        if victims.is_empty() {
            self.outlook.scale_down = Some(window);
            return;
        }
        for victim in &victims {
            self.give_up(victim, DrainReason::ScaleDown, plan);
        }
        // Until they are gone: if the API server does not delete one now, it is not cooled down once more.
        self.outlook.scale_down = Some(window);
        self.outlook.resized = Some((alive.len(), alive.len() - victims.len()));
    }
}
