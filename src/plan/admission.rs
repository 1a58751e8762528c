//! Which of the waiting sessions get in, in which order, and which instance each of them gets.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use super::Plan;
use super::counts::count;
use super::disconnected::Room;
use super::outlook::Outlook;
use super::sessions::{Draft, Drafts};
use super::{quota, size};
use crate::api::{SessionState, Sharing};
use crate::model::{Instance, InstancePhase, Session};

/// Of a clone that has no place where its parent is.
const CLONE_REFUSED: &str = "CloneRefused";

impl<'a> Drafts<'a> {
    /// Sessions that have a place keep it; of the others, those that were let in before are counted first. A user at a
    /// limit gets the place of a session of theirs whose client has gone.
    pub fn admit(&mut self, plan: &mut Plan) {
        if !self.drafts.iter().any(Draft::waits) {
            return;
        }
        let policy = &self.view.pool.spec.session_policy;
        let mut of_user: HashMap<&str, Vec<&Session>> = HashMap::new();
        let mut in_total = 0;
        let placed = |draft: &&Draft<'_>| {
            let has_place = draft.still_shows_a_place() || draft.counts() && !draft.waits();
            has_place && !draft.has_made_room()
        };
        for draft in self.drafts.iter().filter(placed) {
            of_user.entry(&draft.session.spec.user).or_default().push(draft.session);
            in_total += 1;
        }
        let (known, new): (Vec<_>, Vec<_>) =
            self.queue().into_iter().partition(|n| self.drafts[*n].session.status.created_at.is_some());
        for n in known.into_iter().chain(new) {
            let session = self.drafts[n].session;
            let spec = &session.spec;
            let others = of_user.entry(&spec.user).or_default();
            loop {
                let name = self.view.pool.name();
                let checked =
                    quota::check(policy, name, &spec.user, &spec.groups, others, in_total, self.now);
                let Err(exceeded) = checked else {
                    others.push(session);
                    in_total += 1;
                    break;
                };
                match self.make_room(n, &exceeded, plan) {
                    Room::Made(other) => {
                        others.retain(|it| it.name() != other.name());
                        in_total -= 1;
                    }
                    Room::Asking => {
                        self.drafts[n].held_back = true;
                        break;
                    }
                    Room::None { kept } => {
                        let message = exceeded.with(kept).to_string();
                        self.drafts[n].end(SessionState::Failed, "QuotaExceeded", message);
                        break;
                    }
                }
            }
        }
    }

    /// Gives each waiting session the least-loaded instance that answers and that it may share.
    pub fn place(&mut self, outlook: &Outlook) {
        if !self.drafts.iter().any(Draft::waits) {
            return;
        }
        let mut users: HashMap<&'a str, Vec<&'a str>> = HashMap::new();
        for draft in self.drafts.iter().filter(|draft| draft.counts()) {
            if let Some(instance) = draft.instance {
                users.entry(instance).or_default().push(&draft.session.spec.user);
            }
        }
        let spec = &self.view.pool.spec;
        let places = spec.scaling.max_sessions_per_instance.map(count);
        let ready: Vec<&'a Instance> = self
            .view
            .instances
            .iter()
            .filter(|instance| instance.phase == InstancePhase::Ready && !outlook.gives_up(&instance.name))
            .collect();
        let (rolling, target) = (!outlook.outdated.is_empty(), size::target(spec));
        for n in self.queue() {
            let home = self.home_of_clone(self.drafts[n].session);
            let draft = &mut self.drafts[n];
            let user = draft.session.spec.user.as_str();
            let load = |instance: &Instance| users.get(instance.name.as_str()).map_or(0, Vec::len);
            let has_place = |instance: &Instance| places.is_none_or(|places| load(instance) < places);
            let shares = |instance: &Instance| match spec.sharing {
                Sharing::Pool => true,
                Sharing::User => {
                    users.get(instance.name.as_str()).is_none_or(|users| users.iter().all(|u| *u == user))
                }
                Sharing::Session => load(instance) == 0,
            };
            // A user's own driver before an empty one, which the next user will need.
            let not_own = |instance: &Instance| spec.sharing == Sharing::User && load(instance) == 0;
            // While a new template is rolled out, instances that stay before those that go, as long as they have fewer
            // sessions than they are meant to have.
            let goes = |i: &Instance| rolling && (outlook.outdated.contains(&i.name) || load(i) >= target);
            let fits = |instance: &Instance| match home {
                Some(home) => home == Some(&*instance.name),
                None => shares(instance),
            };
            let chosen = ready
                .iter()
                .filter(|instance| fits(instance) && has_place(instance))
                .min_by_key(|i| (goes(i), not_own(i), load(i), i.ordinal));
            match (chosen, home) {
                (Some(instance), _) => {
                    draft.instance = Some(&instance.name);
                    users.entry(&instance.name).or_default().push(user);
                }
                (None, Some(home)) => {
                    let message = why_no_clone(draft.session, home);
                    draft.end(SessionState::Failed, CLONE_REFUSED, message);
                }
                (None, None) => {}
            }
        }
    }

    /// Of a clone, where its parent is, if that has a place still: what Spark copies is there and nowhere else.
    fn home_of_clone(&self, session: &Session) -> Option<Option<&'a str>> {
        let parent = session.spec.cloned_from.as_deref()?;
        let is_it = |draft: &&Draft<'_>| {
            draft.session.name() == parent && draft.session.spec.user == session.spec.user && draft.goes_on()
        };
        Some(self.drafts.iter().find(is_it).and_then(|draft| draft.instance))
    }

    /// The waiting sessions in fair order.
    pub fn queue(&self) -> Vec<usize> {
        let mut in_use: HashMap<&str, usize> = HashMap::new();
        for draft in self.drafts.iter().filter(|draft| draft.counts() && !draft.waits()) {
            *in_use.entry(&draft.session.spec.user).or_default() += 1;
        }
        let waiting: Vec<usize> = (0..self.drafts.len()).filter(|n| self.drafts[*n].waits()).collect();
        let users: Vec<&str> = waiting.iter().map(|n| self.drafts[*n].session.spec.user.as_str()).collect();
        fair_order(&in_use, &users).into_iter().map(|n| waiting[n]).collect()
    }
}

