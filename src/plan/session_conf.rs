//! Which Spark configuration a session starts with. Pure.
//!
//! `defaultSessionConf` of the pool < `sessionConf` of the first quota that matches the user < `sparkConf` of the
//! session < what the client itself sets when it opens the session. The last two come from users, who may not set what
//! `protectedConf` names. The client's part is not known here: `spark::thrift_open_session_conf` puts it in.

use crate::api::SessionPolicy;
use crate::model::{ConfRefusal, ConfSource, ProtectedConf, RefusedConf, Session, SessionConf, is_text};
use crate::plan::quota;
use crate::spark::start_conf;

/// What `session` is given by the policy of its pool and by itself.
///
/// One key that Spark refuses would make it refuse the session: such keys are left out and named in `refused`.
pub fn session_conf(policy: &SessionPolicy, session: &Session) -> SessionConf {
    let spec = &session.spec;
    let mut conf =
        SessionConf { protected: ProtectedConf(policy.protected_conf.clone()), ..SessionConf::default() };
    let quota = quota::matching(policy, &spec.user, &spec.groups);
    let layers = [
        (ConfSource::Pool, Some(&policy.default_session_conf)),
        (ConfSource::Quota, quota.map(|matched| &matched.quota.session_conf)),
        (ConfSource::Session, Some(&spec.spark_conf)),
    ];
    for (asked_by, entries) in layers {
        for (key, value) in entries.into_iter().flatten() {
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
