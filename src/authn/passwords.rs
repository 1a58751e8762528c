//! Password logins: which of the provider's tokens says who has logged in, and what becomes of the rest. Remembers
//! nothing, and knows no HTTP.

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::Warnings;
use super::authority::{Failed, life};
use super::error::{AuthnError, AuthnErrorKind};
use super::grant::Grant;
use super::jwks::Verifier;
use super::remembered::{Granted, Next, Proven, Terms};
use super::revocations::{RevocationEndpoint, Revocations};
use super::settings::PasswordToken;
use super::token::{TokenError, TokenRules};
use super::token_answer::Tokens;
use super::token_endpoint::TokenEndpoint;
use super::userinfo::{Userinfo, UserinfoError};

pub(super) struct Passwords {
    endpoint: TokenEndpoint,
    believes: PasswordToken,
    verifier: Arc<Verifier>,
    /// An ID token is for the client that has asked for it, and for nobody else.
    id_token_rules: TokenRules,
    userinfo: Option<Arc<Userinfo>>,
    terms: Terms,
    pub revocations: Arc<Revocations>,
    pub revocation_endpoint: RevocationEndpoint,
    warnings: Arc<Warnings>,
}

impl Passwords {
    pub fn new(
        endpoint: TokenEndpoint,
        believes: PasswordToken,
        verifier: Arc<Verifier>,
        userinfo: Option<Arc<Userinfo>>,
        terms: Terms,
        revocation_endpoint: RevocationEndpoint,
        warnings: Arc<Warnings>,
    ) -> Self {
        let client = &revocation_endpoint.client;
        let id_token_rules = TokenRules {
            audience: Some(client.id.clone()),
            authorized_party: Some(client.id.clone()),
            ..verifier.rules().clone()
        };
        Self {
            endpoint,
            believes,
            verifier,
            id_token_rules,
            userinfo,
            terms,
            revocations: Arc::default(),
            revocation_endpoint,
            warnings,
        }
    }

    /// `before` is what is known of these very credentials.
    pub async fn prove(
        &self,
        user: &str,
        password: &SecretString,
        before: Option<&Proven>,
    ) -> Result<Proven, Failed> {
        let mut revoked = false;
        if let Some(before) = before
            && let Next::Refresh(token) = before.next(Instant::now(), self.terms)
        {
            match self.refresh(&token, before).await {
                Ok(renewed) => return Ok(renewed),
                Err(error) if error.kind() == AuthnErrorKind::Unavailable => return Err(error.into()),
                // The password decides: refresh tokens end for many reasons, and not all providers give usable ones.
                Err(error) => {
                    tracing::debug!(%error, user, "a login could not be refreshed");
                    revoked = error.speaks_of_the_user();
                }
            }
        }
        self.log_in(user, password).await.map_err(|error| Failed { error, revoked })
    }

    async fn log_in(&self, user: &str, password: &SecretString) -> Result<Proven, AuthnError> {
        let mut tokens = self.endpoint.log_in(user, password).await?;
        let revocations = &self.revocations;
        let grant = tokens.refresh_token.take().map(|token| Grant::new(token, Arc::clone(revocations)));
        let granted = self.granted(&tokens).await?;
        Ok(Proven::by_password(granted, grant.map(Arc::new), Instant::now(), self.terms))
    }

    async fn refresh(&self, token: &SecretString, before: &Proven) -> Result<Proven, AuthnError> {
        let mut tokens = self.endpoint.refresh(token).await?;
        // A provider that rotates refresh tokens sends a new one, others mean that the old one goes on. It takes its
        // place even if the rest is of no use.
        if let Some(rotated) = tokens.refresh_token.take() {
            before.rotate(rotated);
        }
        let granted = self.granted(&tokens).await?;
        if granted.identity.user != before.identity.user {
            if let Some(more) = self.warnings.note("another user's", Instant::now()) {
                tracing::warn!(
                    more,
                    "the provider has refreshed a login into another user's: it is not used"
                );
            }
            return Err(AuthnError::Provider);
        }
        Ok(before.renewed(granted, Instant::now(), self.terms))
    }

