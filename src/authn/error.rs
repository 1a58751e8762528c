//! Why a login fails: a closed set, in words that its user reads.
//!
//! What only an administrator can use (URLs, network errors) is logged where it happens instead.

use std::sync::Arc;
use std::time::Duration;

use super::provider::ProviderError;
use super::token::TokenError;
use super::user_name::UserNameError;
use crate::model::{Charset, Credentials, CredentialsError};

/// Whose turn it is after a failed login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthnErrorKind {
    /// The user's: other credentials are needed.
    Rejected,
    /// Nobody's: the identity provider does not answer, trying again later helps.
    Unavailable,
    /// The operator's administrator's.
    Misconfigured,
    /// The user's, a little later: there were too many wrong passwords.
    Limited,
}

/// Why a login fails. `Display` is for the user, says what to do, and never holds a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthnError {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    UserName(#[from] UserNameError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("Wrong user name or password.")]
    WrongPassword,
    #[error(
        "Wrong user name or password. They were not sent as UTF-8 and were read as Latin-1, which is a guess: let the \
         client send UTF-8, or log in with a token."
    )]
    WrongLatin1Password,
    #[error("A user name was sent without a password; send both, or a token.")]
    NoPassword,
    /// The password may be right, but the provider does not let the account in.
    #[error("The identity provider refuses this login: {reason}. Fix this at the provider, then try again.")]
    AccountRefused { reason: String },
    #[error(
        "This account needs an interactive login (a second factor, say): log in with a token instead of a password."
    )]
    InteractiveLoginNeeded,
    #[error("Logging in with a password is not set up here; log in with a token of the identity provider.")]
    PasswordLoginOff,
    #[error(
        "The identity provider does not answer at the moment; try again in a minute. \
         Who logged in before can go on working for a while."
    )]
    Unavailable,
    /// It answers, but wants to be asked less; perhaps about this user only.
    #[error("The identity provider limits logins at the moment; try again in a minute.")]
    Busy,
    #[error("Too many users log in at the moment; try again in a minute.")]
    TooManyLogins,
    /// `address` is "10.0.0.1" or "2001:db8::/64".
    #[error(
        "Too many logins from {address} wait for the identity provider at the moment; try again in a minute."
    )]
    TooManyFrom { address: String },
    /// `whose` is "for user anna" or "from 10.0.0.1"; `wait` has whole seconds.
    #[error("Too many failed logins {whose}. Try again in {} s.", wait.as_secs())]
    Limited { whose: String, wait: Duration },
    #[error(
        "Nobody can log in: the operator has no identity provider. Its administrator must set an OIDC issuer."
    )]
    NoProvider,
    #[error(
        "Nobody can log in: the identity provider and the operator's settings do not fit. \
         Tell the operator's administrator; its log has the reason."
    )]
    Provider,
    #[error(
        "The identity provider does not accept the operator's own client ({code}), so nobody can log in with a \
         password. Tell the operator's administrator: the client's id and secret must be right and password \
         logins (direct access grants) allowed. A token may work meanwhile."
    )]
    ClientRefused { code: String },
    /// `scope` has all scopes that are asked for.
    #[error(
        "The identity provider does not give the operator's client the scope \"{scope}\" (invalid_scope), so nobody \
         can log in with a password. Tell the operator's administrator: the provider must know each of these scopes \
         and allow them to the client. A token may work meanwhile."
    )]
    ScopeRefused { scope: String },
    /// `token` is "access token" or "ID token".
    #[error(
        "The password was right, but the {token} that the identity provider gave to the operator cannot be \
         used: {problem} Tell the operator's administrator. A token may work meanwhile."
    )]
    GrantUnusable { token: &'static str, problem: String },
    /// The token is the user's own.
    #[error(
        "The token tells no groups (there is no claim \"{claim}\" with names in it), and the identity provider's \
         userinfo endpoint does not tell them for it: {problem}. Get an access token with the scope openid."
    )]
    GroupsRefused { claim: Arc<str>, problem: String },
    #[error(
        "The login is right, but its token tells no groups, and the identity provider's userinfo endpoint, which is \
         asked for them (--oidc-groups-from-userinfo), cannot be used: {problem}. Tell the operator's administrator."
    )]
    UserinfoUnusable { problem: String },
}

