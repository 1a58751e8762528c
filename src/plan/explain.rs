//! Why a session is where it is, as a text for its user or an administrator. Decides nothing.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::conditions::seconds;
use super::endings::{after, began, last_use};
use super::session_conf::layers;
use super::session_status::QUERY_RUNNING;
use super::waiting::waiting;
use super::{quota, session_conf};
use crate::api::{DisconnectCause, SessionState};
use crate::model::{ConfSource, PoolView, Session};

/// Lines of a name and a value. `Display` aligns them; lines of one name stand below each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    lines: Vec<(&'static str, String)>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut last = "";
        for (name, value) in &self.lines {
            let shown = if *name == last { "" } else { name };
            writeln!(f, "{shown:width$}  {value}")?;
            last = name;
        }
        Ok(())
    }
}

/// Everything that decides about this session: its state and why, its instance, its quota, when it ends, and its
/// configuration. Each says where it comes from. `None` if the pool has no session of this name.
pub fn explain(view: &PoolView, session: &str, now: Timestamp) -> Option<Explanation> {
    let session = view.sessions.iter().find(|it| it.name() == session)?;
    let mut text = Explanation { lines: Vec::new() };
    text.says(
        "session",
        format!("{} of user {} in pool {}", session.name(), session.spec.user, view.pool.name()),
    );
    text.state(view, session, now);
    text.instance(view, session);
    if !session.is_finished() {
        text.clients(session, now);
    }
    text.quota(view, session);
    if !session.is_finished() {
        text.ends(view, session);
    }
    text.conf(view, session);
    Some(text)
}

impl Explanation {
    fn says(&mut self, name: &'static str, value: impl Into<String>) {
        self.lines.push((name, value.into()));
    }

    fn state(&mut self, view: &PoolView, session: &Session, now: Timestamp) {
        let status = &session.status;
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        let since = status.finished_at.as_ref().or(ready.map(|condition| &condition.last_transition_time));
        let since = since.map(|at| format!(" since {}", at.0)).unwrap_or_default();
        self.says("state", format!("{:?}{since}", status.state));
        // The status follows a queue that moves a little later.
        let waits = waiting(view, session.name(), now).filter(|_| status.state == SessionState::Pending);
        let told = session.explanation().map(|(reason, message)| (reason.to_owned(), message.to_owned()));
        let why = waits.map(|waits| (waits.reason.to_owned(), waits.message(view))).or(told);
        if let Some((reason, message)) = why {
            self.says("why", format!("{reason}: {message}"));
        }
        for failure in &status.setup_failures {
            self.says(
                "set up",
                format!("{} since {}: {}", failure.session_id, failure.since.0, failure.message),
            );
        }
    }

    fn instance(&mut self, view: &PoolView, session: &Session) {
        let Some(name) = &session.status.assigned_instance else { return self.says("instance", "none") };
        let instance = view.instances.iter().find(|instance| instance.name == *name);
        self.says(
            "instance",
            match instance {
                Some(instance) => {
                    let endpoint = instance.endpoint.map(|at| format!(" at {at}")).unwrap_or_default();
                    format!("{name} ({:?}){endpoint}", instance.phase)
                }
                None => format!("{name} (gone)"),
            },
        );
        for connection in &session.status.connections {
            self.says("connection", format!("{} on {}", connection.id, connection.instance));
        }
    }

    fn clients(&mut self, session: &Session, now: Timestamp) {
        for open in &session.status.client_connections {
            let of = if open.shared { ", which other users share" } else { "" };
            let (envoy, client, since) = (&open.envoy, &open.client, seconds(open.since.0).0);
            self.says("client", format!("connected from {client} to Envoy {envoy} since {since}{of}"));
        }
        let Some(since) = session.disconnected_at() else { return };
        let how = match session.status.disconnect_cause {
            Some(DisconnectCause::ClosedByClient) => "the client closed its last connection",
            Some(DisconnectCause::Unused) => "its last connection was closed after it was not used for long",
            Some(DisconnectCause::ConnectionLost) | None => "its last connection was lost",
        };
        let room = if session.is_replaceable(now) {
            "; makes room for the user's next session when a limit is reached, unless something runs in it"
        } else {
            ""
        };
        self.says("client", format!("disconnected since {since}: {how}{room}"));
    }

    fn quota(&mut self, view: &PoolView, session: &Session) {
        let (policy, spec) = (&view.pool.spec.session_policy, &session.spec);
        let matched = quota::matching(policy, &spec.user, &spec.groups);
        let limit = quota::limit_of_user(policy, &spec.user, &spec.groups);
        let own = matched.filter(|matched| matched.quota.max_sessions_per_user.is_some());
        let source = own.map_or_else(
            || "sessionPolicy.maxSessionsPerUser".to_owned(),
            |matched| format!("sessionPolicy.{matched}"),
        );
        let alive = || view.sessions.iter().filter(|it| !it.is_finished());
        let own: Vec<&str> = alive().filter(|it| it.spec.user == spec.user).map(|it| it.name()).collect();
        let names = if own.is_empty() { String::new() } else { format!(" ({})", own.join(", ")) };
        self.says(
            "quota",
            format!("{} of {limit} session(s) of the user in use{names}, by {source}", own.len()),
        );
        if matched.is_none() && spec.groups.is_empty() && quota::names_groups(policy) {
            self.says(
                "quota",
                "no quota of a group applies: the session has no groups (spec.groups), because the login that opened it \
                 told none or because it was made without",
            );
        }
        let total = policy.max_total_sessions;
        self.says(
            "quota",
            format!(
                "{} of {total} session(s) of the pool in use, by sessionPolicy.maxTotalSessions",
                alive().count()
            ),
        );
        if let Some(places) = view.pool.spec.scaling.max_sessions_per_instance {
            self.says(
                "quota",
                format!("{places} session(s) on an instance, by scaling.maxSessionsPerInstance"),
            );
        }
    }

