//! Whether the server in an instance answers.
//!
//! An open port proves little: a mesh sidecar accepts connections before Spark listens. So the server itself has to
//! say something, but nothing that would create a Spark session: Connect is asked for a method that does not exist,
//! Thrift gets a GET, which it refuses. Any refusal is an answer.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::connect_head::SERVICE_PATH;
use crate::model::Protocol;

/// Why an instance counts as not answering, in words for its pool's status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    #[error("no answer from {address} within {} s", .after.as_secs_f32())]
    TimedOut { address: SocketAddr, after: Duration },
    #[error("no connection to {address}: {reason}")]
    NoConnection { address: SocketAddr, reason: String },
    /// Something is there, but it is not (yet) a Spark server.
    #[error("{address} accepts connections, but does not answer: {reason}")]
    NotServing { address: SocketAddr, reason: String },
}

/// `Ok` if the server at `address` answers in its own protocol within `timeout`.
pub async fn answers(protocol: Protocol, address: SocketAddr, timeout: Duration) -> Result<(), ProbeError> {
    let answer = async {
        match protocol {
            Protocol::Connect => connect_answers(address).await,
            Protocol::Thrift => thrift_answers(address).await,
        }
    };
    match tokio::time::timeout(timeout, answer).await {
        Ok(result) => result,
        Err(_) => Err(ProbeError::TimedOut { address, after: timeout }),
    }
}

async fn connect_answers(address: SocketAddr) -> Result<(), ProbeError> {
    let not_serving = |reason: &str| ProbeError::NotServing { address, reason: reason.into() };
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| no_connection(address, &error))?
        .connect()
        .await
        .map_err(|error| no_connection(address, &error))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| no_connection(address, &error))?;
    let path = http::uri::PathAndQuery::try_from(format!("{SERVICE_PATH}NoSuchMethodOnlyAProbe"))
        .map_err(|error| not_serving(&error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    match client.unary(tonic::Request::new(()), path, codec).await {
        Ok(_) => Ok(()),
        Err(status) if is_answer(&status) => Ok(()),
        Err(status) => Err(not_serving(&describe(&status))),
    }
}

/// A status with a source was made on this side, out of a broken connection, as was one that tonic guessed from an HTTP
/// status (a proxy's 404 becomes UNIMPLEMENTED). UNAVAILABLE is what proxies say for a server that is not there.
fn is_answer(status: &Status) -> bool {
    let guessed = status.message().starts_with("grpc-status header missing");
    status.source().is_none() && !guessed && status.code() != Code::Unavailable
}

fn describe(status: &Status) -> String {
    match status.source() {
        Some(source) => innermost(source),
        None => format!("{:?} {}", status.code(), status.message()),
    }
}

async fn thrift_answers(address: SocketAddr) -> Result<(), ProbeError> {
    let client = plain_http_client().map_err(|error| no_connection(address, error.as_ref()))?;
    let response = client.get(format!("http://{address}/cliservice")).send().await.map_err(|error| {
        let reason = innermost(&error);
        if error.is_connect() {
            ProbeError::NoConnection { address, reason }
        } else {
            ProbeError::NotServing { address, reason }
        }
    })?;
    match response.status().as_u16() {
        502..=504 => Err(ProbeError::NotServing { address, reason: format!("HTTP {}", response.status()) }),
        _ => Ok(()),
    }
}

/// Probes are never encrypted, yet reqwest panics when no TLS provider is installed for the process: it is given one,
/// without any roots.
pub(super) fn plain_http_client() -> Result<reqwest::Client, Box<dyn Error + Send + Sync>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls);
    // A proxy from the environment would answer in the server's place.
    Ok(builder.no_proxy().redirect(reqwest::redirect::Policy::none()).build()?)
}

fn no_connection(address: SocketAddr, error: &(dyn Error + 'static)) -> ProbeError {
    ProbeError::NoConnection { address, reason: innermost(error) }
}

/// "Connection refused (os error 111)" instead of "transport error".
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
