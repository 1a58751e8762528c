//! Sessions that nobody should ask for: each ends in words, and the operator goes on.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::service::auth::v3::CheckResponse;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use serde_json::json;
use spark_session_operator::api::{ConfStatus, SessionState};
use uuid::Uuid;

use super::asking::message;
use super::assert_refused;
use super::running::{HOST, Running, pool, session, told, with_operator};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_a_pool_that_there_is_not_fails_in_words() {
    with_operator(pool(), async |mut running| {
        let mut lost = session("lost", "alice");
        lost["spec"]["pool"] = json!("nowhere");
        running.create_session(&lost).await.unwrap();
        let failed = running.is("lost", SessionState::Failed).await;
        let message =
            "There is no SparkSessionPool named nowhere in this namespace. `kubectl get ssp` lists those there are.";
        assert_eq!(told(&failed), ("PoolNotFound", message));
        running.settles().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_that_are_no_label_values_have_sessions_like_others() {
    with_operator(pool(), async |mut running| {
        // 256 characters of an object, and as many bytes of a login.
        let (longest, longest_login) = ("u".repeat(256), "ü".repeat(128));
        for (n, user) in
            ["a@b.c", "Jürgen Müller", "DOMAIN\\carol", "a=b,c!", "日本", &longest, &longest_login]
                .into_iter()
                .enumerate()
        {
            let by_hand = session(&format!("by-hand-{n}"), user);
            running.create_session(&by_hand).await.unwrap();
            running.is(&format!("by-hand-{n}"), SessionState::Active).await;
            let id = Uuid::new_v4();
            running.asking.call(HOST, user, "Config", id).await;
            let sessions = running.sessions().list(&Default::default()).await.unwrap();
            let id = id.to_string();
            let theirs = sessions.iter().find(|it| it.spec.session_id.as_ref() == Some(&id)).unwrap();
            assert_eq!(theirs.spec.user, user);
        }
        running.settles().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_300_characters_is_refused_in_words() {
    with_operator(pool(), async |mut running| {
        let user = "u".repeat(300);
        let by_hand = session("by-hand", &user);
        let created = running.create_session(&by_hand).await;
        assert_refused(created, "spec.user: Too long: may not be more than 256");
        let (answer, _) = running.asking.check(HOST, &user, "Config", message(Uuid::new_v4())).await;
        let message = "The user name is longer than 256 bytes; check what the client sends as user.";
        assert_eq!(words(&answer), message);
        assert!(running.sessions().list(&Default::default()).await.unwrap().items.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conf_with_characters_of_no_text_is_listed_as_refused_and_the_rest_applied() {
    with_operator(pool(), async |mut running| {
        let mut odd = session("odd", "alice");
        odd["spec"]["sparkConf"] =
            json!({ "spark.a": "good", "spark.nul": "a\0b", "spark.\u{7}bell": "x", "": "empty", " ": "blank" });
        running.create_session(&odd).await.unwrap();
        let active = running.is("odd", SessionState::Active).await;
        let conf = active.status.unwrap().status.conf.unwrap();
        let refused: BTreeMap<_, _> = conf.refused.iter().map(|it| (&*it.key, &*it.reason)).collect();
        let no_text = "is not set, because it holds a character that no configuration can have";
        assert_eq!(refused["spark.nul"], format!("spark.nul of the session's sparkConf {no_text}"));
        let bell = "spark.\\u{7}bell";
        assert_eq!(refused[bell], format!("{bell} of the session's sparkConf {no_text}"));
        assert!(conf.applied.contains(&"spark.a".to_owned()), "{conf:?}");
        running.settles().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_keys_of_conf_are_set() {
    with_operator(pool(), async |mut running| {
        let conf = with_conf(&running, "much", 30).await;
        // The others have no room in the status.
        let listed = i32::try_from(conf.applied.len()).unwrap();
        assert!((500..600).contains(&listed) && conf.unlisted == Some(1_000 - listed), "{conf:?}");
        running.settles().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_as_much_conf_as_it_may_have_is_served_and_hurts_nobody() {
    with_operator(pool(), async |mut running| {
        let conf = with_conf(&running, "much", 65).await;
        assert!(conf.unlisted.is_some(), "{conf:?}");
        running.asking.call(HOST, "bob", "Config", Uuid::new_v4()).await;
        running.settles().await;
    })
    .await;
}

/// A thousand keys with so many characters.
async fn with_conf(running: &Running, name: &str, length: usize) -> ConfStatus {
    let mut much = session(name, "alice");
    let key = |n| format!("spark.{n:0>width$}", width = length - 6);
    much["spec"]["sparkConf"] = (0..1_000).map(|n| (key(n), json!("v"))).collect();
    running.create_session(&much).await.unwrap();
    let active = running.is(name, SessionState::Active).await;
    let set = running.spark.seen().conf;
    assert_eq!(set.values().map(BTreeMap::len).collect::<Vec<_>>(), [1_000]);
    active.status.unwrap().status.conf.unwrap()
}

/// What the client hears that is not let through.
fn words(answer: &CheckResponse) -> String {
    let Some(HttpResponse::DeniedResponse(denied)) = &answer.http_response else { panic!("{answer:?}") };
    denied.body.clone()
}
