//! Whether Connect sessions have their configuration on the servers that they were assigned to. Thrift sessions get it
//! when they are opened, and are nothing to this module.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::conditions::seconds;
use super::endings::after;
use super::sessions::Drafts;
use super::waiting::{MORE, clause, patience};
use super::{Action, Plan, session_conf};
use crate::api::{ConfStatus, RefusedConfStatus, SessionState, SetupFailure};
use crate::model::{
    AppliedConf, ConfToSet, Instance, InstancePhase, PoolView, Progress, Protocol, Session, SessionConf,
    SparkSide,
};

/// How a Connect session stands with its configuration, where that is not what its status says.
pub(super) struct Setup {
    /// The Spark sessions that may be used.
    pub prepared: Vec<String>,
    pub conf: Option<ConfStatus>,
    /// In words, while none of them may be used yet.
    pub preparing: Option<String>,
    /// Those that may not be used, of a session that is in use otherwise.
    pub failures: Vec<SetupFailure>,
}

impl Setup {
    /// Why the session is at its end: a client has waited for it long enough, and it has no other.
    pub fn in_vain(&self, session: &Session) -> Option<&str> {
        let failure = self.failures.iter().find(|failure| failure.gave_up)?;
        session.spec.name.is_none().then_some(&failure.message)
    }
}

impl Drafts<'_> {
    /// Has the configuration set where it is not, and notes what may be used.
    pub fn prepare(&mut self, plan: &mut Plan) {
        if self.view.pool.protocol() != Protocol::Connect {
            return;
        }
        let (view, now) = (self.view, self.now);
        let policy = &view.pool.spec.session_policy;
        for draft in self.drafts.iter_mut().filter(|draft| draft.goes_on()) {
            let instance = draft.instance.and_then(|name| self.instances.get(name).copied());
            let Some(instance) = instance.filter(|instance| serves(instance)) else { continue };
            let session = draft.session;
            let side = view.spark_sides.get(&session.meta.uid);
            let told = &session.status;
            let ids = to_prepare(session);
            let all = told.prepared_session_ids.len() == ids.len();
            if all && told.setup_failures.is_empty() && ids.iter().all(|id| session.is_prepared(*id)) {
                continue;
            }
            let conf = session_conf(policy, session);
            let mut setup = set_up(session, instance, side, &ids, &conf, now);
            // As long as the status does not name the instance, nothing is done for the session there.
            if session.status.assigned_instance.as_ref() == Some(&instance.name) {
                let prepared = |id: &Uuid| setup.prepared.contains(&id.to_string());
                plan.actions.extend(ids.iter().filter(|id| !prepared(id)).map(|id| Action::PrepareSpark {
                    session: session.meta.name.clone(),
                    uid: session.meta.uid.clone(),
                    instance: instance.name.clone(),
                    spark_session_id: *id,
                    conf: ConfToSet(conf.set.clone()),
                }));
            }
            if draft.state == SessionState::Pending {
                // The whole session waits, and says so itself.
                setup.failures.clear();
            } else {
                setup.preparing = None;
                for failure in setup.failures.iter_mut().filter(|failure| !failure.gave_up) {
                    give_up_when_due(failure, view, now, plan);
                }
            }
            draft.setup = Some(setup);
        }
    }
}

/// Ends the patience of the client that waits for the Spark session. A status that says so stays as it is until the
/// configuration is set.
fn give_up_when_due(failure: &mut SetupFailure, view: &PoolView, now: Timestamp, plan: &mut Plan) {
    let patience = patience(&view.pool.spec.session_policy);
    let deadline = after(failure.since.0, patience);
    if now < deadline {
        return plan.wake_at(deadline);
    }
    let (id, pool, cause) = (&failure.session_id, view.pool.name(), clause(&failure.message));
    failure.gave_up = true;
    failure.message = format!(
        "Spark session {id} was not set up in pool {pool} within {} s: {cause}. {MORE}",
        patience.as_secs()
    );
}

