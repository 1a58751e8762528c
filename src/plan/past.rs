//! No time in a status lies in the future.
//!
//! A leader, a replica or an Envoy whose clock was ahead may have written one. Believed, it would keep the pool from starting
//! instances, from shrinking and from ending sessions until that time comes. It counts as now instead, from the first plan that
//! reads it: what the planner owns is written anew, so that time goes on from there. A difference of a few seconds, as between
//! replicas, costs one write at most.
//!
//! Not here: times that the API server (`creationTimestamp`) and the kubelet give, which are no word of this operator's, and what is
//! in the future by its meaning (`wait.expectedAt`).

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions::seconds;
use crate::api::{SparkInteractiveSessionStatus, SparkSessionPoolStatus};
use crate::model::{PoolView, Session};

/// All times of a pool's status.
macro_rules! of_pool {
    ($status:expr, $iter:ident, $as:ident $(, $mut:ident)?) => {{
        let status = $status;
        let own = [status.last_scale_time.$as(), status.last_failure_time.$as(), status.last_failed_start_time.$as()];
        let instances = status.instances.$iter().flat_map(|it| {
            let drain = it.drain.$as().map(|drain| & $($mut)? drain.since);
            [it.created_at.$as(), it.ready_at.$as(), drain]
        });
        let scale_down = status.scale_down.$as().map(|window| & $($mut)? window.since);
        let conditions = status.conditions.$iter().map(|it| & $($mut)? it.last_transition_time);
        own.into_iter().chain([scale_down]).chain(instances).flatten().chain(conditions)
    }};
}

/// All times of a session's status but its creation's.
macro_rules! of_session {
    ($status:expr, $iter:ident, $as:ident $(, $mut:ident)?) => {{
        let status = $status;
        let own = [
            status.last_activity_at.$as(),
            status.disconnected_at.$as(),
            status.released_at.$as(),
            status.finished_at.$as(),
            status.wait.$as().map(|wait| & $($mut)? wait.as_of),
        ];
        let failures = status.setup_failures.$iter().map(|it| & $($mut)? it.since);
        let conditions = status.conditions.$iter().map(|it| & $($mut)? it.last_transition_time);
        own.into_iter().flatten().chain(failures).chain(conditions)
    }};
}

pub(super) fn times_of_pool(status: &mut SparkSessionPoolStatus) -> impl Iterator<Item = &mut Time> {
    of_pool!(status, iter_mut, as_mut, mut)
}

pub(super) fn times_of_session(
    status: &mut SparkInteractiveSessionStatus,
) -> impl Iterator<Item = &mut Time> {
    of_session!(status, iter_mut, as_mut, mut)
}

/// The view with all times of its statuses, and those of the uses that were seen, at `now` or before.
pub fn in_the_past(view: &PoolView, now: Timestamp) -> Cow<'_, PoolView> {
    let mut capped = Cow::Borrowed(view);
    if of_pool!(&view.pool.status, iter, as_ref).any(|time| now < time.0) {
        let pool = Arc::make_mut(&mut capped.to_mut().pool);
        times_of_pool(&mut pool.status).for_each(|time| cap(time, now));
    }
    for (n, session) in view.sessions.iter().enumerate() {
        if let Cow::Owned(session) = session_in_the_past(session, now) {
            capped.to_mut().sessions[n] = Arc::new(session);
        }
    }
    if view.activity.values().any(|used| now < *used) {
        capped.to_mut().activity.values_mut().for_each(|used| *used = now.min(*used));
    }
    capped
}

/// The same of one session.
pub fn session_in_the_past(session: &Session, now: Timestamp) -> Cow<'_, Session> {
    let mut capped = Cow::Borrowed(session);
    if of_session!(&session.status, iter, as_ref).any(|time| now < time.0) {
        times_of_session(&mut capped.to_mut().status).for_each(|time| cap(time, now));
    }
    // It is the API server's word, copied.
    let latest = now.max(session.meta.created_at);
    if session.status.created_at.as_ref().is_some_and(|at| latest < at.0) {
        capped.to_mut().status.created_at = Some(seconds(latest));
    }
    capped
}

fn cap(time: &mut Time, now: Timestamp) {
    if now < time.0 {
        *time = seconds(now);
    }
}
