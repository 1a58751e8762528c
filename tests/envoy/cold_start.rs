//! A first request finds no server, and still gets its answer.

use futures::future::join_all;

use super::pools::{self, HOST};
use super::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_request_of_each_protocol_starts_a_server_and_succeeds() {
    let pools = vec![pools::connect("connect", HOST), pools::thrift("thrift", HOST)];
    World::run("cold-start", pools, &[], async move |world| {
        let answer = world.connect(HOST, "ana").await.config().await.unwrap();
        assert_eq!(answer.pod(), "connect-0-driver");
        let answer = world.thrift(HOST, "ana").call("OpenSession").await.unwrap();
        assert_eq!(answer.pod(), "thrift-0-driver");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cold_start_of_many_at_once_fails() {
    let connect = pools::one_session_each(pools::connect("connect", HOST));
    let thrift = pools::one_session_each(pools::thrift("thrift", HOST));
    World::run("many-cold-starts", vec![connect, thrift], &[], async move |world| {
        let connects = join_all((0..15).map(async |number| {
            let client = world.connect(HOST, &format!("user-{number}")).await;
            client.config().await.map(|answer| answer.pod().to_owned())
        }));
        let thrifts = join_all((0..15).map(async |number| {
            let client = world.thrift(HOST, &format!("user-{number}"));
            client.call("OpenSession").await.map(|answer| answer.pod().to_owned())
        }));
        let (connects, thrifts) = tokio::join!(connects, thrifts);
        let mut pods: Vec<String> = connects.into_iter().map(|answer| answer.unwrap()).collect();
        pods.extend(thrifts.into_iter().map(|answer| answer.unwrap()));
        pods.sort();
        pods.dedup();
        assert_eq!(pods.len(), 30, "each session has a server of its own: {pods:?}");
    })
    .await;
}
