//! An OpenID Connect provider for what a real one cannot be made to do: to hang, to lie, to publish odd keys, to be gone.
//!
//! It has paths that no real provider has, so that only discovery can find them, and counts what is asked of it. It knows
//! no passwords: whoever logs in is let in, unless another answer was set.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::signer::Signer;

pub const DISCOVERY: &str = "/acme/.well-known/openid-configuration";
pub const KEYS: &str = "/k/1";
pub const TOKEN: &str = "/t/1";
/// Discovery does not name the following two unless it is told to.
pub const USERINFO: &str = "/u/1";
pub const REVOCATION: &str = "/r/1";

/// What one path answers.
#[derive(Clone)]
pub enum Answer {
    Json(Value),
    Text(u16, &'static str, String),
    Redirect(String),
    /// Headers, and then this many bytes in as many pieces as it takes.
    Huge(usize),
    /// Half of a JSON document, then the connection ends.
    Broken,
    /// Nothing for ever.
    Hang,
    Slow(Duration, Box<Self>),
    /// A token for whoever asks.
    LogIn,
    /// A token for whoever shows this password (which needs no encoding); others are told that theirs is wrong.
    LogInWith(&'static str),
}

/// Runs on a thread of its own until it is dropped.
pub struct OidcServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    /// What its URLs begin with.
    base: String,
    signer: Arc<Signer>,
    /// Sent with each login: about as long as Keycloak's.
    refresh_token: String,
    answers: Mutex<BTreeMap<String, Answer>>,
    hits: Mutex<BTreeMap<String, usize>>,
    /// By path, in their order.
    requests: Mutex<BTreeMap<String, Vec<Asked>>>,
}

/// What it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub authorization: Option<String>,
    pub body: String,
}

impl OidcServer {
    /// Its URLs begin with `base`, or else with its address.
    pub async fn start(signer: Arc<Signer>, base: Option<&str>) -> Self {
        let listener = listen(0).await;
        let address = listener.local_addr().unwrap();
        let base = base.map_or_else(|| format!("http://{address}"), str::to_owned);
        let shared = Arc::new(Shared {
            base,
            signer,
            refresh_token: format!("refresh.{}", "r".repeat(700)),
            answers: Mutex::default(),
            hits: Mutex::default(),
            requests: Mutex::default(),
        });
        let mut server = Self { address, shared, runtime: None };
        server.set(DISCOVERY, Answer::Json(server.document()));
        server.set(KEYS, Answer::Json(json!({ "keys": [server.signer().jwk()] })));
        server.set(TOKEN, Answer::LogIn);
        server.serve(listener);
        server
    }

    pub fn issuer(&self) -> String {
        self.shared.issuer()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.shared.base)
    }

    pub fn signer(&self) -> &Signer {
        &self.shared.signer
    }

    /// What discovery says unless told otherwise.
    pub fn document(&self) -> Value {
        json!({ "issuer": self.issuer(), "jwks_uri": self.url(KEYS), "token_endpoint": self.url(TOKEN) })
    }

    /// Lets discovery say more, or something else.
    pub fn discovers(&self, more: &Value) {
        let mut document = self.document();
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.set(DISCOVERY, Answer::Json(document));
    }

    /// What this path was asked, in its order.
    pub fn requests(&self, path: &str) -> Vec<Asked> {
        lock(&self.shared.requests).get(path).cloned().unwrap_or_default()
    }

    /// The claims of a token that it would issue now.
    pub fn claims(&self, user: &str) -> Value {
        self.shared.claims(user)
    }

    pub fn set(&self, path: &str, answer: Answer) {
        lock(&self.shared.answers).insert(path.to_owned(), answer);
    }

    /// How often this path was asked for.
    pub fn hits(&self, path: &str) -> usize {
        lock(&self.shared.hits).get(path).copied().unwrap_or(0)
    }

    /// Every path that was asked for.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.shared.hits).keys().cloned().collect()
    }

    /// Connections end, and new ones are refused.
    pub fn go_down(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // To wait for it is forbidden where a test runs.
            runtime.shutdown_background();
        }
    }

    /// At the same address.
    pub async fn come_back(&mut self) {
        let listener = listen(self.address.port()).await;
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let listener = listener.into_std().unwrap();
        let router = Router::new().fallback(answer).with_state(self.shared.clone());
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        self.runtime = Some(runtime);
    }
}

impl Drop for OidcServer {
    fn drop(&mut self) {
        self.go_down();
    }
}

impl Shared {
    fn issuer(&self) -> String {
        format!("{}/acme", self.base)
    }

    fn claims(&self, user: &str) -> Value {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        json!({ "iss": self.issuer(), "aud": "spark", "sub": user, "exp": now + 3600, "iat": now, "groups": ["dev"] })
    }

    fn log_in(&self, form: &[u8]) -> Value {
        let form = String::from_utf8_lossy(form);
        // Its callers are tests: names of users need no decoding.
        let user = form.split('&').find_map(|pair| pair.strip_prefix("username=")).unwrap_or("nobody");
        json!({
            "access_token": self.signer.token(&self.claims(user)),
            "refresh_token": self.refresh_token,
            "token_type": "Bearer",
            "expires_in": 3600,
            "refresh_expires_in": 7200,
        })
    }

    async fn answer(&self, answer: Answer, body: Bytes) -> Response {
        match answer {
            Answer::Json(value) => as_json(&value),
            Answer::Text(status, kind, body) => {
                (StatusCode::from_u16(status).unwrap(), [(CONTENT_TYPE, kind)], body).into_response()
            }
            Answer::Redirect(to) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, to)]).into_response(),
            Answer::Huge(length) => {
                let piece = Bytes::from_static(&[b' '; 4096]);
                let pieces = stream::repeat(piece).take(length.div_ceil(4096)).map(Ok::<_, std::io::Error>);
                Body::from_stream(pieces).into_response()
            }
            Answer::Broken => {
                let end = std::io::Error::other("the connection ends");
                let pieces = [Ok(Bytes::from_static(b"{\"keys\": [")), Err(end)];
                Body::from_stream(stream::iter(pieces)).into_response()
            }
            Answer::Hang => std::future::pending().await,
            Answer::Slow(pause, then) => {
                tokio::time::sleep(pause).await;
                Box::pin(self.answer(*then, body)).await
            }
            Answer::LogInWith(password) if !shows(&body, password) => wrong_password(),
            Answer::LogIn | Answer::LogInWith(_) => as_json(&self.log_in(&body)),
        }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    *lock(&shared.hits).entry(path.clone()).or_default() += 1;
    let answer = lock(&shared.answers).get(&path).cloned();
    let authorization =
        request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    let asked = Asked { authorization, body: String::from_utf8_lossy(&body).into_owned() };
    lock(&shared.requests).entry(path).or_default().push(asked);
    match answer {
        Some(answer) => shared.answer(answer, body).await,
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn shows(form: &[u8], password: &str) -> bool {
    String::from_utf8_lossy(form).split('&').any(|pair| pair.strip_prefix("password=") == Some(password))
}

fn wrong_password() -> Response {
    let refusal = json!({ "error": "invalid_grant", "error_description": "Invalid user credentials" });
    (StatusCode::UNAUTHORIZED, [(CONTENT_TYPE, "application/json")], refusal.to_string()).into_response()
}

fn as_json(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

async fn listen(port: u16) -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
