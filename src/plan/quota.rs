//! How many sessions a user may have in a pool. Pure; asked by the planner, which decides, and by
//! the broker, which refuses early what the planner would refuse.

use crate::api::{Quota, SessionPolicy};

/// A limit that is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exceeded {
    PerUser { pool: String, user: String, limit: i32 },
    Total { pool: String, limit: i32 },
}

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PerUser { pool, user, limit } => write!(
                f,
                "Quota exceeded: user {user} may have {limit} session(s) in pool {pool} at the same time, and has \
                 them all in use. End one of them (spark.stop() in PySpark, or close the JDBC connection's session \
                 with `kubectl delete sis NAME`) and try again."
            ),
            Self::Total { pool, limit } => write!(
                f,
                "Quota exceeded: pool {pool} is full, all of its {limit} session(s) are in use. Try again when \
                 somebody has ended one."
            ),
        }
    }
}

/// The entry that counts for this user: the first one that matches.
pub fn matching<'a>(policy: &'a SessionPolicy, user: &str, groups: &[String]) -> Option<&'a Quota> {
    policy.quotas.iter().find(|quota| {
        quota.subject.users.iter().any(|name| name == user)
            || quota.subject.groups.iter().any(|group| groups.contains(group))
    })
}

/// Whether one more session of this user fits, given how many there are already.
pub fn check(
    policy: &SessionPolicy,
    pool: &str,
    user: &str,
    groups: &[String],
    of_user: usize,
    in_total: usize,
) -> Result<(), Exceeded> {
    let per_user = matching(policy, user, groups)
        .and_then(|quota| quota.max_sessions_per_user)
        .unwrap_or(policy.max_sessions_per_user);
    if reached(of_user, per_user) {
        return Err(Exceeded::PerUser { pool: pool.to_owned(), user: user.to_owned(), limit: per_user });
    }
    if reached(in_total, policy.max_total_sessions) {
        return Err(Exceeded::Total { pool: pool.to_owned(), limit: policy.max_total_sessions });
    }
    Ok(())
}

fn reached(count: usize, limit: i32) -> bool {
    usize::try_from(limit).is_ok_and(|limit| count >= limit)
}
