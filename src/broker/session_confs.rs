use std::time::Duration;

use tokio::time::Instant;

use crate::api::SessionState;
use crate::model::{Denial, DenialKind, Inventory, Opening, Session, SessionConf};
use crate::operator::Stores;
use crate::plan;

/// How long a session may take to appear here, if another replica has answered the check: less than Envoy waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// The Spark configuration of a session that is being opened.
pub async fn conf_of_opened(stores: &Stores, opening: &Opening) -> Result<SessionConf, Denial> {
    let deadline = Instant::now() + PATIENCE;
    // Subscribed before the first look, so that no change falls between look and wait.
    let mut changes = stores.changes(&opening.pool);
    loop {
        changes.mark_unchanged();
        if let Some(answer) = stores.read(|inventory| conf_of(inventory, opening)) {
            return answer;
        }
        if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
            return Err(gone(opening));
        }
    }
}

/// `None` while the session or its pool is not known here. One that has ended, or is about to, may be the predecessor, of
/// the same name, of the session that another replica found.
fn conf_of(inventory: &Inventory, opening: &Opening) -> Option<Result<SessionConf, Denial>> {
    let pool = inventory.pool(&opening.pool)?;
    let session = inventory.session(&opening.session)?;
    if ends(session) {
        return None;
    }
    if session.spec.pool != opening.pool || session.spec.user != opening.user {
        return Some(Err(gone(opening)));
    }
    Some(Ok(plan::session_conf(&pool.spec.session_policy, session)))
}

fn ends(session: &Session) -> bool {
    let status = &session.status;
    session.is_finished()
        || session.meta.deleting
        || status.state == SessionState::Terminating
        || status.released_at.is_some()
}

fn gone(opening: &Opening) -> Denial {
    let message =
        format!("Session {} in pool {} has just ended. Connect again.", opening.session, opening.pool);
    Denial::new(DenialKind::SessionClosed, message)
}

#[cfg(test)]
#[path = "session_confs_tests.rs"]
mod tests;
