//! Two replicas of the operator, and whichever leads is killed, again and again, while clients come and go.
//!
//! `FAILOVERS` says how often (5).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use spark_session_operator::api::{SessionState, SparkInteractiveSession};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::{Code, Status};

use super::connect_client::ConnectClient;
use super::operator::Operator;
use super::pools::{self, HOST};
use super::process::free_port;
use super::proxy::Envoy;
use super::stand_in::StandIn;
use super::wait::until;
use super::world::{Cluster, in_a_namespace};

const PLACES: usize = 4;
const INSTANCES: usize = 5;
const PER_USER: usize = 6;
const USERS: usize = 3;

/// What the watch of sessions shows, held against the limits at every event.
#[derive(Default)]
struct Ledger {
    sessions: BTreeMap<String, SparkInteractiveSession>,
    ids: BTreeSet<String>,
    most_on_an_instance: usize,
}

impl Ledger {
    fn enter(&mut self, session: SparkInteractiveSession) {
        let name = session.metadata.name.clone().unwrap();
        if let Some(id) = &session.spec.session_id
            && !self.sessions.contains_key(&name)
        {
            assert!(self.ids.insert(id.clone()), "two sessions for {id}");
        }
        self.sessions.insert(name, session);
        let (mut on_instance, mut of_user) = (BTreeMap::<_, usize>::new(), BTreeMap::<_, usize>::new());
        for session in self.sessions.values() {
            let status = session.status.clone().unwrap_or_default().status;
            // What its client has released takes no place of the quota while Spark is told.
            let counts = !status.state.is_finished() && status.released_at.is_none();
            let Some(instance) = status.assigned_instance.filter(|_| counts) else {
                continue;
            };
            *on_instance.entry(instance).or_default() += 1;
            *of_user.entry(session.spec.user.clone()).or_default() += 1;
        }
        assert!(on_instance.values().all(|count| *count <= PLACES), "oversubscribed: {on_instance:?}");
        assert!(of_user.values().all(|count| *count <= PER_USER), "above the quota: {of_user:?}");
        self.most_on_an_instance =
            self.most_on_an_instance.max(on_instance.values().copied().max().unwrap_or(0));
    }
}

/// Runs until it is aborted; ends only by what it has to complain of.
async fn keep_a_ledger(cluster: Cluster, ledger: Arc<Mutex<Ledger>>) {
    let mut events = std::pin::pin!(watcher(cluster.sessions, watcher::Config::default()));
    while let Some(event) = events.try_next().await.unwrap() {
        match event {
            Event::Apply(session) | Event::InitApply(session) => ledger.lock().unwrap().enter(session),
            Event::Delete(session) => {
                ledger.lock().unwrap().sessions.remove(&session.metadata.name.unwrap());
            }
            Event::Init | Event::InitDone => {}
        }
    }
}

/// What every Spark Connect client does: a status with RetryInfo is not the user's matter. An operator that is killed
/// between the head and the body of its answer to a check leaves Envoy no second try.
async fn persistently<T, F>(call: impl Fn() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    loop {
        match call().await {
            Err(status) if status.code() == Code::Unavailable && has_retry_info(&status) => {
                RETRIES.fetch_add(1, SeqCst);
                sleep(Duration::from_millis(50)).await;
            }
            outcome => return outcome,
        }
    }
}

fn has_retry_info(status: &Status) -> bool {
    status.details().windows(9).any(|bytes| bytes == b"RetryInfo")
}

static RETRIES: AtomicUsize = AtomicUsize::new(0);

/// A program: it works for a moment, and ends its session.
async fn program(envoy: SocketAddr, user: String, works: Duration) -> Result<(), Status> {
    let client = ConnectClient::new(envoy, HOST, &user).await;
    let pod = persistently(|| client.config()).await?.pod().to_owned();
    sleep(works).await;
    let answer = persistently(|| client.config()).await?;
    assert_eq!(answer.pod(), pod, "a session stays where it is");
    persistently(|| client.release_session()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_is_doubled_lost_or_placed_too_many_when_leaders_are_killed() {
    let failovers: usize =
        std::env::var("FAILOVERS").map_or(5, |text| text.parse().expect("FAILOVERS is a number"));
    in_a_namespace(async move |cluster: Cluster| {
        let listens = free_port();
        let flags = ["--leader-elect", "--leader-elect-lease-duration", "2", "--connect-max-hold", "120"];
        let replica = |part| Operator::new("failover", part, &cluster.namespace, listens, &flags);
        let mut replicas = [replica("first"), replica("second")];
        let mut envoy = Envoy::with_replicas("failover", listens, &[replicas[0].grpc, replicas[1].grpc]);
        let _spark = StandIn::start(cluster.client.clone(), &cluster.namespace);
        let pool = pools::connect("connect", HOST);
        let mut pool =
            pools::with_places(pool, i32::try_from(INSTANCES).unwrap(), i32::try_from(PLACES).unwrap());
        pool.spec.session_policy.max_sessions_per_user = i32::try_from(PER_USER).unwrap();
        cluster.create(&pool).await;
        replicas[0].start();
        replicas[1].start();
        envoy.start();
        replicas[0].until_ready().await;
        envoy.until_it_listens().await;

        let ledger = Arc::<Mutex<Ledger>>::default();
        let mut watching = tokio::spawn(keep_a_ledger(cluster.clone(), ledger.clone()));
        let mut programs = JoinSet::new();
        for _ in 0..failovers {
            // As many as the quota lets each user have when all of the last round have ended.
            for user in 0..USERS {
                for _ in 0..PER_USER - 1 {
                    let works = Duration::from_millis(rand::random_range(0..600));
                    programs.spawn(program(listens, format!("user-{user}"), works));
                }
            }
            sleep(Duration::from_millis(rand::random_range(0..1500))).await;
            let leader = until("one replica leads", async || {
                let (first, second) = tokio::join!(replicas[0].leads(), replicas[1].leads());
                [first, second].iter().position(|leads| *leads)
            })
            .await;
            replicas[leader].kill();
            replicas[leader].start();
            while let Some(ended) = programs.join_next().await {
                ended.unwrap().expect("every program gets its session and ends it");
            }
            assert!(!watching.is_finished(), "{:?}", (&mut watching).await);
        }
        until("every session has ended", async || {
            let sessions = cluster.sessions.list(&Default::default()).await.unwrap();
            let over = |session: &SparkInteractiveSession| {
                session.status.as_ref().is_some_and(|status| status.state == SessionState::Terminated)
            };
            sessions.iter().all(over).then_some(())
        })
        .await;
        watching.abort();
        let ledger = ledger.lock().unwrap();
        let expected = failovers * USERS * (PER_USER - 1);
        assert_eq!(ledger.ids.len(), expected, "each program had one session, and it is known");
        println!(
            "{failovers} leaders killed, {expected} sessions, at most {} of {PLACES} on an instance, {} calls tried again",
            ledger.most_on_an_instance,
            RETRIES.load(SeqCst),
        );
    })
    .await;
}
