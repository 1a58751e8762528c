use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Metrics;

/// Whether the operator can answer checks: asked by `/readyz`.
pub trait Health: Send + Sync + 'static {
    /// What is missing, in words; nothing when ready.
    fn missing(&self) -> Option<String>;
}

/// `/healthz`: the process answers. `/readyz`: it has seen the cluster and serves Envoy.
pub async fn serve_health(
    address: SocketAddr,
    health: Arc<impl Health>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let ready = move || async move {
        match health.missing() {
            None => (StatusCode::OK, "ok".to_owned()),
            Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing),
        }
    };
    let router = Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(ready));
    serve_http(address, router, stop, "--health-probe-bind-address").await
}

pub async fn serve_metrics(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let page = move || async move {
        match metrics.encode() {
            Ok(text) => {
                let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                ([(header::CONTENT_TYPE, content_type)], text).into_response()
            }
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    };
    serve_http(address, Router::new().route("/metrics", get(page)), stop, "--metrics-bind-address").await
}

/// Serves plain HTTP until `stop`. `flag` names the setting of `address` in errors.
pub async fn serve_http(
    address: SocketAddr,
    router: Router,
    stop: CancellationToken,
    flag: &str,
) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("{flag} {address} cannot be bound"))?;
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}
