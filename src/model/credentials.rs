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
    #[error(
        "The connection URL has the login in its user_id, which Spark shows in its UI and logs, so it is not taken from \
         there. Write sc://{host}:443/;token=<token> instead, or without TLS \
         sc://{host}:80/;authorization=Bearer%20<token>. The token is base64 of user:password, or one of the identity \
         provider."
    )]
    InUserId { host: String },
    #[error("The credentials cannot be read: {reason}.")]
    Malformed { reason: &'static str },
}
