//! HTTP/2 as no gRPC library would use it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Request};
use prost::bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::connect_client::ConnectClient;
use super::pools::HOST;
use super::raw_client::basic;
use super::world::World;

pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A call of ana's on a connection of its own, whose body is still to be sent.
struct Call {
    answer: h2::client::ResponseFuture,
    body: h2::SendStream<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Call {
    async fn of(world: &World, method: &str) -> Self {
        let stream = TcpStream::connect(world.envoy.listens).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::post(format!("http://{HOST}/spark.connect.SparkConnectService/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", basic("ana"))
            .body(())
            .unwrap();
        let (answer, body) = client.ready().await.unwrap().send_request(request, false).unwrap();
        Self { answer, body, connection }
    }

    /// The headers of its answer. The connection ends with it.
    async fn headers(self) -> HeaderMap {
        let headers = self.answer.await.unwrap().into_parts().0.headers;
        self.connection.abort();
        headers
    }
}

/// A Config call of ana's session with a trailer. Returns the headers of the answer.
pub async fn config_with_trailer(world: &World, ana: &ConnectClient, name: &str, value: &str) -> HeaderMap {
    let mut call = Call::of(world, "Config").await;
    let message = ana.message(&[]);
    let frame = [&[0], u32::try_from(message.len()).unwrap().to_be_bytes().as_slice(), &message].concat();
    call.body.send_data(Bytes::from(frame), false).unwrap();
    let trailers = HeaderMap::from_iter([(name.parse::<HeaderName>().unwrap(), value.parse().unwrap())]);
    call.body.send_trailers(trailers).unwrap();
    call.headers().await
}

/// An AnalyzePlan call of ana's session whose body comes in these pieces, with so much time between them; without an end
/// if there is none. Returns the headers of the answer.
pub async fn analyze_plan_in_pieces(
    world: &World,
    pieces: &[&[u8]],
    pause: Duration,
    end: bool,
) -> HeaderMap {
    let mut call = Call::of(world, "AnalyzePlan").await;
    for (n, piece) in pieces.iter().enumerate() {
        if n > 0 {
            tokio::time::sleep(pause).await;
        }
        let last = n + 1 == pieces.len();
        call.body.send_data(Bytes::copy_from_slice(piece), end && last).expect("the request goes on");
    }
    call.headers().await
}

/// So many Config calls of ana's session on a connection of its own, each cancelled in the moment in which it is sent.
/// Returns when Envoy has seen all of them, or has ended the connection.
pub async fn cancelled_calls(world: &World, ana: &ConnectClient, count: u32) {
    const DATA: u8 = 0;
    const PING: u8 = 6;
    const CANCEL: u32 = 8;

    let login = basic("ana");
    let headers: Vec<u8> = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", HOST),
        (":path", "/spark.connect.SparkConnectService/Config"),
        ("content-type", "application/grpc"),
        ("authorization", &login),
    ]
    .iter()
    .flat_map(|(name, value)| literal(name, value))
    .collect();
    let message = ana.message(&[]);
    let body = [&[0], u32::try_from(message.len()).unwrap().to_be_bytes().as_slice(), &message].concat();

    let (mut from, mut to) = TcpStream::connect(world.envoy.listens).await.unwrap().into_split();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[]));
    for stream in (0..count).map(|n| 2 * n + 1) {
        sent.extend(frame(HEADERS, END_HEADERS, stream, &headers));
        sent.extend(frame(DATA, END_STREAM, stream, &body));
        sent.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    sent.extend(frame(PING, 0, 0, b"the last"));
    // Envoy may end the connection before it has all.
    let sending = async { drop(to.write_all(&sent).await) };
    let answered = async {
        let mut received = Vec::new();
        while from.read_buf(&mut received).await.is_ok_and(|read| read > 0) {
            if received.windows(8).any(|window| window == b"the last") {
                return;
            }
        }
    };
    tokio::join!(sending, answered);
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HPACK: a literal header field without indexing, with a new name; both shorter than 127 bytes.
pub fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}