/// Whether sessions can be set up on it.
pub fn serves(instance: &Instance) -> bool {
    matches!(instance.phase, InstancePhase::Ready | InstancePhase::Draining)
}

/// The Spark sessions of a session that clients may use. A client of a named session that comes with the session's own
/// id is listed among its clients. Clones have their configuration from their original, and cannot be made any more where
/// something was set for their id.
fn to_prepare(session: &Session) -> Vec<Uuid> {
    let status = &session.status;
    match session.spec.name {
        Some(_) => {
            let clients =
                status.client_session_ids.iter().filter(|id| !status.cloned_session_ids.contains(id));
            clients.filter_map(|id| id.parse().ok()).collect()
        }
        None => session.spark_session_id().into_iter().collect(),
    }
}

fn set_up(
    session: &Session,
    instance: &Instance,
    side: Option<&SparkSide>,
    ids: &[Uuid],
    conf: &SessionConf,
    now: Timestamp,
) -> Setup {
    let cluster = instance.cluster();
    let none = BTreeMap::new();
    let known = side.map_or(&none, |side| &side.prepared);
    let (mut prepared, mut failures) = (Vec::new(), Vec::new());
    let mut applied = AppliedConf::default();
    for id in ids {
        let here = known.get(id).filter(|known| cluster.as_ref() == Some(&known.cluster));
        match here.map(|known| &known.progress) {
            Some(Progress::Done(done)) => {
                applied = done.clone();
                prepared.push(id.to_string());
            }
            _ if conf.set.is_empty() || session.is_prepared(*id) => prepared.push(id.to_string()),
            Some(Progress::Failing(reason)) => {
                let told = session.setup_failure(*id);
                failures.push(told.filter(|told| told.gave_up).cloned().unwrap_or_else(|| SetupFailure {
                    session_id: id.to_string(),
                    since: told.map_or_else(|| seconds(now), |told| told.since.clone()),
                    message: failed(&instance.name, reason),
                    gave_up: false,
                }));
            }
            // An earlier leader has tried.
            None => failures.extend(session.setup_failure(*id).cloned()),
        }
    }
    let preparing = (prepared.is_empty() && !ids.is_empty()).then(|| match failures.last() {
        Some(failure) => failure.message.clone(),
        None => format!("Its configuration is being set on instance {}.", instance.name),
    });
    let first = session.status.conf.clone();
    let conf = if preparing.is_some() { None } else { first.or_else(|| conf_status(conf, applied)) };
    Setup { prepared, conf, preparing, failures }
}

fn failed(instance: &str, reason: &str) -> String {
    let reason = reason.trim_end_matches('.');
    format!("Setting its configuration on instance {instance} failed: {reason}; trying again.")
}

/// What a status says of configuration, in bytes. The API server takes no object above 1.5 MiB, and a session's own
/// `sparkConf` may need almost all of it: a status that repeats it could never be written.
const CONF_STATUS: usize = 16 * 1024;

/// `None` where nobody asks for anything.
fn conf_status(conf: &SessionConf, applied: AppliedConf) -> Option<ConfStatus> {
    let by_policy = conf.refused.iter().map(|refused| RefusedConfStatus {
        key: refused.key.escape_debug().to_string(),
        reason: refused.to_string(),
    });
    let by_spark = applied.refused.into_iter().map(|(key, reason)| RefusedConfStatus { key, reason });
    let (mut left, mut unlisted) = (CONF_STATUS, 0);
    let mut fits = |bytes: usize| {
        let fits = bytes <= left;
        if fits {
            left -= bytes;
        } else {
            unlisted += 1;
        }
        fits
    };
    // First of all what somebody may miss.
    let refused: Vec<_> =
        by_policy.chain(by_spark).filter(|it| fits(it.key.len() + it.reason.len())).collect();
    let applied: Vec<_> = applied.applied.into_iter().filter(|key| fits(key.len())).collect();
    let unlisted = (unlisted > 0).then_some(unlisted);
    let status = ConfStatus { applied, refused, unlisted };
    (status != ConfStatus::default()).then_some(status)
}
