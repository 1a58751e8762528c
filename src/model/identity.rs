/// A user whom the identity provider vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
}

impl Identity {
    pub fn new(user: impl Into<String>) -> Self {
        Self { user: user.into(), groups: Vec::new() }
    }
}
