//! An operator that does not answer: neither a check, nor, after a check, what is the configuration of the Thrift session
//! that is being opened. And a Thrift server that does not answer what was let through. To stop it between the two it is taken apart: its xDS, its checks, and here the rest.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::{
    ExternalProcessor, ExternalProcessorServer,
};
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Part;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Answer;
use envoy_types::pb::envoy::service::ext_proc::v3::{BodyResponse, ProcessingRequest, ProcessingResponse};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use spark_session_operator::edge::{self, Checker};
use spark_session_operator::model::{Check, Endpoint, Protocol, Route, Routing, Verdict, VirtualHost};
use spark_session_operator::xds::{DiscoveryService, EnvoySettings, Publisher, RequestRates, translate};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

use super::connect_client::ConnectClient;
use super::pools::HOST;
use super::process::free_port;
use super::proxy::Envoy;
use super::stand_in::POD;
use super::thrift_client::ThriftClient;

const UNCHECKED: &str = "The Spark session operator does not answer, and nothing was done. Try again; if \
                         this lasts, tell the administrators.";
const BROKEN_OFF: &str = "The Spark server cannot be reached, or broke off before it had answered: it is not known \
                          whether it did what was asked. Try again; if it is gone, the answer says so.";
const UNOPENED: &str = "The session was not opened: the gateway could not ask the Spark session operator about it. Try \
                        again in a few seconds; if this lasts, tell the administrators.";

/// What becomes of each try of Envoy's to ask.
#[derive(Clone, Copy)]
enum Try {
    /// The replica dies, and all its connections with it.
    Crash,
    /// The replica stops.
    Unavailable,
    /// It hangs.
    Silent,
    /// It has a defect.
    Failed,
    Answered,
}

/// An operator that is good for everything but this.
struct Operator {
    /// In their order; the last one goes for all that follow.
    tries: &'static [Try],
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl ExternalProcessor for Operator {
    type ProcessStream = BoxStream<'static, Result<ProcessingResponse, Status>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let asked = self.asked.fetch_add(1, SeqCst).min(self.tries.len() - 1);
        match self.tries[asked] {
            // Of the task that has the connection.
            Try::Crash => panic!("a crash that the test wants"),
            Try::Failed => Err(Status::internal("a defect")),
            Try::Unavailable => Err(Status::unavailable("this replica stops")),
            Try::Silent => Ok(Response::new(stream::pending().boxed())),
            Try::Answered => Ok(Response::new(request.into_inner().map(as_it_is).boxed())),
        }
    }
}

fn as_it_is(part: Result<ProcessingRequest, Status>) -> Result<ProcessingResponse, Status> {
    let body = BodyResponse::default();
    let answer = match part?.request {
        Some(Part::ResponseBody(_)) => Answer::ResponseBody(body),
        _ => Answer::RequestBody(body),
    };
    Ok(ProcessingResponse { response: Some(answer), ..ProcessingResponse::default() })
}

#[derive(Clone, Copy)]
enum Checks {
    Allowed,
    Silent,
}

impl Checker for Checks {
    async fn check(&self, _: Check) -> Verdict {
        if matches!(self, Self::Silent) {
            std::future::pending::<()>().await;
        }
        let [cluster, session, pool, user] = ["sql-0", "ana-default", "sql", "ana"].map(str::to_owned);
        Verdict::Route(Route { cluster, session, pool, user, token: None })
    }
}

struct World {
    listens: SocketAddr,
    client: ThriftClient,
    asked: Arc<AtomicUsize>,
    _envoy: Envoy,
    _stop: DropGuard,
}

impl World {
    async fn start(scenario: &str, checks: Checks, tries: &'static [Try]) -> Self {
        Self::start_with(Some(spark().await), scenario, checks, tries).await
    }

    async fn start_with(
        spark: Option<SocketAddr>,
        scenario: &str,
        checks: Checks,
        tries: &'static [Try],
    ) -> Self {
        // Another test of this process may have installed it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (control, listens, stop) = (free_port(), free_port(), CancellationToken::new());
        let publisher = Publisher::new();
        publisher.publish(translate(&routing(spark), &settings(listens)));
        let asked = Arc::new(AtomicUsize::new(0));
        let operator = Operator { tries, asked: Arc::clone(&asked) };
        let server = Server::builder()
            .add_routes(DiscoveryService::new(publisher, stop.clone()).into_routes())
            .add_service(edge::service(Arc::new(checks)))
            .add_service(ExternalProcessorServer::new(operator));
        tokio::spawn(server.serve_with_shutdown(control, stop.clone().cancelled_owned()));
        let mut envoy = Envoy::new(scenario, listens, control);
        envoy.start();
        envoy.until_it_listens().await;
        let client = ThriftClient::new(listens, HOST, "ana");
        Self { listens, client, asked, _envoy: envoy, _stop: stop.drop_guard() }
    }
}

