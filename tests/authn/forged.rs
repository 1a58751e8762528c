//! Every way to forge a token that is in the literature.

use aws_lc_rs::hmac::{HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rstest::rstest;
use serde_json::{Value, json};

use super::oidc_server::KEYS;
use super::signer::{Signer, base64url, hmac_token};
use super::world::World;

const UNSIGNED: &str = "The token is not signed (alg: none). Get one from the identity provider.";
const UNSUPPORTED: &str =
    "The token is signed with an algorithm that is not supported here (RS, PS, ES256, ES384, EdDSA are).";
const SHARED_SECRET: &str = "The token is signed with a shared secret (HMAC), which proves nothing here. \
     Use an access token of the identity provider, not a refresh token.";
const BAD_SIGNATURE: &str =
    "The token's signature is wrong: it was changed or cut off. Copy it again, or get a new one.";
const UNKNOWN_KEY: &str =
    "The token is signed with a key that the identity provider does not publish (any more); get a new one.";
const NO_HEADER: &str = "The token is not a JWT that can be read: its header is unreadable. \
     Get a new one from the identity provider.";
const NO_CLAIMS: &str = "The token is not a JWT that can be read: its claims are unreadable. \
     Get a new one from the identity provider.";
const NOT_THREE: &str = "The token is not a JWT that can be read: it does not have three parts. \
     Get a new one from the identity provider.";
const EXTENSIONS: &str = "The token is not a JWT that can be read: it needs extensions that are not known here. \
     Get a new one from the identity provider.";
const AUDIENCE: &str = "The token is not meant for \"spark\" (its audience does not name it). \
     Ask the identity provider for a token with this audience.";

fn no_claim(name: &str) -> String {
    format!("The token has no usable claim \"{name}\". Ask the identity provider's administrator to add it.")
}

/// As the provider signs, but with this for the header's `alg` (or none, if it is null).
fn with_alg(world: &World, alg: Value) -> String {
    let mut header = world.signer().header();
    match alg {
        Value::Null => drop(header.as_object_mut().unwrap().remove("alg")),
        alg => header["alg"] = alg,
    }
    world.signer().token_with(&header, &world.claims())
}

#[rstest]
#[case::none(json!("none"), UNSIGNED)]
#[case::none_capitalised(json!("None"), UNSIGNED)]
#[case::none_in_capitals(json!("NONE"), UNSIGNED)]
#[case::none_in_camel_case(json!("nOnE"), UNSIGNED)]
#[case::none_with_a_space(json!("none "), UNSUPPORTED)]
#[case::none_with_a_zero(json!("none\0"), UNSUPPORTED)]
#[case::empty(json!(""), UNSUPPORTED)]
#[case::missing(json!(null), NO_HEADER)]
#[case::number(json!(0), NO_HEADER)]
#[case::list(json!(["none", "RS256"]), NO_HEADER)]
#[case::lower_case(json!("rs256"), UNSUPPORTED)]
#[case::hmac_in_lower_case(json!("hs256"), UNSUPPORTED)]
#[case::another_kind_of_key(json!("ES256"), BAD_SIGNATURE)]
#[case::another_hash(json!("RS512"), BAD_SIGNATURE)]
#[case::another_padding(json!("PS256"), BAD_SIGNATURE)]
#[case::encryption(json!("RSA-OAEP"), UNSUPPORTED)]
#[case::bitcoins_curve(json!("ES256K"), UNSUPPORTED)]
#[tokio::test]
async fn a_token_under_another_algorithm(#[case] alg: Value, #[case] told: &str) {
    let world = World::with_rsa().await;
    let signed = with_alg(&world, alg);
    let (unsigned, _) = signed.rsplit_once('.').unwrap();
    assert_eq!(world.refusal(&signed).await, told);
    assert_eq!(world.refusal(&format!("{unsigned}.")).await, told);
}

#[rstest]
#[case::pem(|signer: &Signer| signer.public_pem().into_bytes())]
#[case::pem_without_its_last_line_break(|signer: &Signer| signer.public_pem().trim_end().as_bytes().to_vec())]
#[case::der(|signer: &Signer| signer.public_der())]
#[case::n(|signer: &Signer| signer.jwk()["n"].as_str().unwrap().as_bytes().to_vec())]
#[case::n_in_bytes(|signer: &Signer| BASE64_URL_SAFE_NO_PAD.decode(signer.jwk()["n"].as_str().unwrap()).unwrap())]
#[case::jwk(|signer: &Signer| signer.jwk().to_string().into_bytes())]
#[case::nothing(|_: &Signer| Vec::new())]
#[tokio::test]
async fn the_public_key_is_no_shared_secret(#[case] secret: fn(&Signer) -> Vec<u8>) {
    let world = World::with_rsa().await;
    let secret = secret(world.signer());
    for (alg, algorithm) in [("HS256", HMAC_SHA256), ("HS384", HMAC_SHA384), ("HS512", HMAC_SHA512)] {
        let header = json!({ "alg": alg, "kid": "r1" });
        let token = hmac_token(algorithm, &header, &world.claims(), &secret);
        assert_eq!(world.refusal(&token).await, SHARED_SECRET);
    }
    // HMAC, but not by name.
    let token = hmac_token(HMAC_SHA256, &world.signer().header(), &world.claims(), &secret);
    assert_eq!(world.refusal(&token).await, BAD_SIGNATURE);
}

#[rstest]
#[case::path(json!("../../../../dev/null"), UNKNOWN_KEY)]
#[case::url(json!("http://idp.test/evil"), UNKNOWN_KEY)]
#[case::sql(json!("r1' UNION SELECT 'secret"), UNKNOWN_KEY)]
#[case::command(json!("r1|curl http://idp.test/evil"), UNKNOWN_KEY)]
#[case::zero(json!("r1\0"), UNKNOWN_KEY)]
#[case::empty(json!(""), UNKNOWN_KEY)]
#[case::very_long(json!("k".repeat(100_000)), UNKNOWN_KEY)]
#[case::the_providers(json!("r1"), BAD_SIGNATURE)]
#[case::none(json!(null), UNKNOWN_KEY)]
#[case::number(json!(1), NO_HEADER)]
#[case::list(json!(["r1"]), NO_HEADER)]
#[tokio::test]
async fn a_key_id_of_somebody_who_signs_with_a_key_of_their_own(#[case] id: Value, #[case] told: &str) {
    let world = World::with_rsa().await;
    let token = Signer::rsa("own").token_with(&json!({ "alg": "RS256", "kid": id }), &world.claims());
    assert_eq!(world.refusal(&token).await, told);
    assert!(world.provider.hits(KEYS) <= 1);
    world.assert_asked_nowhere_else();
}

#[rstest]
#[case::jku("jku", |_: &Signer| json!("http://idp.test/evil"))]
#[case::jku_of_the_provider_in_name("jku", |_: &Signer| json!("http://idp.test@evil.test/k/1"))]
#[case::x5u("x5u", |_: &Signer| json!("http://idp.test/evil"))]
#[case::x5c("x5c", |own: &Signer| json!([base64url(own.public_der())]))]
#[case::jwk("jwk", |own: &Signer| own.jwk())]
#[tokio::test]
async fn a_key_that_a_token_brings_along(#[case] name: &str, #[case] value: fn(&Signer) -> Value) {
    let world = World::with_rsa().await;
    for (id, told) in [("r1", BAD_SIGNATURE), ("own", UNKNOWN_KEY)] {
        let own = Signer::rsa(id);
        let mut header = own.header();
        header[name] = value(&own);
        assert_eq!(world.refusal(&own.token_with(&header, &world.claims())).await, told);
    }
    assert_eq!(world.provider.hits(KEYS), 1);
    world.assert_asked_nowhere_else();
}

#[rstest]
#[case::crit(|world: &World| signed(world, "crit", json!(["exp"])), EXTENSIONS)]
#[case::crit_of_nothing(|world: &World| signed(world, "crit", json!([])), EXTENSIONS)]
#[case::crit_that_is_no_list(|world: &World| signed(world, "crit", json!(true)), EXTENSIONS)]
#[case::unencoded(|world: &World| signed(world, "crit", json!(["b64"])), EXTENSIONS)]
#[case::alg_twice(
    |world: &World| world.signer().token_of(r#"{"alg":"none","alg":"RS256"}"#, &world.claims().to_string()),
    NO_HEADER
)]
#[case::key_id_twice(
    |world: &World| world.signer().token_of(r#"{"alg":"RS256","kid":"x","kid":"r1"}"#, &world.claims().to_string()),
    NO_HEADER
)]
#[case::jwt_in_a_jwt(
    |world: &World| world.signer().token_of(r#"{"alg":"RS256","cty":"JWT"}"#, &world.signer().token(&world.claims())),
    NO_CLAIMS
)]
#[case::claims_in_a_list(
    |world: &World| world.signer().token_with(&world.signer().header(), &json!([world.claims()])),
    NO_CLAIMS
)]
#[case::claims_nested_deeply(
    |world: &World| world.signer().token_of(&world.signer().header().to_string(), &"[".repeat(100_000)),
    NO_CLAIMS
)]
#[case::encrypted(|_: &World| format!("{}.a.b.c.d", base64url(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#)), NOT_THREE)]
#[case::json_form(
    |world: &World| json!({ "payload": base64url(world.claims().to_string()), "signatures": [] }).to_string(),
    NOT_THREE
)]
#[case::huge_and_no_token(|_: &World| "a.b.".to_owned() + &"c".repeat(200_000), NO_HEADER)]
#[tokio::test]
async fn a_token_in_an_odd_form(#[case] token: fn(&World) -> String, #[case] told: &str) {
    let world = World::with_rsa().await;
    assert_eq!(world.refusal(&token(&world)).await, told);
    assert_eq!(world.provider.hits(KEYS), 0, "no key is needed to refuse it");
}

