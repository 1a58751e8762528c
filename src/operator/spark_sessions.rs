//! What the operator itself does on Spark servers: it gives sessions their configuration, and closes what is left of
//! them there.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::stores::Stores;
use crate::model::ReleaseOutcome;

/// Works beside the plans, which do not wait for it: what came of it goes into the stores.
pub struct SparkSessions {
    stores: Arc<Stores>,
}

impl SparkSessions {
    pub fn new(stores: Arc<Stores>) -> Self {
        Self { stores }
    }

    pub fn prepare(
        &self,
        _session: String,
        _uid: String,
        _instance: String,
        _spark_session_id: Uuid,
        _conf: BTreeMap<String, String>,
    ) {
    }

    pub fn release(&self, session: String, uid: String, _instance: String) {
        self.stores.note_spark_side(&session, &uid, |side| side.release = Some(ReleaseOutcome::Released));
    }
}
