//! Plans, carried out on the objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{ADDRESS, Cluster};
use crate::api::{SparkApplication, SparkInteractiveSessionStatus};
use crate::model::{
    AppliedConf, Kind, Preparation, Progress, ReleaseOutcome, RunningAnswer, SparkRuns, SparkSide,
};
use crate::plan::{About, Action, Objection, Plan, Refusal};
use crate::simulate::carried::{Carried, Event, SessionChange};
use crate::simulate::clock::{self, Second};
use crate::simulate::world::WorldError;

impl Cluster {
    /// Does what the plan says, in its order.
    pub fn carry_out(&mut self, plan: Plan, now: Second) -> Result<Carried, WorldError> {
        let mut carried = Carried::default();
        for action in plan.actions {
            let name = action.name();
            let impossible = |why: String| WorldError::Impossible { at: clock::text(now), action: name, why };
            if !self.apply(action, now, &mut carried).map_err(impossible)? {
                // The reconciler goes on with what does not depend on it; here the next plan has that again.
                break;
            }
        }
        Ok(carried)
    }

    /// `false`: the API server refuses it.
    fn apply(&mut self, action: Action, now: Second, carried: &mut Carried) -> Result<bool, String> {
        match action {
            Action::UpdatePoolStatus { status, .. } => self.change(|pool| pool.status = *status),
            Action::CreateInstance { application, .. } => {
                if let Some(message) = self.refuses.clone() {
                    let generation = self.inventory.pool(&self.pool).map_or(0, |pool| pool.meta.generation);
                    let at = clock::timestamp(now);
                    self.observations.refusal =
                        Some(Refusal { generation, at, objection: Objection::Template, message });
                    return Ok(false);
                }
                self.observations.refusal = None;
                carried.created.push(self.create_instance(*application, now)?);
            }
            // All here were created by this pool.
            Action::AdoptInstance { .. } => {}
            Action::CreateToken { instance, .. } => self.put_token(&instance, now),
            Action::DeleteInstance { name, .. } => {
                let deleted = |it: &mut SparkApplication| {
                    it.metadata.deletion_timestamp = Some(Time(clock::timestamp(now)));
                };
                self.change_application(&name, deleted).map_err(|error| error.to_string())?;
                carried.deleted.push(name);
            }
            Action::UpdateSessionStatus { session, status, .. } => {
                let old = self.inventory.session(&session).ok_or("the session is not there")?;
                carried.sessions.push(SessionChange::between(&session, &old.status, &status));
                self.change_session(&session, |session| session.status = merged(&session.status, *status));
                self.sweep(&session);
            }
            Action::DeleteSession { name, .. } => {
                self.change_session(&name, |session| session.meta.deleting = true);
                self.sweep(&name);
            }
            Action::SetFinalizer { about: About::Pool { .. }, hold } => {
                self.change(|pool| pool.meta.held = hold);
                self.collect_garbage(now, carried);
            }
            Action::SetFinalizer { about: About::Session { name, .. }, hold } => {
                self.change_session(&name, |session| session.meta.held = hold);
                self.sweep(&name);
            }
            Action::PrepareSpark { session, uid, instance, spark_session_id, conf } => {
                let cluster = self.instance(&instance).and_then(|instance| instance.cluster());
                let cluster = cluster.ok_or("the instance has no address")?;
                let applied = conf.0.into_keys().collect();
                let progress = Progress::Done(AppliedConf { applied, refused: Vec::new() });
                self.inventory.note_spark_side(&session, &uid, |side: &mut SparkSide| {
                    side.prepared.insert(spark_session_id, Preparation { cluster, progress });
                });
            }
            // Here a session is used as long as anything runs in it.
            Action::AskSpark { session, uid, asked_at, .. } => {
                self.inventory.note_spark_side(&session, &uid, |side: &mut SparkSide| {
                    side.running = Some(RunningAnswer { asked_at, runs: SparkRuns::Nothing });
                });
            }
            Action::ReleaseSpark { session, uid, .. } => {
                self.inventory.note_spark_side(&session, &uid, |side: &mut SparkSide| {
                    side.release = Some(ReleaseOutcome::Released);
                });
            }
            Action::Event(event) => carried.events.extend(Event::of_pool(event, ADDRESS)),
            // What the planner does not propose today.
            _ => return Err("it is unknown here".to_owned()),
        }
        Ok(true)
    }

    /// A deleted pool that nobody holds is gone, and with it what it owns.
    fn collect_garbage(&mut self, now: Second, carried: &mut Carried) {
        let pool = self.inventory.pool(&self.pool);
        if pool.is_some_and(|pool| pool.meta.deleting && !pool.meta.held) {
            self.inventory.remove(Kind::Pool, &self.pool);
            for application in self.applications.values_mut() {
                application.metadata.deletion_timestamp = Some(Time(clock::timestamp(now)));
                carried.deleted.push(application.name_any());
            }
        }
    }

    fn create_instance(&mut self, mut application: SparkApplication, now: Second) -> Result<String, String> {
        let name = application.name_any();
        if self.applications.contains_key(&name) {
            return Err(format!("{name} exists already"));
        }
        self.version += 1;
        let metadata = &mut application.metadata;
        metadata.uid = Some(format!("{name}-uid-{}", self.version));
        metadata.generation = Some(1);
        metadata.creation_timestamp = Some(Time(clock::timestamp(now)));
        self.put_token(&name, now);
        self.put_application(application);
        // The Spark Operator takes seconds for that, which are part of the time that the instance starts.
        self.set_state(&name, "SUBMITTED", None).map_err(|error| error.to_string())?;
        Ok(name)
    }
}

/// The planner's fields from its status, the others as they are.
fn merged(
    old: &SparkInteractiveSessionStatus,
    new: SparkInteractiveSessionStatus,
) -> SparkInteractiveSessionStatus {
    SparkInteractiveSessionStatus {
        session_id: new.session_id.clone().or_else(|| old.session_id.clone()),
        last_activity_at: old.last_activity_at.clone(),
        released_at: old.released_at.clone(),
        client_session_ids: old.client_session_ids.clone(),
        cloned_session_ids: old.cloned_session_ids.clone(),
        connections: old.connections.clone(),
        client_connections: old.client_connections.clone(),
        disconnected_at: old.disconnected_at.clone(),
        disconnect_cause: old.disconnect_cause,
        ..new
    }
}
