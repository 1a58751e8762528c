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
use super::forwarded_headers::ForwardedHeaders;
use crate::model::{Call, Check, Denial, DenialKind, Route, Verdict};
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
        let request = request.into_inner();
        // For a panic: the call is not known then, but gRPC is still told from the rest.
        let unread = Form::of(&request, &Call::Other { grpc: false });
        let answer = AssertUnwindSafe(answer(&*self.checker, request)).catch_unwind().await;
        let answer = answer.unwrap_or_else(|panic| {
            tracing::error!(panic = panic_text(&*panic), "a check ended in a panic: its request is refused");
            Some(deny::response(&defect(), &unread))
        });
        answer.map(Response::new).ok_or_else(|| Status::unavailable("this replica stops; ask again"))
    }
}

async fn answer<C: Checker>(checker: &C, request: CheckRequest) -> Option<CheckResponse> {
    let check = check::read(&request);
    let pending = match Pending::of(&request, &check.call) {
        Ok(pending) => pending,
        Err(denial) => return Some(deny::response(&denial, &Form::of(&request, &check.call))),
    };
    // It may have 104 KiB, and the answer may take minutes.
    drop(request);
    match checker.check(check).await {
        Verdict::AskAgain => None,
        Verdict::Deny(denial) => Some(deny::response(&denial, &pending.form)),
        Verdict::Route(route) => Some(pending.routed(&route)),
    }
}

/// What is kept of a request until it is answered, besides its [`Check`].
struct Pending {
    form: Form,
    /// `None` for a call that could not be read.
    allowed: Option<(Allowed, ForwardedHeaders)>,
    counts: bool,
}

impl Pending {
    /// An error for a request of which too much would have to be kept.
    fn of(request: &CheckRequest, call: &Call) -> Result<Self, Denial> {
        let form = Form::of(request, call);
        let none = HashMap::new();
        let headers = check::Request::of(request).headers().unwrap_or(&none);
        let forwarded = |allowed: Allowed| {
            ForwardedHeaders::of(allowed.protocol(), headers).map(|forwarded| (allowed, forwarded))
        };
        let allowed = Allowed::by(call).map(forwarded).transpose()?;
        Ok(Self { form, allowed, counts: call.counts_as_activity() })
    }

    fn routed(&self, route: &Route) -> CheckResponse {
        let response = match &self.allowed {
            Some((allowed, forwarded)) => allow::response(route, *allowed, self.counts, forwarded),
            None => {
                tracing::error!(
                    session = route.session,
                    "a route for a call that is not Spark's: it is refused"
                );
                Err(defect())
            }
        };
        response.unwrap_or_else(|denial| deny::response(&denial, &self.form))
    }
}

pub(super) fn defect() -> Denial {
    let message = "The gateway failed on this request by a defect of its own. Try again; if it happens again, tell its \
                   administrators, whose log has the details.";
    Denial::new(DenialKind::Internal, message)
}

#[cfg(test)]
#[path = "ext_authz_tests.rs"]
mod tests;
