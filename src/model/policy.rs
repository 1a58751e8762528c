use super::TlsPolicy;

/// What the operator was started with, as far as it decides about pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub tls: TlsPolicy,
    /// From where drivers get the interceptor that forces the user's identity in the server. Without it no Connect pool
    /// can have `identity: Enforced`.
    pub identity_jar_url: Option<String>,
}
