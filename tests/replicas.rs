//! Two replicas of the operator on one real API server: who plans, who takes over and when.
//! `tests/run integration` starts one for these tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in helpers, which clippy does not take for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::{Method, Request, Uri};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::client::{Body, ClientBuilder};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use prometheus_client::metrics::gauge::Gauge;
use serde_json::json;
use spark_session_operator::api::{SparkApplication, SparkSessionPool};
use spark_session_operator::model::Policy;
use spark_session_operator::operator::{
    Activity, Applier, Candidate, Events, HolderIdentity, Leadership, LeaseName, LeaseTiming, Readiness,
    Reconciler, Stores, Takeover, watches,
};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::util::MapRequestLayer;
use uuid::Uuid;

#[path = "support/namespace.rs"]
mod namespace;
#[path = "stand_in/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests make it do more")]
mod stand_in;

use namespace::config;
use stand_in::StandIn;

const LEASE: &str = "spark-session-operator";
const PATIENCE: Duration = Duration::from_secs(30);

/// As in production, in less time.
const QUICK: LeaseTiming = LeaseTiming {
    duration: Duration::from_secs(3),
    renew_deadline: Duration::from_secs(2),
    renew: Duration::from_millis(500),
    retry: Duration::from_millis(250),
};

struct Replica {
    identity: HolderIdentity,
    leadership: Leadership,
    leads: Gauge,
    requests: Arc<Requests>,
    stop: CancellationToken,
    candidate: JoinHandle<anyhow::Result<()>>,
    /// Ended when this is dropped, as by a crash.
    _tasks: JoinSet<anyhow::Result<()>>,
}

#[derive(Default)]
struct Requests {
    /// Other than reading, without those for the Lease.
    writes: AtomicUsize,
    lease_reads: AtomicUsize,
    lease_writes: AtomicUsize,
    /// Requests for the Lease do not arrive any more.
    cut_off: AtomicBool,
    /// Secrets are listed, and not watched.
    without_news_of_secrets: AtomicBool,
}

impl Replica {
    async fn start(name: &str, namespace: &str, timing: LeaseTiming) -> Self {
        Self::start_in_pod(name, None, namespace, timing).await
    }

    async fn start_in_pod(name: &str, uid: Option<&str>, namespace: &str, timing: LeaseTiming) -> Self {
        Self::start_with(Arc::default(), name, uid, namespace, timing).await
    }

    async fn start_with(
        requests: Arc<Requests>,
        name: &str,
        uid: Option<&str>,
        namespace: &str,
        timing: LeaseTiming,
    ) -> Self {
        let client = client(Arc::clone(&requests)).await;
        let policy =
            Policy { identity_jar_url: Some("local:///identity.jar".to_owned()), ..Policy::default() };
        let stores = Stores::with_policy(policy);
        let mut tasks = JoinSet::new();
        watches::spawn(&client, namespace, &stores, &mut tasks);
        tasks.spawn(Readiness::new(Arc::clone(&stores)).run());
        let identity = HolderIdentity::new(name, uid, Uuid::new_v4());
        let lease =
            LeaseName { namespace: namespace.to_owned(), name: LEASE.to_owned(), identity: identity.clone() };
        let (leads, stop) = (Gauge::default(), CancellationToken::new());
        let (candidate, leadership) = Candidate::new(&client, lease, timing, leads.clone());
        let activity = Activity::new(Duration::from_secs(60));
        let applier = Arc::new(Applier::new(
            &client,
            namespace,
            Arc::clone(&stores),
            leadership.clone(),
            activity.clone(),
            Events::new(&client, namespace),
        ));
        let takeover = Takeover::new(&client, namespace);
        Reconciler::new(Arc::clone(&stores), applier, takeover, leadership.clone(), activity)
            .spawn(&mut tasks);
        let watching = Arc::clone(&stores);
        let candidate =
            tokio::spawn(candidate.run(async move { watching.until_probed().await }, stop.clone()));
        // It knows what there is, whoever leads.
        stores.until_probed().await;
        Self { identity, leadership, leads, requests, stop, candidate, _tasks: tasks }
    }

