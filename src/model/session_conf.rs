use std::collections::BTreeMap;
use std::fmt;

/// A session that a client opens on its instance, as the check of the same request found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Name of the SparkInteractiveSession.
    pub session: String,
    pub pool: String,
    pub user: String,
    /// Envoy's name of the server that was asked to open it. A replica of an earlier version does not tell.
    pub cluster: Option<String>,
}

/// The Spark configuration that a session starts with, and what of it could not be.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SessionConf {
    /// What the session is given, unless its client sets the same key and may.
    pub set: BTreeMap<String, String>,
    pub protected: ProtectedConf,
    pub refused: Vec<RefusedConf>,
}

/// Keys only: a value may be a password of some data source.
impl fmt::Debug for SessionConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionConf")
            .field("set", &self.set.keys())
            .field("protected", &self.protected)
            .field("refused", &self.refused)
            .finish()
    }
}

/// Configuration on its way to Spark. Prints its keys only, as [`SessionConf`] does.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfToSet(pub BTreeMap<String, String>);

impl fmt::Debug for ConfToSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Keys that users may not set: whole ones, and beginnings that end in `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProtectedConf(pub Vec<String>);

impl ProtectedConf {
    pub fn contains(&self, key: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => key.starts_with(beginning),
            None => key == pattern,
        })
    }
}

/// A key that somebody asked for and the session does not have from them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedConf {
    pub key: String,
    pub asked_by: ConfSource,
    pub because: ConfRefusal,
}

/// Who sets configuration: each overrides those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfSource {
    /// `sessionPolicy.defaultSessionConf`
    Pool,
    /// `sessionPolicy.quotas[].sessionConf`
    Quota,
    /// The session's `spec.sparkConf`
    Session,
    /// The user's program, in the request that opens the session.
    Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfRefusal {
    /// Users may not set it: `sessionPolicy.protectedConf`.
    Protected,
    /// Spark takes it only when a server starts.
    OnlyAtStart,
    /// Its key or its value has a control character in it that is no white space.
    NotText,
}

/// For people, without the value.
impl fmt::Display for RefusedConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked_by = match self.asked_by {
            ConfSource::Pool => "the pool's defaultSessionConf",
            ConfSource::Quota => "the quota's sessionConf",
            ConfSource::Session => "the session's sparkConf",
            ConfSource::Client => "the client",
        };
        let because = match self.because {
            ConfRefusal::Protected => "the pool's protectedConf lets no user set it",
            ConfRefusal::NotText => "it holds a character that no configuration can have",
            ConfRefusal::OnlyAtStart => {
                "Spark takes it only when a server starts: it belongs into the pool's sparkApplicationTemplate"
            }
        };
        // A key may itself be what is refused.
        let key = self.key.escape_debug();
        write!(f, "{key} of {asked_by} is not set, because {because}")
    }
}

/// Whether a key or a value is something that Spark, and Kubernetes after it, can keep: control characters other than
/// tabs and the ends of lines are none of a text.
pub fn is_text(text: &str) -> bool {
    !text.chars().any(|character| character.is_control() && !matches!(character, '\t' | '\n' | '\r'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::the_key_itself("spark.sql.a", true)]
    #[case::a_longer_key("spark.sql.a.b", false)]
    #[case::below_a_prefix("spark.hadoop.fs.s3a.secret.key", true)]
    #[case::the_prefix_itself("spark.hadoop.fs.", true)]
    #[case::above_a_prefix("spark.hadoop.", false)]
    #[case::in_other_case("SPARK.SQL.A", false)]
    fn a_key_is_protected_by_its_name_or_a_prefix(#[case] key: &str, #[case] expected: bool) {
        let protected = ProtectedConf(vec!["spark.sql.a".into(), "spark.hadoop.fs.*".into()]);
        assert_eq!(protected.contains(key), expected);
    }

    #[test]
    fn no_value_is_ever_printed() {
        let set = BTreeMap::from([("spark.hadoop.fs.s3a.secret.key".to_owned(), "hunter2".to_owned())]);
        let printed = format!("{:?}", SessionConf { set, ..SessionConf::default() });
        assert!(printed.contains("s3a.secret.key") && !printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn a_refusal_says_what_and_why() {
        let refused = RefusedConf {
            key: "spark.executor.memory".into(),
            asked_by: ConfSource::Pool,
            because: ConfRefusal::OnlyAtStart,
        };
        assert_eq!(
            refused.to_string(),
            "spark.executor.memory of the pool's defaultSessionConf is not set, because Spark takes it only when a \
             server starts: it belongs into the pool's sparkApplicationTemplate"
        );
    }
}
