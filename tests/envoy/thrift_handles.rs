//! The handle of a Thrift session is of use to its own user only, whoever else knows it, and on every replica.

use uuid::Uuid;

use super::operator::Operator;
use super::pools::{self, HOST};
use super::process::free_port;
use super::proxy::Envoy;
use super::stand_in::StandIn;
use super::thrift_client::{ThriftClient, handle};
use super::wait::until;
use super::world::{Cluster, World, in_a_namespace};

const ANOTHER_USERS: &str = "The Thrift session that this request names belongs to another user. Connect again to open one of your own.";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_users_handle_is_refused_by_whichever_replica_is_asked() {
    in_a_namespace(async move |cluster: Cluster| {
        let (first, second) = (free_port(), free_port());
        let replica =
            |part, listens| Operator::new("handles", part, &cluster.namespace, listens, &["--leader-elect"]);
        let (mut one, mut other) = (replica("one", first), replica("other", second));
        let mut envoys =
            [Envoy::new("handles", first, one.grpc), Envoy::new("handles-2", second, other.grpc)];
        let spark = StandIn::start(cluster.client.clone(), &cluster.namespace);
        cluster.create(&pools::thrift("thrift", HOST)).await;
        one.start();
        one.until_it_leads().await;
        other.start();
        other.until_ready().await;
        for envoy in &mut envoys {
            envoy.start();
            envoy.until_it_listens().await;
        }

        let ana = ThriftClient::new(first, HOST, "ana");
        ana.call("OpenSession").await.unwrap();
        let stolen = *spark.seen().open.first().unwrap();
        for envoy in [first, second] {
            let eve = ThriftClient::new(envoy, HOST, "eve");
            eve.call("OpenSession").await.unwrap();
            until("the replica knows whose session it is", async || {
                let refused = eve.call_of("ExecuteStatement", stolen).await.err();
                refused.filter(|words| words.contains(ANOTHER_USERS))
            })
            .await;
            assert!(eve.call_of("CloseSession", stolen).await.unwrap_err().contains(ANOTHER_USERS));
        }
        assert!(spark.seen().open.contains(&stolen), "nobody else has closed it");
        for envoy in [first, second] {
            let ana = ThriftClient::new(envoy, HOST, "ana");
            ana.call_of("ExecuteStatement", stolen).await.expect("it is hers");
        }
    })
    .await;
}

/// Spark takes the last of several handles in a request, and what is behind a long statement the check does not see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_behind_another_one_is_refused() {
    World::run("two-handles", vec![pools::thrift("thrift", HOST)], &[], async move |world| {
        let ana = world.thrift(HOST, "ana");
        ana.call("OpenSession").await.unwrap();
        let own = *world.spark.seen().open.first().unwrap();
        let other = Uuid::new_v4();

        let twice = [handle(own), handle(other)].concat();
        let words = ana.call_with("ExecuteStatement", &twice).await.unwrap_err();
        assert!(words.contains("The request names its Thrift session more than once"), "{words}");

        let long = 300_000_usize;
        let statement = [&[11, 0, 2], (long as u32).to_be_bytes().as_slice(), &vec![b'x'; long]].concat();
        let hidden = [handle(own), statement.clone(), handle(other)].concat();
        let words = ana.call_with("ExecuteStatement", &hidden).await.unwrap_err();
        assert!(words.contains("The request is so long that the gateway does not see all of it"), "{words}");

        let settings = [vec![2, 0, 4, 1], vec![10, 0, 5], vec![0; 8]].concat();
        let honest = [handle(own), statement, settings].concat();
        ana.call_with("ExecuteStatement", &honest).await.expect("a long statement");
    })
    .await;
}
