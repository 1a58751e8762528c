//! A stand-in for what lies between a SparkApplication and a server that answers: the Spark Operator, the kubelet, and
//! Spark's start. Objects as theirs, servers as in [`crate::spark`], in milliseconds instead of seconds.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use serde_json::{Value, json};
use spark_session_operator::api::SparkApplication;
use spark_session_operator::plan::POOL_LABEL;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::kubernetes::api;
use crate::spark;
use crate::stand_in::token_secret;

/// Milliseconds from a driver's address to its server, in turn: a server that is there before Envoy can know of it, one
/// that comes just then, and one that the operator has to ask again.
const STARTS: [u64; 4] = [0, 5, 30, 120];

/// As long as no JVM takes, but long enough for whoever waits to have found a slow pace.
const SLOW: Duration = Duration::from_secs(2);

/// Works until it is dropped.
pub struct SparkOperator {
    watching: AbortHandle,
    own_starts: OwnStarts,
}

/// By pool: how long its last start took, without waiting for anybody else.
type OwnStarts = Arc<Mutex<HashMap<String, Duration>>>;

impl Drop for SparkOperator {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl SparkOperator {
    pub fn start(client: Client) -> Self {
        Self::start_in(client, |number| Duration::from_millis(STARTS[number as usize % STARTS.len()]))
    }

    /// Each start takes about two seconds, and none as long as the next one.
    pub fn start_slowly(client: Client) -> Self {
        Self::start_in(client, |number| SLOW + Duration::from_millis(u64::from(number) * 37 % 100))
    }

    fn start_in(client: Client, pause: fn(u32) -> Duration) -> Self {
        let own_starts = OwnStarts::default();
        let watching = tokio::spawn(follow(client, pause, Arc::clone(&own_starts))).abort_handle();
        Self { watching, own_starts }
    }

    /// From the SparkApplication to the server of this pool that listens, less what it waited for the operator under test.
    pub fn own_start(&self, pool: &str) -> Duration {
        self.own_starts.lock().unwrap()[pool]
    }
}

async fn follow(client: Client, pause: fn(u32) -> Duration, own_starts: OwnStarts) {
    let applications: Api<SparkApplication> = api(&client);
    let mut events = std::pin::pin!(watch(applications, watcher::Config::default()).default_backoff());
    let mut drivers: HashMap<String, Driver> = HashMap::new();
    let mut started = 0;
    while let Some(event) = events.try_next().await.expect("the watch of SparkApplications ended") {
        match event {
            Event::Apply(application) | Event::InitApply(application) => {
                let uid = application.metadata.uid.clone().unwrap();
                drivers.entry(uid).or_insert_with(|| {
                    started += 1;
                    let started =
                        run(client.clone(), application, started, pause(started), own_starts.clone());
                    Driver(tokio::spawn(started).abort_handle())
                });
            }
            Event::Delete(application) => {
                drivers.remove(&application.metadata.uid.clone().unwrap());
                let (pods, name) = (api::<Pod>(&client), driver_name(&application));
                // The garbage collector may be faster.
                tokio::spawn(async move { pods.delete(&name, &DeleteParams::default()).await });
            }
            Event::Init | Event::InitDone => {}
        }
    }
}

/// Its server ends with it.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn driver_name(application: &SparkApplication) -> String {
    format!("{}-driver", application.metadata.name.as_deref().unwrap())
}

/// `number` gives it an address that no other driver has: all of 127.0.0.0/8 is this machine's.
async fn run(
    client: Client,
    application: SparkApplication,
    number: u32,
    pause: Duration,
    own_starts: OwnStarts,
) {
    let begin = Instant::now();
    let name = driver_name(&application);
    let pods: Api<Pod> = api(&client);
    pods.create(&PostParams::default(), &pod(&application)).await.unwrap();
    let [_, b, c, d] = number.to_be_bytes();
    let ip = Ipv4Addr::new(127, 64 + b, c, d);
    let status = json!({ "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] } });
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();

    let applications: Api<SparkApplication> = api(&client);
    let running = json!({ "status": { "applicationState": { "state": "RUNNING" } } });
    let application_name = application.metadata.name.as_deref().unwrap();
    // It may be deleted already.
    let _ =
        applications.patch_status(application_name, &PatchParams::default(), &Patch::Merge(running)).await;

    // As long as it is not there, the instance is not wanted any more.
    let waiting = Instant::now();
    if token_secret::until_there(api(&client), &application).await.is_err() {
        return;
    }
    let waited = waiting.elapsed();
    tokio::time::sleep(pause).await;
    let port = application.spec.fields["sparkConf"]["spark.connect.grpc.binding.port"].as_str().unwrap();
    let listener = TcpListener::bind((ip, port.parse::<u16>().unwrap())).await.unwrap();
    if let Some(pool) = application.metadata.labels.as_ref().and_then(|labels| labels.get(POOL_LABEL)) {
        own_starts.lock().unwrap().insert(pool.clone(), begin.elapsed() - waited);
    }
    spark::serve(listener).await;
}

fn pod(application: &SparkApplication) -> Pod {
    let name = application.metadata.name.as_deref().unwrap();
    let mut labels = application.spec.fields["driver"]["labels"].clone();
    labels["spark-role"] = Value::from("driver");
    labels["sparkoperator.k8s.io/app-name"] = Value::from(name);
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": driver_name(application),
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": "sparkoperator.k8s.io/v1beta2",
                "kind": "SparkApplication",
                "name": name,
                "uid": application.metadata.uid,
                "controller": true,
            }],
        },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{ "name": "spark-kubernetes-driver", "image": "spark" }],
        },
    }))
    .unwrap()
}
