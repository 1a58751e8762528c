//! Ends of sessions, for the audit: told by the replica that plans, which sees each of them once.

use crate::api::SparkInteractiveSessionStatus;
use crate::model::Session;
use crate::telemetry::audit::{self, Record};

/// Tells of the end, if this status, which was just written, is one.
pub fn tell(session: &Session, status: &SparkInteractiveSessionStatus) {
    if status.state.is_finished() {
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        record(session, ready.map(|condition| &*condition.reason));
    }
}

/// Of one that was deleted before it had ended, as by `kubectl delete`.
pub fn tell_deleted(session: &Session) {
    record(session, Some("Deleted"));
}

fn record(session: &Session, reason: Option<&str>) {
    let record = Record {
        user: Some(&session.spec.user),
        pool: Some(&session.spec.pool),
        session: Some(&session.meta.name),
        reason,
        ..Record::default()
    };
    audit::record(audit::Event::SessionEnded, record);
}
