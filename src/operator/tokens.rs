//! Makes the Secrets with instances' tokens. Whoever reads one can act as any user on that instance, and on no other.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, Resource};

use super::apply::FIELD_MANAGER;
use super::apply_error::{ApplyError, not_created};
use super::convert::{InstanceSecret, Watched};
use super::stores::Stores;
use crate::api::SparkApplication;
use crate::model::InstanceToken;
use crate::model::connect_server::{TOKEN_KEY, TOKEN_SECRET_TYPE, token_secret_name};
use crate::plan::{INSTANCE_LABEL, Objection, POOL_LABEL};

/// Of randomness.
const TOKEN_BYTES: usize = 32;

pub struct Tokens {
    secrets: Api<Secret>,
    stores: Arc<Stores>,
}

impl Tokens {
    pub fn new(client: &Client, namespace: &str, stores: Arc<Stores>) -> Self {
        Self { secrets: Api::namespaced(client.clone(), namespace), stores }
    }

    /// Keeps the token of the SparkApplication with this name and UID in a Secret, which goes with it: the token that is
    /// known of it, else a new one.
    pub async fn ensure(&self, pool: &str, instance: &str, uid: &str) -> Result<(), ApplyError> {
        let known = self.stores.read(|inventory| inventory.token(instance).cloned());
        let secret = secret(pool, instance, uid, &known.unwrap_or_else(new_token));
        let name = token_secret_name(instance);
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.secrets.create(&params, &secret).await {
            Ok(created) => {
                if let Some(token) = InstanceSecret::from(created).into_domain() {
                    self.stores.written(token);
                }
                tracing::debug!(instance, secret = name, "token made");
                Ok(())
            }
            // By an earlier attempt, or by the last leader: the watch brings it.
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(match not_created(error) {
                ApplyError::Refused { objection, message } => {
                    // The template has no part in the Secret.
                    let objection =
                        if objection == Objection::Template { Objection::Forbidden } else { objection };
                    ApplyError::Refused { objection, message: format!("Secret {name}: {message}") }
                }
                error => error,
            }),
        }
    }
}

fn new_token() -> InstanceToken {
    let random: [u8; TOKEN_BYTES] = rand::random();
    InstanceToken::new(BASE64_URL_SAFE_NO_PAD.encode(random))
}

fn secret(pool: &str, instance: &str, uid: &str, token: &InstanceToken) -> Secret {
    let owner = OwnerReference {
        api_version: SparkApplication::api_version(&()).into_owned(),
        kind: SparkApplication::kind(&()).into_owned(),
        name: instance.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    };
    let labels =
        [("app.kubernetes.io/managed-by", FIELD_MANAGER), (POOL_LABEL, pool), (INSTANCE_LABEL, instance)];
    Secret {
        metadata: ObjectMeta {
            name: Some(token_secret_name(instance)),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some(TOKEN_SECRET_TYPE.to_owned()),
        immutable: Some(true),
        data: Some([(TOKEN_KEY.to_owned(), ByteString(token.expose().as_bytes().to_vec()))].into()),
        ..Secret::default()
    }
}
