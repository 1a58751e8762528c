//! What the API server is written for sessions that are in use: every version of their objects, and of the Events about
//! them, that a watch shows.
//!
//! A session of an hour is put together of what its beginning and its end cost, and of what was written meanwhile.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::Event as ClusterEvent;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use spark_session_operator::api::SparkInteractiveSession;
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::Size;
use crate::asking::Asking;
use crate::domain::{free_port, host, loopback};
use crate::figures::verdict;
use crate::kubernetes::{NAMESPACE, admin, api, clear, delete_all, until_selected};
use crate::operator::Operator;
use crate::sessions::create_warm_pool;
use crate::stand_in::StandIn;

const POOL: &str = "used";
const SESSIONS: usize = 20;
/// How often each session is used.
const USED_EVERY: Duration = Duration::from_secs(5);
/// For what is written after the last thing that was waited for.
const REST: Duration = Duration::from_secs(5);
const GOAL: f64 = 62.0;

pub async fn measure(size: Size) {
    let client = admin().await;
    clear(&client).await;
    let _spark = StandIn::start(client.clone(), NAMESPACE);
    create_warm_pool(&client, POOL, 3).await;
    let operator = Operator::start(loopback(free_port())).await;
    let mut asking = Asking::new(operator.address).await.for_envoy("envoy-0");
    let host = host(POOL);
    // Waits for the instance, as the others shall not.
    let first = Uuid::new_v4();
    asking.call(&host, "first", "Config", first).await;
    tokio::time::sleep(REST).await;

    let written = Written::watch(&client).await;
    let sessions: Vec<_> = (0..SESSIONS).map(|n| (format!("user-{n}"), Uuid::new_v4())).collect();
    for (user, session) in &sessions {
        asking.call(&host, user, "Config", *session).await;
    }
    tokio::time::sleep(REST).await;
    let beginning = written.take();

    let length = Duration::from_secs(size.of(300, 20));
    let (began, mut turns) = (Instant::now(), tokio::time::interval(USED_EVERY / SESSIONS as u32));
    for (user, session) in sessions.iter().cycle() {
        turns.tick().await;
        if began.elapsed() >= length {
            break;
        }
        asking.call(&host, user, "ExecutePlan", *session).await;
    }
    let (used, hours) = (written.take(), began.elapsed().as_secs_f64() / 3600.0);

    for (user, session) in &sessions {
        asking.call(&host, user, "ReleaseSession", *session).await;
    }
    until_selected::<SparkInteractiveSession>(&client, "status.state=Terminated", SESSIONS).await;
    tokio::time::sleep(REST).await;
    let end = written.take();

    let each = |writes: usize| writes as f64 / SESSIONS as f64;
    let of_hour = |counted: Counted| (each(counted.objects) / hours, each(counted.events) / hours);
    let (objects, events) = of_hour(used);
    println!(
        "\nwrites to the API server per session, {SESSIONS} sessions used every {} s for {:.0} s   objects   Events",
        USED_EVERY.as_secs(),
        hours * 3600.0
    );
    let row = |name: &str, objects: f64, events: f64| println!("  {name:<72}{objects:>10.1} {events:>8.1}");
    row("from its creation until it is used", each(beginning.objects), each(beginning.events));
    row("in use, each hour", objects, events);
    row("from its release to its end", each(end.objects), each(end.events));
    let steady = objects + events;
    println!("  an hour of steady use: {steady:.1}, goal ≤ {GOAL} {}", verdict(steady <= GOAL));
    let around = each(beginning.all()) + each(end.all());
    println!("  with beginning and end, for a session of one hour: {:.1}", steady + around);
    asking.call(&host, "first", "ReleaseSession", first).await;
    delete_all::<SparkInteractiveSession>(&client).await;
}

/// Versions that a watch has shown since they were last asked for.
struct Written {
    versions: Arc<Mutex<(HashSet<String>, HashSet<String>)>>,
    watches: [AbortHandle; 2],
}

#[derive(Clone, Copy)]
struct Counted {
    objects: usize,
    events: usize,
}

impl Counted {
    fn all(self) -> usize {
        self.objects + self.events
    }
}

impl Written {
    /// Those from now on of all sessions except the one that is there already, as long as nobody touches it.
    async fn watch(client: &Client) -> Self {
        let versions: Arc<Mutex<(HashSet<String>, HashSet<String>)>> = Arc::default();
        let (of_sessions, of_events) = (Arc::clone(&versions), Arc::clone(&versions));
        let sessions = watcher(api::<SparkInteractiveSession>(client), watcher::Config::default());
        let events = watcher(api::<ClusterEvent>(client), watcher::Config::default());
        let watches = [
            tokio::spawn(follow(sessions, move |session: SparkInteractiveSession| {
                of_sessions.lock().unwrap().0.insert(session.resource_version().unwrap());
            })),
            tokio::spawn(follow(events, move |event: ClusterEvent| {
                if event.involved_object.kind.as_deref() == Some("SparkInteractiveSession") {
                    of_events.lock().unwrap().1.insert(event.resource_version().unwrap());
                }
            })),
        ];
        // Until both have listed what is there.
        tokio::time::sleep(REST).await;
        let written = Self { versions, watches: watches.map(|watch| watch.abort_handle()) };
        written.take();
        written
    }

    fn take(&self) -> Counted {
        let (objects, events) = std::mem::take(&mut *self.versions.lock().unwrap());
        Counted { objects: objects.len(), events: events.len() }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.watches.iter().for_each(AbortHandle::abort);
    }
}

async fn follow<K>(objects: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>>, seen: impl Fn(K)) {
    let mut events = std::pin::pin!(objects.default_backoff());
    while let Ok(Some(event)) = events.try_next().await {
        // What was there before, Events of earlier parts among it, is no write.
        if let watcher::Event::Apply(object) = event {
            seen(object);
        }
    }
}