    async fn leads(&self) {
        timeout(PATIENCE, self.leadership.next_term(None)).await.expect("it does not lead");
    }

    fn is_leading(&self) -> bool {
        self.leadership.term().is_some()
    }

    /// Until it has sent so many more renewals.
    async fn renews(&self, times: usize) {
        let sent = || self.requests.lease_writes.load(SeqCst);
        let last = sent() + times;
        let renewed = async {
            while sent() < last {
                sleep(QUICK.retry / 5).await;
            }
        };
        timeout(PATIENCE, renewed).await.expect("it does not renew its Lease");
    }

    fn writes(&self) -> usize {
        self.requests.writes.load(SeqCst)
    }

    async fn stop(self) {
        self.stop.cancel();
        self.candidate.await.unwrap().unwrap();
    }

    fn crash(self) {
        self.candidate.abort();
    }
}

/// A client whose requests are counted, and which can lose those for Leases.
async fn client(requests: Arc<Requests>) -> Client {
    let watched = MapRequestLayer::new(move |mut request: Request<Body>| {
        if request.uri().path().contains("/leases") {
            let reads = request.method() == Method::GET;
            let count = if reads { &requests.lease_reads } else { &requests.lease_writes };
            count.fetch_add(1, SeqCst);
            if requests.cut_off.load(SeqCst) {
                *request.uri_mut() = Uri::from_static("/cut-off");
            }
        } else if request.uri().path().ends_with("/secrets")
            && request.uri().query().is_some_and(|query| query.contains("watch=true"))
            && requests.without_news_of_secrets.load(SeqCst)
        {
            *request.uri_mut() = Uri::from_static("/cut-off");
        } else if request.method() != Method::GET {
            requests.writes.fetch_add(1, SeqCst);
        }
        request
    });
    ClientBuilder::try_from(config().await).unwrap().with_layer(&watched).build()
}

async fn in_a_namespace(test: impl AsyncFnOnce(Cluster)) {
    namespace::in_a_namespace("test", async |client, namespace| test(Cluster { client, namespace }).await)
        .await;
}