    async fn granted(&self, tokens: &Tokens) -> Result<Granted, AuthnError> {
        let now = Timestamp::now();
        let verified = match (self.believes, &tokens.id_token) {
            (PasswordToken::AccessToken, id_token) => {
                let verified = self.verifier.verify(tokens.access_token.expose_secret(), now).await;
                verified.map_err(|error| {
                    self.of_token(error, ACCESS_TOKEN, |error| of_access_token(error, id_token.is_some()))
                })?
            }
            (PasswordToken::IdToken, Some(id_token)) => {
                let verified = self.verifier.verify_by(&self.id_token_rules, id_token.expose_secret(), now);
                verified.await.map_err(|error| self.of_token(error, ID_TOKEN, of_id_token))?
            }
            (PasswordToken::IdToken, None) => return Err(unusable(ID_TOKEN, "the answer has none.")),
        };
        let verified = match &self.userinfo {
            Some(userinfo) => userinfo.complete(verified, &tokens.access_token).await.map_err(of_userinfo)?,
            None => verified,
        };
        let life = life(&verified);
        Ok(Granted { identity: verified.identity, life })
    }

    fn of_token(
        &self,
        error: AuthnError,
        token: &'static str,
        words: impl FnOnce(TokenError) -> AuthnError,
    ) -> AuthnError {
        let AuthnError::Token(error) = error else { return error };
        if let Some(more) = self.warnings.note(token, Instant::now()) {
            tracing::warn!(%error, more, "the provider's {token} for a password login cannot be used");
        }
        words(error)
    }
}

const ACCESS_TOKEN: &str = "access token";
const ID_TOKEN: &str = "ID token";

/// `problem` is a sentence that goes on after a colon.
fn unusable(token: &'static str, problem: impl Into<String>) -> AuthnError {
    AuthnError::GrantUnusable { token, problem: problem.into() }
}

/// The user has not chosen this token and cannot get another one: the settings are at fault.
fn of_access_token(error: TokenError, has_id_token: bool) -> AuthnError {
    let problem = match error {
        TokenError::WrongAudience { expected } => format!(
            "its audience does not name \"{expected}\". The provider must add this audience to the tokens of \
             the operator's client (Keycloak: an audience mapper)."
        ),
        // Not every user has it: that is for the user to know.
        error @ TokenError::ClaimRequired { .. } => return error.into(),
        TokenError::Malformed(_) => "it is not a JWT.".to_owned(),
        TokenError::WrongIssuer { found, expected } => format!(
            "it was issued by \"{found}\" and not by \"{expected}\", so it is meant for another service. The \
             operator must ask for a scope of an API of its own (--oidc-scope)."
        ),
        TokenError::UnknownKey | TokenError::BadSignature => {
            "its signature is not by a key that the provider publishes, so it is meant for another service. The \
             operator must ask for a scope of an API of its own (--oidc-scope)."
                .to_owned()
        }
        other => other.to_string(),
    };
    let other_way =
        " The provider has sent an ID token, too: --oidc-password-token=id_token takes the user from that.";
    unusable(ACCESS_TOKEN, if has_id_token { problem + other_way } else { problem })
}

fn of_id_token(error: TokenError) -> AuthnError {
    match error {
        error @ TokenError::ClaimRequired { .. } => error.into(),
        TokenError::Malformed(_) => unusable(ID_TOKEN, "it is not a JWT."),
        TokenError::WrongAudience { expected } => {
            unusable(ID_TOKEN, format!("its audience does not name the operator's client, \"{expected}\"."))
        }
        other => unusable(ID_TOKEN, other.to_string()),
    }
}

fn of_userinfo(error: UserinfoError) -> AuthnError {
    match error {
        UserinfoError::Login(error) => error,
        UserinfoError::Unusable(problem) => AuthnError::UserinfoUnusable { problem },
        UserinfoError::Refused(problem) => AuthnError::UserinfoUnusable {
            problem: format!("it does not take the access token of a password login, {problem}"),
        },
    }
}
