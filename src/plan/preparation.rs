//! Whether Connect sessions have their configuration on the servers that they were assigned to. Thrift sessions get it
//! when they are opened, and are nothing to this module.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::sessions::Drafts;
use super::{Action, Plan, session_conf};
use crate::api::{ConfStatus, RefusedConfStatus, SessionState};
use crate::model::{
    AppliedConf, ConfToSet, Instance, InstancePhase, Progress, Protocol, Session, SessionConf, SparkSide,
};

/// How a Connect session stands with its configuration, where that is not what its status says.
pub(super) struct Setup {
    /// The Spark sessions that may be used.
    pub prepared: Vec<String>,
    pub conf: Option<ConfStatus>,
    /// In words, while none of them may be used yet.
    pub preparing: Option<String>,
}

impl Drafts<'_> {
    /// Has the configuration set where it is not, and notes what may be used.
    pub fn prepare(&mut self, plan: &mut Plan) {
        if self.view.pool.protocol() != Protocol::Connect {
            return;
        }
        let policy = &self.view.pool.spec.session_policy;
        for draft in self.drafts.iter_mut().filter(|draft| draft.goes_on()) {
            let instance = draft.instance.and_then(|name| self.instances.get(name).copied());
            let Some(instance) = instance.filter(|instance| serves(instance)) else { continue };
            let session = draft.session;
            let side = self.view.spark_sides.get(&session.meta.uid);
            let told = &session.status.prepared_session_ids;
            let ids = to_prepare(session);
            if told.len() == ids.len() && ids.iter().all(|id| session.is_prepared(*id)) {
                continue;
            }
            let conf = session_conf(policy, session);
            let setup = set_up(session, instance, side, &ids, &conf);
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
            let waits = draft.state == SessionState::Pending;
            draft.setup = Some(Setup { preparing: setup.preparing.filter(|_| waits), ..setup });
        }
    }
}

/// Whether sessions can be set up on it.
pub fn serves(instance: &Instance) -> bool {
    matches!(instance.phase, InstancePhase::Ready | InstancePhase::Draining)
}

/// The Spark sessions of a session that clients may use. A client of a named session that comes with the session's own
/// id is listed among its clients.
fn to_prepare(session: &Session) -> Vec<Uuid> {
    match session.spec.name {
        Some(_) => session.status.client_session_ids.iter().filter_map(|id| id.parse().ok()).collect(),
        None => session.spark_session_id().into_iter().collect(),
    }
}

fn set_up(
    session: &Session,
    instance: &Instance,
    side: Option<&SparkSide>,
    ids: &[Uuid],
    conf: &SessionConf,
) -> Setup {
    let cluster = instance.cluster();
    let none = BTreeMap::new();
    let known = side.map_or(&none, |side| &side.prepared);
    let mut prepared = Vec::new();
    let mut failing = None;
    let mut applied = AppliedConf::default();
    for id in ids {
        let here = known.get(id).filter(|known| cluster.as_ref() == Some(&known.cluster));
        match here.map(|known| &known.progress) {
            Some(Progress::Done(done)) => {
                applied = done.clone();
                prepared.push(id.to_string());
            }
            _ if conf.set.is_empty() || session.is_prepared(*id) => prepared.push(id.to_string()),
            Some(Progress::Failing(reason)) => failing = Some(reason),
            None => {}
        }
    }
    let name = &instance.name;
    let preparing = (prepared.is_empty() && !ids.is_empty()).then(|| match failing {
        Some(reason) => {
            let reason = reason.trim_end_matches('.');
            format!("Setting its configuration on instance {name} failed: {reason}; trying again.")
        }
        None => format!("Its configuration is being set on instance {name}."),
    });
    let first = session.status.conf.clone();
    let conf = if preparing.is_some() { None } else { first.or_else(|| conf_status(conf, applied)) };
    Setup { prepared, conf, preparing }
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
