//! At most one creation of a session at a time in this replica: a notebook's first calls come together, and each would
//! send the API server the same object. Whoever comes meanwhile hears the outcome, a failure as well.
//!
//! Nor are more sessions created at the same time than their user and their pool have room for: those that come too many
//! would leave an object each that only says so.
//!
//! Not here: other replicas. Names are deterministic, so the API server lets one of them create the session and the
//! others adopt it, and the planner refuses
//! what is one too many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use jiff::Timestamp;

use super::decide::{Draft, counts};
use super::detached;
use super::writer::SessionWriter;
use crate::model::{Denial, Session};
use crate::operator::Stores;
use crate::plan::quota;

type Flight = Shared<BoxFuture<'static, Result<(), Denial>>>;

/// The session's name and its user: a failure may be about the user, and another one may present the same id.
type Key = (String, String);

/// What came of it.
pub enum Created {
    /// There is an object of that name.
    Done,
    /// Nothing: another creation stood in the way, and has come to its end, or has taken the last place meanwhile.
    LookAgain,
}

pub struct Creations {
    writer: SessionWriter,
    stores: Arc<Stores>,
    under_way: Arc<Mutex<HashMap<Key, UnderWay>>>,
}

struct UnderWay {
    pool: String,
    flight: Flight,
}

enum Turn {
    Now(Flight),
    After(Flight),
    /// The places were taken after somebody looked.
    Never,
}

impl Creations {
    pub fn new(writer: SessionWriter, stores: Arc<Stores>) -> Self {
        Self { writer, stores, under_way: Arc::default() }
    }

    /// Creates the session, in place of the ended one with the UID `replaces`. Goes on if the caller goes away.
    pub async fn create(
        &self,
        draft: Draft,
        replaces: Option<String>,
        client: Option<IpAddr>,
    ) -> Result<Created, Denial> {
        match self.turn(draft, replaces, client) {
            Turn::Now(flight) => flight.await.map(|()| Created::Done),
            Turn::Never => Ok(Created::LookAgain),
            Turn::After(other) => {
                // A failure is for those who asked for that session.
                let _ = other.await;
                Ok(Created::LookAgain)
            }
        }
    }

    fn turn(&self, draft: Draft, replaces: Option<String>, client: Option<IpAddr>) -> Turn {
        let key = (draft.name.clone(), draft.spec.user.clone());
        let mut under_way = lock(&self.under_way);
        if let Some(same) = under_way.get(&key) {
            return Turn::Now(same.flight.clone());
        }
        if let Some(turn) = self.without_room(&under_way, &draft) {
            return turn;
        }
        let (writer, ended) = (self.writer.clone(), (Arc::clone(&self.under_way), key.clone()));
        let pool = draft.spec.pool.clone();
        let flight = async move {
            let outcome =
                detached(async move { writer.ensure(&draft, replaces.as_deref(), client).await }).await;
            let (under_way, key) = ended;
            lock(&under_way).remove(&key);
            outcome
        };
        let flight = flight.boxed().shared();
        under_way.insert(key, UnderWay { pool, flight: flight.clone() });
        // A task of its own: were it driven by its callers, one that all of them left would stay under way.
        tokio::spawn(flight.clone());
        Turn::Now(flight)
    }

    /// Where there is no room for this one, with all that are under way: after one of those, if it depends on them.
    fn without_room(&self, under_way: &HashMap<Key, UnderWay>, draft: &Draft) -> Option<Turn> {
        let (spec, now) = (&draft.spec, Timestamp::now());
        self.stores.read(|inventory| {
            let policy = &inventory.pool(&spec.pool)?.spec.session_policy;
            let counted = |name: &str| inventory.session(name).is_some_and(|session| counts(session));
            let coming: Vec<_> = under_way
                .iter()
                .filter(|((name, _), other)| other.pool == spec.pool && !counted(name))
                .map(|((_, user), other)| (*user == spec.user, &other.flight))
                .collect();
            let theirs = inventory.sessions_of(&spec.pool, &spec.user);
            let theirs = theirs.into_iter().map(AsRef::as_ref).filter(|session| counts(session));
            let theirs: Vec<&Session> = theirs.collect();
            // Each of these makes room for one.
            let replaceable =
                quota::replaceable(theirs.iter().copied(), spec.cloned_from.as_deref(), now).len();
            let of_user = theirs.len() - replaceable;
            let in_total = inventory.sessions_in(&spec.pool).filter(|session| counts(session)).count();
            let in_total = in_total.saturating_sub(replaceable);
            let of_user = of_user + coming.iter().filter(|(same_user, _)| *same_user).count();
            if quota::has_room(policy, &spec.user, &spec.groups, of_user, in_total + coming.len()) {
                return None;
            }
            let other = coming.iter().max_by_key(|(same_user, _)| *same_user);
            Some(other.map_or(Turn::Never, |(_, other)| Turn::After((*other).clone())))
        })
    }
}

fn lock(under_way: &Mutex<HashMap<Key, UnderWay>>) -> MutexGuard<'_, HashMap<Key, UnderWay>> {
    // A panic while the lock was held leaves data that is whole: every edit is a map operation.
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}
