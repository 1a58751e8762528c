use rstest::rstest;
use serde_json::json;

use super::super::test_support::{Signer, base64url, jwks, key_set};
use super::*;

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn rules() -> TokenRules {
    TokenRules {
        issuer: "https://idp/realms/a".into(),
        audience: Some("spark".into()),
        user_claim: "sub".into(),
        groups_claim: "realm_access.roles".into(),
        ..TokenRules::default()
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://idp/realms/a", "aud": ["account", "spark"], "sub": "anna", "exp": NOW + 60,
        "preferred_username": "anna.a", "realm_access": {"roles": ["dev", "ops"]},
    })
}

fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

#[rstest]
#[case("RS256")]
#[case("PS256")]
#[case("ES256")]
#[case("ES384")]
#[case("EdDSA")]
fn a_token_of_each_kind_of_key_is_accepted(#[case] alg: &'static str) {
    let signer = Signer::new(alg, "k1");
    let verified = verify(&signer.token(&claims()), &key_set(&[&signer]), &rules(), now()).unwrap();
    assert_eq!(verified.identity, Identity::new("anna").in_group("dev").in_group("ops"));
    assert_eq!(verified.expires_at.as_second(), NOW + 60);
}

#[rstest]
#[case::issuer("iss", json!("https://evil"), "The token was issued by \"https://evil\", but only tokens of \"https://idp/realms/a\" are accepted here.")]
#[case::issuer_list("iss", json!(["https://idp/realms/a"]), "The token has no usable claim \"iss\"")]
#[case::no_issuer("iss", json!(null), "The token has no usable claim \"iss\"")]
#[case::issuer_with_terminal_codes("iss", json!("\u{1b}[31m"), "issued by \"[31m\"")]
#[case::audience("aud", json!("account"), "The token is not meant for \"spark\"")]
#[case::no_audience("aud", json!(null), "The token is not meant for \"spark\"")]
#[case::expired("exp", json!(NOW - 3600), "The token expired at 2027-01-15T07:00:00Z; get a new one.")]
#[case::expired_beyond_the_leeway("exp", json!(NOW - 30), "The token expired at")]
#[case::expired_long_ago("exp", json!(-1e300), "The token expired at")]
#[case::no_expiry("exp", json!(null), "The token has no usable claim \"exp\"")]
#[case::expiry_as_text("exp", json!("1900000000"), "The token has no usable claim \"exp\"")]
#[case::too_early("nbf", json!(NOW + 31), "The token is valid from 2027-01-15T08:00:31Z on only")]
#[case::unreadable_nbf("nbf", json!("soon"), "The token has no usable claim \"nbf\"")]
#[case::no_user("sub", json!(null), "The token has no usable claim \"sub\"")]
#[case::user_is_a_number("sub", json!(7), "The token has no usable claim \"sub\"")]
#[case::empty_user("sub", json!(""), "The user name is empty")]
#[case::user_with_line_break("sub", json!("a\nb"), "control characters")]
fn a_signed_token_with_a_wrong_claim_is_refused(
    #[case] name: &str,
    #[case] value: Value,
    #[case] text: &str,
) {
    let signer = Signer::new("ES256", "k1");
    let token = signer.token(&claims_with(name, value));
    let error = verify(&token, &key_set(&[&signer]), &rules(), now()).unwrap_err();
    assert!(error.to_string().contains(text), "{error}");
    assert!(!format!("{error} {error:?}").contains(&token[..20]));
}

#[rstest]
#[case::just_expired("exp", json!(NOW - 29))]
#[case::just_not_valid_yet("nbf", json!(NOW + 30))]
#[case::slash_after_the_issuer("iss", json!("https://idp/realms/a/"))]
#[case::single_audience("aud", json!("spark"))]
#[case::lives_for_ever("exp", json!(u64::MAX))]
fn clocks_and_spellings_may_differ_a_little(#[case] name: &str, #[case] value: Value) {
    let signer = Signer::new("ES256", "k1");
    let token = signer.token(&claims_with(name, value));
    verify(&token, &key_set(&[&signer]), &rules(), now()).unwrap();
}

#[rstest]
#[case::unsigned(json!({"alg": "none"}), TokenError::Unsigned)]
#[case::unsigned_in_disguise(json!({"alg": "nOnE"}), TokenError::Unsigned)]
#[case::hmac(json!({"alg": "HS256", "kid": "k1"}), TokenError::SharedSecret)]
#[case::keycloak_refresh_token(json!({"alg": "HS512", "kid": "k1"}), TokenError::SharedSecret)]
#[case::unknown_algorithm(json!({"alg": "XS256", "kid": "k1"}), TokenError::UnsupportedAlgorithm)]
#[case::algorithm_of_another_key(json!({"alg": "RS256", "kid": "k1"}), TokenError::BadSignature)]
#[case::unknown_key(json!({"alg": "ES256", "kid": "k2"}), TokenError::UnknownKey)]
#[case::logout_token(json!({"alg": "ES256", "kid": "k1", "typ": "logout+jwt"}), TokenError::NotForLogin)]
#[case::critical_extension(json!({"alg": "ES256", "kid": "k1", "crit": ["b64"]}), TokenError::Malformed("it needs extensions that are not known here"))]
fn a_token_with_a_wrong_header_is_refused(#[case] header: Value, #[case] expected: TokenError) {
    let signer = Signer::new("ES256", "k1");
    let token = signer.token_with(&header, &claims());
    assert_eq!(verify(&token, &key_set(&[&signer]), &rules(), now()), Err(expected));
}

