//! The shape of a JWT (RFC 7519 in JWS compact form, RFC 7515). Pure, and verifies nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A JWT taken apart. Its content is what the sender claims, until the signature is checked.
#[derive(Debug)]
pub(super) struct Jwt<'a> {
    pub header: Header,
    pub claims: Map<String, Value>,
    /// `header.claims` as sent: what the signature is over.
    pub signed: &'a str,
    /// base64url.
    pub signature: &'a str,
}

/// The header fields that decide something here.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub alg: String,
    pub kid: Option<String>,
    pub typ: Option<String>,
    /// Extensions the recipient must understand (RFC 7515 §4.1.11); we understand none.
    pub crit: Option<Value>,
}

/// Whether `text` is three dot-separated base64url parts, the first a JSON object with `alg`.
/// The third may be empty, so that an unsigned token is refused as one, not as a wrong password.
pub(super) fn looks_like_jwt(text: &str) -> bool {
    let Some((header, claims, signature)) = parts(text) else { return false };
    !claims.is_empty() && is_base64url(claims) && is_base64url(signature) && decode_header(header).is_some()
}

/// Takes a token apart; an error says which part cannot be read.
pub(super) fn parse(token: &str) -> Result<Jwt<'_>, &'static str> {
    let (header, claims, signature) = parts(token).ok_or("it does not have three parts")?;
    let signed = token.get(..header.len() + 1 + claims.len()).unwrap_or_default();
    let header = decode_header(header).ok_or("its header is unreadable")?;
    let claims = URL_SAFE_NO_PAD
        .decode(claims)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or("its claims are unreadable")?;
    Ok(Jwt { header, claims, signed, signature })
}

fn parts(token: &str) -> Option<(&str, &str, &str)> {
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(claims), Some(signature), None) => Some((header, claims, signature)),
        _ => None,
    }
}

fn decode_header(encoded: &str) -> Option<Header> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

fn is_base64url(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
