//! The provider's public keys, ready for verifying. Pure: `jwks` fetches them.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Keys beyond this many are ignored; providers publish a handful.
const MAX_KEYS: usize = 64;

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Public keys that may sign tokens. Symmetric (`oct`) and encryption keys never get in: a shared
/// secret published by mistake must not let anybody sign.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<PublicKey>,
}

#[derive(Debug)]
pub(super) struct PublicKey {
    pub id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a JWK Set (RFC 7517). Keys that are unknown, broken or not for signing are left out,
    /// so that one new kind of key does not lock everybody out.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(json)?;
        let keys = set.keys.into_iter().filter_map(PublicKey::from_json).take(MAX_KEYS).collect();
        Ok(Self { keys })
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that can have signed a token whose header names `id`: those with this id, and
    /// those without any.
    pub(super) fn candidates<'a>(&'a self, id: Option<&'a str>) -> impl Iterator<Item = &'a PublicKey> {
        self.keys.iter().filter(move |key| id.is_none() || key.id.is_none() || key.id.as_deref() == id)
    }
}

impl PublicKey {
    fn from_json(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        if jwk.common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
            return None;
        }
        let possible: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => RSA,
            AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
                &[Algorithm::EdDSA]
            }
            _ => return None,
        };
        // A key that names its algorithm is used for that one only (RFC 8725 §3.1).
        let named = jwk.common.key_algorithm;
        let algorithms: Vec<Algorithm> = possible
            .iter()
            .copied()
            .filter(|algorithm| named.is_none_or(|named| named == KeyAlgorithm::from(*algorithm)))
            .collect();
        if algorithms.is_empty() {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, algorithms, key })
    }

    /// Whether `signature` (base64url) over `signed` is this key's.
    pub(super) fn has_signed(&self, signed: &str, signature: &str, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
            && jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &self.key, algorithm)
                .unwrap_or(false)
    }
}
