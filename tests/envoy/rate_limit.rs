//! What clients hear who ask more often than `--envoy-rate-limit` allows.

use http::HeaderMap;
use prost::Message;
use tonic::Code;

use super::pools::{self, HOST};
use super::world::World;

const WORDS: &str = "Too many requests: the gateway takes 1000 per second from one address, and 1 per second from all \
                     users together. Nothing was done; try again in a few seconds. If this happens often, its \
                     administrators can raise --envoy-rate-limit-per-address or --envoy-rate-limit.";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_rate_limit_every_client_hears_what_to_do() {
    let pools = vec![pools::connect("connect", HOST), pools::thrift("thrift", HOST)];
    World::run("rate-limit", pools, &["--envoy-rate-limit", "1"], async move |world| {
        let connect = world.connect(HOST, "ana").await;
        let refused = until_refused(async || connect.config().await.err()).await;
        assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, WORDS));
        // By which PySpark shows the message alone.
        let details = GrpcStatus::decode(refused.details()).unwrap();
        assert_eq!((details.code, details.message.as_str()), (Code::ResourceExhausted as i32, WORDS));

        let thrift = world.thrift(HOST, "ana");
        let refused = until_refused(async || thrift.call("OpenSession").await.err()).await;
        // JDBC clients drop the text of any other status.
        assert!(refused.starts_with("200 OK: "), "{refused:?}");
        assert!(refused.contains(WORDS), "{refused:?}");

        let curl = reqwest::Client::builder().no_proxy().build().unwrap();
        let refused = until_refused(async || {
            let answer =
                curl.get(format!("http://{}/", world.envoy.listens)).header("host", HOST).send().await;
            let answer = answer.unwrap();
            (answer.status() == 429).then_some(answer)
        })
        .await;
        let header =
            |headers: &HeaderMap, name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header(refused.headers(), "retry-after").as_deref(), Some("1"));
        assert_eq!(header(refused.headers(), "content-type").as_deref(), Some("application/json"));
        let body: serde_json::Value = refused.json().await.unwrap();
        assert_eq!(body, serde_json::json!({ "error": WORDS, "reason": "RateLimited" }));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_asks_too_often_is_refused_and_no_other() {
    let flags = &["--envoy-rate-limit", "1000", "--envoy-rate-limit-per-address", "1"];
    World::run("rate-limit-address", vec![pools::connect("connect", HOST)], flags, async move |world| {
        let from = |address: [u8; 4]| {
            let client = reqwest::Client::builder().no_proxy().local_address(Some(address.into()));
            client.build().unwrap()
        };
        let ask = async |client: &reqwest::Client| {
            let url = format!("http://{}/", world.envoy.listens);
            client.get(url).header("host", HOST).send().await.unwrap()
        };
        let (greedy, other) = (from([127, 0, 0, 2]), from([127, 0, 0, 3]));
        let refused = until_refused(async || {
            let answer = ask(&greedy).await;
            (answer.status() == 429).then_some(answer)
        })
        .await;
        let body: serde_json::Value = refused.json().await.unwrap();
        let words =
            "Too many requests: the gateway takes 1 per second from one address, and 1000 per second from";
        assert!(body["error"].as_str().unwrap().starts_with(words), "{body}");
        assert_eq!(ask(&other).await.status(), 404);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_is_reached_is_told_in_its_own_words() {
    let mut pool = pools::connect("connect", HOST);
    pool.spec.session_policy.max_sessions_per_user = 1;
    World::run("quota", vec![pool], &["--envoy-rate-limit", "1000"], async move |world| {
        let first = world.connect(HOST, "ana").await;
        first.config().await.unwrap();
        let refused = first.another_session().config().await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let words = "Quota exceeded: user ana may have 1 session(s)";
        assert!(refused.message().starts_with(words), "{}", refused.message());
    })
    .await;
}

/// Asks until it is refused: a second's worth, and as much again for a burst, goes through.
async fn until_refused<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..100 {
        if let Some(refusal) = ask().await {
            return refusal;
        }
    }
    panic!("not refused");
}

/// The beginning of `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct GrpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}
