//! Whether a request may start a session: early refusals, by the same quotas as the planner's.
//!
//! Not here: the decision that counts, which is the planner's (`plan::admission`).

use super::{Decision, Request, counts, deny};
use crate::model::{Denial, DenialKind, Session};
use crate::plan::quota;

impl Request<'_> {
    /// Starts a session, if the pool takes another one. What the planner would refuse is refused here already, without an
    /// object.
    pub(super) fn start(&self, start: impl FnOnce(&Self) -> Decision) -> Decision {
        self.start_beside(None, start)
    }

    /// The same for a clone, which never gets the place of its `original`.
    pub(super) fn start_beside(
        &self,
        original: Option<&str>,
        start: impl FnOnce(&Self) -> Decision,
    ) -> Decision {
        if self.pool.meta.deleting {
            let message = format!("Pool {} is being deleted and takes no new sessions.", self.pool.name());
            return deny(DenialKind::UnknownHost, message);
        }
        let of_user = self.inventory.sessions_of(self.pool.name(), &self.identity.user).into_iter();
        let of_user: Vec<&Session> = of_user.map(AsRef::as_ref).filter(|session| counts(session)).collect();
        match self.quota(&of_user) {
            Ok(()) => start(self),
            // The planner ends one of them for it, or refuses it if something runs in all of them.
            Err(_) if self.has_room_by_replacing(&of_user, original) => start(self),
            // Another replica may know already that one of them has ended.
            Err(_) if !of_user.is_empty() && !self.wait.refreshed => Decision::Refresh,
            Err(denial) => Decision::Deny(denial),
        }
    }

    fn in_total(&self) -> usize {
        self.inventory.sessions_in(self.pool.name()).filter(|session| counts(session)).count()
    }

    /// Says whether a place is free once the user's disconnected sessions have made room.
    fn has_room_by_replacing(&self, of_user: &[&Session], original: Option<&str>) -> bool {
        let (policy, identity) = (&self.pool.spec.session_policy, self.identity);
        let replaceable = quota::replaceable(of_user.iter().copied(), original, self.now).len();
        let (own, all) = (of_user.len() - replaceable, self.in_total().saturating_sub(replaceable));
        quota::has_room(policy, &identity.user, &identity.groups, own, all)
    }

    fn quota(&self, of_user: &[&Session]) -> Result<(), Denial> {
        let (pool, identity) = (self.pool, self.identity);
        let in_total = self.in_total();
        quota::check(
            &pool.spec.session_policy,
            pool.name(),
            &identity.user,
            &identity.groups,
            of_user,
            in_total,
            self.now,
        )
        .map_err(|exceeded| {
            let by_groups = quota::names_groups(&pool.spec.session_policy);
            let message = match identity.untold.as_ref().filter(|_| by_groups) {
                Some(untold) => format!("{exceeded} No quota of a group counts here. {untold}"),
                None => exceeded.to_string(),
            };
            Denial::new(DenialKind::QuotaExceeded, message)
        })
    }
}
