//! Plain HTTP to the identity provider: bounded in time and size, errors in two kinds.
//!
//! Knows no path and no document of the provider; retrying is the callers' business.

use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, StatusCode, redirect};
use serde::de::DeserializeOwned;

use crate::telemetry::Causes;

/// For one request, answer included. Below the time for which Envoy holds a check.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Key sets and discovery documents have some kilobytes.
const MAX_BODY_BYTES: usize = 1 << 20;

/// What went wrong, for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProviderError {
    #[error("the identity provider cannot be reached: {0}")]
    Unreachable(String),
    #[error("the identity provider does not fit the operator's settings: {0}")]
    Misconfigured(String),
}

/// A client builder as the authenticator needs it: the caller adds root certificates and builds.
/// Redirects are off, because a redirected login would hand the password to another server.
pub fn client_builder() -> ClientBuilder {
    Client::builder().redirect(redirect::Policy::none()).connect_timeout(TIMEOUT).timeout(TIMEOUT)
}

/// The client, which trusts `ca_pem` beside the system's certificates.
pub fn client(ca_pem: Option<&[u8]>) -> anyhow::Result<Client> {
    let mut builder = client_builder();
    if let Some(pem) = ca_pem {
        let certificates = Certificate::from_pem_bundle(pem).context("--oidc-ca-file is not PEM")?;
        ensure!(!certificates.is_empty(), "--oidc-ca-file has no certificate");
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().context("the HTTP client for the identity provider cannot be set up")
}

/// Fetches a JSON document. `what` names it in errors.
pub(super) async fn get_json<T: DeserializeOwned>(
    http: &Client,
    url: &str,
    what: &str,
) -> Result<T, ProviderError> {
    let body = get(http, url, what).await?;
    serde_json::from_slice(&body)
        .map_err(|error| ProviderError::Misconfigured(format!("{what} at {url} cannot be read: {error}")))
}

/// Fetches the body of a successful answer.
pub(super) async fn get(http: &Client, url: &str, what: &str) -> Result<Vec<u8>, ProviderError> {
    let (status, body) = send(http.get(url).header("accept", "application/json")).await?;
    if status.is_success() {
        return Ok(body);
    }
    let problem = format!("{what} at {url} was answered with {status}");
    Err(if is_outage(status) {
        ProviderError::Unreachable(problem)
    } else {
        ProviderError::Misconfigured(problem)
    })
}

/// Sends a request and reads its whole answer, whatever its status.
pub(super) async fn send(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), ProviderError> {
    let mut response = request.timeout(TIMEOUT).send().await.map_err(unreachable)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(ProviderError::Misconfigured(format!(
                "an answer is larger than {MAX_BODY_BYTES} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((response.status(), body))
}

/// Whether the same request may succeed later, without anybody changing anything.
pub(super) fn is_outage(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

/// reqwest's own text says little ("error sending request"); the reason is in its sources.
fn unreachable(error: reqwest::Error) -> ProviderError {
    ProviderError::Unreachable(Causes(&error).to_string())
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
