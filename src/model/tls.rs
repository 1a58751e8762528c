use std::sync::Arc;

use super::{Certificate, CertificateProblem, Meta};

/// A Secret of type kubernetes.io/tls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSecret {
    pub meta: Meta,
    pub certificate: Result<Arc<Certificate>, CertificateProblem>,
}

/// What of TLS towards clients is the administrator's choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    /// The Secret whose certificate is shown where no pool's own is.
    pub default_secret: Option<String>,
    /// Why no certificate is served at all.
    pub off: Option<TlsOff>,
}

impl Default for TlsPolicy {
    fn default() -> Self {
        Self { default_secret: None, off: Some(TlsOff::NoListener) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsOff {
    /// The administrator wants no TLS listener.
    NoListener,
    /// Whoever reaches the control channel could ask for the keys.
    UnverifiedControlChannel,
}

/// The certificate that a pool asks for, or is given by default, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolCertificate {
    pub secret: String,
    /// The pool names no Secret.
    pub by_default: bool,
    pub certificate: Result<Arc<Certificate>, SecretProblem>,
    /// The Secret whose certificate clients of the pool's host see. `None`: their connections are refused.
    pub served: Option<String>,
    pub off: Option<TlsOff>,
}

/// Why the certificate of a Secret cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretProblem {
    NotFound,
    Unusable(CertificateProblem),
}
