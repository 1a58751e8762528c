//! A key set as a provider publishes it. It verifies a token only with the key that has signed it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use spark_session_operator::authn::{KeySet, verify};

#[path = "../tokens.rs"]
mod tokens;

fuzz_target!(|json: &[u8]| {
    let Ok(keys) = KeySet::from_json(json) else { return };
    for signed in tokens::SIGNED {
        if verify(signed.token, &keys, &tokens::rules(), tokens::now()).is_ok() {
            let json: Value = serde_json::from_slice(json).expect("it was read");
            assert!(holds(&json, signed.public), "verified with another key");
        }
    }
    for forged in tokens::FORGED {
        assert!(verify(forged, &keys, &tokens::rules(), tokens::now()).is_err(), "{forged} was let in");
    }
});

fn holds(json: &Value, text: &str) -> bool {
    match json {
        Value::String(found) => found == text,
        Value::Array(values) => values.iter().any(|value| holds(value, text)),
        Value::Object(fields) => fields.values().any(|value| holds(value, text)),
        _ => false,
    }
}
