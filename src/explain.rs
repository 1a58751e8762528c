//! The command `explain`: why a session is where it is, from the objects in the cluster.
//!
//! It reads, and asks no running operator: what only that has in memory, such as uses of the last minute, is not in the
//! text, which is [`plan::explain`]'s.

use anyhow::{Context, bail};
use jiff::Timestamp;

use crate::api::{SparkInteractiveSessionSpec, SparkInteractiveSessionStatus};
use crate::model::{Inventory, Meta, PoolView, Session};
use crate::operator::snapshot;
use crate::plan;

/// Whose sessions are explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One, by the name of its object.
    Session(String),
    /// All that the user has in the pool; what a first one would get, if there is none. Groups are for that alone.
    UserInPool { user: String, pool: String, groups: Vec<String> },
}

/// Returns the text.
pub async fn run(namespace: &str, subject: &Subject) -> anyhow::Result<String> {
    let client = kube::Client::try_default().await.context("no access to a Kubernetes cluster")?;
    let inventory = snapshot(&client, namespace)
        .await
        .with_context(|| format!("the objects in namespace {namespace} cannot be read"))?;
    explain(&inventory, namespace, subject, Timestamp::now())
}

fn explain(
    inventory: &Inventory,
    namespace: &str,
    subject: &Subject,
    now: Timestamp,
) -> anyhow::Result<String> {
    match subject {
        Subject::Session(name) => {
            let Some(session) = inventory.session(name) else {
                bail!(
                    "There is no session {name} in namespace {namespace}. `kubectl get sis -n {namespace}` lists those there are."
                );
            };
            match inventory.pool_view(&session.spec.pool) {
                Some(view) => text(&view, name, now),
                None => Ok(without_pool(session)),
            }
        }
        Subject::UserInPool { user, pool, groups } => {
            let Some(view) = inventory.pool_view(pool) else {
                bail!(
                    "There is no pool {pool} in namespace {namespace}. `kubectl get ssp -n {namespace}` lists those there are."
                );
            };
            let sessions = inventory.sessions_of(pool, user);
            if sessions.is_empty() {
                return first_one(view, user, groups, now);
            }
            let texts: anyhow::Result<Vec<_>> =
                sessions.iter().map(|session| text(&view, session.name(), now)).collect();
            Ok(texts?.join("\n"))
        }
    }
}

fn text(view: &PoolView, session: &str, now: Timestamp) -> anyhow::Result<String> {
    let explanation = plan::explain(view, session, now);
    Ok(explanation.with_context(|| format!("session {session} is not one of its pool"))?.to_string())
}

fn without_pool(session: &Session) -> String {
    let (reason, message) =
        session.explanation().unwrap_or(("Unknown", "The operator has not looked at it."));
    let (name, pool, state) = (session.name(), &session.spec.pool, session.status.state);
    format!(
        "session  {name} of user {} in pool {pool}, which does not exist\nstate    {state:?}\nwhy      {reason}: {message}\n",
        session.spec.user
    )
}

/// What a session of this user would get that does not exist yet.
fn first_one(mut view: PoolView, user: &str, groups: &[String], now: Timestamp) -> anyhow::Result<String> {
    const NAME: &str = "(a new one)";
    let spec = SparkInteractiveSessionSpec {
        user: user.to_owned(),
        pool: view.pool.name().to_owned(),
        groups: groups.to_vec(),
        spark_conf: Default::default(),
        cloned_from: None,
        session_id: None,
        name: None,
    };
    let meta = Meta {
        name: NAME.to_owned(),
        uid: String::new(),
        resource_version: 0,
        generation: 1,
        created_at: now,
        deleting: false,
        held: false,
        other_finalizers: Vec::new(),
    };
    let status = SparkInteractiveSessionStatus::default();
    view.sessions.push(Session { meta, spec, status, arrived: u64::MAX }.into());
    let explained = text(&view, NAME, now)?;
    Ok(format!(
        "User {user} has no session in pool {}. What a new one would get:\n\n{explained}",
        view.pool.name()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SessionState;
    use crate::model::Object;
    use crate::model::fixtures::{application, at, connect_pool, driver, session};

    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        inventory.put(Object::Pool(connect_pool("p")));
        inventory.put(Object::Application(application("p-0")));
        inventory.put(Object::Pod(driver("p-0").at_ip("10.0.0.1")));
        inventory.put(Object::Session(session("mine").on("p-0")));
        inventory.put(Object::Session(session("mine-too").on("p-0")));
        let lost = session("lost").in_pool("gone").ended(SessionState::Failed, "PoolNotFound", "No pool.", 0);
        inventory.put(Object::Session(lost));
        inventory.take_as_answering("p-0");
        inventory
    }

    fn told(subject: &Subject) -> Result<String, String> {
        explain(&inventory(), "ns", subject, at(60)).map_err(|error| error.to_string())
    }

    fn of_user(user: &str, pool: &str) -> Subject {
        Subject::UserInPool { user: user.into(), pool: pool.into(), groups: Vec::new() }
    }

    #[test]
    fn a_session_is_found_by_its_name_and_all_by_their_user() {
        let one = told(&Subject::Session("mine".into())).unwrap();
        assert!(one.contains("mine of user alice in pool p"), "{one}");
        assert!(one.contains("p-0 (Ready) at 10.0.0.1:15002"), "{one}");
        let both = told(&of_user("alice", "p")).unwrap();
        assert!(both.contains("mine of user") && both.contains("mine-too of user"), "{both}");
    }

    #[test]
    fn who_has_no_session_reads_what_a_new_one_would_get() {
        let text = told(&of_user("bob", "p")).unwrap();
        assert!(
            text.starts_with("User bob has no session in pool p. What a new one would get:\n\n"),
            "{text}"
        );
        assert!(text.contains("(a new one) of user bob in pool p"), "{text}");
        assert!(text.contains("of 5 session(s) of the user in use"), "{text}");
    }

    #[test]
    fn what_does_not_exist_is_said_with_where_to_look() {
        assert_eq!(
            told(&Subject::Session("typo".into())).unwrap_err(),
            "There is no session typo in namespace ns. `kubectl get sis -n ns` lists those there are."
        );
        assert_eq!(
            told(&of_user("alice", "typo")).unwrap_err(),
            "There is no pool typo in namespace ns. `kubectl get ssp -n ns` lists those there are."
        );
        let lost = told(&Subject::Session("lost".into())).unwrap();
        assert!(lost.contains("which does not exist") && lost.contains("PoolNotFound: No pool."), "{lost}");
    }
}