async fn spark() -> SocketAddr {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = server.local_addr().unwrap();
    // As the Thrift server does, it answers to a whole call: Envoy sends it the headers before it asks.
    let router = Router::new().fallback(async |_: Bytes| ([(POD, "sql-0-driver")], "opened"));
    tokio::spawn(async move { axum::serve(server, router).await });
    address
}

/// Dies when it is asked.
async fn dying_spark() -> SocketAddr {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = server.accept().await {
            let _ = connection.read(&mut [0; 1024]).await;
        }
    });
    address
}

fn routing(spark: Option<SocketAddr>) -> Routing {
    let mut routing = Routing::default();
    let host = VirtualHost { connect: Some("lab".to_owned()), thrift: Some("sql".to_owned()) };
    routing.hosts.insert(HOST.to_owned(), host);
    if let Some(address) = spark {
        routing.endpoints.insert("sql-0".to_owned(), Endpoint { protocol: Protocol::Thrift, address });
    }
    routing
}

fn settings(listens: SocketAddr) -> EnvoySettings {
    EnvoySettings {
        listen_addr: Some(listens),
        tls: None,
        request_rates: RequestRates::default(),
        ext_authz_timeout: Duration::from_secs(2),
        max_body_head: 8192,
        activity_report_interval: Duration::from_secs(15),
        control_cluster: "spark-session-operator".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_is_not_answered_is_told_to_every_client_in_words() {
    let world = World::start("unchecked", Checks::Silent, &[Try::Answered]).await;
    let refused = ConnectClient::new(world.listens, HOST, "ana").await.config().await.unwrap_err();
    // PySpark goes on by itself for some minutes before it shows this.
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, UNCHECKED));

    let refused = world.client.call("GetOperationStatus").await.unwrap_err();
    assert!(refused.starts_with("200 OK: ") && refused.contains(UNCHECKED), "{refused:?}");

    let curl = reqwest::Client::builder().no_proxy().build().unwrap();
    let page =
        curl.get(format!("http://{}/", world.listens)).header("accept", "text/html").send().await.unwrap();
    assert_eq!(page.status(), 503);
    let page = page.text().await.unwrap();
    assert!(page.contains(UNCHECKED), "{page}");
    assert_eq!(world.asked.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_comes_back_in_time_is_asked_again() {
    let world =
        World::start("open-again", Checks::Allowed, &[Try::Crash, Try::Unavailable, Try::Answered]).await;
    assert_eq!(world.client.call("OpenSession").await.unwrap().pod(), "sql-0-driver");
    assert_eq!(world.asked.load(SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_does_not_answer_is_named_to_the_user() {
    let stories: [(_, &[Try]); 3] = [
        ("open-silent", &[Try::Silent]),
        ("open-unavailable", &[Try::Unavailable]),
        ("open-failed", &[Try::Failed]),
    ];
    for (scenario, tries) in stories {
        let world = World::start(scenario, Checks::Allowed, tries).await;
        let asked = Instant::now();
        let refused = world.client.call("OpenSession").await.unwrap_err();
        assert!(refused.starts_with("200 OK: ") && refused.contains(UNOPENED), "{scenario}: {refused:?}");
        assert!(asked.elapsed() < Duration::from_secs(8), "{scenario}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thrift_server_that_dies_or_is_gone_is_told_in_words() {
    let both = ["ExecuteStatement", "OpenSession"];
    let stories = [
        ("spark-dies", Some(dying_spark().await), &both[..]),
        ("spark-gone", Some(free_port()), &both),
        // Envoy does not know it any more, and waits for it in vain.
        ("spark-removed", None, &both[..1]),
    ];
    for (scenario, spark, methods) in stories {
        let world = World::start_with(spark, scenario, Checks::Allowed, &[Try::Answered]).await;
        for method in methods {
            let refused = world.client.call(method).await.unwrap_err();
            assert!(refused.starts_with("200 OK: ") && refused.contains(BROKEN_OFF), "{method}: {refused:?}");
        }
    }
}
