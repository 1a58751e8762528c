use uuid::Uuid;

/// What a Thrift session is called when the path does not name it.
pub const DEFAULT_SESSION_NAME: &str = "default";

/// Spark Connect's id of a named session, by which any client of its user can come back to it. It follows from the UID of
/// its object, which nobody knows before it is there: whoever could guess the id could take it first, and a namesake on the
/// same server would find the id closed.
pub fn own_spark_session_id(uid: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("sparkinteractive.io/session/{uid}").as_bytes())
}

/// What makes two requests belong to one session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionKey {
    /// Spark Connect: the client chose the id. The user is not part of it: the first one owns it.
    Connect { pool: String, session_id: Uuid },
    /// The owner and a name: all Thrift sessions, since their requests carry no id, and Connect sessions that their
    /// client names.
    Named { pool: String, user: String, name: String },
}

impl SessionKey {
    pub fn pool(&self) -> &str {
        match self {
            Self::Connect { pool, .. } | Self::Named { pool, .. } => pool,
        }
    }

    /// Name of the session object: the same on every replica, so that creating it is atomic.
    /// At most 40 + 1 + 36 (Connect) or 40 + 1 + 20 + 1 + 12 (named) characters, a valid
    /// Kubernetes object name for any user name.
    pub fn object_name(&self) -> String {
        match self {
            Self::Connect { pool, session_id } => format!("{pool}-{session_id}"),
            Self::Named { pool, user, name } => {
                let mut hasher = blake3::Hasher::new();
                for part in [pool.as_str(), user.as_str(), name.as_str()] {
                    hasher.update(&(part.len() as u64).to_le_bytes());
                    hasher.update(part.as_bytes());
                }
                let hash = hasher.finalize().to_hex();
                match slug(user) {
                    slug if slug.is_empty() => format!("{pool}-{}", &hash[..12]),
                    slug => format!("{pool}-{slug}-{}", &hash[..12]),
                }
            }
        }
    }
}

/// The letters and digits of a user name that may stand in an object name, to recognise it by.
fn slug(user: &str) -> String {
    user.chars().filter(char::is_ascii_alphanumeric).take(20).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thrift(user: &str, name: &str) -> String {
        SessionKey::Named { pool: "p".into(), user: user.into(), name: name.into() }.object_name()
    }

    #[test]
    fn names_of_different_keys_differ_even_where_the_user_names_look_alike() {
        assert_ne!(thrift("a@b.c", "default"), thrift("ab.c", "default"));
        assert_ne!(thrift("alice", "default"), thrift("alice", "etl"));
        assert_ne!(thrift("ab", "c"), thrift("a", "bc"));
    }

    #[test]
    fn any_user_name_gives_a_valid_object_name() {
        for user in ["alice", "a@b.c", "Jürgen Müller", "日本", "_", &"x".repeat(300)] {
            let name = thrift(user, "default");
            assert!(name.len() <= 63, "{name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{name}"
            );
            assert!(name.ends_with(|c: char| c.is_ascii_alphanumeric()), "{name}");
        }
    }
}
