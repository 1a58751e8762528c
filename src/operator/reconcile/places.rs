//! Which placements wait for ends that were not written. Pure.
//!
//! A session gets a place when the one that had it is written off: otherwise the API would show one too many for a moment, and for
//! longer if this replica died in between. As many placements wait as ends were not written that free a place, of those that
//! would show too many: of the same user, on the same instance where its places are counted, and beyond the pool's total.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::api::{Sharing, SparkInteractiveSessionStatus};
use crate::model::{Pool, Session};

#[derive(Debug, Default)]
pub(super) struct Places {
    of_user: HashMap<String, usize>,
    on_instance: HashMap<String, usize>,
    /// In the pool. `None`: no end is missing.
    left: Option<usize>,
}

impl Places {
    /// `sessions`: those of the pool as they are known after the ends. `unwritten`: names of those whose end was not written.
    pub fn new(pool: &Pool, sessions: &[Arc<Session>], unwritten: &HashSet<String>) -> Self {
        let mut places = Self::default();
        let counts_places =
            pool.spec.sharing != Sharing::Pool || pool.spec.scaling.max_sessions_per_instance.is_some();
        for session in sessions.iter().filter(|it| holds_place(it) && unwritten.contains(it.name())) {
            *places.of_user.entry(session.spec.user.clone()).or_default() += 1;
            let instance = session.status.assigned_instance.clone().filter(|_| counts_places);
            instance.into_iter().for_each(|name| *places.on_instance.entry(name).or_default() += 1);
        }
        if !places.of_user.is_empty() {
            let most = usize::try_from(pool.spec.session_policy.max_total_sessions).unwrap_or(usize::MAX);
            places.left = Some(most.saturating_sub(sessions.iter().filter(|it| holds_place(it)).count()));
        }
        places
    }

    /// Whether this status may be written now.
    pub fn allow(&mut self, session: &Session, status: &SparkInteractiveSessionStatus) -> bool {
        let Some(left) = &mut self.left else { return true };
        let Some(instance) = &status.assigned_instance else { return true };
        if session.status.assigned_instance.is_some() || status.state.is_finished() {
            return true;
        }
        let waits = take(&mut self.of_user, &session.spec.user)
            || take(&mut self.on_instance, instance)
            || *left == 0;
        if !waits {
            *left -= 1;
        }
        !waits
    }
}

/// As the API shows it. One that has made room is counted no more: the newer one has its place.
fn holds_place(session: &Session) -> bool {
    !session.is_finished() && !session.has_made_room() && session.status.assigned_instance.is_some()
}

fn take(waiting: &mut HashMap<String, usize>, key: &str) -> bool {
    let count = waiting.get_mut(key).filter(|count| **count > 0);
    count.map(|count| *count -= 1).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SessionState::{Active, Failed, Terminating};
    use crate::model::REPLACED_BY_NEWER;
    use crate::model::fixtures::{connect_pool, session};

    /// Of alice on `p-0`, whose end was not written; and bob's on `p-1`.
    fn known() -> Vec<Session> {
        vec![session("ended").on("p-0"), session("other").of("bob").on("p-1")]
    }

    /// Which of these may be placed, in this order, when the end of the session `ended` was not written.
    fn placed(pool: &Pool, known: Vec<Session>, wanted: &[(&str, &str)]) -> Vec<bool> {
        let known: Vec<_> = known.into_iter().map(Arc::new).collect();
        let mut places = Places::new(pool, &known, &HashSet::from(["ended".to_owned()]));
        let mut allow = |(user, instance): &(&str, &str)| {
            let waiting = session("new").of(user);
            let status = waiting.clone().on(instance).status;
            places.allow(&waiting, &status)
        };
        wanted.iter().map(&mut allow).collect()
    }

    #[test]
    fn as_many_of_the_same_user_wait() {
        let wanted = [("alice", "p-1"), ("bob", "p-0"), ("alice", "p-0")];
        assert_eq!(placed(&connect_pool("p"), known(), &wanted), [false, true, true]);
    }

    #[test]
    fn as_many_on_the_same_instance_wait_where_its_places_are_counted() {
        let pool = connect_pool("p").with_places_per_instance(5);
        let wanted = [("bob", "p-0"), ("carol", "p-0"), ("dave", "p-1")];
        assert_eq!(placed(&pool, known(), &wanted), [false, true, true]);
        let pool = connect_pool("p").shared_by(Sharing::User);
        assert_eq!(placed(&pool, known(), &wanted), [false, true, true]);
    }

    #[test]
    fn those_beyond_the_total_wait() {
        let pool = connect_pool("p").allowing_in_total(3);
        assert_eq!(placed(&pool, known(), &[("carol", "p-1"), ("dave", "p-1")]), [true, false]);
    }

    #[test]
    fn an_end_that_frees_no_place_keeps_nobody_waiting() {
        let wanted = [("alice", "p-0"), ("bob", "p-0")];
        let pool = connect_pool("p").allowing_in_total(1).with_places_per_instance(1);
        let replaced = session("ended").on("p-0").in_state(Terminating).explained(REPLACED_BY_NEWER, "", 0);
        for ended in [session("ended"), replaced, session("ended").on("p-0").ended(Failed, "", "", 0)] {
            assert_eq!(placed(&pool, vec![ended], &wanted), [true, true]);
        }
    }

    #[test]
    fn what_is_no_placement_does_not_wait() {
        let known: Vec<_> = known().into_iter().map(Arc::new).collect();
        let mut places = Places::new(&connect_pool("p"), &known, &HashSet::from(["ended".to_owned()]));
        let placed = session("s").on("p-0");
        assert!(places.allow(&placed, &placed.clone().in_state(Active).status));
        let waiting = session("s");
        assert!(places.allow(&waiting, &waiting.status));
    }
}
