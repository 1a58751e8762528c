//! Between the operator and the API server: forwards every request, as administrator, and does harm on demand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::{Method, StatusCode, header};
use kube::Client;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Long after somebody whose write has failed tries again.
pub const LATE: Duration = Duration::from_secs(2);

pub struct Proxy {
    address: SocketAddr,
    state: Arc<Shared>,
    serving: JoinHandle<std::io::Result<()>>,
}

struct Shared {
    client: Client,
    /// Answers under way are broken off when it changes.
    cuts: watch::Sender<u64>,
    /// Watches find that what they saw last is forgotten.
    forgets: AtomicBool,
    told_gone: AtomicUsize,
    /// Whether it is as an API server that is not ready yet.
    starts: AtomicBool,
    refused: AtomicUsize,
    /// Answers to creations of SparkApplications that will be lost, and watches are late.
    loses: AtomicUsize,
    /// Milliseconds before a request that writes arrives, at most.
    slow_writes: AtomicU64,
    writes: AtomicUsize,
    /// By verb and path.
    asked: Mutex<BTreeMap<String, usize>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Proxy {
    pub async fn start(client: Client) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Shared {
            client,
            cuts: watch::Sender::new(0),
            forgets: AtomicBool::new(false),
            told_gone: AtomicUsize::new(0),
            starts: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            loses: AtomicUsize::new(0),
            slow_writes: AtomicU64::new(0),
            writes: AtomicUsize::new(0),
            asked: Mutex::default(),
        });
        let router = axum::Router::new().fallback(forward).with_state(Arc::clone(&state));
        Self { address, state, serving: tokio::spawn(axum::serve(listener, router).into_future()) }
    }

    /// By which it is used in place of the API server.
    pub fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let name = "through-the-proxy";
        let document = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": name, "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": name, "user": {} }],
            "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
            "current-context": name,
        });
        let path = folder.join("proxy-kubeconfig");
        std::fs::write(&path, document.to_string()).unwrap();
        path
    }

    /// Breaks off every answer that is under way, watches first of all.
    pub fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts all watches, and answers each once that goes on with what it saw: 410 Gone.
    pub fn forget(&self, forgets: bool) {
        self.state.forgets.store(forgets, SeqCst);
        self.cut();
    }

    /// How many watches were told so.
    pub fn told_gone(&self) -> usize {
        self.state.told_gone.load(SeqCst)
    }

    /// Cuts all watches, and answers every request that it is not ready, and when to ask again.
    pub fn start_up(&self, starts: bool) {
        self.state.starts.store(starts, SeqCst);
        self.cut();
    }

    /// How many requests were answered so.
    pub fn refused(&self) -> usize {
        self.state.refused.load(SeqCst)
    }

    /// The next creations of SparkApplications are carried out, but answered 504, and watches break off and are late.
    pub fn lose_answers(&self, count: usize) {
        self.state.loses.store(count, SeqCst);
    }

    pub fn still_loses(&self) -> bool {
        self.state.loses.load(SeqCst) > 0
    }

    /// Writes take between a quarter of this time and all of it longer.
    pub fn slow_writes(&self, at_most: Duration) {
        self.state.slow_writes.store(u64::try_from(at_most.as_millis()).unwrap(), SeqCst);
    }

    /// But for those of the Lease.
    pub fn writes(&self) -> usize {
        self.state.writes.load(SeqCst)
    }

    /// Requests since the beginning, or since they were counted anew: verb and path, and how many.
    pub fn asked(&self) -> Vec<(String, usize)> {
        self.state.asked.lock().unwrap().clone().into_iter().collect()
    }

    pub fn count_anew(&self) {
        self.state.asked.lock().unwrap().clear();
    }
}

async fn forward(State(state): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let watches = query.contains("watch=true");
    let verb = if watches { "WATCH" } else { parts.method.as_str() };
    let what = format!("{verb} {}", parts.uri.path());
    *state.asked.lock().unwrap().entry(what).or_default() += 1;
    if state.starts.load(SeqCst) {
        state.refused.fetch_add(1, SeqCst);
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")]).into_response();
    }
    if watches && query.contains("resourceVersion=") && state.forgets.load(SeqCst) {
        state.told_gone.fetch_add(1, SeqCst);
        let message = "too old resource version: 1 (2)";
        let gone = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired",
            "code": 410, "message": message });
        // Within the stream, as API servers tell it.
        return format!("{}\n", json!({ "type": "ERROR", "object": gone })).into_response();
    }
    let loses = state.loses.load(SeqCst);
    if watches && loses > 0 {
        tokio::time::sleep(LATE).await;
    }
    let lost = loses > 0 && parts.method == Method::POST && parts.uri.path().ends_with("/sparkapplications");
    // The Lease is another matter: who loses it writes nothing.
    if parts.method != Method::GET && !parts.uri.path().contains("/leases") {
        state.writes.fetch_add(1, SeqCst);
        let at_most = state.slow_writes.load(SeqCst);
        if at_most > 0 {
            tokio::time::sleep(Duration::from_millis(rand::random_range(at_most / 4..=at_most))).await;
        }
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    parts.uri = path.parse().unwrap();
    for name in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    let Ok(body) = axum::body::to_bytes(body, 16 << 20).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut cuts = state.cuts.subscribe();
    cuts.mark_unchanged();
    let request = http::Request::from_parts(parts, kube::client::Body::from(body));
    let Ok(answer) = state.client.send(request).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if lost {
        state.cuts.send_modify(|cuts| *cuts += 1);
        state.loses.store(loses - 1, SeqCst);
        return StatusCode::GATEWAY_TIMEOUT.into_response();
    }
    let (mut head, body) = answer.into_parts();
    for name in [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    if !watches {
        return Response::from_parts(head, Body::new(body));
    }
    let cut = async move {
        let _ = cuts.changed().await;
    };
    let data = Body::new(body).into_data_stream();
    // An error, so that the connection breaks: a watch that merely ends is as usual.
    let broken = futures::stream::once(async { Err(axum::Error::new(std::io::Error::other("cut"))) });
    Response::from_parts(head, Body::from_stream(data.take_until(cut).chain(broken)))
}
