//! Asks the provider's userinfo endpoint (OpenID Connect Core §5.3) for the groups that a token does not tell.
//!
//! Remembers nothing: the answer becomes part of the login, which `logins` remembers. Takes nothing but the groups
//! from the answer: who the user is stands in the token, whose signature was verified.

use std::sync::Arc;

use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::discovery::Discovery;
use super::error::AuthnError;
use super::token::VerifiedToken;
use super::{Warnings, groups, provider};
use crate::model::{UntoldGroups, UntoldReason};

pub(super) struct Userinfo {
    pub discovery: Arc<Discovery>,
    pub http: Client,
    pub groups_claim: Arc<str>,
    pub warnings: Arc<Warnings>,
}

/// Why the endpoint does not tell the groups. The texts have no full stop at their end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UserinfoError {
    /// It may later.
    Login(AuthnError),
    /// It does not take this token.
    Refused(String),
    /// It is of no use for anybody.
    Unusable(String),
}

impl From<AuthnError> for UserinfoError {
    fn from(error: AuthnError) -> Self {
        Self::Login(error)
    }
}

impl Userinfo {
    /// The same login with its groups, if its token does not tell them. `access_token` was issued to the same user.
    pub async fn complete(
        &self,
        mut verified: VerifiedToken,
        access_token: &SecretString,
    ) -> Result<VerifiedToken, UserinfoError> {
        if verified.identity.untold.is_some() {
            let told = self.groups(access_token, verified.subject.as_deref()).await?;
            (verified.identity.groups, verified.identity.untold) = match told {
                Ok(groups) => (groups, None),
                Err(untold) => (Vec::new(), Some(untold)),
            };
        }
        Ok(verified)
    }

    /// The groups of `subject`, to whom `access_token` was issued, or why they are not told.
    async fn groups(
        &self,
        access_token: &SecretString,
        subject: Option<&str>,
    ) -> Result<Result<Vec<String>, UntoldGroups>, UserinfoError> {
        let metadata = self.discovery.get().await.map_err(AuthnError::from)?;
        let Some(endpoint) = &metadata.userinfo_endpoint else {
            return Err(UserinfoError::Unusable("the provider has none".to_owned()));
        };
        let request = self.http.get(endpoint).header("accept", "application/json");
        let request = request.bearer_auth(access_token.expose_secret());
        let (status, body) = provider::send(request).await.map_err(|error| {
            if let Some(more) = self.warnings.note("no answer of userinfo", Instant::now()) {
                tracing::warn!(%error, more, "the userinfo endpoint did not answer");
            }
            AuthnError::from(error)
        })?;
        let read = read(status, &body, subject, &self.groups_claim);
        let problem = match &read {
            Err(UserinfoError::Login(error)) => error.to_string(),
            Err(UserinfoError::Unusable(problem)) => problem.clone(),
            Ok(_) | Err(UserinfoError::Refused(_)) => return read,
        };
        if let Some(more) = self.warnings.note("userinfo", Instant::now()) {
            tracing::warn!(%status, %endpoint, problem, more, "the userinfo endpoint does not tell groups");
        }
        read
    }
}

fn read(
    status: StatusCode,
    body: &[u8],
    subject: Option<&str>,
    claim: &Arc<str>,
) -> Result<Result<Vec<String>, UntoldGroups>, UserinfoError> {
    match status {
        status if status.is_success() => {}
        // The endpoint itself sends no page (RFC 6750 §3): this is one of an ingress, or of a firewall.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if body.trim_ascii_start().starts_with(b"<") => {
            return Err(UserinfoError::Unusable(format!("it answers {status} with a page")));
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            return Err(UserinfoError::Refused(status.to_string()));
        }
        StatusCode::TOO_MANY_REQUESTS => return Err(AuthnError::Busy.into()),
        status if provider::is_outage(status) => return Err(AuthnError::Unavailable.into()),
        status => return Err(UserinfoError::Unusable(format!("it answers {status}"))),
    }
    let Ok(claims) = serde_json::from_slice::<Map<String, Value>>(body) else {
        let problem = if is_jwt(body) {
            "it answers with a JWT; the provider must send JSON to the operator's client"
        } else {
            "its answer is not a JSON object"
        };
        return Err(UserinfoError::Unusable(problem.to_owned()));
    };
    let Some(subject) = subject else {
        return Err(UserinfoError::Unusable(
            "the token has no claim \"sub\" with which its answer could be compared".to_owned(),
        ));
    };
    // §5.3.2: another user's answer must not be used.
    if claims.get("sub").and_then(Value::as_str) != Some(subject) {
        return Err(UserinfoError::Unusable(
            "its answer is not about the user of the token (\"sub\" is another)".to_owned(),
        ));
    }
    Ok(groups::read(&claims, claim).map_err(|untold| match untold.reason {
        UntoldReason::NotInToken => UntoldGroups { reason: UntoldReason::NotInUserinfo, ..untold },
        UntoldReason::LeftOut | UntoldReason::NotInUserinfo => untold,
    }))
}

