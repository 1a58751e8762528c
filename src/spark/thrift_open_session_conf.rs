//! What the entries of OpenSession's configuration do in Spark's Thrift Server, and how others are put among them.
//!
//! | key | what the server does with it |
//! |---|---|
//! | `set:hiveconf:K` (JDBC's `?K=…`), `set:K` | sets `K` for the session |
//! | `set:hivevar:K` (JDBC's `#K=…`) | sets `K` too, after those above |
//! | `set:system:K` | sets a property of the whole JVM |
//! | `set:metaconf:K`, `K` (PyHive's `configuration=`) | tells Hive, of which Spark's session hears nothing |
//! | `use:…` | sets the database |
//!
//! From `HiveSessionImpl.configureSession` and `SparkSQLSessionManager.openSession` of Spark 4.1, and tried with it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::thrift_open_session::Entry;

/// What an entry sets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sets {
    key: String,
    /// Whether Spark's session will have it. If not, it is still nothing that a user may do to a protected key.
    in_session: bool,
}

/// Key and value: the client's own bytes, or ours.
pub type MergedEntry<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// The entries with which the session is opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Merged<'a> {
    pub entries: Vec<MergedEntry<'a>>,
    /// Keys that the client wanted to set and may not.
    pub withheld: BTreeSet<String>,
    /// Whether `entries` are others than the client's.
    pub changed: bool,
}

/// Adds `conf` to the client's entries, which win but where `protected` says that they may not even be there.
pub fn merge<'a>(
    client: &[Entry<'a>],
    conf: &'a BTreeMap<String, String>,
    protected: impl Fn(&str) -> bool,
) -> Merged<'a> {
    let mut entries = Vec::with_capacity(client.len() + conf.len());
    let mut withheld = BTreeSet::new();
    let mut own = BTreeSet::new();
    for &(key, value) in client {
        if let Some(sets) = sets(key) {
            if protected(&sets.key) {
                withheld.insert(sets.key);
                continue;
            }
            if sets.in_session {
                own.insert(sets.key);
            }
        }
        entries.push((Cow::Borrowed(key), Cow::Borrowed(value)));
    }
    let added = conf.iter().filter(|(key, _)| !own.contains(*key));
    let before = entries.len();
    entries.extend(added.map(|(key, value)| {
        (Cow::Owned(format!("set:hiveconf:{key}").into_bytes()), Cow::Borrowed(value.as_bytes()))
    }));
    let changed = entries.len() > before || !withheld.is_empty();
    Merged { entries, withheld, changed }
}

/// `None` for an entry that sets no configuration.
fn sets(key: &[u8]) -> Option<Sets> {
    // As the server decodes it; what is replaced here cannot have been part of a key of Spark.
    let key = String::from_utf8_lossy(key);
    let Some(variable) = key.strip_prefix("set:") else {
        return (!key.starts_with("use:")).then(|| Sets::new(&key, false));
    };
    let variable = trimmed(variable);
    if variable.starts_with("env:") {
        return None;
    }
    let after = |prefixes: [&str; 2]| prefixes.iter().find_map(|prefix| variable.strip_prefix(prefix));
    Some(match after(["system:", "metaconf:"]) {
        Some(key) => Sets::new(key, false),
        None => Sets::new(after(["hiveconf:", "hivevar:"]).unwrap_or(variable), true),
    })
}

/// As Java trims: control characters, too.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|character| character <= ' ')
}

impl Sets {
    fn new(key: &str, in_session: bool) -> Self {
        Self { key: trimmed(key).to_owned(), in_session }
    }
}

#[cfg(test)]
#[path = "thrift_open_session_conf_tests.rs"]
mod tests;
