//! The operator as a client of the provider: how its requests say who asks.
//!
//! Does not know what is asked for, and sends nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderValue;
use reqwest::{Client, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};

use super::client_secret::ClientSecret;

pub(super) struct OauthClient {
    pub http: Client,
    pub id: String,
    /// `None` for a public client.
    pub secret: Option<ClientSecret>,
}

impl OauthClient {
    /// A form for `endpoint`, which knows these methods of client authentication; empty if the provider does not say.
    pub fn post(&self, endpoint: &str, methods: &[String], form: &[(&str, &str)]) -> RequestBuilder {
        let mut form = form.to_vec();
        let request = self.http.post(endpoint).header("accept", "application/json");
        let Some(secret) = self.secret.as_ref().map(ClientSecret::current) else {
            form.push(("client_id", &self.id));
            return request.form(&form);
        };
        // Basic is what every server must know (RFC 6749 §2.3.1), but servers disagree on the
        // encoding of special characters in it: the body is safer where it is supported.
        if methods.iter().any(|method| method == "client_secret_post") {
            form.push(("client_id", &self.id));
            form.push(("client_secret", secret.expose_secret()));
            return request.form(&form);
        }
        let request = match basic(&self.id, &secret) {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        request.form(&form)
    }
}

/// Client authentication by Basic, both parts percent-encoded first.
fn basic(id: &str, secret: &SecretString) -> Option<HeaderValue> {
    let id = utf8_percent_encode(id, NON_ALPHANUMERIC);
    let secret = utf8_percent_encode(secret.expose_secret(), NON_ALPHANUMERIC);
    let mut value =
        HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_id_and_secret_are_encoded_before_basic() {
        let value = basic("spark op", &"a:b%/ü".into()).unwrap();
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        assert_eq!(STANDARD.decode(encoded).unwrap(), b"spark%20op:a%3Ab%25%2F%C3%BC");
        assert_eq!(format!("{value:?}"), "Sensitive");
    }
}