fn signed(world: &World, name: &str, value: Value) -> String {
    let mut header = world.signer().header();
    header[name] = value;
    world.signer().token_with(&header, &world.claims())
}

#[rstest]
#[case::empty(|_: &str| String::new())]
#[case::cut(|it: &str| it[..it.len() - 4].to_owned())]
#[case::one_byte_less(|it: &str| changed(it, |bytes| bytes.truncate(63)))]
#[case::one_byte_more(|it: &str| changed(it, |bytes| bytes.push(0)))]
#[case::one_bit_changed(|it: &str| changed(it, |bytes| bytes[17] ^= 1))]
#[case::twice(|it: &str| it.repeat(2))]
#[case::padded(|it: &str| format!("{it}=="))]
#[case::with_a_line_break(|it: &str| format!("{it}\n"))]
#[case::no_base64(|_: &str| "!".to_owned())]
#[case::in_der(|it: &str| changed(it, |bytes| *bytes = der(bytes)))]
#[case::r_and_s_zero(|it: &str| changed(it, |bytes| bytes.fill(0)))]
#[case::r_zero_s_one(|it: &str| changed(it, |bytes| { bytes.fill(0); bytes[63] = 1; }))]
#[case::r_and_s_the_order(|it: &str| changed(it, |bytes| *bytes = ORDER.repeat(2)))]
#[case::r_and_s_zero_in_der(|it: &str| changed(it, |bytes| *bytes = vec![0x30, 6, 2, 1, 0, 2, 1, 0]))]
#[case::r_and_s_swapped(|it: &str| changed(it, |bytes| bytes.rotate_left(32)))]
#[tokio::test]
async fn a_changed_signature(#[case] change: fn(&str) -> String) {
    let world = World::with_ec().await;
    let token = world.signer().token(&world.claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    assert_eq!(world.refusal(&format!("{signed}.{}", change(signature))).await, BAD_SIGNATURE);
    world.token(&token).await.expect("the same without the change");
}

/// The number of points of P-256, which no `r` or `s` may reach.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

fn changed(signature: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    change(&mut bytes);
    base64url(bytes)
}

/// The same signature as X.509 writes it: right for the key, wrong for a JWT (RFC 7518 §3.4).
fn der(signature: &[u8]) -> Vec<u8> {
    let integers = signature.chunks(32).flat_map(|number| {
        let padding = usize::from(number[0] >= 0x80);
        [&[2, 32 + padding as u8], &[0][..padding], number].concat()
    });
    let integers: Vec<u8> = integers.collect();
    [&[0x30, integers.len() as u8], integers.as_slice()].concat()
}

#[tokio::test]
async fn the_signature_of_another_token() {
    let world = World::with_ec().await;
    let (one, other) = (world.signer().token(&world.claims()), world.provider.claims("root"));
    let other = world.signer().token(&other);
    let (claims, signature) = (other.rsplit_once('.').unwrap().0, one.rsplit_once('.').unwrap().1);
    assert_eq!(world.refusal(&format!("{claims}.{signature}")).await, BAD_SIGNATURE);
}

#[rstest]
#[case::audience_missing("aud", json!(null), AUDIENCE.to_owned())]
#[case::audience_of_another("aud", json!("account"), AUDIENCE.to_owned())]
#[case::audience_that_begins_alike("aud", json!("spark-ui"), AUDIENCE.to_owned())]
#[case::audience_in_capitals("aud", json!("SPARK"), AUDIENCE.to_owned())]
#[case::audience_in_one_text("aud", json!("account spark"), AUDIENCE.to_owned())]
#[case::audience_empty("aud", json!([]), AUDIENCE.to_owned())]
#[case::audience_as_an_object("aud", json!({ "spark": true }), AUDIENCE.to_owned())]
#[case::audience_nested("aud", json!([["spark"]]), AUDIENCE.to_owned())]
#[case::expiry_missing("exp", json!(null), no_claim("exp"))]
#[case::expiry_true("exp", json!(true), no_claim("exp"))]
#[case::expiry_as_text("exp", json!("4000000000"), no_claim("exp"))]
#[case::expiry_in_a_list("exp", json!([4_000_000_000_u64]), no_claim("exp"))]
#[case::expired("exp", json!(1_600_000_000), "The token expired at 2020-09-13T12:26:40Z; get a new one.".to_owned())]
#[case::expiry_zero("exp", json!(0), "The token expired at 1970-01-01T00:00:00Z; get a new one.".to_owned())]
#[case::expiry_negative("exp", json!(-1), "The token expired at 1969-12-31T23:59:59Z; get a new one.".to_owned())]
#[case::not_yet_valid(
    "nbf", json!(4_000_000_000_u64),
    "The token is valid from 2096-10-02T07:06:40Z on only; check the clock of the machine that made it.".to_owned()
)]
#[case::not_before_as_text("nbf", json!("0"), no_claim("nbf"))]
#[case::not_before_false("nbf", json!(false), no_claim("nbf"))]
#[case::issuer_missing("iss", json!(null), no_claim("iss"))]
#[case::issuer_in_a_list("iss", json!(["http://idp.test/acme"]), no_claim("iss"))]
#[case::issuer_another("iss", json!("http://evil.test/acme"), other_issuer("http://evil.test/acme"))]
#[case::issuer_another_tenant("iss", json!("http://idp.test/acme2"), other_issuer("http://idp.test/acme2"))]
#[case::issuer_in_capitals("iss", json!("http://idp.test/ACME"), other_issuer("http://idp.test/ACME"))]
#[case::issuer_that_leads_back("iss", json!("http://idp.test/x/../acme"), other_issuer("http://idp.test/x/../acme"))]
#[case::issuer_as_a_user_name("iss", json!("http://idp.test/acme@evil"), other_issuer("http://idp.test/acme@evil"))]
#[case::user_missing("sub", json!(null), no_claim("sub"))]
#[case::user_in_a_list("sub", json!(["anna"]), no_claim("sub"))]
#[case::user_with_a_line_break(
    "sub", json!("anna\r\nx-spark-user: root"),
    "The user name contains control characters; check what the client sends as user.".to_owned()
)]
#[case::user_too_long(
    "sub", json!("a".repeat(257)),
    "The user name is longer than 256 bytes; check what the client sends as user.".to_owned()
)]
#[tokio::test]
async fn a_token_that_the_provider_has_signed_for_something_else(
    #[case] name: &str,
    #[case] value: Value,
    #[case] told: String,
) {
    let world = World::with_ec().await;
    let token = world.signer().token(&world.claims_with(name, value));
    assert_eq!(world.refusal(&token).await, told);
}

fn other_issuer(found: &str) -> String {
    format!(
        "The token was issued by \"{found}\", but only tokens of \"http://idp.test/acme\" are accepted here."
    )
}

#[tokio::test]
async fn a_claim_that_is_null_is_not_a_claim_that_is_missing() {
    let world = World::with_ec().await;
    for name in ["exp", "nbf", "iss", "sub"] {
        let mut claims = world.claims();
        claims[name] = Value::Null;
        assert_eq!(world.refusal(&world.signer().token(&claims)).await, no_claim(name));
    }
}
