//! A provider on a local port, and the keys that it signs with.

#[path = "../../tests/support/signer.rs"]
mod signer;

use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Value, json};
use wiremock::matchers::{body_string_contains, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

pub use self::signer::{Signer, base64url};
use super::key_set::KeySet;

pub fn jwks(signers: &[&Signer]) -> Value {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()})
}

pub fn key_set(signers: &[&Signer]) -> KeySet {
    KeySet::from_json(jwks(signers).to_string().as_bytes()).unwrap()
}

pub fn http() -> reqwest::Client {
    // Fails when another test was first; either way it is installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    super::client_builder().build().unwrap()
}

/// A provider with paths that no real one has, so that only discovery can find them.
pub struct FakeProvider {
    pub server: MockServer,
    /// wiremock asks 1 first and 255 last; counted down, so that later answers come first.
    priority: AtomicU8,
}

impl FakeProvider {
    pub async fn start() -> Self {
        Self { server: MockServer::start().await, priority: AtomicU8::new(255) }
    }

    pub fn issuer(&self) -> String {
        format!("{}/acme", self.server.uri())
    }

    pub async fn serves_discovery(&self) {
        self.serves_discovery_with(json!({})).await;
    }

    pub async fn serves_discovery_with(&self, more: Value) {
        let uri = self.server.uri();
        let mut document = json!({"issuer": self.issuer(), "jwks_uri": format!("{uri}/k/1"), "token_endpoint": format!("{uri}/t/1")});
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = ResponseTemplate::new(200).set_body_json(document);
        self.answers("GET", "/acme/.well-known/openid-configuration", answer).await;
    }

    pub async fn serves_keys(&self, signers: &[&Signer]) {
        self.answers("GET", "/k/1", ResponseTemplate::new(200).set_body_json(jwks(signers))).await;
    }

    pub async fn answers_logins(&self, status: u16, body: Value) {
        self.answers("POST", "/t/1", ResponseTemplate::new(status).set_body_json(body)).await;
    }

    pub async fn answers_refreshes(&self, status: u16, body: Value) {
        let priority = self.priority.fetch_sub(1, Ordering::SeqCst);
        Mock::given(method("POST"))
            .and(path("/t/1"))
            .and(body_string_contains("grant_type=refresh_token"))
            .respond_with(ResponseTemplate::new(status).set_body_json(body))
            .with_priority(priority)
            .mount(&self.server)
            .await;
    }

    /// A later answer for the same path replaces an earlier one.
    pub async fn answers(&self, verb: &str, at: &str, answer: ResponseTemplate) {
        let priority = self.priority.fetch_sub(1, Ordering::SeqCst);
        Mock::given(method(verb))
            .and(path(at))
            .respond_with(answer)
            .with_priority(priority)
            .mount(&self.server)
            .await;
    }

    /// How often `at` was asked for.
    pub async fn requests(&self, at: &str) -> usize {
        self.server
            .received_requests()
            .await
            .unwrap()
            .iter()
            .filter(|request| request.url.path() == at)
            .count()
    }

    /// What the logins so far were done with, in turn: `password`, or the refresh token.
    pub async fn grants(&self) -> Vec<String> {
        let requests = self.server.received_requests().await.unwrap();
        let logins = requests.iter().filter(|request| request.url.path() == "/t/1");
        let grant = |request: &wiremock::Request| {
            let form = String::from_utf8(request.body.clone()).unwrap();
            let token =
                form.split('&').find_map(|field| field.strip_prefix("refresh_token=").map(str::to_owned));
            token.unwrap_or_else(|| "password".to_owned())
        };
        logins.map(grant).collect()
    }

    pub async fn last_form(&self) -> String {
        let requests = self.server.received_requests().await.unwrap();
        let login = requests.iter().rfind(|request| request.url.path() == "/t/1").unwrap();
        String::from_utf8(login.body.clone()).unwrap()
    }

    /// The claims of a token that this provider would issue now.
    pub fn claims(&self, user: &str) -> Value {
        let now = jiff::Timestamp::now().as_second();
        json!({"iss": self.issuer(), "sub": user, "exp": now + 300, "iat": now, "groups": ["dev"]})
    }
}
