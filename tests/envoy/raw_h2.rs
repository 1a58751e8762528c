//! HTTP/2 as no gRPC library would use it.

use http::{HeaderMap, HeaderName, Request};
use prost::bytes::Bytes;
use tokio::net::TcpStream;

use super::connect_client::ConnectClient;
use super::pools::HOST;
use super::raw_client::basic;
use super::world::World;

/// A Config call of ana's session, on a connection of its own, with a trailer. Returns the headers of the answer.
pub async fn config_with_trailer(world: &World, ana: &ConnectClient, name: &str, value: &str) -> HeaderMap {
    let stream = TcpStream::connect(world.envoy.listens).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://{HOST}/spark.connect.SparkConnectService/Config"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", basic("ana"))
        .body(())
        .unwrap();
    let (answer, mut body) = client.ready().await.unwrap().send_request(request, false).unwrap();
    let message = ana.message(&[]);
    let frame = [&[0], u32::try_from(message.len()).unwrap().to_be_bytes().as_slice(), &message].concat();
    body.send_data(Bytes::from(frame), false).unwrap();
    let trailers = HeaderMap::from_iter([(name.parse::<HeaderName>().unwrap(), value.parse().unwrap())]);
    body.send_trailers(trailers).unwrap();
    let headers = answer.await.unwrap().into_parts().0.headers;
    connection.abort();
    headers
}