/// The cluster as an administrator sees it.
struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    async fn create_pool(&self, name: &str) {
        let template = json!({
            "type": "Java",
            "sparkVersion": "4.1.0",
            "mainApplicationFile": "local:///opt/spark/server.jar",
            "driver": {},
            "executor": {},
        });
        let pool: SparkSessionPool = serde_json::from_value(json!({
            "apiVersion": "sparkinteractive.io/v1alpha1",
            "kind": "SparkSessionPool",
            "metadata": { "name": name },
            "spec": {
                "type": "connect",
                "host": format!("{name}.example.com"),
                "replicas": { "min": 1, "max": 3 },
                "sparkApplicationTemplate": { "spec": template },
            },
        }))
        .unwrap();
        self.pools().create(&PostParams::default(), &pool).await.unwrap();
    }

    async fn wants(&self, pool: &str, instances: i32) {
        let patch = Patch::Merge(json!({ "spec": { "replicas": { "min": instances } } }));
        self.pools().patch(pool, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until the planner says that it wants so many instances, and has made them.
    async fn is_planned(&self, pool: &str, instances: i32) {
        let planned = move |pool: Option<&SparkSessionPool>| {
            let status = pool.and_then(|pool| pool.status.as_ref());
            status.is_some_and(|status| status.instances.len() == usize::try_from(instances).unwrap())
        };
        let planned = timeout(PATIENCE, await_condition(self.pools(), pool, planned)).await;
        planned.expect("the pool is not planned").unwrap();
        assert_eq!(self.instances(pool).await, usize::try_from(instances).unwrap());
    }

    async fn instances(&self, pool: &str) -> usize {
        let api: Api<SparkApplication> = Api::namespaced(self.client.clone(), &self.namespace);
        let all = api.list(&ListParams::default()).await.unwrap();
        let prefix = format!("{pool}-");
        all.iter()
            .filter(|it| it.metadata.name.as_deref().is_some_and(|name| name.starts_with(&prefix)))
            .count()
    }

    /// Waits until so many instances answer.
    async fn has_ready(&self, pool: &str, instances: i32) {
        let ready = move |pool: Option<&SparkSessionPool>| {
            let status = pool.and_then(|pool| pool.status.as_ref());
            status.is_some_and(|status| status.ready_replicas == instances)
        };
        let ready = timeout(PATIENCE, await_condition(self.pools(), pool, ready)).await;
        ready.expect("its instances do not answer").unwrap();
    }

    /// UIDs of the instances.
    async fn uids(&self) -> Vec<String> {
        let api: Api<SparkApplication> = Api::namespaced(self.client.clone(), &self.namespace);
        let all = api.list_metadata(&ListParams::default()).await.unwrap();
        all.into_iter().filter_map(|it| it.metadata.uid).collect()
    }

    async fn holder(&self) -> Option<String> {
        self.leases().get(LEASE).await.unwrap().spec.and_then(|spec| spec.holder_identity)
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn pools(&self) -> Api<SparkSessionPool> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_holder_of_the_lease_plans() {
    in_a_namespace(async |cluster| {
        let first = Replica::start("first", &cluster.namespace, QUICK).await;
        first.leads().await;
        let second = Replica::start("second", &cluster.namespace, QUICK).await;
        cluster.create_pool("lab").await;
        cluster.is_planned("lab", 1).await;
        cluster.wants("lab", 2).await;
        cluster.is_planned("lab", 2).await;
        assert!(first.writes() > 0);
        assert_eq!((second.writes(), second.is_leading()), (0, false));
        assert_eq!((first.leads.get(), second.leads.get()), (1, 0));
        assert_eq!(cluster.holder().await.as_deref(), Some(first.identity.as_str()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_a_single_request() {
    in_a_namespace(async |cluster| {
        let leader = Replica::start("leader", &cluster.namespace, QUICK).await;
        leader.leads().await;
        leader.renews(1).await;
        let read = leader.requests.lease_reads.load(SeqCst);
        leader.renews(5).await;
        assert_eq!(leader.requests.lease_reads.load(SeqCst), read);
    })
    .await;
}

/// An annotation by `kubectl`, or a backup that puts objects back.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_lease_somebody_touches_or_deletes_goes_on_leading() {
    in_a_namespace(async |cluster| {
        let leader = Replica::start("leader", &cluster.namespace, QUICK).await;
        leader.leads().await;
        let term = leader.leadership.term();
        let touch = Patch::Merge(json!({ "metadata": { "annotations": { "example.com/seen": "yes" } } }));
        cluster.leases().patch(LEASE, &PatchParams::default(), &touch).await.unwrap();
        leader.renews(2).await;
        cluster.leases().delete(LEASE, &DeleteParams::default()).await.unwrap();
        leader.renews(2).await;
        assert_eq!(cluster.holder().await.as_deref(), Some(leader.identity.as_str()));
        assert_eq!(leader.leadership.term(), term);
        assert!(term.is_some());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_in_order_is_followed_at_once() {
    in_a_namespace(async |cluster| {
        let first = Replica::start("first", &cluster.namespace, LeaseTiming::DEFAULT).await;
        first.leads().await;
        let second = Replica::start("second", &cluster.namespace, LeaseTiming::DEFAULT).await;
        cluster.create_pool("lab").await;
        cluster.is_planned("lab", 1).await;

        let stopped = Instant::now();
        first.stop().await;
        second.leads().await;
        let took = stopped.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!(cluster.holder().await.as_deref(), Some(second.identity.as_str()));
        cluster.wants("lab", 2).await;
        cluster.is_planned("lab", 2).await;
        second.stop().await;
        assert_eq!(cluster.holder().await, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_crashed_is_followed_when_its_lease_has_expired_and_all_is_planned() {
    in_a_namespace(async |cluster| {
        let first = Replica::start("first", &cluster.namespace, LeaseTiming::DEFAULT).await;
        first.leads().await;
        let second = Replica::start("second", &cluster.namespace, LeaseTiming::DEFAULT).await;
        let crashed = Instant::now();
        first.crash();
        // Nobody plans this; whoever leads next has to find it.
        cluster.create_pool("orphan").await;
        second.leads().await;
        let took = crashed.elapsed();
        // The last renewal may have been `renew` before the crash.
        assert!(took > LeaseTiming::DEFAULT.duration - Duration::from_secs(3), "too early: {took:?}");
        assert!(took < Duration::from_secs(15), "{took:?}");
        cluster.is_planned("orphan", 1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_restarted_in_its_pod_goes_on_at_once() {
    in_a_namespace(async |cluster| {
        let start =
            || Replica::start_in_pod("operator", Some("5d1e"), &cluster.namespace, LeaseTiming::DEFAULT);
        let first = start().await;
        first.leads().await;
        cluster.create_pool("lab").await;
        cluster.is_planned("lab", 1).await;

        let crashed = Instant::now();
        first.crash();
        cluster.create_pool("orphan").await;
        let again = start().await;
        again.leads().await;
        let took = crashed.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert_eq!(cluster.holder().await.as_deref(), Some(again.identity.as_str()));
        cluster.is_planned("orphan", 1).await;
        assert_eq!(cluster.instances("lab").await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_renew_stops_writing_before_another_begins() {
    in_a_namespace(async |cluster| {
        let first = Replica::start("first", &cluster.namespace, QUICK).await;
        first.leads().await;
        let second = Replica::start("second", &cluster.namespace, QUICK).await;
        cluster.create_pool("lab").await;
        cluster.is_planned("lab", 1).await;

        first.requests.cut_off.store(true, SeqCst);
        second.leads().await;
        assert!(!first.is_leading(), "two leaders");
        let written = first.writes();
        // Its watches go on: it sees the change, and leaves it to the other one.
        cluster.wants("lab", 2).await;
        cluster.is_planned("lab", 2).await;
        assert_eq!(first.writes(), written);
        assert!(second.writes() > 0);
        assert_eq!((first.leads.get(), second.leads.get()), (0, 1));

        // Back again, it waits for its turn.
        first.requests.cut_off.store(false, SeqCst);
        second.stop().await;
        timeout(PATIENCE, async {
            while !first.is_leading() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("it does not lead again");
        cluster.wants("lab", 3).await;
        cluster.is_planned("lab", 3).await;
    })
    .await;
}

/// A watch that is behind: it takes its time to begin anew, or it is not allowed for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_has_not_heard_of_the_last_ones_secrets_keeps_its_instances() {
    in_a_namespace(async |cluster| {
        let _spark = StandIn::start(cluster.client.clone(), &cluster.namespace);
        let first = Replica::start("first", &cluster.namespace, QUICK).await;
        first.leads().await;
        let requests = Arc::new(Requests::default());
        requests.without_news_of_secrets.store(true, SeqCst);
        let second = Replica::start_with(requests, "second", None, &cluster.namespace, QUICK).await;
        cluster.create_pool("lab").await;
        cluster.has_ready("lab", 1).await;
        let before = cluster.uids().await;

        first.crash();
        second.leads().await;
        // It has planned the pool.
        cluster.wants("lab", 2).await;
        cluster.has_ready("lab", 2).await;
        let after = cluster.uids().await;
        assert!(before.iter().all(|uid| after.contains(uid)), "{before:?} are replaced by {after:?}");
        let pool = cluster.pools().get("lab").await.unwrap();
        let status = pool.status.unwrap();
        assert_eq!((status.consecutive_failures, status.last_failure_message.as_deref()), (0, None));
    })
    .await;
}
