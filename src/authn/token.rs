//! Verifies JWTs against a [`KeySet`]. Pure: neither keys nor time are fetched here.
//!
//! ID tokens and access tokens are both accepted; where that matters, configure an audience.
//! jsonwebtoken checks the signature only: it reads the system's clock for `exp`, lets a missing
//! `iss` or `aud` pass, and knows HMAC, so the rules are spelled out here.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::key_set::KeySet;
use super::text::one_line;
use super::user_name::UserNameError;
use super::{claims, groups, jwt, user_name};
use crate::model::Identity;

/// How far the provider's clock and ours may differ when `exp` and `nbf` are checked.
pub const LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// What a token must say.
#[derive(Clone, Debug, Default)]
pub struct TokenRules {
    /// Compared with `iss`; a slash at the end makes no difference.
    pub issuer: String,
    /// Must be among `aud`. Without it, any token of the issuer logs in.
    pub audience: Option<String>,
    /// Path of the claim that holds the user's name.
    pub user_claim: String,
    /// If the token says to which client it was issued (`azp`), it must be this one. `None`: to any.
    pub authorized_party: Option<String>,
    /// Path of the claim that holds the user's groups; a token without it tells none.
    pub groups_claim: Arc<str>,
    /// Each must be there with this value, by itself or in an array.
    pub required_claims: Vec<(String, String)>,
}

/// A token that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    pub identity: Identity,
    /// `sub`: the provider's own name of the user.
    pub subject: Option<String>,
    /// `exp`, without the leeway.
    pub expires_at: Timestamp,
}

/// Why a token is refused, in words for its owner. Never holds the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("The token is not a JWT that can be read: {0}. Get a new one from the identity provider.")]
    Malformed(&'static str),
    #[error("The token is not signed (alg: none). Get one from the identity provider.")]
    Unsigned,
    #[error(
        "The token is signed with a shared secret (HMAC), which proves nothing here. \
         Use an access token of the identity provider, not a refresh token."
    )]
    SharedSecret,
    #[error(
        "The token is signed with an algorithm that is not supported here (RS, PS, ES256, ES384, EdDSA are)."
    )]
    UnsupportedAlgorithm,
    #[error("The token is not meant for logging in. Use an access token.")]
    NotForLogin,
    #[error("The token was issued by \"{found}\", but only tokens of \"{expected}\" are accepted here.")]
    WrongIssuer { found: String, expected: String },
    #[error(
        "The token is not meant for \"{expected}\" (its audience does not name it). \
         Ask the identity provider for a token with this audience."
    )]
    WrongAudience { expected: String },
    #[error("The token was issued to another client than \"{expected}\" (azp).")]
    WrongAuthorizedParty { expected: String },
    #[error("The token expired at {at}; get a new one.")]
    Expired { at: Timestamp },
    #[error("The token is valid from {from} on only; check the clock of the machine that made it.")]
    NotYetValid { from: Timestamp },
    #[error(
        "The token is signed with a key that the identity provider does not publish (any more); get a new one."
    )]
    UnknownKey,
    #[error("The token's signature is wrong: it was changed or cut off. Copy it again, or get a new one.")]
    BadSignature,
    #[error(
        "The token has no usable claim \"{claim}\". Ask the identity provider's administrator to add it."
    )]
    MissingClaim { claim: String },
    #[error(
        "The claim \"{claim}\" of the token does not say \"{value}\", which is required here. \
         Ask the identity provider's administrator for it."
    )]
    ClaimRequired { claim: String, value: String },
    #[error(transparent)]
    UserName(#[from] UserNameError),
}

impl TokenError {
    /// In one word, for programs that read audit records.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "TokenMalformed",
            Self::Unsigned => "TokenUnsigned",
            Self::SharedSecret => "TokenSharedSecret",
            Self::UnsupportedAlgorithm => "TokenAlgorithm",
            Self::NotForLogin => "TokenNotForLogin",
            Self::WrongIssuer { .. } => "TokenIssuer",
            Self::WrongAudience { .. } | Self::WrongAuthorizedParty { .. } => "TokenAudience",
            Self::Expired { .. } => "TokenExpired",
            Self::NotYetValid { .. } => "TokenNotYetValid",
            Self::UnknownKey => "TokenKeyUnknown",
            Self::BadSignature => "TokenSignature",
            Self::MissingClaim { .. } | Self::ClaimRequired { .. } => "TokenClaim",
            Self::UserName(_) => "UserNameInvalid",
        }
    }
}

/// Verifies `token` and reads the user out of it.
///
/// Issuer and times are compared before the signature: a foreign or old token is then told as
/// such, and does not make the caller fetch keys. Nothing of an unverified token is trusted.
pub fn verify(
    token: &str,
    keys: &KeySet,
    rules: &TokenRules,
    now: Timestamp,
) -> Result<VerifiedToken, TokenError> {
    let jwt = jwt::parse(token).map_err(TokenError::Malformed)?;
    let algorithm = algorithm(&jwt.header)?;
    check_issuer(&jwt.claims, rules)?;
    let expires_at = check_times(&jwt.claims, now)?;
    check_signature(&jwt, keys, algorithm)?;
    check_audience(&jwt.claims, rules)?;
    check_authorized_party(&jwt.claims, rules)?;
    check_required(&jwt.claims, rules)?;
    let identity = identity(&jwt.claims, &rules.user_claim, &rules.groups_claim)?;
    let subject = jwt.claims.get("sub").and_then(Value::as_str).map(str::to_owned);
    Ok(VerifiedToken { identity, subject, expires_at })
}

