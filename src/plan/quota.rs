//! How many sessions a user may have in a pool. Pure; asked by the planner, which decides, and by
//! the broker, which refuses early what the planner would refuse.

use std::fmt;

use jiff::Timestamp;

use crate::api::{Quota, SessionPolicy, SessionState};
use crate::model::Session;

/// Sessions that a refusal names; of more it gives the number.
const NAMED: usize = 5;

/// A limit that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    pool: String,
    user: String,
    idle_timeout_minutes: i32,
    limit: Limit,
    /// The user's sessions, as they are named to them.
    in_use: Vec<String>,
    /// Further sentences: when a place may be free, and what keeps disconnected sessions of the user.
    remarks: Vec<String>,
}

impl Exceeded {
    /// Adds what keeps disconnected sessions of the user, a sentence each.
    pub fn with(mut self, kept: Vec<String>) -> Self {
        self.remarks.extend(kept);
        self
    }

    /// The limit as part of a sentence: "user alice may have 5 session(s) in pool p at the same time".
    pub fn limit_in_words(&self) -> String {
        let Self { pool, user, .. } = self;
        match self.limit {
            Limit::PerUser(limit) => {
                format!("user {user} may have {limit} session(s) in pool {pool} at the same time")
            }
            Limit::Total(limit) => format!("pool {pool} has room for {limit} session(s)"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    PerUser(i32),
    Total(i32),
}

/// For the user: which limit, what is in use, and how to end it.
impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool, user, .. } = self;
        let count = self.in_use.len();
        f.write_str("Quota exceeded: ")?;
        match self.limit {
            Limit::PerUser(0) => {
                return write!(f, "user {user} may have no session in pool {pool}. Ask its administrator.");
            }
            Limit::PerUser(_) => {
                write!(f, "{}, and has {count}: {}.", self.limit_in_words(), named(&self.in_use))?;
            }
            Limit::Total(limit) => {
                write!(f, "pool {pool} is full, all of its {limit} session(s) are in use, ")?;
                if count == 0 {
                    return f.write_str("none of them yours. Try again when somebody has ended one.");
                }
                write!(f, "{count} of them yours: {}.", named(&self.in_use))?;
            }
        }
        for remark in self.remarks.iter().take(NAMED) {
            write!(f, " {remark}")?;
        }
        write!(
            f,
            " End one: spark.stop() in its program, close the JDBC connection, or `kubectl delete sis NAME`; idle ones \
             end by themselves after {} min.",
            self.idle_timeout_minutes
        )
    }
}

fn named(sessions: &[String]) -> String {
    let (shown, more) = sessions.split_at(sessions.len().min(NAMED));
    let shown = shown.join(", ");
    if more.is_empty() { shown } else { format!("{shown} and {} more", more.len()) }
}

/// The entry that counts for a user.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matched<'a> {
    pub quota: &'a Quota,
    /// Its place in `sessionPolicy.quotas`.
    pub index: usize,
    /// The group that it names, where it does not name the user.
    pub group: Option<&'a str>,
}

/// As in `quotas[1] (group analysts)`.
impl fmt::Display for Matched<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            Some(group) => write!(f, "quotas[{}] (group {group})", self.index),
            None => write!(f, "quotas[{}] (named)", self.index),
        }
    }
}

/// The entry that counts for this user: the first one that matches.
pub fn matching<'a>(policy: &'a SessionPolicy, user: &str, groups: &[String]) -> Option<Matched<'a>> {
    policy.quotas.iter().enumerate().find_map(|(index, quota)| {
        let matched = |group| Matched { quota, index, group };
        if quota.subject.users.iter().any(|name| name == user) {
            return Some(matched(None));
        }
        let group = quota.subject.groups.iter().find(|group| groups.contains(group))?;
        Some(matched(Some(group)))
    })
}

/// Whether the limit of a user may depend on their groups.
pub fn names_groups(policy: &SessionPolicy) -> bool {
    policy.quotas.iter().any(|quota| !quota.subject.groups.is_empty())
}

