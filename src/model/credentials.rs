use secrecy::SecretString;

/// What a client presents. `Debug` shows the user name, never the password or the token.
#[derive(Debug, Clone)]
pub enum Credentials {
    Password { user: String, password: SecretString },
    Token(SecretString),
}

/// Why no credentials could be read. The texts are for the user and never hold a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    #[error(
        "No credentials were sent. Log in with user name and password or with a token \
         (Spark Connect: sc://host:443/;token=<token>; JDBC: user and password)."
    )]
    Missing,
    #[error("The credentials cannot be read: {reason}.")]
    Malformed { reason: &'static str },
}
