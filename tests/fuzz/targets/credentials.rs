//! Headers that may hold credentials, a line each: `authorization: Basic …`.
//!
//! What is read comes out the same when it is sent in the plainest way.
#![no_main]

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret;
use spark_session_operator::authn::read_credentials;
use spark_session_operator::model::{Credentials, CredentialsError};

fuzz_target!(|text: &str| {
    let headers: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once(": ")).collect();
    match read_credentials(|name| headers.get(name).copied()) {
        Ok(Credentials::Token(token)) => {
            let token = token.expose_secret();
            let again = authorization(&format!("Bearer {token}"));
            assert!(matches!(again, Ok(Credentials::Token(again)) if again.expose_secret() == token));
        }
        // Basic cannot say a user name with a colon; `x-spark-username` can.
        Ok(Credentials::Password { user, password, .. }) if !user.contains(':') => {
            let pair = format!("{user}:{}", password.expose_secret());
            let plain = format!("Basic {}", BASE64_STANDARD.encode(&pair));
            let pyspark = format!("Bearer {}", BASE64_URL_SAFE_NO_PAD.encode(&pair));
            for header in [plain, pyspark] {
                let Ok(Credentials::Password { user: found, password: secret, .. }) = authorization(&header)
                else {
                    panic!("{header} was not read as a password");
                };
                assert_eq!((&found, secret.expose_secret()), (&user, password.expose_secret()));
            }
        }
        Ok(Credentials::Password { .. }) | Err(_) => {}
    }
});

fn authorization(value: &str) -> Result<Credentials, CredentialsError> {
    read_credentials(|name| (name == "authorization").then_some(value))
}