/// A signed one has three parts, an encrypted one five; both begin with a JSON object in base64url.
fn is_jwt(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    let dots = body.iter().filter(|byte| **byte == b'.').count();
    body.starts_with(b"ey") && matches!(dots, 2 | 4)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn unusable(problem: &str) -> UserinfoError {
        UserinfoError::Unusable(problem.to_owned())
    }

    #[rstest]
    #[case::told(200, json!({"sub": "u1", "groups": ["a"]}).to_string(), Ok(Ok(vec!["a".to_owned()])))]
    #[case::not_told(200, json!({"sub": "u1"}).to_string(), Ok(Err(UntoldReason::NotInUserinfo)))]
    #[case::left_out(200, json!({"sub": "u1", "hasgroups": true}).to_string(), Ok(Err(UntoldReason::LeftOut)))]
    #[case::another_user(
        200,
        json!({"sub": "u2", "groups": ["root"]}).to_string(),
        Err(unusable("its answer is not about the user of the token (\"sub\" is another)"))
    )]
    #[case::nobody(
        200,
        json!({"groups": ["root"]}).to_string(),
        Err(unusable("its answer is not about the user of the token (\"sub\" is another)"))
    )]
    #[case::signed(
        200,
        "eyJhbGciOiJSUzI1NiJ9.e30.c2ln".to_owned(),
        Err(unusable("it answers with a JWT; the provider must send JSON to the operator's client"))
    )]
    #[case::encrypted(
        200,
        "eyJhbGciOiJSUzI1NiJ9.a.b.c.d\n".to_owned(),
        Err(unusable("it answers with a JWT; the provider must send JSON to the operator's client"))
    )]
    #[case::a_page(200, "<html>".to_owned(), Err(unusable("its answer is not a JSON object")))]
    #[case::a_list(200, "[]".to_owned(), Err(unusable("its answer is not a JSON object")))]
    #[case::wrong_scope(
        403,
        json!({"error": "insufficient_scope"}).to_string(),
        Err(UserinfoError::Refused("403 Forbidden".to_owned()))
    )]
    #[case::an_ingress(403, " <html>".to_owned(), Err(unusable("it answers 403 Forbidden with a page")))]
    #[case::not_for_it(401, String::new(), Err(UserinfoError::Refused("401 Unauthorized".to_owned())))]
    #[case::not_there(404, String::new(), Err(unusable("it answers 404 Not Found")))]
    #[case::redirect(302, String::new(), Err(unusable("it answers 302 Found")))]
    #[case::busy(429, String::new(), Err(UserinfoError::Login(AuthnError::Busy)))]
    #[case::down(502, String::new(), Err(UserinfoError::Login(AuthnError::Unavailable)))]
    fn an_answer_is_read(
        #[case] status: u16,
        #[case] body: String,
        #[case] expected: Result<Result<Vec<String>, UntoldReason>, UserinfoError>,
    ) {
        let status = StatusCode::from_u16(status).unwrap();
        let read = read(status, body.as_bytes(), Some("u1"), &"groups".into());
        assert_eq!(read.map(|told| told.map_err(|untold| untold.reason)), expected);
    }

    #[test]
    fn without_a_subject_nothing_is_believed() {
        let body = json!({"sub": "u1", "groups": ["a"]}).to_string();
        let error = read(StatusCode::OK, body.as_bytes(), None, &"groups".into()).unwrap_err();
        assert_eq!(error, unusable("the token has no claim \"sub\" with which its answer could be compared"));
    }
}
