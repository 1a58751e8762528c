//! What happens to other pools reaches nobody.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::pools::{self, HOST};
use super::world::World;

const OTHERS: usize = 10;
const CLIENTS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stable_pool_notices_nothing_of_others_that_come_scale_and_go() {
    let other = |generation: &str, number| {
        let name = format!("{generation}-{number}");
        pools::without_cooldown(pools::connect(&name, &format!("{name}.test")))
    };
    let mut pools = vec![pools::connect("stable", HOST)];
    pools.extend((0..OTHERS).map(|number| other("old", number)));
    World::run("churn", pools, &[], async move |world| {
        let world = Arc::new(world);
        let callers = Callers::start(&world).await;

        let before = world.envoy.updates().await;
        for instances in [2, 0, 1] {
            scale_the_others(&world, "old", instances).await;
        }
        let after = world.envoy.updates().await;
        assert_eq!(after.listeners, before.listeners, "instances are no business of the listener");
        assert_eq!(after.routes, before.routes, "nor of the routes");
        assert!(after.clusters > before.clusters, "{after:?}");

        for number in 0..OTHERS {
            world.cluster.delete_pool(&format!("old-{number}")).await;
            world.cluster.create(&other("new", number)).await;
        }
        scale_the_others(&world, "new", 1).await;
        for number in 0..OTHERS {
            let client = world.connect(&format!("new-{number}.test"), "ana").await;
            assert_eq!(client.config().await.unwrap().pod(), format!("new-{number}-0-driver"));
        }

        let (calls, failures) = callers.stop().await;
        assert!(failures.is_empty(), "{} of {calls} failed: {:?}", failures.len(), failures.first());
        assert!(calls > 10 * CLIENTS, "only {calls} calls");
    })
    .await;
}

async fn scale_the_others(world: &World, generation: &str, instances: i32) {
    let names: Vec<String> = (0..OTHERS).map(|number| format!("{generation}-{number}")).collect();
    join_all(names.iter().map(|name| world.cluster.scale(name, instances))).await;
    join_all(names.iter().map(|name| world.cluster.until_ready_replicas(name, instances))).await;
}

/// Clients that call until they are stopped.
struct Callers {
    tasks: JoinSet<(usize, Vec<Status>)>,
    stop: CancellationToken,
}

impl Callers {
    /// Each has a session when this returns.
    async fn start(world: &World) -> Self {
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        for number in 0..CLIENTS {
            let client = world.connect(HOST, &format!("user-{number}")).await;
            client.config().await.unwrap();
            let stop = stop.clone();
            tasks.spawn(async move {
                let (mut calls, mut failures) = (0, Vec::new());
                while !stop.is_cancelled() {
                    calls += 1;
                    failures.extend(client.config().await.err());
                    // Two cores have other things to do as well.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                (calls, failures)
            });
        }
        Self { tasks, stop }
    }

    async fn stop(self) -> (usize, Vec<Status>) {
        self.stop.cancel();
        let mut all = (0, Vec::new());
        for (calls, failures) in self.tasks.join_all().await {
            all.0 += calls;
            all.1.extend(failures);
        }
        all
    }
}
