//! When a pool shrinks, and by which instances.

use jiff::SignedDuration;

use super::Plan;
use super::conditions::seconds;
use super::counts::{count, int32};
use super::endings::after;
use super::instances::Fleet;
use crate::api::{DrainReason, ScaleDownStatus, Sharing};
use crate::model::Instance;

impl Fleet<'_> {
    /// How many of this number the pool keeps for now: all, until fewer have been needed for the whole cooldown; then
    /// the most that were needed in that time, so that a dip of the load costs nobody their place.
    pub(super) fn kept(&mut self, number: i32, plan: &mut Plan) -> i32 {
        let desired = self.outlook.size.desired;
        if number <= desired {
            return number;
        }
        let spec = &self.view.pool.spec;
        let cooldown = SignedDuration::from_secs(spec.scaling.cooldown_seconds.into());
        let fresh = || ScaleDownStatus { from: None, since: seconds(self.now), to: desired };
        let told = self.view.pool.status.scale_down.clone();
        let window = told.filter(|told| told.to < number && !cooldown.is_zero()).unwrap_or_else(fresh);
        let most = spec.replicas.max;
        let (due, to) = (after(window.since.0, cooldown), window.to.min(most).max(desired));
        let kept = if self.now < due { number.min(most) } else { to };
        // Also until they are gone: if the API server does not delete one now, it is not cooled down once more.
        self.outlook.scale_down = Some(ScaleDownStatus { from: Some(kept), to, ..window });
        if self.now < due {
            plan.wake_at(due);
        }
        kept
    }

    /// Gives up what is not [kept](Self::kept). Where drivers are not shared, only empty ones go.
    pub(super) fn shrink(&mut self, plan: &mut Plan) {
        let alive = self.alive();
        let surplus = alive.len().saturating_sub(count(self.kept(int32(alive.len()), plan)));
        let shared = self.view.pool.spec.sharing == Sharing::Pool;
        let mut victims: Vec<&Instance> =
            alive.iter().copied().filter(|it| shared || self.load_of(it) == 0).collect();
        // Those that serve nobody yet, or not for long; then the fewest sessions; then the oldest.
        victims
            .sort_by_key(|it| (self.has_answered(it), !self.is_outdated(it), self.load_of(it), it.ordinal));
        victims.truncate(surplus);
        if victims.is_empty() {
            return;
        }
        for victim in &victims {
            self.give_up(victim, DrainReason::ScaleDown, plan);
        }
        self.outlook.resized = Some((alive.len(), alive.len() - victims.len()));
    }
}
