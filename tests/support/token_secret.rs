//! What the kubelet waits for before it starts a driver: the Secret that the environment takes the instance's token from.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::runtime::wait::{self, await_condition};
use spark_session_operator::api::SparkApplication;
use spark_session_operator::model::connect_server::{asks_for_token, token_secret_name};

/// Returns at once for an application that asks for no token.
pub async fn until_there(secrets: Api<Secret>, application: &SparkApplication) -> Result<(), wait::Error> {
    let conf = application.spec.fields.get("sparkConf").and_then(|conf| conf.as_object());
    if conf.is_some_and(asks_for_token) {
        let name = token_secret_name(application.metadata.name.as_deref().unwrap_or_default());
        await_condition(secrets, &name, |secret: Option<&Secret>| secret.is_some()).await?;
    }
    Ok(())
}