#[rstest]
#[case(json!({"alg": "ES256"}))]
#[case(json!({"alg": "ES256", "kid": "k1", "typ": "at+jwt"}))]
#[case(json!({"alg": "ES256", "kid": "k1", "typ": "application/at+JWT"}))]
fn unusual_but_valid_headers_are_accepted(#[case] header: Value) {
    let (signer, other) = (Signer::new("ES256", "k1"), Signer::new("ES256", "k0"));
    let token = signer.token_with(&header, &claims());
    verify(&token, &key_set(&[&other, &signer]), &rules(), now()).unwrap();
}

#[test]
fn a_changed_or_unsigned_token_is_refused() {
    let signer = Signer::new("RS256", "k1");
    let keys = key_set(&[&signer]);
    let token = signer.token(&claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let header = signed.split_once('.').unwrap().0;
    let forged = format!("{header}.{}.{signature}", base64url(claims_with("sub", json!("root")).to_string()));
    for bad in [forged, format!("{signed}."), format!("{signed}.AAAA"), format!("{signed}.!")] {
        assert_eq!(verify(&bad, &keys, &rules(), now()), Err(TokenError::BadSignature));
    }
    for bad in ["", "..", "a.b", "a.b.c", "a.b.c.d", "é.é.é"] {
        assert!(matches!(verify(bad, &keys, &rules(), now()), Err(TokenError::Malformed(_))), "{bad}");
    }
}

#[test]
fn a_token_signed_with_a_published_rsa_key_as_hmac_secret_is_refused() {
    let signer = Signer::new("RS256", "k1");
    let secret = signer.jwk()["n"].as_str().unwrap().to_owned();
    let signed =
        format!("{}.{}", base64url(r#"{"alg":"HS256","kid":"k1"}"#), base64url(claims().to_string()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let token = format!("{signed}.{}", base64url(aws_lc_rs::hmac::sign(&key, signed.as_bytes())));
    assert_eq!(verify(&token, &key_set(&[&signer]), &rules(), now()), Err(TokenError::SharedSecret));
}

#[test]
fn keys_that_cannot_verify_are_left_out() {
    let signer = Signer::new("ES256", "k1");
    let mut for_encryption = signer.jwk();
    for_encryption["use"] = json!("enc");
    let mut broken = signer.jwk();
    broken["x"] = json!("!");
    let secret = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256", "use": "sig"});
    let new_kind = json!({"kty": "AKP", "alg": "ML-DSA-44", "kid": "k1", "pub": "eA"});
    let unusable = json!({"keys": [for_encryption, broken, secret, new_kind, 7, {}]});
    assert!(KeySet::from_json(unusable.to_string().as_bytes()).unwrap().is_empty());
    let mut mixed = unusable;
    mixed["keys"].as_array_mut().unwrap().push(jwks(&[&signer])["keys"][0].clone());
    let keys = KeySet::from_json(mixed.to_string().as_bytes()).unwrap();
    verify(&signer.token(&claims()), &keys, &rules(), now()).unwrap();
    KeySet::from_json(b"<html>").unwrap_err();
}

#[test]
fn the_user_claim_is_configurable_and_the_audience_optional() {
    let signer = Signer::new("EdDSA", "k1");
    let rules = TokenRules { user_claim: "preferred_username".into(), audience: None, ..rules() };
    let token = signer.token(&claims_with("aud", json!(null)));
    let verified = verify(&token, &key_set(&[&signer]), &rules, now()).unwrap();
    assert_eq!(verified.identity.user, "anna.a");
}

#[test]
fn a_required_claim_is_told_by_name() {
    let signer = Signer::new("ES256", "k1");
    let asks = |value: &str| {
        let required_claims = vec![("realm_access.roles".to_owned(), value.to_owned())];
        let rules = TokenRules { required_claims, ..rules() };
        verify(&signer.token(&claims()), &key_set(&[&signer]), &rules, now())
    };
    asks("ops").unwrap();
    assert_eq!(
        asks("spark").unwrap_err().to_string(),
        "The claim \"realm_access.roles\" of the token does not say \"spark\", which is required here. \
         Ask the identity provider's administrator for it."
    );
}
