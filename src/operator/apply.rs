//! Executes actions: the only writer of pools' and sessions' statuses and of SparkApplications.
//!
//! What the API server answers goes straight into the stores, so that the next plan builds on it.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};

use super::activity::Activity;
use super::apply_error::{ApplyError, NotTaken, classify, not_created, not_taken, pool_not_taken};
use super::convert::{self, Watched};
use super::endings;
use super::events::Events;
use super::leadership::Leadership;
use super::spark_sessions::SparkSessions;
use super::stores::Stores;
use super::tokens::Tokens;
use crate::api::{SparkApplication, SparkInteractiveSession, SparkSessionPool};
use crate::model::connect_server::asks_for_token;
use crate::model::{FINALIZER, Kind, Meta};
use crate::plan::{About, Action, Event};

/// Owner of the fields that the planner writes.
pub const FIELD_MANAGER: &str = "spark-session-operator";

pub struct Applier {
    pools: Api<SparkSessionPool>,
    sessions: Api<SparkInteractiveSession>,
    applications: Api<SparkApplication>,
    tokens: Tokens,
    spark_sessions: SparkSessions,
    events: Events,
    stores: Arc<Stores>,
}

impl Applier {
    pub fn new(
        client: &Client,
        namespace: &str,
        stores: Arc<Stores>,
        leadership: Leadership,
        activity: Activity,
        events: Events,
    ) -> Self {
        Self {
            pools: Api::namespaced(client.clone(), namespace),
            sessions: Api::namespaced(client.clone(), namespace),
            applications: Api::namespaced(client.clone(), namespace),
            tokens: Tokens::new(client, namespace, stores.clone()),
            spark_sessions: SparkSessions::new(stores.clone(), leadership, activity),
            events,
            stores,
        }
    }

    pub async fn apply(&self, action: Action) -> Result<(), ApplyError> {
        match action {
            Action::UpdatePoolStatus { pool, uid, status } => {
                let version = self.version(Kind::Pool, &pool, &uid)?;
                let patch = status_patch::<SparkSessionPool>(&pool, version, &json!(status));
                let written = self.pools.patch_status(&pool, &params(), &Patch::Apply(patch)).await;
                self.written(written.map_err(pool_not_taken)?);
            }
            Action::UpdatePoolCondition { pool, uid, condition } => {
                let version = self.version(Kind::Pool, &pool, &uid)?;
                // An owner of its own: the planner's list of conditions is not this one.
                let params =
                    PatchParams::apply(&format!("{FIELD_MANAGER}-{}", condition.type_.to_lowercase()));
                let status = json!({ "conditions": [condition] });
                let patch = status_patch::<SparkSessionPool>(&pool, version, &status);
                let written = self.pools.patch_status(&pool, &params.force(), &Patch::Apply(patch)).await;
                self.written(written.map_err(classify)?);
            }
            Action::UpdateSessionStatus { session, uid, status } => {
                let version = self.version(Kind::Session, &session, &uid)?;
                let before = self.stores.read(|inventory| inventory.session(&session).cloned());
                let patch = status_patch::<SparkInteractiveSession>(&session, version, &json!(status));
                let written = self.sessions.patch_status(&session, &params(), &Patch::Apply(patch)).await;
                self.written(written.map_err(|error| not_taken(error, &session, &uid, version))?);
                if let Some(before) = before.filter(|before| !before.is_finished()) {
                    endings::tell(&before, &status);
                }
            }
            Action::CreateInstance { pool, application } => self.create(&pool, &application).await?,
            Action::AdoptInstance { name, uid, owner } => self.adopt(&name, &uid, &owner).await?,
            Action::CreateToken { pool, instance, uid } => {
                self.tokens.ensure(&pool, &instance, &uid).await?;
            }
            Action::DeleteInstance { name, uid } => {
                let params = DeleteParams {
                    propagation_policy: Some(PropagationPolicy::Background),
                    ..precondition(uid)
                };
                if let Some(deleted) = gone_is_fine(self.applications.delete(&name, &params).await)? {
                    // The next plan may come before the watch, and would have it deleted, and told, once more.
                    match deleted.left() {
                        // It stays until others have let it go.
                        Some(going) => self.written(going),
                        None => self.stores.gone(Kind::Application, &name, 0),
                    }
                }
                tracing::info!(instance = name, "instance deleted");
            }
            Action::DeleteSession { name, uid } => {
                gone_is_fine(self.sessions.delete(&name, &precondition(uid)).await)?;
                tracing::info!(session = name, "ended session removed");
            }
            Action::SetFinalizer { about, hold } => self.set_finalizer(&about, hold).await?,
            Action::PrepareSpark { session, uid, instance, spark_session_id, conf } => {
                self.spark_sessions.prepare(session, uid, instance, spark_session_id, conf.0);
            }
            Action::AskSpark { session, uid, instance, asked_at } => {
                self.spark_sessions.ask(session, uid, instance, asked_at);
            }
            Action::ReleaseSpark { session, uid, instance } => {
                self.spark_sessions.release(session, uid, instance);
            }
            Action::Event(event) => self.events.tell(event),
        }
        Ok(())
    }

