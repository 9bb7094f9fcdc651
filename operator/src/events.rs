//! Events on nodes: one for each condition that flipped or gives another reason, none otherwise.

use honeygraph_crds::HoneygraphNode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tracing::warn;

use crate::conditions::is_good;

/// Longest note of an event.
const MAX_NOTE_BYTES: usize = 1024;

/// Publishes events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Publishes as `instance`, the operator's pod.
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter {
            controller: "honeygraph-operator".to_owned(),
            instance,
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Tells of a condition. That an event could not be written is logged and stops nothing.
    pub async fn publish(&self, node: &HoneygraphNode, condition: &Condition) {
        let mut text = format!(
            "{} is {}: {}",
            condition.type_, condition.status, condition.message
        );
        text.truncate(text.floor_char_boundary(MAX_NOTE_BYTES));
        let written = Event {
            type_: if is_good(condition) {
                EventType::Normal
            } else {
                EventType::Warning
            },
            reason: condition.reason.clone(),
            note: Some(text),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&written, &node.object_ref(&())).await {
            warn!(%error, reason = %written.reason, "an event could not be written");
        }
    }
}
