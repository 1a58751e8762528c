//! The operator's binary on an API server that is killed, forgets, breaks off, dawdles and has other clients: nothing is
//! doubled, nothing is lost, and soon after recovery every status is right. With a stand-in for Spark;
//! `tests/run integration` starts the API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Also in helpers, which clippy does not take for tests.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::sleep;

#[path = "chaos/api_server.rs"]
mod api_server;
#[path = "chaos/etcd.rs"]
mod etcd;
#[path = "support/namespace.rs"]
mod namespace;
#[path = "envoy/operator.rs"]
#[allow(dead_code, reason = "other tests make it do more")]
mod operator;
#[path = "support/padding.rs"]
mod padding;
#[path = "envoy/process.rs"]
#[allow(dead_code, reason = "other tests make it do more")]
mod process;
#[path = "chaos/proxy.rs"]
#[allow(dead_code, reason = "other tests count what is asked")]
mod proxy;
#[path = "chaos/restore.rs"]
mod restore;
#[path = "stand_in/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests make it do more")]
mod stand_in;
#[path = "envoy/wait.rs"]
mod wait;
#[path = "chaos/world.rs"]
mod world;

use api_server::ApiServer;
use proxy::Proxy;
use world::{SESSIONS, World, in_a_world};

/// From the first request that succeeds again: a goal, printed with what was reached, since the parts of this machine
/// and a debug build have their share of it.
const GOAL: Duration = Duration::from_secs(1);
/// What no machine may exceed: less than an API server that starts asks clients to wait, and than the pauses that have
/// grown in a long outage.
const LIMIT: Duration = Duration::from_secs(4);

/// What the others are to be compared with: what fifty sessions take anyway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_wrong_while_fifty_sessions_come() {
    in_a_world("calm", async |mut world: World| {
        let kubeconfig = std::env::var_os("KUBECONFIG").unwrap();
        world.start_operator(kubeconfig.as_ref()).await;
        world.create_sessions(0..SESSIONS).await;
        world.is_right_after("nothing wrong", Instant::now()).await;
    })
    .await;
}