    async fn create(&self, pool: &str, application: &SparkApplication) -> Result<(), ApplyError> {
        let name = application.metadata.name.as_deref().unwrap_or_default();
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.applications.create(&params, application).await {
            Ok(created) => {
                let uid = created.metadata.uid.clone().unwrap_or_default();
                let asks = application.spec.fields.get("sparkConf").and_then(Value::as_object);
                let asks = asks.is_some_and(asks_for_token);
                self.written(created);
                tracing::info!(pool, instance = name, "SparkApplication created");
                // At once, though the next plan would do it: the driver cannot start without.
                if asks { self.tokens.ensure(pool, name, &uid).await } else { Ok(()) }
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                self.name_is_taken(pool, application, name).await
            }
            Err(error) => Err(not_created(error)),
        }
    }

    /// On the session itself, where its status cannot say it.
    pub fn tell_not_taken(&self, not_taken: &NotTaken) {
        let NotTaken { session, uid, message, .. } = not_taken;
        let (reason, note) = if not_taken.is_too_large {
            let note = format!(
                "The status of this session cannot be written, its object would be too large ({message}). The session goes on \
                 when its spec or its list of clients is smaller; or delete it."
            );
            ("StatusTooLarge", note)
        } else {
            let note = format!(
                "The API server does not take what the operator writes of this session ({message}). It is tried again; until then \
                 the session goes no further."
            );
            ("StatusRefused", note)
        };
        tracing::warn!(session, "{note}");
        let about = About::Session { name: session.clone(), uid: uid.clone() };
        self.events.tell(Event { about, warning: true, reason, note });
    }

    /// On the pool itself, where its status cannot say it.
    pub fn tell_pool_not_taken(&self, pool: &str, uid: &str, message: &str) {
        let note = format!(
            "The status of this pool cannot be written ({message}). Until it can, no instance is started or removed; sessions on those \
             that there are go on."
        );
        let about = About::Pool { name: pool.to_owned(), uid: uid.to_owned() };
        self.events.tell(Event { about, warning: true, reason: "StatusRefused", note });
    }

    /// Enters the instance, if it is there.
    pub async fn look_for(&self, instance: &str) -> Result<(), ApplyError> {
        if let Some(found) = self.applications.get_opt(instance).await.map_err(classify)? {
            self.written(found);
        }
        Ok(())
    }

    /// By this pool, which planned it twice, or by somebody else.
    async fn name_is_taken(
        &self,
        pool: &str,
        wanted: &SparkApplication,
        name: &str,
    ) -> Result<(), ApplyError> {
        let found = self.applications.get(name).await.map_err(classify)?;
        let owner = convert::controller(&wanted.metadata);
        if convert::controller(&found.metadata) == owner {
            self.written(found);
            return Ok(());
        }
        let note = format!(
            "SparkApplication {name} belongs to somebody else and is left alone; the instance gets the next name."
        );
        tracing::warn!(pool, instance = name, "{note}");
        let about = About::Pool { name: pool.to_owned(), uid: owner.unwrap_or_default().to_owned() };
        self.events.tell(Event { about, warning: true, reason: "NameTaken", note });
        // The status, written before, reserves its ordinal: the next plan takes the one after it.
        Err(ApplyError::Outdated(format!("the name {name} is taken")))
    }

