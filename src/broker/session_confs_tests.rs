use std::sync::Arc;

use rstest::rstest;

use super::*;
use crate::api::SessionState::{Terminated, Terminating};
use crate::model::fixtures::{session, thrift_pool};
use crate::model::{Object, Pool, Session};

fn opening(user: &str) -> Opening {
    Opening { session: "s".into(), pool: "p".into(), user: user.into(), cluster: None }
}

fn pool() -> Pool {
    let mut pool = thrift_pool("p");
    pool.spec.session_policy.default_session_conf = [("team".to_owned(), "all".to_owned())].into();
    pool
}

fn knowing(sessions: impl IntoIterator<Item = Session>) -> Arc<Stores> {
    let stores = Stores::new();
    stores.shown(Object::Pool(pool()));
    sessions.into_iter().for_each(|session| stores.shown(Object::Session(session)));
    stores
}

#[tokio::test]
async fn a_session_is_given_what_its_pool_says() {
    let conf = conf_of_opened(&knowing([session("s")]), &opening("alice")).await.unwrap();
    assert_eq!(conf.set["team"], "all");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_another_replica_found_is_waited_for() {
    let before = session("s").ended(Terminated, "Released", "", 0);
    let stores = knowing([before]);
    let opening = opening("alice");
    let (conf, ()) = tokio::join!(conf_of_opened(&stores, &opening), async {
        tokio::time::sleep(PATIENCE / 2).await;
        stores.shown(Object::Session(session("s").version(2)));
    });
    assert_eq!(conf.unwrap().set["team"], "all");
}

/// Another replica has let the call through, which did not know of the end yet.
#[rstest]
#[case::unknown(None)]
#[case::closed_by_its_last_client(Some(session("s").on("p-0").released(900)))]
#[case::being_released(Some(session("s").on("p-0").in_state(Terminating)))]
#[case::being_deleted(Some(session("s").on("p-0").being_deleted()))]
#[tokio::test(start_paused = true)]
async fn a_session_that_ends_or_does_not_come_is_refused_in_words(#[case] known: Option<Session>) {
    let denial = conf_of_opened(&knowing(known), &opening("alice")).await.unwrap_err();
    assert_eq!(denial.kind, DenialKind::SessionClosed);
    assert_eq!(denial.message, "Session s in pool p has just ended. Connect again.");
}

#[tokio::test]
async fn nobody_gets_the_configuration_of_somebody_else_s_session() {
    let stores = knowing([session("s").of("bob")]);
    assert!(conf_of_opened(&stores, &opening("alice")).await.is_err());
}