/// Of whom an error says something.
#[derive(PartialEq, Eq)]
enum Concerns {
    TheUser,
    Everybody,
    /// Nobody beyond this login.
    TheAttempt,
}

impl AuthnError {
    /// The same in view of how `credentials`, which it refuses, were read.
    pub(super) fn of(self, credentials: &Credentials) -> Self {
        match (self, credentials) {
            (Self::WrongPassword, Credentials::Password { charset: Charset::Latin1, .. }) => {
                Self::WrongLatin1Password
            }
            (error, _) => error,
        }
    }

    /// The kind of failure in one word, for programs that read audit records.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Credentials(_) => "CredentialsUnreadable",
            Self::UserName(_) => "UserNameInvalid",
            Self::Token(error) => error.reason(),
            Self::WrongPassword | Self::WrongLatin1Password => "WrongPassword",
            Self::NoPassword => "NoPassword",
            Self::AccountRefused { .. } => "AccountRefused",
            Self::InteractiveLoginNeeded => "InteractiveLoginNeeded",
            Self::PasswordLoginOff => "PasswordLoginOff",
            Self::Unavailable => "ProviderUnavailable",
            Self::Busy => "ProviderBusy",
            Self::TooManyLogins | Self::TooManyFrom { .. } => "TooManyLogins",
            Self::Limited { .. } => "TooManyFailures",
            Self::NoProvider => "NoProvider",
            Self::Provider => "ProviderMisconfigured",
            Self::ClientRefused { .. } => "ClientRefused",
            Self::ScopeRefused { .. } => "ScopeRefused",
            Self::GrantUnusable { .. } => "GrantUnusable",
            Self::GroupsRefused { .. } => "GroupsRefused",
            Self::UserinfoUnusable { .. } => "UserinfoUnusable",
        }
    }

    /// Whether it says something about the user, so that a login which was confirmed before ends with it. Everything else
    /// is an outage in the end, whoever has to mend it: the client's secret is being rotated, an ingress answers instead
    /// of the provider, a setting was changed.
    pub(super) fn speaks_of_the_user(&self) -> bool {
        self.concerns() == Concerns::TheUser
    }

    /// Whether all users hear the same at this moment, so that not each of them has to ask.
    pub(super) fn stops_everybody(&self) -> bool {
        self.concerns() == Concerns::Everybody
    }

    fn concerns(&self) -> Concerns {
        match self {
            Self::Credentials(_)
            | Self::UserName(_)
            | Self::Token(_)
            | Self::WrongPassword
            | Self::WrongLatin1Password
            | Self::NoPassword
            | Self::AccountRefused { .. }
            | Self::InteractiveLoginNeeded
            | Self::GroupsRefused { .. } => Concerns::TheUser,
            Self::Unavailable
            | Self::PasswordLoginOff
            | Self::Provider
            | Self::ClientRefused { .. }
            | Self::ScopeRefused { .. } => Concerns::Everybody,
            // The provider may be busy with one user only, and an answer be unusable for one only.
            Self::Busy
            | Self::TooManyLogins
            | Self::TooManyFrom { .. }
            | Self::Limited { .. }
            | Self::NoProvider
            | Self::GrantUnusable { .. }
            | Self::UserinfoUnusable { .. } => Concerns::TheAttempt,
        }
    }

    pub fn kind(&self) -> AuthnErrorKind {
        match self {
            Self::Credentials(_)
            | Self::UserName(_)
            | Self::Token(_)
            | Self::WrongPassword
            | Self::WrongLatin1Password
            | Self::NoPassword
            | Self::AccountRefused { .. }
            | Self::InteractiveLoginNeeded
            | Self::PasswordLoginOff
            | Self::GroupsRefused { .. } => AuthnErrorKind::Rejected,
            Self::Unavailable | Self::Busy | Self::TooManyLogins | Self::TooManyFrom { .. } => {
                AuthnErrorKind::Unavailable
            }
            Self::Limited { .. } => AuthnErrorKind::Limited,
            Self::NoProvider
            | Self::Provider
            | Self::ClientRefused { .. }
            | Self::ScopeRefused { .. }
            | Self::GrantUnusable { .. }
            | Self::UserinfoUnusable { .. } => AuthnErrorKind::Misconfigured,
        }
    }
}

impl From<ProviderError> for AuthnError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Unreachable(_) => Self::Unavailable,
            ProviderError::Misconfigured(_) => Self::Provider,
        }
    }
}
