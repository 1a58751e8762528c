//! Clients of the API server whose connections are noticed to be dead.
//!
//! A quiet watch reads nothing for minutes, and a connection that dies without a word (a node that loses its power, a
//! flushed NAT table) looks just like it. `kube::Client::try_from` asks its connections for nothing; these ask the other
//! side's kernel whether it is still there. All else is as there, but for spans in the log: who asks logs what comes of it,
//! and what a request does about an error is its caller's business.

use std::time::Duration;

use anyhow::Context;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder};

/// A connection on which nothing came for this long is asked whether it lives, and again after [`ASK_AGAIN`].
const QUIET: Duration = Duration::from_secs(10);
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Where nothing came for this long though something was sent, a question included, the connection is over: a watch on it
/// is begun anew, a request fails. Three questions may be lost before.
const LOST: Duration = Duration::from_secs(25);

/// Two ways to ask the API server. One that is starting, or has too much to do, answers 503 or 429 and says when to come
/// again: up to five seconds later.
pub struct Clients {
    /// Tells that at once, for those who ask again by themselves: they know when an outage is over.
    pub prompt: Client,
    /// Waits and asks again.
    pub patient: Client,
}

impl Clients {
    /// # Errors
    ///
    /// If `cluster` has keys or certificates that cannot be read, or a proxy of a kind that is not supported.
    pub fn new(mut cluster: Config) -> anyhow::Result<Self> {
        let of = |config| client(config).context("no access to a Kubernetes cluster");
        let patient = of(cluster.clone())?;
        cluster.default_retry = false;
        Ok(Self { prompt: of(cluster)?, patient })
    }
}

fn client(config: Config) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() {
        // Says which kinds of proxies are built in: none.
        return Client::try_from(config);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(QUIET));
    tcp.set_keepalive_interval(Some(ASK_AGAIN));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(LOST));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let http = hyper_util::client::legacy::Builder::new(TokioExecutor::new()).build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry())))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

#[cfg(test)]
#[path = "api_client_tests.rs"]
mod tests;