/// Half of the sessions wait when it dies, the others come while it is away, with the instances that all wait for. That
/// lasts longer than the leader's term, and every pause between attempts has grown meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_is_killed_and_restarted_while_fifty_sessions_wait() {
    in_a_world("killed", async |mut world: World| {
        let mut server = ApiServer::start(&world.namespace).await;
        let kubeconfig = server.kubeconfig(world.folder.path());
        world.start_operator(&kubeconfig).await;
        world.spark.hold_starts();
        world.create_sessions(0..SESSIONS / 2).await;
        world.until_it_begins().await;
        server.kill();
        world.create_sessions(SESSIONS / 2..SESSIONS).await;
        world.spark.let_start();
        sleep(Duration::from_secs(12)).await;
        server.start_again();
        server.until_it_serves(&kubeconfig, &world.namespace).await;
        world.is_right_after("kill -9 of the API server", Instant::now()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_watches_break_off_while_fifty_sessions_come() {
    in_a_world("cut", async |mut world: World| {
        let proxy = Proxy::start(world.client.clone()).await;
        let kubeconfig = proxy.kubeconfig(world.folder.path());
        world.start_operator(&kubeconfig).await;
        for batch in 0..10 {
            proxy.cut();
            world.create_sessions(batch * SESSIONS / 10..(batch + 1) * SESSIONS / 10).await;
        }
        proxy.cut();
        world.is_right_after("broken watches", Instant::now()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_watches_saw_last_is_forgotten_while_fifty_sessions_come() {
    in_a_world("gone", async |mut world: World| {
        let proxy = Proxy::start(world.client.clone()).await;
        let kubeconfig = proxy.kubeconfig(world.folder.path());
        world.start_operator(&kubeconfig).await;
        world.create_sessions(0..SESSIONS / 2).await;
        proxy.forget(true);
        world.create_sessions(SESSIONS / 2..SESSIONS).await;
        wait::until("all watches are told 410", async || (proxy.told_gone() >= 5).then_some(())).await;
        proxy.forget(false);
        world.is_right_after("410 Gone", Instant::now()).await;
    })
    .await;
}

/// As one that has just been started answers: 503, and to come again in five seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_is_not_ready_for_a_while_when_fifty_sessions_have_come() {
    in_a_world("starting", async |mut world: World| {
        let proxy = Proxy::start(world.client.clone()).await;
        let kubeconfig = proxy.kubeconfig(world.folder.path());
        world.start_operator(&kubeconfig).await;
        world.create_sessions(0..SESSIONS / 2).await;
        world.until_it_begins().await;
        proxy.start_up(true);
        world.create_sessions(SESSIONS / 2..SESSIONS).await;
        wait::until("requests are refused", async || (proxy.refused() >= 20).then_some(())).await;
        proxy.start_up(false);
        world.is_right_after("503, retry after 5 s", Instant::now()).await;
    })
    .await;
}

/// Whoever created them does not know it, and does not see it for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answers_to_creations_are_lost_while_fifty_sessions_come() {
    in_a_world("lost", async |mut world: World| {
        let proxy = Proxy::start(world.client.clone()).await;
        let kubeconfig = proxy.kubeconfig(world.folder.path());
        world.start_operator(&kubeconfig).await;
        proxy.lose_answers(3);
        world.create_sessions(0..SESSIONS).await;
        wait::until("answers are lost", async || (!proxy.still_loses()).then_some(())).await;
        world.is_right_after("lost answers", Instant::now() + proxy::LATE).await;
    })
    .await;
}

/// Every attempt to write them fails, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_sessions_cannot_be_written_while_fifty_others_come() {
    in_a_world("unwritable", async |mut world: World| {
        let kubeconfig = std::env::var_os("KUBECONFIG").unwrap();
        world.start_operator(kubeconfig.as_ref()).await;
        world.create_padded_sessions(2).await;
        world.create_sessions(0..SESSIONS).await;
        world.is_right_after("sessions that cannot be written", Instant::now()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_leader_had_a_clock_that_was_ahead_when_fifty_sessions_had_come() {
    in_a_world("clock", async |mut world: World| {
        world.create_sessions(0..SESSIONS).await;
        world.write_times_of_tomorrow().await;
        let kubeconfig = std::env::var_os("KUBECONFIG").unwrap();
        world.start_operator(kubeconfig.as_ref()).await;
        world.is_right_after("times of tomorrow", Instant::now()).await;
        let tomorrow = world.times_of_tomorrow().await;
        assert_eq!(tomorrow, [""; 0], "they are still believed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_slow_while_fifty_sessions_come() {
    in_a_world("slow", async |mut world: World| {
        let proxy = Proxy::start(world.client.clone()).await;
        let kubeconfig = proxy.kubeconfig(world.folder.path());
        world.start_operator(&kubeconfig).await;
        proxy.slow_writes(Duration::from_secs(2));
        world.create_sessions(0..SESSIONS).await;
        let writes = proxy.writes();
        wait::until("dozens of slow writes", async || (proxy.writes() > writes + 30).then_some(())).await;
        proxy.slow_writes(Duration::ZERO);
        // What was on its way then may take as long again.
        world.is_right_after("slow writes", Instant::now() + Duration::from_secs(2)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_client_patches_everything_all_the_time_while_fifty_sessions_come() {
    in_a_world("conflicts", async |mut world: World| {
        let kubeconfig = std::env::var_os("KUBECONFIG").unwrap();
        world.start_operator(kubeconfig.as_ref()).await;
        let (pools, sessions) = (world.pools(), world.sessions());
        let mut patched = 0_u32;
        let patching = async {
            loop {
                let names = world::names(&sessions).await;
                let change =
                    json!({ "metadata": { "annotations": { "example.com/n": patched.to_string() } } });
                let (params, change) = (PatchParams::default(), Patch::Merge(change));
                pools.patch_metadata(world::POOL, &params, &change).await.unwrap();
                for name in names {
                    sessions.patch_metadata(&name, &params, &change).await.unwrap();
                    patched += 1;
                }
            }
        };
        let coming = async {
            world.create_sessions(0..SESSIONS).await;
            sleep(Duration::from_secs(5)).await;
        };
        tokio::select! { () = patching => {}, () = coming => {} }
        assert!(patched > 100, "{patched} patches are no trouble");
        world.is_right_after("a client that patches everything", Instant::now()).await;
    })
    .await;
}
