//! `HoneygraphNode`: one replica of one network in one region.

mod agent;
mod checkpoints;
mod dgraph;
mod exposure;
mod honeycomb;
mod monitoring;
mod peers;
mod status;
mod sync;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use agent::Agent;
pub use checkpoints::{CheckpointRetention, CheckpointSchedule, Recovery, WhenExhausted};
pub use dgraph::{
    Dgraph, DgraphAccessControl, DgraphAlpha, DgraphCluster, DgraphMode, DgraphTls, DgraphZero,
};
pub use exposure::{
    Exposure, Gateway, HttpRoute, IngestExposure, IngestTls, Ingress, ServiceExposure, ServiceType,
};
pub use honeycomb::{Honeycomb, HoneycombSource};
pub use monitoring::{AlertRules, AlertThresholds, Monitoring, PodMonitor};
pub use peers::{AutomaticPeers, PeerScope, Peers, StaticPeer};
pub use status::{
    AgentStatus, HoneygraphNodeStatus, LastCheckpoint, NodePhase, PeerCounts, RestoreOutcome, RestoreRecord,
};
pub use sync::{Sync, SyncLimits, Verification};

use crate::{CheckpointReference, DeletionPolicy, rules};

/// One replica of one honeycomb network in one region.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "honeygraph.io",
    version = "v1alpha1",
    kind = "HoneygraphNode",
    plural = "honeygraphnodes",
    shortname = "hgn",
    category = "honeygraph",
    namespaced,
    status = "HoneygraphNodeStatus",
    derive = "PartialEq",
    doc = "One replica of one honeycomb network in one region.",
    scale(
        spec_replicas_path = ".spec.agent.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    selectable = ".spec.network",
    selectable = ".spec.region",
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.dgraph.mode"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Head", type_ = "integer", json_path = ".status.head"),
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.lag"),
    printcolumn(
        name = "Peers",
        type_ = "integer",
        json_path = ".status.peers.alive",
        description = "Peers that answer"
    ),
    printcolumn(
        name = "Checkpoint",
        type_ = "date",
        json_path = ".status.lastCheckpoint.time",
        description = "Age of the newest checkpoint that is ready"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && \
            self.metadata.name.size() <= 40")
        .message("the name becomes part of others: a-z, 0-9 and -, beginning with a letter, ending with a letter or \
            digit, 40 characters at most"),
    validation = Rule::new("!has(self.spec.dgraph.clusterRef) || !has(self.spec.dgraph.clusterRef.nodeRef) || \
            self.spec.dgraph.clusterRef.nodeRef.name != self.metadata.name")
        .message("clusterRef names this node itself; leave it out where the node owns its Dgraph")
        .field_path(".spec.dgraph.clusterRef"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.honeycomb.sources.size() + self.peers.static.size() == 0 || \
            self.honeycomb.sources.exists(source, source.voteWeight > 0) || \
            self.peers.static.exists(peer, peer.voteWeight > 0) || \
            (self.peers.automatic.scope != 'None' && self.peers.automatic.voteWeight > 0)")
        .message("nobody votes: give a source, a static peer or automatic peers a voteWeight above 0"),
)]
pub struct HoneygraphNodeSpec {
    /// Prefix of the honeycomb network, such as `spkcc`. It cannot be changed: nodes of different networks never
    /// exchange blocks.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?$')")
            .message("must be the prefix of a network: a-z, A-Z, 0-9, - and _, beginning and ending with a letter or \
                digit"),
        validation = Rule::new("self == oldSelf")
            .message("the network of a node cannot be changed; create another node"),
    )]
    pub network: String,
    /// Name of the region. It becomes a label, and pods run on machines whose label `topology.kubernetes.io/region`
    /// has this value.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::label_value())]
    pub region: String,
    /// The agents: they hold the log and serve it.
    #[serde(default)]
    pub agent: Agent,
    /// The Dgraph that the log is projected into.
    #[serde(default)]
    pub dgraph: Dgraph,
    /// The honeycombs that push blocks to this node.
    #[serde(default)]
    pub honeycomb: Honeycomb,
    /// Who this node exchanges blocks with, and who votes on what is true.
    #[serde(default)]
    pub peers: Peers,
    /// How missing blocks are fetched and verified.
    #[serde(default)]
    pub sync: Sync,
    /// When checkpoints are taken and how long they are kept; none are taken unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<CheckpointSchedule>,
    /// What is done about state that is proven wrong.
    #[serde(default)]
    pub recovery: Recovery,
    /// How people and other clusters reach the public API.
    #[serde(default)]
    pub exposure: Exposure,
    /// Metrics, alerts and dashboard.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// What becomes of the volumes when the node is deleted: `Retain` keeps them, and a node of the same name takes them
    /// up again; `Delete` deletes them with it.
    #[serde(default)]
    pub volume_deletion_policy: DeletionPolicy,
    /// Leaves everything as it is: nothing is reconciled, nothing is touched.
    #[serde(default)]
    pub suspend: bool,
    /// Checkpoint to roll back to. What was done is recorded with the volumes and in the status, so that applying the
    /// same object again does not roll back again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<CheckpointReference>,
}
