//! Kubernetes Events: the story that `kubectl describe` tells.
//!
//! They are best effort, and nothing waits for them: a plan with many would otherwise hold up the next plan of its pool.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event as ClusterEvent, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::apply::FIELD_MANAGER;
use crate::api::{SparkInteractiveSession, SparkSessionPool};
use crate::plan::{About, Event, reasons};
use crate::telemetry::Causes;

/// Events that wait for their turn. Beyond, the newest are lost.
const QUEUE: usize = 1000;

pub struct Events {
    queue: mpsc::Sender<Event>,
}

impl Events {
    pub fn new(client: &Client, namespace: &str) -> Self {
        let reporter =
            Reporter { controller: FIELD_MANAGER.to_owned(), instance: std::env::var("POD_NAME").ok() };
        let (queue, events) = mpsc::channel(QUEUE);
        tokio::spawn(record(client.clone(), reporter, namespace.to_owned(), events));
        Self { queue }
    }

    pub fn tell(&self, event: Event) {
        debug_assert!(reasons::lists_event(&event), "not on the page of reasons: {event:?}");
        match self.queue.try_send(event) {
            Ok(()) => {}
            Err(TrySendError::Full(event)) => {
                tracing::debug!(reason = event.reason, "too many Events at once: one is lost");
            }
            Err(TrySendError::Closed(event)) => {
                tracing::error!(reason = event.reason, "Events are not recorded any more");
            }
        }
    }
}

/// One after the other, so that they stand in their order. Ends with whoever tells them.
async fn record(client: Client, reporter: Reporter, namespace: String, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        let (kind, api_version, name, uid) = match event.about {
            About::Pool { name, uid } => {
                (SparkSessionPool::kind(&()), SparkSessionPool::api_version(&()), name, uid)
            }
            About::Session { name, uid } => {
                (SparkInteractiveSession::kind(&()), SparkInteractiveSession::api_version(&()), name, uid)
            }
        };
        let reference = ObjectReference {
            api_version: Some(api_version.into_owned()),
            kind: Some(kind.into_owned()),
            name: Some(name),
            namespace: Some(namespace.clone()),
            uid: Some(uid),
            ..ObjectReference::default()
        };
        let event = ClusterEvent {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.to_owned(),
            note: Some(shortened(event.note)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        // One that publishes several counts those of the same reason as one, with the first one's note: "Created instance
        // p-0" twice, and nothing of p-1.
        let recorder = Recorder::new(client.clone(), reporter.clone());
        if let Err(error) = recorder.publish(&event, &reference).await {
            tracing::warn!(error = %Causes(&error), reason = event.reason, "Event not recorded");
        }
    }
}

/// The API server refuses longer notes.
fn shortened(mut note: String) -> String {
    const LONGEST: usize = 1000;
    if note.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    note
}
