//! etcd is restored from a backup while the operator runs: its resource versions begin again where they were then, and what
//! came since is gone.

use kube::Client;
use kube::api::{Patch, PatchParams};
use rstest::rstest;
use serde_json::json;

use super::api_server::{self, ApiServer};
use super::etcd::Etcd;
use super::stand_in::StandIn;
use super::world::{self, SESSIONS, World};
use super::{namespace, wait};

/// Sessions that the backup has.
const KEPT: usize = 5;

/// The one who plans is known by a Lease, or is the only one. The Lease is restored, too.
#[rstest]
#[case::elected("restore-lease", &["--leader-elect"])]
#[case::alone("restore", &[])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_operator_goes_on_after_etcd_was_restored(#[case] scenario: &str, #[case] flags: &[&str]) {
    let _alone = world::alone().await;
    let first: Client = namespace::client().await;
    let mut etcd = Etcd::start(scenario).await;
    let mut server = ApiServer::start_on(scenario, Some(&etcd.url())).await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = server.kubeconfig(folder.path());
    let client = api_server::client(&kubeconfig).await;
    server.learn_kinds(&first, &client).await;
    let mut world = world::on_a_server_of_its_own(client.clone(), scenario, flags).await;
    let restarted = async |server: &mut ApiServer, etcd: &mut Etcd, namespace: &str| {
        etcd.start_again().await;
        server.start_again();
        server.until_it_serves(&kubeconfig, namespace).await;
    };

    world.start_operator(&kubeconfig).await;
    world.create_sessions(0..KEPT).await;
    world.until_served(KEPT).await;
    server.kill();
    etcd.kill();
    etcd.back_up();
    restarted(&mut server, &mut etcd, &world.namespace).await;
    // Its drivers are processes, which run on whatever etcd says.
    let _drivers = std::mem::replace(&mut world.spark, StandIn::start(client.clone(), &world.namespace));
    world.create_sessions(KEPT..SESSIONS / 2).await;
    world.until_served(SESSIONS / 2).await;
    touch(&world, KEPT).await;

    server.kill();
    etcd.kill();
    etcd.restore();
    restarted(&mut server, &mut etcd, &world.namespace).await;
    let _drivers = std::mem::replace(&mut world.spark, StandIn::start(client, &world.namespace));
    world.create_sessions(KEPT..SESSIONS).await;
    let took = world.until_right("etcd was restored").await;
    println!("etcd was restored: every status right after {} ms", took.as_millis());
    let said = "the API server was set back to an earlier state, as by a restore of etcd";
    let log = world.log();
    assert!(log.contains(said), "{log}");
}

/// Every object that the backup has gets a newer version than it has there.
async fn touch(world: &World, count: usize) {
    let (params, sessions) = (PatchParams::default(), world.sessions());
    let change = Patch::Merge(json!({ "metadata": { "annotations": { "example.com/touched": "yes" } } }));
    for n in 0..count {
        let name = format!("s-{n}");
        wait::until("the session is touched", async || {
            sessions.patch_metadata(&name, &params, &change).await.ok()
        })
        .await;
    }
}
