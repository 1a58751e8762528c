//! One host in all its spellings. Whatever the operator takes for the host of a pool leads there, over Connect as over Thrift;
//! what it does not is refused in its words before anything is started for it.

use kube::api::ListParams;
use uuid::Uuid;

use super::certificates::Authority;
use super::pools::{self, HOST};
use super::raw_client::{Answer, Raw};
use super::tls_client::{TlsClients, der};
use super::wait::until;
use super::world::World;

/// What a session would have been started for, and then not been found.
const ROUTE_WITHOUT_POOL: &str = "No Spark pool is served here.";

/// A Config call of a session of its own in HTTP/1.1, in which any host can be written. Envoy translates it.
fn connect() -> Raw {
    let message = [b"\x0a\x24".as_slice(), Uuid::new_v4().to_string().as_bytes()].concat();
    let body = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], message.as_slice()].concat();
    let mut raw = Raw::open_session()
        .line("POST /spark.connect.SparkConnectService/Config HTTP/1.1")
        .without("Content-Type")
        .without("Content-Length")
        .header("Content-Type", "application/grpc")
        .header("Content-Length", &body.len().to_string());
    raw.body = body;
    raw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_spelling_of_a_host_leads_to_its_pool_or_starts_nothing() {
    let pools = vec![pools::connect("connect", HOST), pools::thrift("thrift", HOST)];
    World::run("hosts", pools, &[], async move |world| {
        let ask = async |call: Raw, user: &str, host: &str| -> Answer {
            call.user(user).without("Host").header("Host", host).send(world.envoy.listens).await
        };
        let mut wrong = Vec::new();
        for call in [connect, Raw::open_session] {
            for host in [
                "spark.test",
                "spark.test.",
                "SPARK.Test.",
                "spark.test:80",
                "spark.test.:80",
                "Spark.TEST.:65535",
                "spark.test:0",
                "spark.test:80.",
            ] {
                let answer = ask(call(), "ana", host).await;
                if !answer.has_arrived() {
                    wrong.push(format!("{} at {host:?}: {answer:?}", call().line));
                }
            }
            for host in [
                "spark.test..",
                "spark.test..:80",
                "spark.test:",
                "spark.test.:",
                "spark.test:80:80",
                "spark.test:80.:80",
                "spark.test:99999999999",
                ".spark.test",
                "spark.test,spark.test",
                "[spark.test]",
                "[::1]:80",
                "::1",
                "127.0.0.1:80",
                ".",
                ":80",
            ] {
                let answer = ask(call(), "eve", host).await;
                if answer.has_arrived() || answer.says(ROUTE_WITHOUT_POOL) || answer.status() == 0 {
                    wrong.push(format!("{} at {host:?}: {answer:?}", call().line));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        let sessions = world.cluster.sessions.list(&ListParams::default()).await.unwrap();
        let users: Vec<_> = sessions.iter().map(|session| session.spec.user.as_str()).collect();
        assert!(users.iter().all(|user| *user == "ana"), "of the refused ones none has begun: {users:?}");

        // As clients send it: gRPC in HTTP/2, with the port.
        for host in ["spark.test.", "Spark.Test.:443"] {
            let answer = world.connect(host, "ana").await.config().await.expect("it is served");
            assert_eq!(answer.pod(), "connect-0-driver");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trailing_dot_is_served_with_tls_too() {
    let authority = Authority::new();
    let issued = authority.host("a.test");
    let pools = vec![
        pools::with_certificate(pools::connect("a", "a.test"), "tls-a"),
        pools::with_certificate(pools::thrift("b", "a.test"), "tls-a"),
    ];
    World::run_with_mutual_tls("dot", pools, &[], async move |world| {
        world.cluster.put_certificate("tls-a", &issued).await;
        let clients = TlsClients::new(world.listens_with_tls, &authority);
        for host in ["a.test", "a.test."] {
            let what = format!("{host} shows its certificate");
            let shown = until(&what, async || clients.certificate_of(host).await.ok()).await;
            assert_eq!(shown, der(&issued));
            let answer = clients.connect(host, "ana").await.config().await.expect("it is served");
            assert_eq!(answer.pod(), "a-0-driver", "{host}");
            let answer = clients.thrift(host, "ana").call("OpenSession").await.expect("it is served");
            assert_eq!(answer.pod(), "b-0-driver", "{host}");
        }
        // As PySpark asks: gRPC's core leaves the dot where it is.
        assert!(clients.shows_with_dot("a.test.", &der(&issued)).await);
        assert!(!clients.shows_with_dot("b.test.", &der(&issued)).await, "nothing is there");
    })
    .await;
}
