//! A stand-in for a Spark Connect server, and for its client. They speak HTTP/2 and just enough gRPC for Envoy and the
//! operator; no plan is ever run. Not tonic: the less both cost, the more of a measured time is what lies between them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tonic::codegen::Bytes;
use uuid::Uuid;

use base64::Engine;

const CONFIG: &str = "/spark.connect.SparkConnectService/Config";

/// Answers every call with success and nothing else, until the future is dropped.
pub async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let _ = stream.set_nodelay(true);
                connections.spawn(connection(stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((mut request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let body = request.body_mut();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
            let answer = http::Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", "0")
                .body(())
                .unwrap();
            let _ = respond.send_response(answer, true);
        });
    }
}

/// One connection of one user of a pool.
pub struct Client {
    connection: h2::client::SendRequest<Bytes>,
    request: http::Request<()>,
    message: Bytes,
}

impl Client {
    pub async fn connect(envoy: SocketAddr, host: &str, user: &str, session: Uuid) -> Result<Self, String> {
        let stream = TcpStream::connect(envoy).await.map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = h2::client::handshake(stream).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let login = base64::prelude::BASE64_STANDARD.encode(format!("{user}:password"));
        let request = http::Request::post(format!("http://{host}{CONFIG}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "stand-in")
            .header("authorization", format!("Bearer {login}"))
            .body(())
            .unwrap();
        let id = session.to_string();
        let head = [0, 0, 0, 0, 38, 0x0a, 36];
        Ok(Self { connection: sender, request, message: [&head[..], id.as_bytes()].concat().into() })
    }

    /// One call, and how long it took. An error is whatever the user would have heard.
    pub async fn call(&mut self) -> Result<Duration, String> {
        let begin = Instant::now();
        let text = |error: h2::Error| error.to_string();
        let mut ready = self.connection.clone().ready().await.map_err(text)?;
        let (response, mut body) = ready.send_request(self.request.clone(), false).map_err(text)?;
        body.send_data(self.message.clone(), true).map_err(text)?;
        let response = response.await.map_err(text)?;
        let took = begin.elapsed();
        let header = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        if response.status() == 200 && header("grpc-status") == "0" {
            return Ok(took);
        }
        Err(format!("HTTP {}, gRPC {}: {}", response.status(), header("grpc-status"), header("grpc-message")))
    }
}
