//! Requests that no client sends by itself: what of them Envoy refuses, what the operator does, in which words, and that
//! nothing else of them reaches Spark.
//!
//! Here every name is believed (`--oidc-skip-validation`), so that who a request is taken for shows in the name that
//! Spark is told. Forged tokens are in `tests/authn.rs`.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kube::api::ListParams;
use tonic::Code;

use super::pools::{self, HOST};
use super::raw_client::{Answer, Raw, basic};
use super::world::World;

const NO_BASE64: &str =
    "The credentials cannot be read: after \"Basic\" there is no base64 of user:password.";
const NO_BEARER: &str =
    "The credentials cannot be read: the bearer token is neither a JWT nor base64 of user:password.";

const NO_TEXT: &str = "The credentials cannot be read: after \"Basic\" there is base64, but not of user:password in UTF-8 or Latin-1.";
const DIFFERENT: &str = "Different Authorization headers were sent with one request; send one.";

/// As `edge::allow` tells a Thrift server.
fn told_to_spark(user: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:x")))
}

fn pools() -> Vec<spark_session_operator::api::SparkSessionPool> {
    vec![pools::connect("connect", HOST), pools::thrift("thrift", HOST)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_cannot_be_read_are_refused_in_words() {
    World::run("unreadable", pools(), &[], async move |world| {
        for (header, words) in [
            ("Basic !!!", NO_BASE64),
            // No text, no colon, nothing.
            ("Basic /////w==", NO_TEXT),
            ("Basic YW5uYQ==", NO_BASE64),
            ("Basic", NO_BASE64),
            ("Bearer !!!", NO_BEARER),
            ("Bearer a.b.c", NO_BEARER),
            ("Basic OnMzY3JldA==", "The credentials cannot be read: the user name is empty."),
            (
                "Negotiate YW5hOng=",
                "The credentials cannot be read: the authorization scheme is neither Basic nor Bearer.",
            ),
            ("Basic ICA6eA==", "The user name is empty; log in with a user name."),
            (
                "Basic YW5hCmV2ZTp4",
                "The user name contains control characters; check what the client sends as user.",
            ),
        ] {
            let answer = Raw::open_session().header("Authorization", header).send(world.envoy.listens).await;
            assert!(
                answer.status() == 200 && answer.says(words) && !answer.has_arrived(),
                "{header}: {answer:?}"
            );

            let client = world.connect(HOST, "ana").await.with_header("authorization", header);
            let refused = client.config().await.unwrap_err();
            assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, words), "{header}");
        }
        // Bytes that are no text.
        let raw = Raw::open_session().header_in_bytes("Authorization", b"Basic \xff\xfe\x80");
        let answer = raw.send(world.envoy.listens).await;
        assert!(!answer.has_arrived() && answer.says(NO_BASE64), "{answer:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_is_one_user() {
    World::run("two-users", pools(), &[], async move |world| {
        let send = async |raw: Raw| raw.send(world.envoy.listens).await;
        let is =
            |answer: &Answer, user: &str| answer.received("authorization") == Some(&*told_to_spark(user));

        // What is behind the first colon is the password; names are UTF-8, or else Latin-1.
        for (pair, user) in [("ana:a:b:ü", "ana"), ("Änne:ü", "Änne")] {
            let header = format!("Basic {}", BASE64_STANDARD.encode(pair));
            let answer = send(Raw::open_session().header("Authorization", &header)).await;
            assert!(is(&answer, user), "{pair}: {answer:?}");
        }

        let header = format!("Basic {}", BASE64_STANDARD.encode(b"j\xfcrgen:p\xe4ss"));
        let answer = send(Raw::open_session().header("Authorization", &header)).await;
        assert!(is(&answer, "jürgen"), "{answer:?}");

        // Envoy joins headers of one name by a comma, which is in no base64.
        for (first, second) in [("ana", "eve"), ("eve", "ana")] {
            let answer = send(Raw::open_session().user(first).user(second)).await;
            assert!(answer.says(DIFFERENT) && !answer.has_arrived(), "{first}, {second}: {answer:?}");
        }
        // JVM clients send the login of $SPARK_REMOTE and that of the URL.
        let answer = send(Raw::open_session().user("ana").user("ana").user("ana")).await;
        assert!(is(&answer, "ana"), "{answer:?}");
        let twice = |raw: Raw, name: &str, value: &str| raw.header(name, value).header(name, value);
        let raw = twice(Raw::open_session(), "x-spark-username", "ana");
        let answer = send(twice(raw, "x-spark-password", "p,w")).await;
        assert!(is(&answer, "ana"), "{answer:?}");
        // An empty one says nothing.
        for (first, second) in [("", &*basic("ana")), (&*basic("ana"), "")] {
            let raw = Raw::open_session().header("Authorization", first).header("Authorization", second);
            let answer = send(raw).await;
            assert!(is(&answer, "ana"), "{first:?} and {second:?}: {answer:?}");
        }
        let client = world.connect(HOST, "ana").await;
        let refused = client.clone().and_header("authorization", &basic("eve")).config().await.unwrap_err();
        assert!(refused.message().starts_with(DIFFERENT), "{refused:?}");
        let client = client.and_header("authorization", &basic("ana"));
        let named = client.and_header("x-spark-session", "etl").and_header("x-spark-session", "etl");
        named.config().await.expect("the same login and the same name, each of them twice");

        // The standard header counts, and is not completed by others.
        let contradicting = |raw: Raw| raw.header("x-spark-username", "eve").header("x-spark-password", "x");
        let answer = send(contradicting(Raw::open_session().user("ana"))).await;
        assert!(is(&answer, "ana"), "{answer:?}");
        let answer = send(contradicting(Raw::open_session().header("Authorization", "Basic ?"))).await;
        assert!(answer.says(NO_BASE64) && !answer.has_arrived(), "{answer:?}");
        let answer = send(Raw::open_session().user("ana").header("Authentication", &basic("eve"))).await;
        assert!(is(&answer, "ana"), "{answer:?}");
        for name in
            ["Proxy-Authorization", "X-Forwarded-User", "X-Remote-User", "doAs", "X-Hive-Delegation-Token"]
        {
            let answer = send(Raw::open_session().header(name, &basic("eve"))).await;
            assert!(answer.says("No credentials were sent.") && !answer.has_arrived(), "{name}: {answer:?}");
        }
        let cookies = "hive.server2.auth=cu=eve&rn=1&s=x; hive.server2.delegation.token=eve";
        let answer = send(Raw::open_session().header("Cookie", cookies)).await;
        assert!(answer.says("No credentials were sent."), "{answer:?}");
        let answer = send(Raw::open_session().user("ana").header("Cookie", cookies)).await;
        assert!(is(&answer, "ana") && answer.received("cookie").is_none(), "{answer:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_told_to_a_thrift_server_so_that_nobody_becomes_somebody_else() {
    World::run("names", pools(), &[], async move |world| {
        for (user, told) in [
            ("alice@partner.example", "alice%40partner.example"),
            ("admin/x", "admin%2Fx"),
            ("alice%40partner.example", "alice%2540partner.example"),
            ("CORP\\Änne", "CORP\\Änne"),
        ] {
            let answer = Raw::open_session().user(user).send(world.envoy.listens).await;
            assert_eq!(answer.received("authorization"), Some(&*told_to_spark(told)), "{user}: {answer:?}");
        }
        // No form of Basic could say this one.
        let colon = Raw::open_session().header("x-spark-username", "ana:b").header("x-spark-password", "x");
        let answer = colon.send(world.envoy.listens).await;
        assert_eq!(answer.received("authorization"), Some(&*told_to_spark("ana%3Ab")), "{answer:?}");
        // The operator knows them by their full names.
        let sessions = world.cluster.sessions.list(&ListParams::default()).await.unwrap();
        let users: BTreeSet<_> = sessions.iter().map(|session| session.spec.user.as_str()).collect();
        let full = ["CORP\\Änne", "admin/x", "alice%40partner.example", "alice@partner.example", "ana:b"];
        assert_eq!(users, BTreeSet::from(full));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_id_has_one_spelling() {
    World::run("spelling", pools(), &[], async move |world| {
        let ana = world.connect(HOST, "ana").await;
        let id = ana.message(&[])[2..38].to_vec();
        let sent = String::from_utf8(id.to_ascii_uppercase()).unwrap();
        let refused = ana.config_of([b"\x0a\x24", sent.as_bytes()].concat()).await.unwrap_err();
        let words = format!(
            "The session id {sent} has upper-case letters. Spark takes an id in another spelling for another session, so \
             send it as {}.",
            String::from_utf8(id).unwrap()
        );
        assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, &*words));
        let sessions = world.cluster.sessions.list(&ListParams::default()).await.unwrap();
        assert!(sessions.items.is_empty(), "{sessions:?}");
        ana.config().await.expect("the same id as the answer says");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_and_hosts_mean_what_they_say() {
    World::run("paths", pools(), &[], async move |world| {
        let send = async |raw: Raw| raw.send(world.envoy.listens).await;
        let ana = || Raw::open_session().user("ana");
        let mut wrong = Vec::new();
        for (path, arrives) in [
            ("/cliservice", true),
            ("/cliservice/", true),
            ("/cliservice/etl", true),
            ("/cliservice?doAs=eve", true),
            ("/cliservice/etl?doAs=eve&x=/..", true),
            ("/x/../cliservice", true),
            ("/../cliservice", true),
            ("/%63liservice", true),
            ("/cliservice/x/..", true),
            ("/cliservice/%2e%2e/cliservice", true),
            ("//cliservice", false),
            ("/cliservice//etl", false),
            ("/cliservice/..", false),
            ("/cliservice;jsessionid=1", false),
            ("/cliservice/etl;a=b", false),
            ("/cliservice/a/b", false),
            ("/cliservice/%00", false),
            ("/cliservice/a%2fb", false),
            ("/cliservice%2fetl", false),
            ("/cliservice%3fdoAs=eve", false),
            ("/CLISERVICE", false),
            ("/cliservices", false),
        ] {
            let answer = send(ana().line(&format!("POST {path} HTTP/1.1"))).await;
            // Whatever the client's path, this is all that Spark sees.
            if answer.received("path") != arrives.then_some("/cliservice") {
                wrong.push(format!("{path}: {answer:?}"));
            }
        }
        for (line, host, told) in [
            // The target of the request counts, not the header beside it.
            ("POST http://spark.test/cliservice HTTP/1.1", "other.test", None),
            ("POST http://other.test/cliservice HTTP/1.1", HOST, Some("No pool has host other.test.")),
            ("POST /cliservice HTTP/1.1", "SPARK.test:80", None),
            ("POST /cliservice HTTP/1.1", "spark.test.", None),
            ("POST /cliservice HTTP/1.1", "spark.test:80@evil", Some("")),
            ("POST /cliservice HTTP/1.1", "evil.spark.test", Some("No pool has host evil.spark.test.")),
            ("POST /cliservice HTTP/1.1", "", Some("")),
        ] {
            let answer = send(ana().without("Host").header("Host", host).line(line)).await;
            if answer.has_arrived() != told.is_none() || !answer.says(told.unwrap_or_default()) {
                wrong.push(format!("{line}, {host}: {answer:?}"));
            }
        }
        for name in
            ["X-Forwarded-Host", "X-Original-URL", "X-Rewrite-URL", "Forwarded", "X-Http-Method-Override"]
        {
            let answer = send(ana().without("Host").header("Host", "other.test").header(name, HOST)).await;
            assert!(answer.says("No pool has host other.test."), "{name}: {answer:?}");
        }
        let two = send(ana().header("Host", "other.test")).await;
        assert!(two.says("No pool has host spark.test,other.test."), "{two:?}");
        let forwarded = send(ana().header("X-Forwarded-Host", "other.test")).await;
        assert!(forwarded.has_arrived(), "{forwarded:?}");
        assert!(wrong.is_empty(), "{wrong:#?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ambiguous_or_too_large_envoy_refuses_itself() {
    World::run("ambiguous", pools(), &[], async move |world| {
        let ana = || Raw::open_session().user("ana");
        let mut wrong = Vec::new();
        for (what, raw, status) in [
            ("a length and chunks", ana().header("Transfer-Encoding", "chunked"), 400),
            ("two lengths", ana().header("Content-Length", "7"), 400),
            ("a length with a sign", ana().without("Content-Length").header("Content-Length", "+22"), 400),
            ("unknown coding", ana().without("Content-Length").header("Transfer-Encoding", "xchunked"), 501),
            ("a space before the colon", ana().header("Content-Type ", "text/plain"), 400),
            ("a zero in a header", ana().header("X", "a\0b"), 400),
            ("no host", ana().without("Host"), 400),
            ("no path", ana().line("POST cliservice HTTP/1.1"), 400),
            ("HTTP/1.0", ana().line("POST /cliservice HTTP/1.0"), 426),
            ("HTTP/9", ana().line("POST /cliservice HTTP/9.9"), 426),
            ("CONNECT", ana().line("CONNECT spark.test:80 HTTP/1.1"), 400),
            ("a header of 1 MB", ana().header("X", &"x".repeat(1 << 20)), 431),
            ("a password of 1 MB", Raw::open_session().user(&"x".repeat(1 << 20)), 431),
            ("200 headers", (0..200).fold(ana(), |raw, n| raw.header(&format!("X-{n}"), "x")), 431),
        ] {
            let answer = raw.send(world.envoy.listens).await;
            if answer.has_arrived() || answer.status() != status {
                wrong.push(format!("{what}: {answer:?}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        let client = world.connect(HOST, "ana").await;
        let large = client.with_header("x-large", &"x".repeat(1 << 20)).config().await.unwrap_err();
        assert_ne!(large.code(), Code::Ok);
        // Envoy ends the connection of such a request.
        world.connect(HOST, "ana").await.config().await.expect("the same without it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_that_hides_its_session() {
    World::run("grpc", pools(), &[], async move |world| {
        let client = world.connect(HOST, "ana").await;
        let twice = client.message(&[]);
        let twice = [twice.clone(), twice].concat();
        let refused = client.config_of(twice.clone()).await.unwrap_err();
        let words = "The request names its session or its user twice, which Spark Connect clients never do.";
        assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, words));

        // Envoy shows the head of a long message only. What stands behind it, Spark itself has to refuse.
        let long = [client.message(&vec![7; 20 << 20]).to_vec(), client.another_session().message(&[]).to_vec()].concat();
        let arrived = client.config_of(long.clone()).await.expect("20 MB");
        assert_eq!(arrived.bytes(), long.len());

        for (kind, body, words) in [
            (
                "application/grpc",
                frame(1, &client.message(&[])),
                "The request is compressed, so that the session it belongs to cannot be read. Switch gRPC compression off in \
                 the client.",
            ),
            ("application/grpc", frame(2, &client.message(&[])), "The request is not a gRPC message of Spark Connect."),
            (
                "application/grpc-web-text",
                BASE64_STANDARD.encode(frame(0, &client.message(&[]))).into_bytes(),
                "The request is not a gRPC message of Spark Connect.",
            ),
            (
                "application/json",
                b"{}".to_vec(),
                "Spark Connect speaks gRPC: connect with PySpark or another Spark Connect client.",
            ),
            (
                "application/grpc",
                Vec::new(),
                "The request came without its first message, so that the session it belongs to is unknown. Send the first \
                 message together with the headers.",
            ),
        ] {
            let envoy = world.envoy.listens;
            let url = format!("http://{HOST}:{}/spark.connect.SparkConnectService/Config", envoy.port());
            let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().resolve(HOST, envoy);
            let request = http.build().unwrap().post(url).header("content-type", kind);
            let answer = request.header("authorization", basic("ana")).body(body).send().await.unwrap();
            assert!(!answer.headers().contains_key(super::stand_in::POD), "{kind} led to Spark");
            let said = answer.headers().get("grpc-message").map(|value| value.to_str().unwrap().to_owned());
            let said = match said {
                Some(said) => percent_encoding::percent_decode_str(&said).decode_utf8_lossy().into_owned(),
                None => answer.text().await.unwrap(),
            };
            assert!(said.contains(words), "{kind}: {said}");
        }
    })
    .await;
}

fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag], (message.len() as u32).to_be_bytes().as_slice(), message].concat()
}
