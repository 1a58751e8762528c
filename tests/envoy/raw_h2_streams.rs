//! Many streams of one HTTP/2 connection whose requests do not come to their end.

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::pools::HOST;
use super::raw_h2::{END_HEADERS, END_STREAM, HEADERS, RST_STREAM, SETTINGS, frame, literal};
use super::world::World;

const DATA: u8 = 0;
/// Of a frame: length, type, flags, stream.
const FRAME_HEAD: usize = 9;

/// A header of so many bytes costs a byte of its own when it is repeated: the table of HTTP/2's compression has it.
const LARGE_VALUE: usize = 3000;
const REPEATED: usize = 28;

/// A connection whose requests have headers of 84 KiB together, and no body, nor an end.
pub struct Unfinished {
    connection: TcpStream,
    streams: u32,
    ended: BTreeSet<u32>,
    received: Vec<u8>,
    closed: bool,
}

impl Unfinished {
    /// `path` decides the route.
    pub async fn send(world: &World, path: &str, streams: u32) -> Self {
        let mut connection = TcpStream::connect(world.envoy.listens).await.unwrap();
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        sent.extend(frame(SETTINGS, 0, 0, &[]));
        sent.extend(frame(SETTINGS, 1, 0, &[]));
        for n in 0..streams {
            sent.extend(frame(HEADERS, END_HEADERS, 2 * n + 1, &headers(path, n == 0)));
        }
        connection.write_all(&sent).await.unwrap();
        Self { connection, streams, ended: BTreeSet::new(), received: Vec::new(), closed: false }
    }

    pub fn open(&self) -> usize {
        if self.closed { 0 } else { self.streams as usize - self.ended.len() }
    }

    /// Reads until all have ended.
    pub async fn until_ended(&mut self) {
        while self.open() > 0 {
            match self.connection.read_buf(&mut self.received).await {
                Ok(read) if read > 0 => self.take_frames(),
                _ => self.closed = true,
            }
        }
    }

    fn take_frames(&mut self) {
        while let Some((head, rest)) = self.received.split_at_checked(FRAME_HEAD) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if rest.len() < length {
                return;
            }
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let ends = matches!(head[3], HEADERS | DATA) && head[4] & END_STREAM != 0;
            if ends || head[3] == RST_STREAM {
                self.ended.insert(stream);
            }
            self.received.drain(..FRAME_HEAD + length);
        }
    }
}

fn headers(path: &str, first: bool) -> Vec<u8> {
    let mut headers: Vec<u8> = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", HOST),
        (":path", path),
        ("content-type", if path == "/cliservice" { "application/x-thrift" } else { "application/grpc" }),
    ]
    .iter()
    .flat_map(|(name, value)| literal(name, value))
    .collect();
    if first {
        // A literal with indexing, with a new name. Its length does not fit into seven bits.
        headers.extend([0x40, 1, b'x']);
        let more = LARGE_VALUE - 127;
        headers.extend([127, u8::try_from(more % 128 + 128).unwrap(), u8::try_from(more / 128).unwrap()]);
        headers.extend([b'v'; LARGE_VALUE]);
    }
    // The first entry of the table that is not one of HTTP/2's own.
    headers.extend([0x80 | 62; REPEATED]);
    headers
}
