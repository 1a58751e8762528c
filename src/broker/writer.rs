//! Session objects in Kubernetes: the broker is the only one that creates them.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use uuid::Uuid;

use super::decide::Draft;
use crate::api::{SparkInteractiveSession, ThriftConnection};
use crate::model::{FINALIZER, Session};
use crate::operator::{FIELD_MANAGER, SessionPatch, Stores, Watched};
use crate::telemetry::audit::{self, Event, Record};

/// Owners of the fields of a session's status that the planner does not write: `sessionId`, `releasedAt`,
/// `clientSessionIds` with `clonedSessionIds`, and `connections`. One each, since an owner who leaves out a field that it wrote before removes it.
const CLAIM_MANAGER: &str = "spark-session-operator-claim";
const RELEASE_MANAGER: &str = "spark-session-operator-release";
const CLIENTS_MANAGER: &str = "spark-session-operator-clients";
const CONNECTIONS_MANAGER: &str = "spark-session-operator-connections";

/// Of a write that others come before.
pub(super) const ATTEMPTS: usize = 10;

#[derive(Clone)]
pub struct SessionWriter {
    sessions: Api<SparkInteractiveSession>,
    patch: SessionPatch,
    stores: Arc<Stores>,
}

impl SessionWriter {
    pub fn new(client: &Client, namespace: &str, stores: Arc<Stores>) -> Self {
        let patch = SessionPatch::new(client, namespace, stores.clone());
        Self { sessions: Api::namespaced(client.clone(), namespace), patch, stores }
    }

    /// Creates the session, in place of the ended one with the UID `replaces`. Nothing is left to do if the last caller
    /// did so after this one looked.
    pub async fn ensure(
        &self,
        draft: &Draft,
        replaces: Option<&str>,
        client: Option<IpAddr>,
    ) -> Result<(), kube::Error> {
        let uid = |session: &Arc<Session>| session.meta.uid.clone();
        match self.stores.read(|inventory| inventory.session(&draft.name).map(uid)) {
            Some(uid) if replaces == Some(&uid) => self.delete(&draft.name, &uid).await?,
            Some(_) => return Ok(()),
            None => {}
        }
        self.create(draft, client).await
    }

