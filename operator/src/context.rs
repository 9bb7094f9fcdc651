//! What reconcilers share.

use std::sync::Arc;

use honeygraph_crds::HoneygraphNode;
use kube::Client;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;

use crate::agent::AgentClient;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// What reconcilers share.
#[derive(Clone)]
pub struct Context {
    /// The Kubernetes API.
    pub client: Client,
    /// Agents.
    pub agents: AgentClient,
    /// Where events go.
    pub events: Events,
    /// The operator's own metrics.
    pub metrics: Metrics,
    /// What the operator was told at its start.
    pub settings: Arc<Settings>,
    /// All nodes, as the watch last saw them.
    pub store: Store<DeserializeGuard<HoneygraphNode>>,
}

impl Context {
    /// All nodes that can be read.
    pub fn nodes(&self) -> Vec<Arc<HoneygraphNode>> {
        self.store
            .state()
            .into_iter()
            .filter_map(|node| node.0.as_ref().ok().cloned().map(Arc::new))
            .collect()
    }
}
