//! A token, either as it is sent or, to get behind its base64, as `{header}`, `{claims}` and signature, a line each.
//!
//! Nobody here has a private key: the tokens of `../tokens.rs` are the only ones that may be let in.
#![no_main]

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use spark_session_operator::authn::{KeySet, verify};

#[path = "../tokens.rs"]
mod tokens;

fuzz_target!(init: { tokens::keys(); }, |input: &[u8]| {
    let Some(token) = token(input) else { return };
    let (rules, now) = (tokens::rules(), tokens::now());
    assert!(verify(&token, &KeySet::default(), &rules, now).is_err(), "let in without any key");
    if let Ok(verified) = verify(&token, tokens::keys(), &rules, now) {
        let signed = |token: &str| token.rsplit_once('.').map(|(signed, _)| signed.to_owned());
        assert!(tokens::SIGNED.iter().any(|known| signed(known.token) == signed(&token)), "{token} was let in");
        assert_eq!(verified.identity.user, "anna");
    }
});

fn token(input: &[u8]) -> Option<String> {
    if !input.starts_with(b"{") {
        return String::from_utf8(input.to_vec()).ok();
    }
    let parts: Vec<String> =
        input.splitn(3, |byte| *byte == b'\n').map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).collect();
    Some(parts.join("."))
}
