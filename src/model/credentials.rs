use secrecy::{ExposeSecret, SecretString};

/// What a client presents. `Debug` shows the user name, never the password or the token.
#[derive(Debug, Clone)]
pub enum Credentials {
    Password { user: String, password: SecretString, charset: Charset },
    Token(SecretString),
}

/// How the bytes of user name and password were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    Utf8,
    /// ISO-8859-1, because they are not UTF-8. It is a guess.
    Latin1,
}

impl Credentials {
    /// A user name and a password that came as UTF-8.
    pub fn password(user: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self::Password { user: user.into(), password: password.into(), charset: Charset::Utf8 }
    }

    /// In bytes.
    pub fn length(&self) -> usize {
        match self {
            Self::Password { user, password, .. } => user.len() + password.expose_secret().len(),
            Self::Token(token) => token.expose_secret().len(),
        }
    }

    /// Whether both are one login, however each was sent.
    pub fn are_the_same_as(&self, other: &Self) -> bool {
        let same = |one: &SecretString, other: &SecretString| one.expose_secret() == other.expose_secret();
        match (self, other) {
            (
                Self::Password { user, password, .. },
                Self::Password { user: other, password: other_password, .. },
            ) => user == other && same(password, other_password),
            (Self::Token(token), Self::Token(other)) => same(token, other),
            (Self::Password { .. }, Self::Token(_)) | (Self::Token(_), Self::Password { .. }) => false,
        }
    }
}

/// Why no credentials could be read. The texts are for the user and never hold a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    #[error(
        "No credentials were sent. Log in with user name and password or with a token \
         (Spark Connect: sc://host:443/;token=<token>; JDBC: user and password)."
    )]
    Missing,
    #[error(
        "The connection URL has the login in its user_id, which Spark shows in its UI and logs, so it is not taken from \
         there. Write sc://{host}:443/;token=<token> instead, or without TLS \
         sc://{host}:80/;authorization=Bearer%20<token>. The token is base64 of user:password, or one of the identity \
         provider."
    )]
    InUserId { host: String },
    /// `header` is its name as it is usually written.
    #[error(
        "Different {header} headers were sent with one request; send one. Spark's JVM clients send the login of \
         $SPARK_REMOTE beside that of the URL: unset SPARK_REMOTE, or leave the login out of one of the two."
    )]
    Different { header: &'static str },
    #[error("The credentials cannot be read: {reason}.")]
    Malformed { reason: &'static str },
}
