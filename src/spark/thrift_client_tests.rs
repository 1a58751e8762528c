use rstest::rstest;
use uuid::Uuid;
use wiremock::matchers::{body_bytes, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

fn handle() -> SessionHandle {
    SessionHandle::new(Uuid::from_u128(7), [9; 16])
}

/// A server that answers the right call so, and nothing else.
async fn server(status: u16, answer: &[u8]) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/cliservice"))
        .and(header("authorization", "Basic YW5hOng="))
        .and(header("content-type", "application/x-thrift"))
        .and(body_bytes(thrift_session::close_session(&handle())))
        .respond_with(ResponseTemplate::new(status).set_body_bytes(answer))
        .mount(&server)
        .await;
    server
}

/// `{0: {1: {1: code, 2: infoMessages, 3: sqlState, 5: message}}}`
fn answer(code: u8, message: &str) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    let head = b"\x80\x01\0\x02\0\0\0\x0cCloseSession\0\0\0\0\x0c\0\0\x0c\0\x01\x08\0\x01\0\0\0";
    let between = b"\x0f\0\x02\x0b\0\0\0\x01\0\0\0\x02at\x0b\0\x03\0\0\0\x0508000\x0b\0\x05";
    [head.as_slice(), &[code], between, &length, message.as_bytes(), b"\0\0\0"].concat()
}

async fn closed(server: &MockServer) -> Result<(), CloseError> {
    ThriftClient::new().unwrap().close_session(*server.address(), "ana", &handle()).await
}

#[rstest]
#[case::closed(0, "")]
#[case::closed_with_a_word(1, "")]
#[case::no_such_handle(4, "")]
#[case::no_such_handle_in_the_words_of_spark(3, "Session does not exist!")]
#[tokio::test]
async fn a_session_that_is_gone_is_closed(#[case] code: u8, #[case] message: &str) {
    assert_eq!(closed(&server(200, &answer(code, message)).await).await, Ok(()));
}

#[tokio::test]
async fn a_refusal_is_told_by_its_first_line() {
    let server = server(200, &answer(3, "Cannot close.\n\tat java.lang.Thread")).await;
    let address = *server.address();
    assert_eq!(
        closed(&server).await.unwrap_err().to_string(),
        format!("the Thrift Server at {address} refuses: Cannot close.")
    );
}

#[tokio::test]
async fn an_answer_that_is_none_is_no_success() {
    let over = server(503, b"").await;
    let address = *over.address();
    assert_eq!(closed(&over).await, Err(CloseError::Http { address, status: 503 }));
    for nonsense in [b"".to_vec(), b"<html>".to_vec(), answer(0, "")[..30].to_vec(), vec![0; 100_000]] {
        let server = server(200, &nonsense).await;
        assert_eq!(closed(&server).await, Err(CloseError::Unreadable { address: *server.address() }));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_as_such() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = ThriftClient::new().unwrap().close_session(address, "ana", &handle()).await.unwrap_err();
    let expected =
        format!("no answer from the Thrift Server at {address}: Connection refused (os error 111)");
    assert_eq!(error.to_string(), expected);
}