/// How many sessions this user may have at the same time.
pub fn limit_of_user(policy: &SessionPolicy, user: &str, groups: &[String]) -> i32 {
    let own = matching(policy, user, groups).and_then(|matched| matched.quota.max_sessions_per_user);
    own.unwrap_or(policy.max_sessions_per_user)
}

/// Whether one more session of this user fits beside those that the user has, and those that the pool has in total.
pub fn check(
    policy: &SessionPolicy,
    pool: &str,
    user: &str,
    groups: &[String],
    of_user: &[&Session],
    in_total: usize,
    now: Timestamp,
) -> Result<(), Exceeded> {
    let per_user = limit_of_user(policy, user, groups);
    let limit = if reached(of_user.len(), per_user) {
        Limit::PerUser(per_user)
    } else if reached(in_total, policy.max_total_sessions) {
        Limit::Total(policy.max_total_sessions)
    } else {
        return Ok(());
    };
    Err(Exceeded {
        pool: pool.to_owned(),
        user: user.to_owned(),
        idle_timeout_minutes: policy.idle_timeout_minutes,
        limit,
        in_use: of_user.iter().map(|session| described(session)).collect(),
        remarks: soon_free(of_user, now).into_iter().collect(),
    })
}

/// The same of numbers alone.
pub fn has_room(
    policy: &SessionPolicy,
    user: &str,
    groups: &[String],
    of_user: usize,
    in_total: usize,
) -> bool {
    !reached(of_user, limit_of_user(policy, user, groups)) && !reached(in_total, policy.max_total_sessions)
}

fn reached(count: usize, limit: i32) -> bool {
    usize::try_from(limit).is_ok_and(|limit| count >= limit)
}

/// Returns those of a user's sessions whose place a newer session of theirs may get: the longest disconnected first, and at last
/// those whose clients may have let an unused connection go. If that is a
/// clone, never its `original`: that is being used, though its status may not show it yet.
pub fn replaceable<'a>(
    sessions: impl IntoIterator<Item = &'a Session>,
    original: Option<&str>,
    now: Timestamp,
) -> Vec<&'a Session> {
    let others = sessions.into_iter().filter(|session| Some(session.name()) != original);
    let mut found: Vec<_> = others.filter(|session| session.is_replaceable(now)).collect();
    found.sort_by_key(|session| (!session.was_left(), session.disconnected_at(), session.name()));
    found
}

/// Says when a session makes room whose connection was lost a moment ago.
fn soon_free(of_user: &[&Session], now: Timestamp) -> Option<String> {
    let lost = of_user.iter().filter_map(|session| Some((session.given_up_at()?, session)));
    let (at, session) = lost
        .filter(|(at, session)| *at > now && session.is_replaceable(*at))
        .min_by_key(|(at, session)| (*at, session.name()))?;
    // Rounded up.
    let seconds = at.duration_since(now).as_millis().div_euclid(1000) + 1;
    Some(format!(
        "Try again in {seconds} s: {} makes room then, unless its client comes back.",
        session.name()
    ))
}

fn described(session: &Session) -> String {
    let status = &session.status;
    let disconnected = session
        .disconnected_at()
        .map(|at| format!(", disconnected since {}", at.strftime("%H:%M UTC")))
        .filter(|_| matches!(status.state, SessionState::Active | SessionState::Idle))
        .unwrap_or_default();
    let state = match status.state {
        SessionState::Idle => {
            let active =
                status.conditions.iter().find(|it| it.type_ == "Ready").map(|it| &it.last_transition_time);
            let since = status.last_activity_at.as_ref().max(active);
            since.map_or_else(|| "Idle".to_owned(), |at| format!("Idle since {}", at.0.strftime("%H:%M UTC")))
        }
        SessionState::Pending => "waiting".to_owned(),
        SessionState::Terminating => "ending".to_owned(),
        state => format!("{state:?}"),
    };
    format!("{} ({state}{disconnected})", session.meta.name)
}
