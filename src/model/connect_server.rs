//! How a Spark Connect server of ours knows who asks: a token per instance, so that only Envoy reaches it, and an
//! interceptor in the server that takes the user from Envoy and not from the request (`deploy/spark`).
//!
//! Here are the names that both sides agree on, and what an application's configuration says of it. The token itself is
//! made by `operator::apply`; Envoy is given it, request by request, by `edge::allow`.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::Meta;

/// In the driver's environment: every call must carry it. The interceptor asks for it, and without the interceptor Spark
/// itself does (4.0 and newer).
pub const TOKEN_VARIABLE: &str = "SPARK_CONNECT_AUTHENTICATE_TOKEN";
/// Names the Secret and its key for that variable, as Spark on Kubernetes takes it.
pub const TOKEN_SETTING: &str = "spark.kubernetes.driver.secretKeyRef.SPARK_CONNECT_AUTHENTICATE_TOKEN";
/// In the Secret.
pub const TOKEN_KEY: &str = "token";
/// Type of the Secret.
pub const TOKEN_SECRET_TYPE: &str = "sparkinteractive.io/instance-token";
/// Spark's own setting of that token. It would win over the environment, and stand in Spark's pages.
pub const PLAIN_TOKEN_SETTING: &str = "spark.connect.authenticate.token";

pub const INTERCEPTORS_SETTING: &str = "spark.connect.grpc.interceptor.classes";
pub const INTERCEPTOR_CLASS: &str = "io.sparkinteractive.identity.IdentityInterceptor";
pub const JARS_SETTING: &str = "spark.jars";

/// Name of the Secret with the instance's token.
pub fn token_secret_name(instance: &str) -> String {
    format!("{instance}-token")
}

/// Whether the server was started with a token: without it nobody gets in.
pub fn asks_for_token(spark_conf: &Map<String, Value>) -> bool {
    spark_conf.contains_key(TOKEN_SETTING)
}

/// Whether the server was started with the interceptor.
pub fn forces_identity(spark_conf: &Map<String, Value>) -> bool {
    let classes = spark_conf.get(INTERCEPTORS_SETTING).and_then(Value::as_str).unwrap_or_default();
    classes.split(',').any(|class| class.trim() == INTERCEPTOR_CLASS)
}

/// What lets a request into one instance. `Debug` does not show it.
#[derive(Clone)]
pub struct InstanceToken(SecretString);

impl InstanceToken {
    pub fn new(token: impl Into<SecretString>) -> Self {
        Self(token.into())
    }

    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Of values that this process knows, not of what somebody presents: it need not take the same time for all.
impl PartialEq for InstanceToken {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for InstanceToken {}

impl fmt::Debug for InstanceToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("InstanceToken(…)")
    }
}

/// The Secret that an instance's driver takes its token from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSecret {
    pub meta: Meta,
    /// Name of the SparkApplication.
    pub instance: String,
    pub token: InstanceToken,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[rstest::rstest]
    #[case::alone(json!({INTERCEPTORS_SETTING: INTERCEPTOR_CLASS}), true)]
    #[case::among_others(json!({INTERCEPTORS_SETTING: format!("a.B, {INTERCEPTOR_CLASS}")}), true)]
    #[case::other(json!({INTERCEPTORS_SETTING: "a.B"}), false)]
    #[case::longer(json!({INTERCEPTORS_SETTING: format!("{INTERCEPTOR_CLASS}2")}), false)]
    #[case::none(json!({}), false)]
    fn a_server_forces_the_identity_when_it_has_the_interceptor(#[case] conf: Value, #[case] forces: bool) {
        assert_eq!(forces_identity(conf.as_object().unwrap()), forces);
    }

    #[test]
    fn a_token_does_not_show() {
        assert_eq!(format!("{:?}", InstanceToken::new("hunter2")), "InstanceToken(…)");
    }
}
