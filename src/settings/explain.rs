//! Arguments of the command `explain`.

use clap::Args;

use crate::explain::Subject;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    spark-session-operator explain --user alice --pool dev\n  \
    spark-session-operator explain dev-6f1c2d9e-…")]
pub struct ExplainArgs {
    /// Name of the session's object, as `kubectl get sis` shows it.
    #[arg(value_name = "SESSION", required_unless_present = "user", conflicts_with_all = ["user", "pool", "group"])]
    session: Option<String>,

    /// Explain all sessions that this user has in --pool, or what a new one would get.
    #[arg(long, value_name = "USER", requires = "pool")]
    user: Option<String>,

    #[arg(long, value_name = "POOL", requires = "user")]
    pool: Option<String>,

    /// A group of the user, for the quota of a new session. Several times: all of them.
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,

    /// Namespace of the pool.
    #[arg(long, env = "NAMESPACE", default_value = "spark-dev")]
    namespace: String,
}

impl ExplainArgs {
    /// The namespace, and what is to be explained there; `None` where clap should have refused.
    pub fn into_subject(self) -> Option<(String, Subject)> {
        let subject = match (self.session, self.user, self.pool) {
            (Some(session), ..) => Subject::Session(session),
            (None, Some(user), Some(pool)) => Subject::UserInPool { user, pool, groups: self.group },
            _ => return None,
        };
        Some((self.namespace, subject))
    }
}
