//! The provider's discovery document (OpenID Connect Discovery 1.0 §4): where its endpoints are.
//!
//! Fetched when the first login needs it, so the operator starts while the provider is down. No
//! provider's own paths are known here or elsewhere.

use std::time::Duration;

use futures::FutureExt;
use reqwest::{Client, Url};
use serde::Deserialize;

use super::fetched::{Fetched, Pace};
use super::provider::{self, ProviderError};
use super::token::same_issuer;

const PACE: Pace = Pace {
    max_age: Duration::from_secs(3600),
    floor: Duration::from_secs(10),
    retry_stale: Duration::from_secs(30),
    retry_empty: Duration::from_secs(1),
};

/// The fields of the document that are used.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Metadata {
    pub issuer: String,
    pub jwks_uri: String,
    /// Missing at providers that only issue tokens by other means (Kubernetes' own, say).
    pub token_endpoint: Option<String>,
    /// Empty when the provider does not say.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// RFC 7009; not all providers have it.
    pub revocation_endpoint: Option<String>,
    /// Empty when the provider does not say.
    #[serde(default)]
    pub revocation_endpoint_auth_methods_supported: Vec<String>,
    pub userinfo_endpoint: Option<String>,
}

pub(super) type Discovery = Fetched<Metadata>;

/// The discovery of `issuer`, an `https` (or, inside a cluster, `http`) URL.
pub(super) fn discovery(issuer: String, http: Client) -> Discovery {
    Fetched::new(PACE, move || fetch(issuer.clone(), http.clone()).boxed())
}

async fn fetch(issuer: String, http: Client) -> Result<Metadata, ProviderError> {
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    Url::parse(&url).map_err(|error| {
        ProviderError::Misconfigured(format!("the issuer \"{issuer}\" is not a URL: {error}"))
    })?;
    let metadata = provider::get_json(&http, &url, "the discovery document").await?;
    check(&issuer, metadata)
}

/// Refuses the document of another issuer (§4.3), and endpoints that would carry passwords or keys
/// in the clear although the issuer is `https`. An endpoint that logins can do without only counts as missing then.
fn check(issuer: &str, mut metadata: Metadata) -> Result<Metadata, ProviderError> {
    if !same_issuer(issuer, &metadata.issuer) {
        return Err(ProviderError::Misconfigured(format!(
            "the issuer is set to \"{issuer}\", but its discovery document names \"{}\"; set that one",
            metadata.issuer
        )));
    }
    let endpoints = [Some(&metadata.jwks_uri), metadata.token_endpoint.as_ref()];
    for endpoint in endpoints.into_iter().flatten() {
        if !is_safe(issuer, endpoint) {
            return Err(ProviderError::Misconfigured(format!(
                "the discovery document of \"{issuer}\" names \"{endpoint}\", which is not an https URL"
            )));
        }
    }
    for endpoint in [&mut metadata.revocation_endpoint, &mut metadata.userinfo_endpoint] {
        if let Some(unsafe_one) = endpoint.take_if(|endpoint| !is_safe(issuer, endpoint)) {
            tracing::warn!(
                issuer,
                endpoint = unsafe_one,
                "the provider's endpoint is not used: it is not https"
            );
        }
    }
    Ok(metadata)
}

fn is_safe(issuer: &str, endpoint: &str) -> bool {
    let scheme = Url::parse(endpoint).map(|url| url.scheme().to_owned()).unwrap_or_default();
    scheme == "https" || (scheme == "http" && !issuer.starts_with("https:"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::same("https://idp", "https://idp", "https://idp/keys", None)]
    #[case::slash("https://idp/", "https://idp", "https://idp/keys", None)]
    #[case::other_host_for_keys("https://idp", "https://idp", "https://keys.example/k", None)]
    #[case::plain_in_cluster("http://idp", "http://idp", "http://idp/keys", None)]
    #[case::other_issuer("https://idp", "https://evil", "https://idp/keys", Some("set that one"))]
    #[case::downgraded("https://idp", "https://idp", "http://idp/keys", Some("not an https URL"))]
    #[case::not_a_url("http://idp", "http://idp", "keys", Some("not an https URL"))]
    #[case::file("http://idp", "http://idp", "file:///etc/passwd", Some("not an https URL"))]
    fn a_discovery_document_is_checked(
        #[case] issuer: &str,
        #[case] named: &str,
        #[case] jwks_uri: &str,
        #[case] problem: Option<&str>,
    ) {
        match (check(issuer, metadata(named, jwks_uri)), problem) {
            (Ok(_), None) => {}
            (Err(error), Some(problem)) => assert!(error.to_string().contains(problem), "{error}"),
            (outcome, _) => panic!("{outcome:?}"),
        }
    }

    fn metadata(issuer: &str, jwks_uri: &str) -> Metadata {
        serde_json::from_value(serde_json::json!({"issuer": issuer, "jwks_uri": jwks_uri})).unwrap()
    }

    #[test]
    fn an_endpoint_in_the_clear_is_not_used_where_logins_can_do_without() {
        let named = |scheme: &str| Metadata {
            revocation_endpoint: Some(format!("{scheme}://idp/r")),
            userinfo_endpoint: Some(format!("{scheme}://idp/u")),
            ..metadata("https://idp", "https://idp/keys")
        };
        let checked = check("https://idp", named("http")).unwrap();
        assert_eq!((checked.revocation_endpoint, checked.userinfo_endpoint), (None, None));
        let checked = check("https://idp", named("https")).unwrap();
        assert_eq!(checked.userinfo_endpoint.as_deref(), Some("https://idp/u"));
        assert_eq!(checked.revocation_endpoint.as_deref(), Some("https://idp/r"));
    }
}
