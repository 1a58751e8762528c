//! Which of a request's headers go on to Spark, and how long they may be together.
//!
//! Envoy carries the requests of all users of an instance over shared HTTP/2 connections, and Spark's server closes such
//! a connection, with the queries of all of them, when one request has more than 10,240 bytes of headers (`MOST_BYTES`).
//! So Spark gets the headers that it reads and no others: a proxy in front of Envoy that adds a long header does no harm,
//! and no login, cookie or address of a user arrives there.
//!
//! Not here: what the operator itself tells Spark (`allow`), the headers by which Envoy routes, which the route removes
//! (`xds::route`), and trailers, of which none pass (`xds::trailers`).

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::HeaderValueOption;

use crate::model::{Denial, DenialKind, Protocol};
use crate::xds::{ROUTING_HEADERS, USER_HEADER};

/// What gRPC's server in a Spark Connect driver reads of a request. Spark reads none of its own but `authorization`, and
/// the identity interceptor only what `allow` sets. Binary metadata (`…-bin`) must not be here: where it is no base64, Spark
/// ends the connection.
const OF_CONNECT: [&str; 6] = [
    "accept-encoding",
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "user-agent",
];

/// What HiveServer2's servlet and the web server around it read. It would also take `cookie` for a login and
/// `x-forwarded-for` for the client's address.
const OF_THRIFT: [&str; 5] = ["accept", "accept-encoding", "content-length", "content-type", "user-agent"];

/// The longest that the headers of one request may be for Spark, in bytes, counted as HTTP/2 does: name, value and 32
/// for each header.
///
/// Spark Connect's gRPC server refuses a request at 8,192 (`maxInboundMetadataSize`) and Netty beneath it ends the
/// connection at 10,240, a quarter more. HiveServer2 answers 431 at 6 KiB (`hive.server2.thrift.http.request.header.size`).
/// The rest is for headers that came more than once: Envoy shows them joined, and passes them on one by one, each with 32
/// bytes of its own. It takes at most 100 headers (`xds::listener`).
const MOST_BYTES: usize = 4096;
const BYTES_OF_EACH: usize = 32;

/// The longest that the names of a request's headers may be together, in bytes. They are kept until the request is answered,
/// and sent back to Envoy; those of usual requests, with what proxies add, have a few hundred.
const MOST_BYTES_OF_NAMES: usize = 8 * 1024;

/// What the answer to a request takes of its headers: the headers themselves, which may have 96 KiB, are dropped while the
/// request waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardedHeaders {
    withheld: Vec<String>,
    /// Names and lengths of values.
    passing: Vec<(String, usize)>,
}

impl ForwardedHeaders {
    /// Envoy shows names in lower case, and pseudo-headers among them, which always stay. An error if there are more names
    /// than are kept.
    pub fn of(protocol: Protocol, headers: &HashMap<String, String>) -> Result<Self, Denial> {
        let total: usize = headers.keys().map(String::len).sum();
        if total > MOST_BYTES_OF_NAMES {
            let message = format!(
                "This request was not passed on to Spark, because the names of its headers are too long: they have {total} \
                 bytes together, and at most {MOST_BYTES_OF_NAMES} are allowed. Send fewer headers, or shorter names."
            );
            return Err(Denial::new(DenialKind::BadRequest, message));
        }
        let passing = headers.iter().filter(|(name, _)| passes(protocol, name));
        let passing = passing.map(|(name, value)| (name.clone(), value.len())).collect();
        let stays = |name: &str| passes(protocol, name) || ROUTING_HEADERS.contains(&name);
        let mut withheld: Vec<_> = headers.keys().filter(|name| !stays(name)).cloned().collect();
        withheld.sort_unstable();
        Ok(Self { withheld, passing })
    }

    /// Names that the client sent, or Envoy added, and that Spark does not get.
    pub fn withheld(&self) -> &[String] {
        &self.withheld
    }

    /// Whether what remains of the client's headers and what the operator sets, `set`, is short enough for Spark. The error
    /// names the longest.
    pub fn check_length(&self, set: &[HeaderValueOption]) -> Result<(), Denial> {
        let set: Vec<_> = set.iter().filter_map(|option| option.header.as_ref()).collect();
        let replaced = |name: &str| set.iter().any(|header| header.key == name);
        let kept = self.passing.iter().filter(|(name, _)| !replaced(name));
        let kept = kept.map(|(name, length)| (name.as_str(), *length));
        let told = set.iter().filter(|header| !ROUTING_HEADERS.contains(&header.key.as_str()));
        let told = told.map(|header| (header.key.as_str(), header.value.len()));
        let (mut total, mut longest) = (0, ("", 0));
        for (name, length) in kept.chain(told) {
            total += name.len() + length + BYTES_OF_EACH;
            if length > longest.1 {
                longest = (name, length);
            }
        }
        if total <= MOST_BYTES { Ok(()) } else { Err(too_long(total, longest)) }
    }
}

fn too_long(total: usize, (name, length): (&str, usize)) -> Denial {
    let culprit = match name {
        ":path" => "The path of the URL is the longest part",
        // It stands in there as base64.
        USER_HEADER | "authorization" => "Your user name is the longest part",
        name => &*format!("The header {name} is the longest part"),
    };
    let message = format!(
        "This request was not passed on to Spark, because its headers are too long: Spark would get {total} bytes, and at \
         most {MOST_BYTES} are allowed. {culprit}, with {length} bytes. Make it shorter and try again."
    );
    Denial::new(DenialKind::BadRequest, message)
}

fn passes(protocol: Protocol, name: &str) -> bool {
    let names: &[&str] = match protocol {
        Protocol::Connect => &OF_CONNECT,
        Protocol::Thrift => &OF_THRIFT,
    };
    name.starts_with(':') || names.contains(&name)
}

#[cfg(test)]
#[path = "forwarded_headers_tests.rs"]
mod tests;
