use std::collections::BTreeSet;
use std::net::SocketAddr;

use http::HeaderMap;
use uuid::Uuid;

use super::stand_in::{POD, RECEIVED};

/// A JDBC client, as far as the way to Spark goes.
#[derive(Clone)]
pub struct ThriftClient {
    http: reqwest::Client,
    url: String,
    user: String,
    headers: HeaderMap,
}

/// What the stand-in says of a call that has reached it.
#[derive(Debug)]
pub struct Arrived(HeaderMap);

impl Arrived {
    pub fn pod(&self) -> &str {
        self.0.get(POD).expect("an answer of the stand-in").to_str().unwrap()
    }

    /// Names of all headers that arrived.
    pub fn names(&self) -> BTreeSet<&str> {
        self.0.keys().filter_map(|name| name.as_str().strip_prefix(RECEIVED)).collect()
    }

    /// The request's header, as it was when it arrived.
    pub fn header(&self, name: &str) -> Option<&str> {
        Some(self.0.get(format!("{RECEIVED}{name}"))?.to_str().unwrap())
    }
}

impl ThriftClient {
    pub fn new(envoy: SocketAddr, host: &str, user: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().http1_only().resolve(host, envoy).build().unwrap();
        Self::on(http, &format!("http://{host}:{}", envoy.port()), user)
    }

    pub fn on(http: reqwest::Client, server: &str, user: &str) -> Self {
        let url = format!("{server}/cliservice");
        Self { http, url, user: user.to_owned(), headers: HeaderMap::new() }
    }

    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    /// The same client, which asks the stand-in for something in each request.
    pub fn asking(self, what: &str, number: u64) -> Self {
        self.with_header("user-agent", &format!("{what}/{number}"))
    }

    pub fn with_query(mut self, query: &str) -> Self {
        self.url = format!("{}?{query}", self.url);
        self
    }

    /// `Err` with what a JDBC tool would show or hide.
    pub async fn call(&self, method: &str) -> Result<Arrived, String> {
        self.send(method, &[]).await
    }

    /// On the session with this handle.
    pub async fn call_of(&self, method: &str, session: Uuid) -> Result<Arrived, String> {
        self.send(method, &handle(session)).await
    }

    /// With these fields of the request.
    pub async fn call_with(&self, method: &str, fields: &[u8]) -> Result<Arrived, String> {
        self.send(method, fields).await
    }

    async fn send(&self, method: &str, fields: &[u8]) -> Result<Arrived, String> {
        let mut body = vec![0x80, 1, 0, 1];
        body.extend(u32::try_from(method.len()).unwrap().to_be_bytes());
        body.extend(method.as_bytes());
        // Sequence id 1; `{req: {…}}`.
        body.extend([0, 0, 0, 1, 12, 0, 1]);
        body.extend(fields);
        body.extend([0, 0]);
        let request = self.http.post(&self.url).header("content-type", "application/x-thrift");
        let request = request.headers(self.headers.clone()).body(body);
        let answer = request.basic_auth(&self.user, Some("password")).send().await;
        let answer = answer.map_err(|error| error.to_string())?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        // The headers come before the operator has seen the body.
        let body = answer.bytes().await.map_err(|error| error.to_string())?;
        if status == 200 && headers.contains_key(POD) {
            return Ok(Arrived(headers));
        }
        Err(format!("{status}: {}", String::from_utf8_lossy(&body)))
    }
}

/// The field of a request that names its session: `1: {1: {1: guid, 2: secret}}`. Nobody looks at the secret half.
pub fn handle(session: Uuid) -> Vec<u8> {
    let mut handle = vec![12, 0, 1, 12, 0, 1];
    for (number, half) in [(1, session), (2, Uuid::nil())] {
        handle.extend([11, 0, number, 0, 0, 0, 16]);
        handle.extend(half.as_bytes());
    }
    handle.extend([0, 0]);
    handle
}
