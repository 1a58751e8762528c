//! One driver: its objects in Kubernetes, and its server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Map, Value, json};
use spark_session_operator::api::SparkApplication;
use spark_session_operator::model::{Protocol, server_port};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use super::connect::ConnectService;
use super::{BYTES, Gates, PAUSE, POD, RECEIVED, thrift, token_secret};

/// From the start of the driver to the end of its SparkApplication.
pub async fn run(
    client: Client,
    namespace: String,
    application: SparkApplication,
    gates: Gates,
    ended: CancellationToken,
) {
    let mut starts = gates.starts.subscribe();
    let name = application.metadata.name.clone().unwrap_or_default();
    let outcome = async {
        starts.wait_for(|allowed| *allowed).await?;
        token_secret::until_there(Api::namespaced(client.clone(), &namespace), &application).await?;
        let pod = pod_of(&application)?;
        let address = serve(&application, &pod, &gates, ended.clone()).await?;
        announce(&client, &namespace, &name, &pod, address).await
    };
    tokio::select! {
        outcome = outcome => if let Err(error) = outcome {
            eprintln!("stand-in: {name}: {error:#}");
        },
        () = ended.cancelled() => {}
    }
    ended.cancelled().await;
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    // Mostly the garbage collector's, which takes seconds. An error: it was there first, or the test is over.
    let _ = pods.delete(&format!("{name}-driver"), &DeleteParams::default()).await;
}

/// What the Spark Operator and the kubelet write, in their order.
async fn announce(
    client: &Client,
    namespace: &str,
    name: &str,
    pod: &Pod,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let applications: Api<SparkApplication> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams::default();
    let pod_name = format!("{name}-driver");

    let submitted = json!({ "status": {
        "applicationState": { "state": "SUBMITTED" },
        "submissionID": name,
        "submissionAttempts": 1,
        "driverInfo": { "podName": pod_name },
    }});
    applications.patch_status(name, &params, &Patch::Merge(submitted)).await?;
    pods.create(&PostParams::default(), pod).await?;
    let ip = address.ip().to_string();
    let running = json!({ "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "hostIP": "127.0.0.1" } });
    pods.patch_status(&pod_name, &params, &Patch::Merge(running)).await?;
    let running = json!({ "status": {
        "applicationState": { "state": "RUNNING" },
        "sparkApplicationId": format!("spark-{name}"),
        "executionAttempts": 1,
    }});
    applications.patch_status(name, &params, &Patch::Merge(running)).await?;
    Ok(())
}

/// Labels and owner as the Spark Operator (v2.4) sets them. It is bound to no node: its deletion then needs no kubelet.
fn pod_of(application: &SparkApplication) -> Result<Pod, serde_json::Error> {
    let meta = &application.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let mut labels = json!(meta.labels);
    let of_driver = application.spec.fields.get("driver").and_then(|driver| driver.get("labels"));
    for (key, value) in of_driver.and_then(Value::as_object).into_iter().flatten() {
        labels[key] = value.clone();
    }
    for (key, value) in [
        ("spark-role", "driver"),
        ("spark-app-name", name),
        ("sparkoperator.k8s.io/app-name", name),
        ("sparkoperator.k8s.io/launched-by-spark-operator", "true"),
        ("sparkoperator.k8s.io/submission-id", name),
    ] {
        labels[key] = json!(value);
    }
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("{name}-driver"),
            "labels": labels,
            "ownerReferences": [{
                "apiVersion": "sparkoperator.k8s.io/v1beta2",
                "kind": "SparkApplication",
                "name": name,
                "uid": meta.uid,
                "controller": true,
            }],
        },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{ "name": "spark-kubernetes-driver", "image": "spark" }],
        },
    }))
}

/// Listens where the application's configuration says, on a loopback address that nobody else has.
async fn serve(
    application: &SparkApplication,
    pod: &Pod,
    gates: &Gates,
    ended: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let conf = application.spec.fields.get("sparkConf").and_then(Value::as_object);
    let nothing = Map::new();
    let conf = conf.unwrap_or(&nothing);
    // The operator sets this for Thrift pools.
    let protocol = if conf.contains_key("spark.hadoop.hive.server2.transport.mode") {
        Protocol::Thrift
    } else {
        Protocol::Connect
    };
    let listener = listen(server_port(protocol, conf)).await?;
    let address = listener.local_addr()?;
    let mut losses = gates.losses.subscribe();
    losses.mark_unchanged();
    let closed = async move {
        tokio::select! {
            () = ended.cancelled_owned() => {}
            _ = losses.changed() => {}
        }
    };
    let pod: Arc<str> = pod.metadata.name.as_deref().unwrap_or_default().into();
    match protocol {
        Protocol::Connect => {
            let service =
                ConnectService { pod, streams: gates.streams.subscribe(), seen: gates.seen.clone() };
            let server = tonic::transport::Server::builder()
                .initial_connection_window_size(8 << 20)
                .initial_stream_window_size(1 << 20)
                .add_service(service)
                .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), closed);
            tokio::spawn(server);
        }
        Protocol::Thrift => {
            let server = axum::serve(listener, thrift::router(pod, gates.seen.clone()));
            tokio::spawn(server.with_graceful_shutdown(closed).into_future());
        }
    }
    Ok(address)
}

/// All of 127.0.0.0/8 is this machine's. 127.0.x.y is left to those who expect it.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    let mut tries = 20;
    loop {
        let [_, b, c, d] = rand::random::<[u8; 4]>();
        let address = Ipv4Addr::new(127, b.max(1), c, d.clamp(1, 254));
        match TcpListener::bind((address, port)).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries > 0 => tries -= 1,
            outcome => return outcome,
        }
    }
}

/// What a request asks for with [`PAUSE`].
pub fn pause(headers: &HeaderMap) -> Duration {
    Duration::from_millis(asked(headers, PAUSE).unwrap_or(0))
}

/// The number that a request gives with this name.
pub fn asked(headers: &HeaderMap, name: &str) -> Option<u64> {
    let agent = headers.get(http::header::USER_AGENT)?.to_str().ok()?;
    let asked = agent.split(' ').find_map(|product| product.strip_prefix(name)?.strip_prefix('/'))?;
    Some(asked.parse().unwrap_or_else(|_| panic!("{name}/{asked}: not a number")))
}

/// The headers of an answer: who gives it, and what arrived.
pub fn answer_headers(pod: &str, uri: &Uri, headers: &HeaderMap, bytes: usize) -> HeaderMap {
    let mut answer = HeaderMap::new();
    let mut add = |name: String, value: &[u8]| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
            answer.append(name, value);
        }
    };
    add(POD.to_owned(), pod.as_bytes());
    add(BYTES.to_owned(), bytes.to_string().as_bytes());
    add(format!("{RECEIVED}path"), uri.path_and_query().map_or("", |path| path.as_str()).as_bytes());
    add(format!("{RECEIVED}authority"), uri.authority().map_or("", |host| host.as_str()).as_bytes());
    for (name, value) in headers {
        add(format!("{RECEIVED}{name}"), value.as_bytes());
    }
    answer
}
