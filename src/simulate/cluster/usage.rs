//! What drivers are measured to use: as much for each session as somebody has said.

use std::collections::HashMap;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStatus, PodSpec, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Cluster, driver_pod};
use crate::model::{InstancePhase, Usage};
use crate::simulate::clock::{self, Second};

/// As metrics-server measures.
pub const MEASURED_EVERY: Second = 15;

const CPU_MILLIS: u64 = 1000;
const MEMORY_BYTES: u64 = 1 << 30;

impl Cluster {
    /// From now on it is known what each driver uses: this part of its requests, in percent, for each of its sessions.
    pub fn measure(&mut self, percent_per_session: u32, now: Second) {
        let Some(view) = self.view() else { return };
        let mut usage = HashMap::new();
        for instance in view.instances.iter().filter(|it| it.phase != InstancePhase::Starting) {
            let on_it = |name: Option<&str>| name == Some(instance.name.as_str());
            let sessions = view.sessions.iter().filter(|it| !it.is_finished());
            let sessions = sessions.filter(|it| on_it(it.status.assigned_instance.as_deref())).count();
            let percent =
                u64::try_from(sessions).unwrap_or(u64::MAX).saturating_mul(percent_per_session.into());
            let measured = Usage {
                at: clock::timestamp(now),
                window: SignedDuration::from_secs(MEASURED_EVERY),
                cpu_millis: percent.saturating_mul(CPU_MILLIS) / 100,
                memory_bytes: percent.saturating_mul(MEMORY_BYTES / 100),
                containers: 1,
            };
            usage.insert(driver_pod(&instance.name), measured);
        }
        self.inventory.enter_usage(Ok(&usage), clock::timestamp(now));
    }
}

pub(super) fn pod_spec() -> PodSpec {
    let requests = [("cpu", format!("{CPU_MILLIS}m")), ("memory", MEMORY_BYTES.to_string())];
    let requests = requests.map(|(resource, amount)| (resource.to_owned(), Quantity(amount)));
    let resources =
        ResourceRequirements { requests: Some(requests.into()), ..ResourceRequirements::default() };
    PodSpec {
        containers: vec![Container { resources: Some(resources), ..Container::default() }],
        ..PodSpec::default()
    }
}

pub(super) fn container_status(started: Second) -> ContainerStatus {
    let running = ContainerStateRunning { started_at: Some(Time(clock::timestamp(started))) };
    ContainerStatus {
        state: Some(ContainerState { running: Some(running), ..ContainerState::default() }),
        ..ContainerStatus::default()
    }
}
