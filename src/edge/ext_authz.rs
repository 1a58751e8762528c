//! The gRPC service that Envoy asks.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use futures::FutureExt;
use tonic::{Request, Response, Status};

use super::allow::{self, Allowed};
use super::check;
use super::deny::{self, Form};
use crate::model::{Call, Check, Denial, DenialKind, Verdict};
use crate::telemetry::panic_text;

/// Whoever decides; in production the broker.
///
/// Envoy drops the future when its client goes away: work that has to survive that belongs into a task of its own.
pub trait Checker: Send + Sync + 'static {
    fn check(&self, check: Check) -> impl Future<Output = Verdict> + Send;
}

/// `envoy.service.auth.v3.Authorization`, answered by `checker`.
pub fn service<C: Checker>(checker: Arc<C>) -> AuthorizationServer<ExtAuthz<C>> {
    AuthorizationServer::new(ExtAuthz { checker })
}

#[derive(Debug)]
pub struct ExtAuthz<C> {
    checker: Arc<C>,
}

#[tonic::async_trait]
impl<C: Checker> Authorization for ExtAuthz<C> {
    /// An error only where Envoy shall ask again (`xds::listener` makes it): for any other purpose it would make Envoy
    /// answer in its own words, without a reason.
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let answer = AssertUnwindSafe(answer(&*self.checker, request.get_ref())).catch_unwind().await;
        let answer = answer.unwrap_or_else(|panic| {
            tracing::error!(panic = panic_text(&*panic), "a check ended in a panic: its request is refused");
            // The call is not known any more, but gRPC is still told from the rest.
            Some(deny::response(&defect(), &Form::of(request.get_ref(), &Call::Other { grpc: false })))
        });
        answer.map(Response::new).ok_or_else(|| Status::unavailable("this replica stops; ask again"))
    }
}

async fn answer<C: Checker>(checker: &C, request: &CheckRequest) -> Option<CheckResponse> {
    let check = check::read(request);
    let form = Form::of(request, &check.call);
    let (allowed, counts) = (Allowed::by(&check.call), check.call.counts_as_activity());
    let none = HashMap::new();
    let headers = check::Request::of(request).headers().unwrap_or(&none);
    let denial = match checker.check(check).await {
        Verdict::AskAgain => return None,
        Verdict::Deny(denial) => denial,
        Verdict::Route(route) => match allowed {
            Some(allowed) => match allow::response(&route, allowed, counts, headers) {
                Ok(response) => return Some(response),
                Err(denial) => denial,
            },
            None => {
                tracing::error!(
                    session = route.session,
                    "a route for a call that is not Spark's: it is refused"
                );
                defect()
            }
        },
    };
    Some(deny::response(&denial, &form))
}

pub(super) fn defect() -> Denial {
    let message = "The gateway failed on this request by a defect of its own. Try again; if it happens again, tell its \
                   administrators, whose log has the details.";
    Denial::new(DenialKind::Internal, message)
}

#[cfg(test)]
#[path = "ext_authz_tests.rs"]
mod tests;
