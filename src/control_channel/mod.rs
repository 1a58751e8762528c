//! The channel between Envoy and the operator, over which xDS, ext_authz and ext_proc go: who may
//! open it, and who is at its other end.
//!
//! ```text
//!  files ──► Certificates (reloaded) ──┐
//!  TcpListener ──► Incoming ── handshake ──► Connection ──► tonic ──► Peer::of(request)
//! ```
//!
//! Not here: what is served over the channel, certificates of pools (those reach Envoy by SDS), and
//! revocation lists: a certificate is withdrawn by replacing the CA. Every certificate of the client
//! CA counts as an Envoy, whatever it names; the CA should sign nothing else.

mod certificates;
mod connection;
mod incoming;
mod streams;

#[cfg(test)]
mod tests;

use tonic::Request;

pub use certificates::{Certificates, Reload, TlsFiles};
pub use connection::Connection;
pub use incoming::Incoming;
pub use streams::Streams;

/// The other end of a connection, as the server's extensions of each request know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// It showed a client certificate that the operator's client CA has signed.
    pub verified: bool,
}

impl Peer {
    pub fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get().copied().unwrap_or_default()
    }
}