    /// Creates the session, or adopts the one that another replica created at the same time.
    async fn create(&self, draft: &Draft, client: Option<IpAddr>) -> Result<(), kube::Error> {
        let mut session = SparkInteractiveSession::new(&draft.name, draft.spec.clone());
        session.metadata = ObjectMeta {
            name: Some(draft.name.clone()),
            labels: Some([(crate::plan::POOL_LABEL.to_owned(), draft.spec.pool.clone())].into()),
            // The planner would put it there, with one write more.
            finalizers: Some(vec![FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        };
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.sessions.create(&params, &session).await {
            Ok(created) => {
                tracing::info!(
                    session = draft.name,
                    user = draft.spec.user,
                    pool = draft.spec.pool,
                    "session created"
                );
                let record = Record {
                    user: Some(&draft.spec.user),
                    pool: Some(&draft.spec.pool),
                    session: Some(&draft.name),
                    address: client,
                    ..Record::default()
                };
                audit::record(Event::SessionCreated, record);
                self.written(created);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes this very object; a namesake that took its place stays.
    pub async fn delete(&self, name: &str, uid: &str) -> Result<(), kube::Error> {
        let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match self.sessions.delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives a session its Spark session id, unless it has changed since it was looked at: then
    /// the caller looks again.
    pub async fn claim(
        &self,
        name: &str,
        resource_version: u64,
        session_id: Uuid,
        client: Option<IpAddr>,
    ) -> Result<(), kube::Error> {
        let status = json!({ "sessionId": session_id.to_string() });
        if self.patch.apply(name, CLAIM_MANAGER, Some(resource_version), status).await? {
            tracing::info!(session = name, %session_id, "session claimed");
            let session = self.stores.read(|inventory| inventory.session(name).cloned());
            let spec = session.as_ref().map(|session| &session.spec);
            let record = Record {
                // A session is claimed by its own user only.
                user: spec.map(|spec| &*spec.user),
                pool: spec.map(|spec| &*spec.pool),
                session: Some(name),
                address: client,
                ..Record::default()
            };
            audit::record(Event::SessionClaimed, record);
            Ok(())
        } else {
            self.refresh_one(name).await
        }
    }

    pub(super) fn known(&self, name: &str) -> Option<Arc<Session>> {
        self.stores.read(|inventory| inventory.session(name).cloned())
    }

    /// Replaces the clients of this very version of the session, and those of them that are clones. Whether it was
    /// written: not if the session is gone or has changed.
    pub(super) async fn set_clients(
        &self,
        session: &Session,
        clients: &[String],
        clones: &[String],
    ) -> Result<bool, kube::Error> {
        let version = Some(session.meta.resource_version);
        let status = json!({ "clientSessionIds": clients, "clonedSessionIds": clones });
        self.patch.apply(session.name(), CLIENTS_MANAGER, version, status).await
    }

    /// Replaces the connections of this very version of the session. Whether it was written: not if the session is gone
    /// or has changed.
    pub(super) async fn set_connections(
        &self,
        session: &Session,
        connections: &[ThriftConnection],
    ) -> Result<bool, kube::Error> {
        let version = Some(session.meta.resource_version);
        let status = json!({ "connections": connections });
        self.patch.apply(session.name(), CONNECTIONS_MANAGER, version, status).await
    }

    /// Learns what the API server has of the session.
    pub(super) async fn refresh_one(&self, name: &str) -> Result<(), kube::Error> {
        if let Some(session) = self.sessions.get_opt(name).await? {
            self.written(session);
        }
        Ok(())
    }

    /// Learns the sessions of a user that the watch has not shown yet.
    pub async fn refresh(&self, pool: &str, user: &str) -> Result<(), kube::Error> {
        let pool_label = format!("{}={pool}", crate::plan::POOL_LABEL);
        let params = match selectable(user) {
            true => ListParams::default().fields(&format!("spec.pool={pool},spec.user={user}")),
            false => ListParams::default().labels(&pool_label),
        };
        for session in self.sessions.list(&params).await? {
            self.written(session);
        }
        Ok(())
    }

    /// Notes that the client has ended the session; the planner draws the consequences.
    pub async fn release(&self, name: &str, at: Timestamp) -> Result<(), kube::Error> {
        let status = json!({ "releasedAt": Time(at) });
        if self.patch.apply(name, RELEASE_MANAGER, None, status).await? {
            tracing::info!(session = name, "session released by its client");
        }
        Ok(())
    }

    /// The same, if `over` holds of the session as it is in that moment.
    pub(super) async fn release_if(
        &self,
        name: &str,
        at: Timestamp,
        over: impl Fn(&Session) -> bool,
    ) -> Result<(), kube::Error> {
        for _ in 0..ATTEMPTS {
            let session = self.stores.read(|inventory| inventory.session(name).cloned());
            let Some(session) = session.filter(|session| over(session)) else { return Ok(()) };
            let version = Some(session.meta.resource_version);
            let status = json!({ "releasedAt": Time(at) });
            if self.patch.apply(name, RELEASE_MANAGER, version, status).await? {
                tracing::info!(session = name, "session released by its last client");
                return Ok(());
            }
            self.refresh_one(name).await?;
        }
        tracing::warn!(session = name, "the end of a session that others change all the time is not noted");
        Ok(())
    }

    fn written(&self, session: SparkInteractiveSession) {
        if let Some(object) = session.into_domain() {
            self.stores.written(object);
        }
    }
}

/// A field selector splits at commas and equals signs, and there is no way to write one in it that all servers read.
fn selectable(user: &str) -> bool {
    !user.contains([',', '=', '\\', '!'])
}