/// Reads the user out of a token **without verifying anything**: for `--oidc-skip-validation`.
pub(super) fn read_unverified(
    token: &str,
    user_claim: &str,
    groups_claim: &Arc<str>,
) -> Result<Identity, TokenError> {
    let jwt = jwt::parse(token).map_err(TokenError::Malformed)?;
    identity(&jwt.claims, user_claim, groups_claim)
}

/// Whether two issuer URLs are the same but for a slash at the end, which settings and documents
/// rarely agree on.
pub(super) fn same_issuer(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

fn algorithm(header: &jwt::Header) -> Result<Algorithm, TokenError> {
    if header.crit.is_some() {
        return Err(TokenError::Malformed("it needs extensions that are not known here"));
    }
    // RFC 8725 §3.11: logout tokens, DPoP proofs and the like are signed by the same keys.
    let typ = header.typ.as_deref().unwrap_or_default().to_ascii_lowercase();
    if typ.ends_with("+jwt") && !matches!(typ.as_str(), "at+jwt" | "application/at+jwt") {
        return Err(TokenError::NotForLogin);
    }
    match header.alg.as_str() {
        alg if alg.eq_ignore_ascii_case("none") => Err(TokenError::Unsigned),
        "RS256" => Ok(Algorithm::RS256),
        "RS384" => Ok(Algorithm::RS384),
        "RS512" => Ok(Algorithm::RS512),
        "PS256" => Ok(Algorithm::PS256),
        "PS384" => Ok(Algorithm::PS384),
        "PS512" => Ok(Algorithm::PS512),
        "ES256" => Ok(Algorithm::ES256),
        "ES384" => Ok(Algorithm::ES384),
        "EdDSA" | "Ed25519" => Ok(Algorithm::EdDSA),
        alg if alg.starts_with("HS") => Err(TokenError::SharedSecret),
        _ => Err(TokenError::UnsupportedAlgorithm),
    }
}

fn check_issuer(claims: &Map<String, Value>, rules: &TokenRules) -> Result<(), TokenError> {
    let issuer = claims.get("iss").and_then(Value::as_str).ok_or_else(|| missing("iss"))?;
    if same_issuer(issuer, &rules.issuer) {
        return Ok(());
    }
    Err(TokenError::WrongIssuer { found: one_line(issuer, 200), expected: rules.issuer.clone() })
}

fn check_times(claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, TokenError> {
    let expires_at = claims.get("exp").and_then(claims::time).ok_or_else(|| missing("exp"))?;
    if now.duration_since(expires_at) >= LEEWAY {
        return Err(TokenError::Expired { at: expires_at });
    }
    if let Some(value) = claims.get("nbf") {
        let from = claims::time(value).ok_or_else(|| missing("nbf"))?;
        if from.duration_since(now) > LEEWAY {
            return Err(TokenError::NotYetValid { from });
        }
    }
    Ok(expires_at)
}

fn check_signature(jwt: &jwt::Jwt<'_>, keys: &KeySet, algorithm: Algorithm) -> Result<(), TokenError> {
    let id = jwt.header.kid.as_deref();
    let mut named = false;
    for key in keys.candidates(id) {
        if key.has_signed(jwt.signed, jwt.signature, algorithm) {
            return Ok(());
        }
        named |= id.is_some() && key.id.as_deref() == id;
    }
    // Without the very key that the token names, newer keys may help: the caller fetches them.
    Err(if named { TokenError::BadSignature } else { TokenError::UnknownKey })
}

fn check_audience(claims: &Map<String, Value>, rules: &TokenRules) -> Result<(), TokenError> {
    let Some(audience) = &rules.audience else { return Ok(()) };
    if claims.get("aud").is_some_and(|aud| claims::names_audience(aud, audience)) {
        return Ok(());
    }
    Err(TokenError::WrongAudience { expected: audience.clone() })
}

/// OpenID Connect Core §3.1.3.7.
fn check_authorized_party(claims: &Map<String, Value>, rules: &TokenRules) -> Result<(), TokenError> {
    match (&rules.authorized_party, claims.get("azp")) {
        (Some(expected), Some(found)) if found.as_str() != Some(expected) => {
            Err(TokenError::WrongAuthorizedParty { expected: expected.clone() })
        }
        _ => Ok(()),
    }
}

fn check_required(claims: &Map<String, Value>, rules: &TokenRules) -> Result<(), TokenError> {
    let missing = rules.required_claims.iter().find(|(claim, value)| !claims::says(claims, claim, value));
    missing.map_or(Ok(()), |(claim, value)| {
        Err(TokenError::ClaimRequired { claim: claim.clone(), value: value.clone() })
    })
}

fn identity(
    claims: &Map<String, Value>,
    user_claim: &str,
    groups_claim: &Arc<str>,
) -> Result<Identity, TokenError> {
    let user = claims::at(claims, user_claim).and_then(Value::as_str).ok_or_else(|| missing(user_claim))?;
    user_name::check(user)?;
    let (groups, untold) = match groups::read(claims, groups_claim) {
        Ok(groups) => (groups, None),
        Err(untold) => (Vec::new(), Some(untold)),
    };
    Ok(Identity { user: user.to_owned(), groups, untold })
}

fn missing(claim: &str) -> TokenError {
    TokenError::MissingClaim { claim: claim.to_owned() }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
