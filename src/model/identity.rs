use std::fmt;
use std::sync::Arc;

/// A user whom the identity provider vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
    /// Why `groups` is empty although the user may have groups at the provider. `None` if the login told the groups,
    /// even if there are none.
    pub untold: Option<UntoldGroups>,
}

/// The login says nothing of the user's groups.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UntoldGroups {
    /// Path of the claim that was looked for.
    pub claim: Arc<str>,
    pub reason: UntoldReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UntoldReason {
    /// The token has no such claim, or one without names in it.
    NotInToken,
    /// The provider says that the groups are too many for the token.
    LeftOut,
    /// Neither the token nor the provider's userinfo endpoint has such a claim.
    NotInUserinfo,
}

impl Identity {
    pub fn new(user: impl Into<String>) -> Self {
        Self { user: user.into(), groups: Vec::new(), untold: None }
    }
}

/// One or two sentences, for whoever is refused because of it.
impl fmt::Display for UntoldGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { claim, reason } = self;
        match reason {
            UntoldReason::NotInToken => write!(
                f,
                "The token of this login carries no groups: it has no claim \"{claim}\" with names in it. If the \
                 identity provider knows groups of this user, the operator's administrator must have them put into \
                 the token (--oidc-scope, or a mapper at the provider) or name the right claim (--oidc-groups-claim)."
            ),
            UntoldReason::LeftOut => write!(
                f,
                "The identity provider has left the groups out of this login's token because there are too many \
                 (claim \"{claim}\"). The operator's administrator must have it send fewer: only those that are \
                 assigned to the application, or roles instead of groups; or it may be that the provider's userinfo \
                 endpoint tells them (--oidc-groups-from-userinfo)."
            ),
            UntoldReason::NotInUserinfo => write!(
                f,
                "Neither the token of this login nor the identity provider's userinfo endpoint tells the user's \
                 groups: there is no claim \"{claim}\" with names in it. If the provider knows groups of this \
                 user, the operator's administrator must have them put there (--oidc-scope, or a mapper at the \
                 provider) or name the right claim (--oidc-groups-claim)."
            ),
        }
    }
}
