use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;

use super::*;
use crate::edge::testing::Asked;

struct Always(fn() -> Verdict);

impl Checker for Always {
    async fn check(&self, _: Check) -> Verdict {
        (self.0)()
    }
}

async fn ask(verdict: fn() -> Verdict, asked: Asked) -> CheckResponse {
    let service = ExtAuthz { checker: Arc::new(Always(verdict)) };
    service.check(Request::new(asked.by_envoy())).await.unwrap().into_inner()
}

fn route() -> Verdict {
    let [cluster, session, pool, user] = ["c", "s", "p", "ana"].map(str::to_owned);
    Verdict::Route(Route { cluster, session, pool, user, token: None })
}

fn is_allowed(response: &CheckResponse) -> bool {
    response.status.as_ref().is_none_or(|status| status.code == 0)
}

#[tokio::test]
async fn a_route_is_a_yes_for_both_protocols() {
    for asked in [Asked::connect(), Asked::thrift("/cliservice"), Asked::path("/cliservice")] {
        let response = ask(route, asked).await;
        assert!(is_allowed(&response) && matches!(response.http_response, Some(HttpResponse::OkResponse(_))));
    }
}

#[tokio::test]
async fn a_replica_that_stops_lets_envoy_ask_again() {
    let service = ExtAuthz { checker: Arc::new(Always(|| Verdict::AskAgain)) };
    let status = service.check(Request::new(Asked::connect().by_envoy())).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "the code that xds::listener has Envoy retry");
}

#[tokio::test]
async fn a_denial_is_a_no() {
    let verdict = || Verdict::Deny(Denial::new(DenialKind::QuotaExceeded, "Enough."));
    assert!(!is_allowed(&ask(verdict, Asked::connect()).await));
}

#[tokio::test]
async fn a_call_that_could_not_be_read_is_refused_even_with_a_route() {
    for asked in [Asked::connect().body(b""), Asked::path("/admin"), Asked::path("/cliservice").body(b"x")] {
        assert!(!is_allowed(&ask(route, asked).await));
    }
}

#[tokio::test]
async fn a_panic_is_a_no_in_words() {
    let response = ask(|| panic!("defect"), Asked::connect()).await;
    assert!(!is_allowed(&response));
    let Some(HttpResponse::DeniedResponse(denied)) = response.http_response else { panic!("no words") };
    assert!(denied.body.starts_with("The gateway failed"), "{}", denied.body);
}

#[tokio::test]
async fn a_request_of_whose_headers_too_much_would_be_kept_is_not_even_asked_about() {
    let long = "x".repeat(9000);
    let response = ask(|| panic!("asked"), Asked::connect().header(&long, "")).await;
    let Some(HttpResponse::DeniedResponse(denied)) = response.http_response else { panic!("allowed") };
    assert!(denied.body.contains("the names of its headers are too long"), "{}", denied.body);
}
