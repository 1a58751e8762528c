//! Whether the servers of a Connect pool take the user from Envoy, in words.

use super::conditions::Finding;
use crate::api::Sharing;
use crate::model::{PoolView, Protocol};

pub const IDENTITY_ENFORCED: &str = "IdentityEnforced";

/// `None` for a Thrift pool: its server knows no user but the one that Envoy names.
pub fn finding(view: &PoolView) -> Option<Finding> {
    if view.pool.protocol() == Protocol::Thrift {
        return None;
    }
    let finding =
        |status, reason, message| Some(Finding { type_: IDENTITY_ENFORCED, status, reason, message });
    if !view.pool.enforces_identity() {
        return finding(false, "Trusted", trusted(view.pool.spec.sharing).to_owned());
    }
    if view.lacks_interceptor() {
        let message = "The operator has no interceptor to give to the servers, so none is started. Start the operator \
                       with --identity-jar-url, or set spec.identity to Trusted.";
        return finding(false, "NoInterceptor", message.to_owned());
    }
    let without = view.instances.iter().filter(|instance| instance.is_alive() && !instance.forces_identity);
    let without: Vec<&str> = without.map(|instance| instance.name.as_str()).collect();
    if !without.is_empty() {
        let message = format!(
            "Started without the interceptor, and taking no new sessions for that: {}. They go with their last session.",
            without.join(", ")
        );
        return finding(false, "OutdatedInstances", message);
    }
    let message = "The servers take each request's user from Envoy, whatever the request itself says.";
    finding(true, "Enforced", message.to_owned())
}

fn trusted(sharing: Sharing) -> &'static str {
    match sharing {
        Sharing::Pool => {
            "spec.identity is Trusted: the servers believe what a request says of its user and its session. Whoever \
             knows the id of another user's session on the same driver can get into it. Set spec.sharing to User, or \
             spec.identity to Enforced."
        }
        Sharing::User | Sharing::Session => {
            "spec.identity is Trusted: the servers believe what a request says of its user and its session. No two users \
             share a driver (spec.sharing), so that nobody gets into another one's session."
        }
    }
}
