//! Writes some fields of a session's status by server-side apply, under a field manager of their own.
//!
//! An owner who leaves out a field that it wrote before removes it, so each set of fields has its own manager. Not here: which
//! fields those are, and what they say.

use std::sync::Arc;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};

use super::convert::Watched;
use super::stores::Stores;
use crate::api::SparkInteractiveSession;

/// Writes statuses of sessions in one namespace, and enters the answers into the stores.
#[derive(Clone)]
pub struct SessionPatch {
    sessions: Api<SparkInteractiveSession>,
    stores: Arc<Stores>,
}

impl SessionPatch {
    pub fn new(client: &Client, namespace: &str, stores: Arc<Stores>) -> Self {
        Self { sessions: Api::namespaced(client.clone(), namespace), stores }
    }

    /// Replaces the fields that `manager` owns in the status. `version` is the resource version that the caller looked at;
    /// without it the write does not depend on what others have written meanwhile.
    ///
    /// `false`: the session is gone, or has another version by now. The watch will tell.
    pub async fn apply(
        &self,
        session: &str,
        manager: &str,
        version: Option<u64>,
        status: Value,
    ) -> Result<bool, kube::Error> {
        let mut metadata = json!({ "name": session });
        if let Some(version) = version {
            metadata["resourceVersion"] = Value::String(version.to_string());
        }
        let patch = json!({
            "apiVersion": SparkInteractiveSession::api_version(&()),
            "kind": SparkInteractiveSession::kind(&()),
            "metadata": metadata,
            "status": status,
        });
        let params = PatchParams::apply(manager).force();
        match self.sessions.patch_status(session, &params, &Patch::Apply(patch)).await {
            Ok(written) => {
                if let Some(object) = written.into_domain() {
                    self.stores.written(object);
                }
                Ok(true)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
