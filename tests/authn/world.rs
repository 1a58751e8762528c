use std::sync::{Arc, LazyLock};

use serde_json::Value;
use spark_session_operator::authn::{Authenticator, AuthnError, AuthnSettings, Origin, client_builder};
use spark_session_operator::model::{Credentials, Identity};

use super::oidc_server::{DISCOVERY, KEYS, OidcServer, TOKEN};
use super::signer::Signer;

/// The provider's name: the same in every run, so that tokens can be written down.
pub const BASE: &str = "http://idp.test";
pub const PASSWORD: &str = "hunter2-of-anna";

/// A provider that is up, and somebody who asks it.
pub struct World {
    pub provider: OidcServer,
    pub authenticator: Authenticator,
}

impl World {
    /// Its key is made once: that takes longer than all the rest.
    pub async fn with_rsa() -> Self {
        static SIGNER: LazyLock<Arc<Signer>> = LazyLock::new(|| Arc::new(Signer::rsa("r1")));
        Self::new(SIGNER.clone(), |_| {}).await
    }

    pub async fn with_ec() -> Self {
        Self::with(|_| {}).await
    }

    /// With an elliptic key, and other settings.
    pub async fn with(change: impl FnOnce(&mut AuthnSettings)) -> Self {
        Self::new(Arc::new(Signer::ec("e1")), change).await
    }

    async fn new(signer: Arc<Signer>, change: impl FnOnce(&mut AuthnSettings)) -> Self {
        let provider = OidcServer::start(signer, Some(BASE)).await;
        // Another test of this process may have installed it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = client_builder().no_proxy().resolve("idp.test", provider.address).build().unwrap();
        let mut settings = AuthnSettings {
            issuer_url: Some(provider.issuer()),
            audience: Some("spark".into()),
            client_id: Some("operator".into()),
            ..AuthnSettings::default()
        };
        change(&mut settings);
        Self { authenticator: Authenticator::new(settings, http), provider }
    }

    pub fn signer(&self) -> &Signer {
        self.provider.signer()
    }

    pub fn claims(&self) -> Value {
        self.provider.claims("anna")
    }

    /// `Value::Null` takes the claim away.
    pub fn claims_with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        claims
    }

    pub async fn token(&self, token: &str) -> Result<Arc<Identity>, AuthnError> {
        self.authenticator.authenticate(&Credentials::Token(token.into())).await
    }

    /// A login of `user` with this password, from this address.
    pub async fn log_in(
        &self,
        user: &str,
        password: &str,
        address: [u8; 4],
    ) -> Result<Arc<Identity>, AuthnError> {
        let origin = Origin { address: Some(address.into()), pool: None };
        self.authenticator.log_in(&Credentials::password(user, password), origin).await
    }

    pub async fn password(&self, user: &str) -> Result<Arc<Identity>, AuthnError> {
        let credentials = Credentials::password(user, PASSWORD);
        self.authenticator.authenticate(&credentials).await
    }

    /// What the owner of a token that is refused reads.
    pub async fn refusal(&self, token: &str) -> String {
        let error = self.token(token).await.expect_err("it was let in");
        shown(&error, token)
    }

    /// What whoever logs in with the right password reads.
    pub async fn refused_password(&self) -> String {
        shown(&self.password("anna").await.expect_err("they were let in"), PASSWORD)
    }

    /// Nothing was fetched from where a token or a document led.
    pub fn assert_asked_nowhere_else(&self) {
        for path in self.provider.asked() {
            assert!([DISCOVERY, KEYS, TOKEN].contains(&path.as_str()), "{path} was asked for");
        }
    }
}

fn shown(error: &AuthnError, secret: &str) -> String {
    let text = format!("{error} {error:?}");
    for part in secret.split('.').filter(|part| part.len() > 8) {
        assert!(!text.contains(part), "{text}");
    }
    error.to_string()
}
