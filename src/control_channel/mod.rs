//! The channel between Envoy and the operator, over which xDS, ext_authz and ext_proc go: who is at
//! its other end.

use tonic::Request;

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
