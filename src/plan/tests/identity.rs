//! Servers that take the user from Envoy: which instances are started, and what the pool says.

use serde_json::json;

use super::cluster::Cluster;
use crate::api::SessionState::Failed;
use crate::api::Sharing;
use crate::model::fixtures::{connect_pool, draining, ready, session, thrift_pool};
use crate::model::{Instance, Pool, TokenState};
use crate::plan::Action;

fn without_jar(pool: Pool) -> Cluster {
    let mut cluster = Cluster::of(pool);
    cluster.identity_jar_url = None;
    cluster
}

#[test]
fn a_pool_says_that_its_servers_take_the_user_from_envoy() {
    let cluster = Cluster::of(connect_pool("p").sized(1, 1)).instance(ready("p-0")).settled();
    let message = "The servers take each request's user from Envoy, whatever the request itself says.";
    assert_eq!(cluster.condition("IdentityEnforced"), (true, "Enforced", message));
}

#[test]
fn without_an_interceptor_no_server_is_started_and_everybody_is_told() {
    let cluster = without_jar(connect_pool("p").sized(1, 3)).session(session("s")).settled();
    assert!(cluster.instances.is_empty());
    let message = "The operator has no interceptor to give to the servers, so none is started. Start the operator with \
                   --identity-jar-url, or set spec.identity to Trusted.";
    assert_eq!(cluster.condition("IdentityEnforced"), (false, "NoInterceptor", message));
    let message = "No server can be started; see the condition IdentityEnforced.";
    assert_eq!(cluster.condition("Ready"), (false, "NoInterceptor", message));
    let message = "Pool p cannot start an instance: its spec.identity is Enforced, and the operator was started without \
                   --identity-jar-url. The administrator of the operator has to set it.";
    assert_eq!(cluster.told("s"), (Failed, "NoInterceptor", message));
    assert!(cluster.events.iter().any(|(reason, _)| *reason == "NoInterceptor"), "{:?}", cluster.events);
}

#[test]
fn a_trusted_pool_starts_without_an_interceptor_and_says_what_that_means() {
    let cluster = without_jar(connect_pool("p").trusting().sized(1, 1)).settled();
    let (enforced, reason, message) = cluster.condition("IdentityEnforced");
    assert_eq!((enforced, reason), (false, "Trusted"));
    assert!(message.ends_with("Set spec.sharing to User, or spec.identity to Enforced."), "{message}");
    assert_eq!(cluster.instances.len(), 1);
    let alone = without_jar(connect_pool("p").trusting().shared_by(Sharing::User)).settled();
    let (_, _, message) = alone.condition("IdentityEnforced");
    assert!(message.contains("No two users share a driver"), "{message}");
}

/// Classes of interceptors in the first application that the next plan creates.
fn started(cluster: Cluster) -> Option<serde_json::Value> {
    cluster.plan().actions.into_iter().find_map(|action| match action {
        Action::CreateInstance { application, .. } => {
            Some(application.spec.fields["sparkConf"]["spark.connect.grpc.interceptor.classes"].clone())
        }
        _ => None,
    })
}

#[test]
fn an_enforced_pool_starts_servers_with_the_interceptor() {
    let class = json!("io.sparkinteractive.identity.IdentityInterceptor");
    assert_eq!(started(Cluster::of(connect_pool("p").sized(1, 1))), Some(class));
    let trusted = Cluster::of(connect_pool("p").trusting().sized(1, 1));
    assert_eq!(started(trusted), Some(serde_json::Value::Null));
}

#[test]
fn an_instance_that_was_started_without_it_goes_with_its_last_session() {
    let outdated = Instance { forces_identity: false, ..draining("p-0") };
    let cluster = Cluster::of(connect_pool("p").sized(1, 2)).instance(outdated);
    let mut cluster = cluster.session(session("s").on("p-0")).planned();
    let message = "Started without the interceptor, and taking no new sessions for that: p-0. They go with their last \
                   session.";
    assert_eq!(cluster.condition("IdentityEnforced"), (false, "OutdatedInstances", message));
    assert_eq!(cluster.find_instance("p-1").name, "p-1", "another one for those who come");
}

#[test]
fn a_lost_token_is_made_good() {
    for token in [TokenState::Remembered, TokenState::Unknown] {
        let pool = connect_pool("p").sized(1, 1);
        let mut cluster = Cluster::of(pool).instance(Instance { token, ..ready("p-0") }).settled();
        assert_eq!(cluster.find_instance("p-0").token, TokenState::Kept);
    }
}

#[test]
fn a_thrift_pool_says_nothing_of_it_and_needs_nothing_for_it() {
    let cluster = without_jar(thrift_pool("t").sized(1, 1)).settled();
    assert!(cluster.pool.status.conditions.iter().all(|condition| condition.type_ != "IdentityEnforced"));
    assert_eq!(cluster.instances.len(), 1);
}
