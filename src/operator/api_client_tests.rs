use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What this kernel's table of connections says of the one at `client`: the kind of its timer, and when that goes off,
/// in hundredths of a second. (`/proc/net/tcp`: 02 is the question whether a quiet connection lives.)
fn timer(client: SocketAddr) -> (String, u64) {
    let IpAddr::V4(ip) = client.ip() else { panic!("no IPv4 address: {client}") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), client.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let row: Vec<&str> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .find(|row: &Vec<&str>| row[1] == local)
        .expect("the connection is open");
    let (kind, when) = row[5].split_once(':').unwrap();
    (kind.to_owned(), u64::from_str_radix(when, 16).unwrap())
}

/// Takes one connection, and answers its request.
async fn answer(listener: TcpListener) -> (TcpStream, SocketAddr) {
    let (mut server, client) = listener.accept().await.unwrap();
    let mut head = [0; 4096];
    let read = server.read(&mut head).await.unwrap();
    assert!(head[..read].starts_with(b"GET /version "));
    let body = r#"{"major":"1","minor":"34","gitVersion":"v1.34.4","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    server.write_all(answer.as_bytes()).await.unwrap();
    (server, client)
}

#[tokio::test]
async fn a_quiet_connection_is_asked_whether_it_lives() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let Clients { prompt, patient: _ } = Clients::new(Config::new(url.parse().unwrap())).unwrap();
    let server = tokio::spawn(answer(listener));
    assert_eq!(prompt.apiserver_version().await.unwrap().git_version, "v1.34.4");
    let (_open, client) = server.await.unwrap();
    let (kind, hundredths) = timer(client);
    assert_eq!(kind, "02");
    assert!(hundredths <= 100 * QUIET.as_secs(), "not for {hundredths} hundredths of a second");
}
