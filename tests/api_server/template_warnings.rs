//! crds/template-warnings.yaml: what who applies a pool is warned of.

use std::time::{Duration, Instant};

use http::Request;
use kube::Client;
use kube::client::Body;
use rstest::rstest;
use serde_json::{Value, json};

use super::{CONNECT_POOL, THRIFT_POOL, changed, client, manifest};

async fn warnings(client: &Client, pool: &Value) -> Vec<String> {
    let path = "/apis/sparkinteractive.io/v1alpha1/namespaces/default/sparksessionpools?dryRun=All";
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(Body::from(serde_json::to_vec(pool).unwrap())).unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), 201);
    let warnings = response.headers().get_all("warning").iter();
    warnings.map(|warning| warning.to_str().unwrap().to_owned()).collect()
}

#[rstest]
#[case::no_server(CONNECT_POOL, json!({}), "names neither mainClass nor mainApplicationFile")]
#[case::client_mode(CONNECT_POOL, json!({ "mainClass": "M", "mode": "client" }), "mode is not cluster")]
#[case::python(CONNECT_POOL, json!({ "mainClass": "M", "type": "Python" }), "type is neither Scala nor Java")]
#[case::thrift_in_connect(CONNECT_POOL, json!({ "mainClass": "x.HiveThriftServer2" }), "mainClass is the Thrift Server")]
#[case::connect_in_thrift(THRIFT_POOL, json!({ "mainClass": "x.SparkConnectServer" }), "mainClass is the Connect server")]
#[case::restarts(
    THRIFT_POOL,
    json!({ "mainClass": "M", "restartPolicy": { "type": "Always" } }),
    "restartPolicy is not Never, and is taken as Never"
)]
#[case::removal(CONNECT_POOL, json!({ "mainClass": "M", "timeToLiveSeconds": 60 }), "timeToLiveSeconds is left out")]
#[tokio::test]
async fn a_pool_is_taken_with_a_warning_for(
    #[case] pool: &str,
    #[case] template: Value,
    #[case] words: &str,
) {
    warns(&changed(pool, "/spec/sparkApplicationTemplate/spec", template), words).await;
}

#[tokio::test]
async fn a_pool_that_would_always_be_at_its_maximum_is_taken_with_a_warning() {
    let mut pool = changed(CONNECT_POOL, "/spec/replicas", json!({ "min": 0, "max": 2 }));
    pool["spec"]["scaling"]["spareInstances"] = json!(2);
    warns(&pool, "spareInstances is not less than replicas.max").await;
}

async fn warns(pool: &Value, words: &str) {
    let client = client().await;
    // The API server learns of a policy somewhat after it was applied.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match warnings(&client, pool).await.as_slice() {
            [] => assert!(Instant::now() < deadline, "no warning"),
            [warning] => return assert!(warning.contains(words), "{warning}"),
            more => panic!("{more:?}"),
        }
        tokio::task::yield_now().await;
    }
}

#[rstest]
#[case(CONNECT_POOL)]
#[case(THRIFT_POOL)]
#[tokio::test]
async fn a_good_template_warns_of_nothing(#[case] pool: &str) {
    assert_eq!(warnings(&client().await, &manifest(pool)).await, Vec::<String>::new());
}
