//! Keys made on the spot, tokens signed with them (by aws-lc-rs, so that jsonwebtoken's reading is
//! checked against another implementation's writing), and a provider on a local port.

use std::sync::atomic::{AtomicU8, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use wiremock::matchers::{body_string_contains, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::key_set::KeySet;

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

/// A provider's signing key.
pub struct Signer {
    pub id: String,
    pub alg: &'static str,
    pair: Pair,
}

impl Signer {
    pub fn new(alg: &'static str, id: &str) -> Self {
        let pair = match alg {
            "RS256" | "PS256" => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            "ES256" => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            "ES384" => Pair::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()),
            "EdDSA" => Pair::Ed(Ed25519KeyPair::generate().unwrap()),
            other => panic!("no test key for {other}"),
        };
        Self { id: id.to_owned(), alg, pair }
    }

    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => json!({
                "kty": "RSA",
                "n": base64url(pair.public_key().modulus().big_endian_without_leading_zero()),
                "e": base64url(pair.public_key().exponent().big_endian_without_leading_zero()),
            }),
            Pair::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)})
            }
            Pair::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key())}),
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.alg);
        jwk
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with_header(&json!({"typ": "JWT", "alg": self.alg, "kid": self.id}), claims)
    }

    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let padding = if self.alg == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    padding as &dyn aws_lc_rs::signature::RsaEncoding,
                    &random,
                    signed.as_bytes(),
                    &mut signature,
                )
                .unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", base64url(signature))
    }
}

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
