//! Sessions and pools whose objects are gone, so that their clients hear why.
//!
//! Not a history: the last few thousand, in memory. Whoever comes later hears only that the session is not known.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::model::{Pool, Protocol, Session, SessionKey};

/// Sessions of one generation, or pools. When it is full, the one before is forgotten.
const GENERATION: usize = 5_000;

#[derive(Debug, Default)]
pub(super) struct Departed {
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    by_spark_id: HashMap<Uuid, Arc<Session>>,
    by_name: HashMap<SessionKey, Arc<Session>>,
    /// Names of pools.
    by_host: HashMap<(String, Protocol), String>,
}

impl Departed {
    /// Without its configuration, which may have a megabyte.
    pub fn enter(&mut self, session: &Arc<Session>) {
        self.age();
        let mut session = Session::clone(session);
        session.spec.spark_conf.clear();
        let session = &Arc::new(session);
        for id in session.spark_session_ids() {
            self.young.by_spark_id.insert(id, Arc::clone(session));
        }
        self.young
            .by_name
            .insert(named(&session.spec.pool, &session.spec.user, session.called()), Arc::clone(session));
    }

    pub fn enter_pool(&mut self, pool: &Pool) {
        self.age();
        self.young.by_host.insert((pool.spec.host.clone(), pool.protocol()), pool.meta.name.clone());
    }

    fn age(&mut self) {
        let Generation { by_spark_id, by_name, by_host } = &self.young;
        if by_spark_id.len().max(by_name.len()).max(by_host.len()) >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
    }

    pub fn pool_at(&self, host: &str, protocol: Protocol) -> Option<&str> {
        let key = (host.to_owned(), protocol);
        self.young.by_host.get(&key).or_else(|| self.old.by_host.get(&key)).map(String::as_str)
    }

    pub fn with_spark_id(&self, id: Uuid) -> Option<&Arc<Session>> {
        self.young.by_spark_id.get(&id).or_else(|| self.old.by_spark_id.get(&id))
    }

    pub fn named(&self, pool: &str, user: &str, name: &str) -> Option<&Arc<Session>> {
        let key = named(pool, user, name);
        self.young.by_name.get(&key).or_else(|| self.old.by_name.get(&key))
    }
}

fn named(pool: &str, user: &str, name: &str) -> SessionKey {
    SessionKey::Named { pool: pool.to_owned(), user: user.to_owned(), name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixtures::{session, thrift_pool};

    #[test]
    fn a_session_is_found_by_each_of_its_ids_and_by_its_name() {
        let mut departed = Departed::default();
        let mut etl = session("s").named("etl").with_spark_id(Uuid::from_u128(7));
        etl.status.client_session_ids = vec![Uuid::from_u128(8).to_string()];
        etl.spec.spark_conf.insert("spark.sql.a".to_owned(), "b".to_owned());
        departed.enter(&Arc::new(etl));
        for id in [7, 8] {
            let found = departed.with_spark_id(Uuid::from_u128(id)).unwrap();
            assert!(found.name() == "s" && found.spec.spark_conf.is_empty());
        }
        assert!(departed.with_spark_id(Uuid::from_u128(9)).is_none());
        assert_eq!(departed.named("p", "alice", "etl").unwrap().name(), "s");
        assert!(departed.named("p", "bob", "etl").is_none());
    }

    #[test]
    fn a_pool_is_found_by_its_host_and_type() {
        let mut departed = Departed::default();
        departed.enter_pool(&thrift_pool("p").with_host("h"));
        departed.enter_pool(&thrift_pool("q").with_host("h"));
        assert_eq!(departed.pool_at("h", Protocol::Thrift), Some("q"), "the last one");
        assert_eq!(departed.pool_at("h", Protocol::Connect), None);
        for n in 0..2 * GENERATION {
            departed.enter_pool(&thrift_pool("p").with_host(&format!("h{n}")));
        }
        assert_eq!(departed.pool_at("h", Protocol::Thrift), None, "long ago");
    }

    #[test]
    fn the_oldest_are_forgotten_and_the_last_of_a_name_counts() {
        let mut departed = Departed::default();
        for n in 0..3 * GENERATION {
            departed.enter(&Arc::new(session(&format!("s{n}")).with_spark_id(Uuid::from_u128(n as u128))));
        }
        assert!(departed.with_spark_id(Uuid::from_u128(0)).is_none());
        let last = 3 * GENERATION - 1;
        assert!(departed.with_spark_id(Uuid::from_u128(last as u128)).is_some());
        assert_eq!(departed.named("p", "alice", "default").unwrap().name(), format!("s{last}"));
    }
}
