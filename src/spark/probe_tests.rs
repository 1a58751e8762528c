use tokio::net::TcpListener;
use tonic::transport::Server;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

const SOON: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(5);

async fn grpc_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(Server::builder().add_service(health).serve_with_incoming(incoming));
    address
}

async fn http_server(status: u16) -> (MockServer, SocketAddr) {
    let server = MockServer::start().await;
    Mock::given(method("GET"))
        .and(path("/cliservice"))
        .respond_with(ResponseTemplate::new(status))
        .mount(&server)
        .await;
    let address = *server.address();
    (server, address)
}

#[tokio::test]
async fn a_grpc_server_that_does_not_know_the_method_answers() {
    assert_eq!(answers(Protocol::Connect, grpc_server().await, LONG).await, Ok(()));
}

#[tokio::test]
async fn a_thrift_server_that_refuses_a_get_answers() {
    for status in [401, 405, 500] {
        let (_server, address) = http_server(status).await;
        assert_eq!(answers(Protocol::Thrift, address, LONG).await, Ok(()), "{status}");
    }
}

#[tokio::test]
async fn a_proxy_that_says_503_for_an_absent_server_is_no_answer() {
    let (_server, address) = http_server(503).await;
    for protocol in [Protocol::Thrift, Protocol::Connect] {
        let error = answers(protocol, address, LONG).await.unwrap_err();
        assert!(matches!(error, ProbeError::NotServing { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_closed_port_is_told_as_a_refused_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for protocol in [Protocol::Thrift, Protocol::Connect] {
        let error = answers(protocol, address, LONG).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("no connection to {address}: Connection refused (os error 111)")
        );
    }
}

#[tokio::test]
async fn a_port_that_accepts_and_stays_silent_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for protocol in [Protocol::Thrift, Protocol::Connect] {
        let error = answers(protocol, address, SOON).await.unwrap_err();
        assert_eq!(error.to_string(), format!("no answer from {address} within 0.3 s"));
    }
}

#[tokio::test]
async fn a_port_that_accepts_and_hangs_up_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    for protocol in [Protocol::Thrift, Protocol::Connect] {
        assert!(answers(protocol, address, LONG).await.is_err());
    }
}
