//! Which Spark configuration a session starts with. Pure.
//!
//! `defaultSessionConf` of the pool < `sessionConf` of the first quota that matches the user < `sparkConf` of the
//! session < what the client itself sets when it opens the session. The last two come from users, who may not set what
//! `protectedConf` names. The client's part is not known here: `spark::thrift_open_session_conf` puts it in.

use std::collections::BTreeMap;

use crate::api::SessionPolicy;
use crate::model::{ConfRefusal, ConfSource, ProtectedConf, RefusedConf, Session, SessionConf, is_text};
use crate::plan::quota;
use crate::spark::start_conf;

/// What `session` is given by the policy of its pool and by itself.
///
/// A clone has what its parent has, by Spark itself: nothing is set in it.
///
/// One key that Spark refuses would make it refuse the session: such keys are left out and named in `refused`.
pub fn session_conf(policy: &SessionPolicy, session: &Session) -> SessionConf {
    if session.spec.cloned_from.is_some() {
        return SessionConf::default();
    }
    let mut conf =
        SessionConf { protected: ProtectedConf(policy.protected_conf.clone()), ..SessionConf::default() };
    for (asked_by, entries) in layers(policy, session) {
        for (key, value) in entries {
            let refusal = if !is_text(key) || !is_text(value) {
                Some(ConfRefusal::NotText)
            } else if start_conf::only_at_start(key) {
                Some(ConfRefusal::OnlyAtStart)
            } else if asked_by == ConfSource::Session && conf.protected.contains(key) {
                Some(ConfRefusal::Protected)
            } else {
                None
            };
            match refusal {
                Some(because) => conf.refused.push(RefusedConf { key: key.clone(), asked_by, because }),
                None => {
                    conf.set.insert(key.clone(), value.clone());
                }
            }
        }
    }
    conf
}

/// What the policy of the pool and the session itself ask for: each overrides those before.
pub fn layers<'a>(
    policy: &'a SessionPolicy,
    session: &'a Session,
) -> impl Iterator<Item = (ConfSource, &'a BTreeMap<String, String>)> {
    let spec = &session.spec;
    let quota = quota::matching(policy, &spec.user, &spec.groups);
    let of_quota = quota.map(|matched| (ConfSource::Quota, &matched.quota.session_conf));
    let of_pool = (ConfSource::Pool, &policy.default_session_conf);
    [Some(of_pool), of_quota, Some((ConfSource::Session, &spec.spark_conf))].into_iter().flatten()
}
