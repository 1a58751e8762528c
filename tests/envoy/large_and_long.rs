//! Requests that are larger, and answers that take longer, than any limit which is not about them.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;

use super::pools::{self, HOST};
use super::stand_in::PAUSE;
use super::world::World;

const MEGABYTE: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_of_100_mb_arrives_complete() {
    World::run("upload", vec![pools::connect("connect", HOST)], &[], async move |world| {
        let client = world.connect(HOST, "ana").await;
        // PySpark's chunks have 32 KiB. The first request is also the cold start.
        let message = client.message(&[7; 32 * 1024]);
        let count = 100 * MEGABYTE / (32 * 1024);
        let whole = count * message.len();
        let arrived =
            client.add_artifacts(stream::repeat(message).take(count)).await.expect("100 MB of artifacts");
        assert_eq!(arrived.bytes(), whole);

        let plan = vec![7; 100 * MEGABYTE];
        let whole = client.message(&plan).len();
        let arrived = client.analyze_plan(&plan).await.expect("a plan of 100 MB");
        assert_eq!(arrived.bytes(), whole);
    })
    .await;
}

/// Longer than the ext_authz timeout with these holds (20 s), `request_headers_timeout` (10 s), the `on_demand` timeout
/// (5 s), Envoy's defaults for a route (15 s) and both sides' HTTP/2 keepalive (30 s).
const SILENCE: Duration = Duration::from_secs(33);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_is_silent_for_longer_than_every_timeout_lives() {
    let pools = vec![pools::connect("connect", HOST), pools::thrift("thrift", HOST)];
    let short_holds = &["--connect-max-hold", "5", "--thrift-max-hold", "5"];
    World::run("silence", pools, short_holds, async move |world| {
        // So that no hold is long, however slow the machine.
        for pool in ["connect", "thrift"] {
            world.cluster.scale(pool, 1).await;
            world.cluster.until_ready_replicas(pool, 1).await;
        }
        let silence = SILENCE.as_millis() as u64;
        let connect = world.connect(HOST, "ana").await.asking(PAUSE, silence);
        let thrift = world.thrift(HOST, "ana");
        thrift.call("OpenSession").await.unwrap();
        let thrift = thrift.asking(PAUSE, silence);
        let began = Instant::now();

        let stream = async {
            let (_, mut query) = connect.execute_plan().await.unwrap();
            query.message().await.unwrap().expect("it has begun");
            query.message().await.expect("the silence did not end it").expect("its last message");
            assert!(query.message().await.unwrap().is_none());
        };
        let poll = async {
            thrift.call("ExecuteStatement").await.expect("the silence did not end it");
        };
        tokio::join!(stream, poll);
        assert!(began.elapsed() >= SILENCE);
    })
    .await;
}