    fn ends(&mut self, view: &PoolView, session: &Session) {
        let policy = &view.pool.spec.session_policy;
        let minutes = policy.idle_timeout_minutes;
        if matches!(session.status.state, SessionState::Active | SessionState::Idle) {
            let used = last_use(session, view.activity.get(session.name()).copied());
            let at = seconds(after(used, SignedDuration::from_mins(minutes.into()))).0;
            let used = seconds(used).0;
            self.says("last use", used.to_string());
            let runs = session.explanation().is_some_and(|(reason, _)| reason == QUERY_RUNNING);
            self.says(
                "ends",
                if runs {
                    "not for want of use while that query runs, by sessionPolicy.runningQueriesKeepSessions".to_owned()
                } else {
                    format!("soon after {at} if it is not used until then, by sessionPolicy.idleTimeoutMinutes {minutes}")
                },
            );
        }
        if let Some(since) = session.disconnected_at().filter(|_| session.was_left())
            && let Some(minutes) = policy.disconnected_timeout_minutes
        {
            let at = after(since, SignedDuration::from_mins(minutes.into()));
            self.says(
                "ends",
                format!(
                    "at {at} if no client comes back, by sessionPolicy.disconnectedTimeoutMinutes {minutes}"
                ),
            );
        }
        match policy.max_lifetime_minutes {
            Some(minutes) => {
                let at = after(began(session), SignedDuration::from_mins(minutes.into()));
                self.says(
                    "ends",
                    format!("at {at} in any case, by sessionPolicy.maxLifetimeMinutes {minutes}"),
                );
            }
            None => self.says("ends", "never for its age: sessionPolicy.maxLifetimeMinutes is not set"),
        }
    }

    fn conf(&mut self, view: &PoolView, session: &Session) {
        if let Some(parent) = &session.spec.cloned_from {
            return self.says("conf", format!("as session {parent} had it when this one was cloned from it"));
        }
        let policy = &view.pool.spec.session_policy;
        let quota = quota::matching(policy, &session.spec.user, &session.spec.groups);
        let source = |source: ConfSource| match (source, quota) {
            (ConfSource::Pool, _) => "sessionPolicy.defaultSessionConf".to_owned(),
            (ConfSource::Quota, Some(matched)) => format!("sessionPolicy.{matched}.sessionConf"),
            (ConfSource::Quota, None) => "sessionPolicy.quotas".to_owned(),
            (ConfSource::Session, _) => "spec.sparkConf".to_owned(),
            (ConfSource::Client, _) => "the client".to_owned(),
        };
        let conf = session_conf(policy, session);
        let refused =
            |key: &str, by: ConfSource| conf.refused.iter().any(|it| it.key == key && it.asked_by == by);
        let mut of_key: BTreeMap<&str, Vec<(String, &str)>> = BTreeMap::new();
        for (by, entries) in layers(policy, session) {
            for (key, value) in entries.iter().filter(|(key, _)| !refused(key, by)) {
                of_key.entry(key).or_default().push((source(by), value));
            }
        }
        let told = session.status.conf.clone().unwrap_or_default();
        for (key, asked) in of_key {
            let Some(((by, value), overridden)) = asked.split_last() else { continue };
            let value = if is_secret(key) { "*********(redacted)" } else { *value };
            let over: Vec<&str> = overridden.iter().map(|(by, _)| by.as_str()).collect();
            let over = if over.is_empty() { String::new() } else { format!(", over {}", over.join(" and ")) };
            let applied = if told.applied.iter().any(|it| it == key) { "; applied" } else { "" };
            self.says("conf", format!("{key}={} by {by}{over}{applied}", value.escape_debug()));
        }
        // The policy's refusals are known before the session is set up, Spark's are in its status.
        let by_policy: Vec<String> = conf.refused.iter().map(ToString::to_string).collect();
        let by_spark = told.refused.iter().filter(|it| !by_policy.contains(&it.reason));
        let by_spark = by_spark.map(|it| format!("{}: {}", it.key, it.reason)).collect::<Vec<_>>();
        for line in by_policy.iter().chain(&by_spark) {
            self.says("refused", line.clone());
        }
    }
}

/// As Spark's own pages see it (`spark.redaction.regex`).
fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    let words = ["secret", "password", "token"];
    let access_key = key.match_indices("access").any(|(at, word)| {
        let rest = &key[at + word.len()..];
        rest.starts_with("key")
            || rest.char_indices().nth(1).is_some_and(|(n, _)| rest[n..].starts_with("key"))
    });
    access_key || words.iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::is_secret;

    #[rstest]
    #[case("spark.hadoop.fs.s3a.secret.key", true)]
    #[case("spark.hadoop.fs.s3a.access.key", true)]
    #[case("my.AccessKey", true)]
    #[case("spark.DB.PASSWORD", true)]
    #[case("a.Token.b", true)]
    #[case("spark.sql.shuffle.partitions", false)]
    #[case("accessions.key", false)]
    #[case("access", false)]
    #[case("accessé", false)]
    fn a_secret_is_known_by_its_key(#[case] key: &str, #[case] expected: bool) {
        assert_eq!(is_secret(key), expected);
    }
}
