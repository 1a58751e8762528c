//! Flags about which of several replicas plans.

use std::time::Duration;

use clap::Args;
use uuid::Uuid;

use crate::operator::{HolderIdentity, LeaseName, LeaseTiming};

#[derive(Args, Debug)]
#[command(next_help_heading = "Several replicas")]
pub struct LeaderElectionArgs {
    /// Let one of several replicas, the holder of a Lease, do all planning. Default: true in a Pod that knows its
    /// name (POD_NAME), else false.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    leader_elect: Option<bool>,

    /// Name of that Lease, in --namespace.
    #[arg(long, value_name = "NAME", default_value = "spark-session-operator")]
    leader_elect_lease_name: String,

    /// Seconds after which a Lease that is not renewed passes to another replica. The holder stops writing when seven
    /// tenths of them have passed.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=600))]
    leader_elect_lease_duration: u32,

    /// Set by the Pod's manifest from metadata.name.
    #[arg(long, env = "POD_NAME", hide = true)]
    pod_name: Option<String>,

    /// Set by the Pod's manifest from metadata.uid.
    #[arg(long, env = "POD_UID", hide = true)]
    pod_uid: Option<String>,
}

/// Which Lease decides, and how fast.
#[derive(Clone, Debug)]
pub struct LeaderElection {
    pub lease: LeaseName,
    pub timing: LeaseTiming,
}

impl LeaderElectionArgs {
    pub fn validate(self, namespace: &str) -> Option<LeaderElection> {
        let given = |value: Option<String>| value.filter(|value| !value.is_empty());
        let (pod, uid) = (given(self.pod_name), given(self.pod_uid));
        let wanted = self.leader_elect.unwrap_or(pod.is_some());
        let pod = pod.as_deref().unwrap_or("spark-session-operator");
        wanted.then(|| LeaderElection {
            lease: LeaseName {
                namespace: namespace.to_owned(),
                name: self.leader_elect_lease_name,
                identity: HolderIdentity::new(pod, uid.as_deref(), Uuid::new_v4()),
            },
            timing: LeaseTiming::lasting(Duration::from_secs(self.leader_elect_lease_duration.into())),
        })
    }
}
