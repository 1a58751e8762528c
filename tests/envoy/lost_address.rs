//! A server that nobody reaches any more, in a Pod that is said to run.

use std::time::Instant;

use tonic::Code;

use super::pools::{self, HOST};
use super::wait::until;
use super::world::World;

/// So are all others, as where the node dies that most of them are on: that takes longer to believe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_an_address_is_replaced_and_its_clients_are_told() {
    let pools = vec![pools::one_session_each(pools::connect("connect", HOST)), pools::thrift("thrift", HOST)];
    World::run("lost-address", pools, &[], async move |world| {
        let client = world.connect(HOST, "ana").await;
        assert_eq!(client.config().await.unwrap().pod(), "connect-0-driver");
        world.connect(HOST, "ben").await.config().await.unwrap();
        let thrift = world.thrift(HOST, "ana");
        assert_eq!(thrift.call("OpenSession").await.unwrap().pod(), "thrift-0-driver");

        let lost = Instant::now();
        world.spark.lose_addresses();
        let told = until("the client hears that its session is over", async || {
            client.config().await.err().filter(|status| status.code() == Code::Internal)
        })
        .await;
        println!("told {:.1} s after the address was lost", lost.elapsed().as_secs_f64());
        assert_eq!(
            told.message(),
            "[INVALID_HANDLE.SESSION_CHANGED] Instance connect-0, which held this session, is gone. Start a new session."
        );
        let next = client.another_session().config().await.unwrap();
        assert!(next.pod() != "connect-0-driver", "{}", next.pod());
        let next = until("the Thrift session goes on elsewhere", async || {
            thrift.call("OpenSession").await.ok().filter(|answer| answer.pod() != "thrift-0-driver")
        })
        .await;
        assert!(next.pod().starts_with("thrift-"), "{}", next.pod());
    })
    .await;
}
