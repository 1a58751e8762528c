//! Verifies tokens against the provider's published keys, fetching newer ones when a token is
//! signed with an unknown key. What makes a token valid is `token`'s business.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use reqwest::Client;

use super::discovery::Discovery;
use super::error::AuthnError;
use super::fetched::{Fetched, Pace};
use super::key_set::KeySet;
use super::provider::{self, ProviderError};
use super::token::{self, TokenError, TokenRules, VerifiedToken};

/// Ten minutes are how long a key that the provider has withdrawn still counts.
const PACE: Pace = Pace {
    max_age: Duration::from_secs(600),
    floor: Duration::from_secs(10),
    retry_stale: Duration::from_secs(30),
    retry_empty: Duration::from_secs(1),
};

pub(super) struct Verifier {
    keys: Fetched<KeySet>,
    rules: TokenRules,
}

impl Verifier {
    pub fn new(discovery: Arc<Discovery>, http: Client, rules: TokenRules) -> Self {
        Self::with_pace(discovery, http, rules, PACE)
    }

    pub fn with_pace(discovery: Arc<Discovery>, http: Client, rules: TokenRules, pace: Pace) -> Self {
        let keys = Fetched::new(pace, move || fetch(Arc::clone(&discovery), http.clone()).boxed());
        Self { keys, rules }
    }

    /// What tokens that clients bring must say.
    pub fn rules(&self) -> &TokenRules {
        &self.rules
    }

    /// Verifies a token that a client brings, or one like it.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<VerifiedToken, AuthnError> {
        self.verify_by(&self.rules, token, now).await
    }

    /// Verifies `token` by other rules. While the provider is down, tokens of known keys still pass; one of an
    /// unknown key is [`AuthnError::Unavailable`], because the key may be a new one.
    pub async fn verify_by(
        &self,
        rules: &TokenRules,
        token: &str,
        now: Timestamp,
    ) -> Result<VerifiedToken, AuthnError> {
        // An unusable token is refused even when the provider is down, and costs no fetch.
        match token::verify(token, &KeySet::default(), rules, now) {
            Err(TokenError::UnknownKey) => {}
            outcome => return Ok(outcome?),
        }
        let keys = self.keys.get().await?;
        match token::verify(token, &keys, rules, now) {
            Err(TokenError::UnknownKey) => {}
            outcome => return Ok(outcome?),
        }
        let newer = self.keys.newer_than(&keys).await?;
        if Arc::ptr_eq(&newer, &keys) {
            return Err(TokenError::UnknownKey.into());
        }
        Ok(token::verify(token, &newer, rules, now)?)
    }
}

async fn fetch(discovery: Arc<Discovery>, http: Client) -> Result<KeySet, ProviderError> {
    let metadata = discovery.get().await?;
    let url = &metadata.jwks_uri;
    let body = provider::get(&http, url, "the key set").await?;
    let keys = KeySet::from_json(&body).map_err(|error| {
        ProviderError::Misconfigured(format!("the key set at {url} cannot be read: {error}"))
    })?;
    // An empty set would replace good keys, and lock everybody out for ten minutes.
    if keys.is_empty() {
        return Err(ProviderError::Misconfigured(format!(
            "the key set at {url} has no key that can verify tokens"
        )));
    }
    Ok(keys)
}