    /// With the version: owners that somebody enters meanwhile stay.
    async fn adopt(&self, name: &str, uid: &str, owner: &OwnerReference) -> Result<(), ApplyError> {
        let found = self.applications.get(name).await.map_err(classify)?;
        if found.metadata.uid.as_deref() != Some(uid) || convert::controller(&found.metadata).is_some() {
            self.written(found);
            return Ok(());
        }
        let mut owners = found.metadata.owner_references.unwrap_or_default();
        owners.retain(|other| other.uid != owner.uid);
        owners.push(owner.clone());
        let version = found.metadata.resource_version;
        let patch =
            Patch::Merge(json!({ "metadata": { "resourceVersion": version, "ownerReferences": owners } }));
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.written(self.applications.patch(name, &params, &patch).await.map_err(classify)?);
        tracing::info!(instance = name, "SparkApplication adopted");
        Ok(())
    }

    async fn set_finalizer(&self, about: &About, hold: bool) -> Result<(), ApplyError> {
        match about {
            About::Pool { name, uid } => {
                let known = self.known(Kind::Pool, name, uid)?;
                self.written(set_finalizer(&self.pools, known, hold).await.map_err(classify)?);
                Ok(())
            }
            About::Session { name, uid } => {
                let known = self.known(Kind::Session, name, uid)?;
                let version = known.resource_version;
                let written = set_finalizer(&self.sessions, known, hold).await;
                self.written(written.map_err(|error| not_taken(error, name, uid, version))?);
                Ok(())
            }
        }
    }

    /// The version of this very object, which the API server compares; the UID in a patch of a
    /// custom resource's status it ignores.
    fn version(&self, kind: Kind, name: &str, uid: &str) -> Result<u64, ApplyError> {
        self.known(kind, name, uid).map(|meta| meta.resource_version)
    }

    fn known(&self, kind: Kind, name: &str, uid: &str) -> Result<Meta, ApplyError> {
        let known = self.stores.read(|inventory| match kind {
            Kind::Pool => inventory.pool(name).map(|pool| pool.meta.clone()),
            _ => inventory.session(name).map(|session| session.meta.clone()),
        });
        match known {
            Some(meta) if meta.uid == uid => Ok(meta),
            _ => Err(ApplyError::Outdated(format!("{name} is another object now, or gone"))),
        }
    }

    fn written<K: Watched>(&self, object: K) {
        if let Some(object) = object.into_domain() {
            self.stores.written(object);
        }
    }
}

/// Other finalizers of the object stay as they are. The list is replaced as a whole, so with the version in which they
/// are known.
async fn set_finalizer<K>(api: &Api<K>, known: Meta, hold: bool) -> Result<K, kube::Error>
where
    K: Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut finalizers = known.other_finalizers;
    finalizers.extend(hold.then(|| FINALIZER.to_owned()));
    let metadata = json!({ "resourceVersion": known.resource_version.to_string(), "finalizers": finalizers });
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&known.name, &params, &patch).await
}

fn params() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// With the version, a namesake that was created meanwhile is not touched: the API server answers 409.
fn status_patch<K: Resource<DynamicType = ()>>(
    name: &str,
    version: u64,
    status: &serde_json::Value,
) -> serde_json::Value {
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name, "resourceVersion": version.to_string() },
        "status": status,
    })
}

fn precondition(uid: String) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
        ..DeleteParams::default()
    }
}

fn gone_is_fine<T>(result: Result<T, kube::Error>) -> Result<Option<T>, ApplyError> {
    match result.map_err(classify) {
        Ok(answer) => Ok(Some(answer)),
        Err(ApplyError::Outdated(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