fn why_no_clone(session: &Session, home: Option<&str>) -> String {
    let parent = session.spec.cloned_from.as_deref().unwrap_or_default();
    match home {
        Some(instance) => format!(
            "Session {parent} cannot be cloned: its instance {instance} takes no more sessions, and a clone can be \
             nowhere else. Open a new session instead."
        ),
        None => format!(
            "Session {parent} cannot be cloned: it has no place any more. Open a new session instead."
        ),
    }
}

/// The order in which waiting sessions are served: next is always one of a user who has the fewest, counting what each
/// has in use and what was served before in this order; among such users, who came first. `waiting` are the owners of
/// the sessions in the order in which they came; the answer has each of its indices once.
///
/// So of two who wait nobody gets a second place before the other has a first.
pub fn fair_order(in_use: &HashMap<&str, usize>, waiting: &[&str]) -> Vec<usize> {
    let mut of_user: HashMap<&str, VecDeque<usize>> = HashMap::new();
    for (n, user) in waiting.iter().enumerate() {
        of_user.entry(user).or_default().push_back(n);
    }
    let has = |user: &str| in_use.get(user).copied().unwrap_or(0);
    let mut next: BinaryHeap<_> =
        of_user.iter().filter_map(|(user, own)| Some(Reverse((has(user), *own.front()?)))).collect();
    let mut order = Vec::with_capacity(waiting.len());
    while let Some(Reverse((count, n))) = next.pop() {
        order.push(n);
        let own = of_user.get_mut(waiting[n]);
        let following = own.and_then(|own| {
            own.pop_front();
            own.front().copied()
        });
        next.extend(following.map(|n| Reverse((count + 1, n))));
    }
    order
}
