//! HTTP/1 as no library would write it.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::pools::HOST;
use super::stand_in::{POD, RECEIVED};

/// What came back before the connection ended.
#[derive(Debug)]
pub struct Answer(String);

impl Answer {
    /// 0 if it was no answer at all.
    pub fn status(&self) -> u16 {
        self.0.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub fn has_arrived(&self) -> bool {
        self.header(POD).is_some()
    }

    /// The request's header, as it was when it arrived at the stand-in.
    pub fn received(&self, name: &str) -> Option<&str> {
        self.header(&format!("{RECEIVED}{name}"))
    }

    pub fn says(&self, words: &str) -> bool {
        self.0.contains(words)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.0.split("\r\n\r\n").next()?.lines();
        lines
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }
}

/// A request in bytes.
#[derive(Clone)]
pub struct Raw {
    pub line: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Raw {
    /// An OpenSession call without credentials, on a connection that ends with its answer.
    pub fn open_session() -> Self {
        let body = b"\x80\x01\0\x01\0\0\0\x0bOpenSession\0\0\0\x01\x0c\0\x01\0\0".to_vec();
        let raw = Self { line: "POST /cliservice HTTP/1.1".to_owned(), headers: Vec::new(), body };
        let length = raw.body.len().to_string();
        raw.header("Host", HOST)
            .header("Connection", "close")
            .header("Content-Type", "application/x-thrift")
            .header("Content-Length", &length)
    }

    pub fn line(mut self, line: &str) -> Self {
        line.clone_into(&mut self.line);
        self
    }

    /// One more, also of a name that is there already.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.header_in_bytes(name, value.as_bytes())
    }

    pub fn header_in_bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_vec()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(found, _)| found != name);
        self
    }

    pub fn user(self, user: &str) -> Self {
        self.header("Authorization", &basic(user))
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.line).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        bytes
    }

    pub async fn send(&self, envoy: SocketAddr) -> Answer {
        let bytes = self.bytes();
        let exchange = async {
            let (mut from, mut to) = TcpStream::connect(envoy).await.unwrap().into_split();
            // Envoy may answer, and end the connection, before it has all.
            let sent = async { drop(to.write_all(&bytes).await) };
            let mut answer = Vec::new();
            let received = async { drop(from.read_to_end(&mut answer).await) };
            tokio::join!(sent, received);
            answer
        };
        let answer = tokio::time::timeout(Duration::from_secs(30), exchange).await;
        Answer(String::from_utf8_lossy(&answer.expect("the connection ends")).into_owned())
    }
}

pub fn basic(user: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:password")))
}
