//! Many clients of one user at once, who may have few sessions.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use futures::future::join_all;
use serde_json::json;
use spark_session_operator::api::{SessionState, SparkInteractiveSession};
use uuid::Uuid;

use super::asking::message;
use super::running::{HOST, POOL, Running, pool, told, with_operator};

/// As many of one user as may wait at the same time.
const CLIENTS: usize = 64;
const LIMIT: usize = 5;
const QUOTA: &str = "QuotaExceeded";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixty_four_clients_of_a_user_five_get_in_and_the_others_hear_the_quota() {
    let mut limited = pool();
    limited["spec"]["sessionPolicy"] = json!({ "maxSessionsPerUser": LIMIT });
    with_operator(limited, async |mut running| {
        let mut changes = running.changes::<SparkInteractiveSession>();
        let clients = (0..CLIENTS).map(|_| {
            let mut asking = running.asking.clone();
            async move { asking.check(HOST, "alice", "Config", message(Uuid::new_v4())).await.0 }
        });
        let answers = join_all(clients).await;

        let (mut inside, mut outside) = (0, Vec::new());
        for answer in answers {
            match answer.http_response {
                Some(HttpResponse::OkResponse(_)) => inside += 1,
                Some(HttpResponse::DeniedResponse(denied)) => outside.push(denied.body),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((inside, outside.len()), (LIMIT, CLIENTS - LIMIT));
        let holds = are_in(&running).await;
        for words in &outside {
            assert_quota(words, &holds);
        }
        running.settles().await;

        // Every version of every session, in the order in which they were written.
        let (mut holding, mut most) = (BTreeMap::new(), 0);
        while let Ok(change) = changes.try_recv() {
            let session: SparkInteractiveSession = change.try_parse().unwrap();
            let status = session.status.clone().unwrap_or_default().status;
            let place = status.assigned_instance.is_some() && !status.state.is_finished();
            holding.insert(session.metadata.name.unwrap(), place);
            most = most.max(holding.values().filter(|holds| **holds).count());
        }
        assert_eq!(most, LIMIT, "places at the same time");

        let all = running.sessions().list(&Default::default()).await.unwrap().items;
        let (served, superfluous): (Vec<_>, Vec<_>) =
            all.iter().partition(|session| session.status.as_ref().unwrap().state == SessionState::Active);
        assert_eq!(served.len(), LIMIT);
        assert!(superfluous.iter().all(|session| told(session).0 == QUOTA), "{superfluous:#?}");
        println!("{} session objects for clients that did not get in", superfluous.len());
        assert!(superfluous.len() <= LIMIT);
    })
    .await;
}

async fn are_in(running: &Running) -> BTreeSet<String> {
    let sessions = running.sessions().list(&Default::default()).await.unwrap();
    let active = sessions.into_iter().filter(|it| it.status.as_ref().unwrap().state == SessionState::Active);
    active.map(|session| session.metadata.name.unwrap()).collect()
}

/// The limit, what is in use, and how to end one.
fn assert_quota(words: &str, in_use: &BTreeSet<String>) {
    let beginning = format!(
        "Quota exceeded: user alice may have {LIMIT} session(s) in pool {POOL} at the same time, and has {LIMIT}: "
    );
    let end = "End one: spark.stop() in its program, close the JDBC connection, or `kubectl delete sis NAME`; idle ones \
               end by themselves after 720 min.";
    assert!(words.starts_with(&beginning) && words.ends_with(end), "{words}");
    assert!(in_use.iter().all(|session| words.contains(session)), "{words}\ndoes not name all of {in_use:?}");
}
