//! `Checkpoint`: an anchor of the log with the volume snapshots that hold it.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NodeReference, rules, schema};

/// An anchor of a node's log with the volume snapshots that hold it.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "honeygraph.io",
    version = "v1alpha1",
    kind = "Checkpoint",
    plural = "checkpoints",
    shortname = "hgcp",
    category = "honeygraph",
    namespaced,
    status = "CheckpointStatus",
    derive = "PartialEq",
    doc = "An anchor of a node's log with the volume snapshots that hold it.",
    selectable = ".spec.nodeRef.name",
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Block", type_ = "integer", json_path = ".status.block"),
    printcolumn(
        name = "Pause",
        type_ = "integer",
        json_path = ".status.pauseMilliseconds",
        description = "How long commits were held, in milliseconds"
    ),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.deletionPolicy", priority = "1"),
    printcolumn(name = "Hash", type_ = "string", json_path = ".status.blockHash", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("the name becomes a label: 63 characters at most"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("a checkpoint cannot be changed; create another one"),
)]
pub struct CheckpointSpec {
    /// The node that it is of.
    pub node_ref: NodeReference,
    /// A coming checkpoint boundary of the network; the next one unless set. One that has passed is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub block: Option<i64>,
    /// Volume snapshot class; that of the node unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub volume_snapshot_class_name: Option<String>,
    /// What becomes of the snapshots when this object is deleted: `Retain` keeps them, `Delete` deletes them.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What becomes of the snapshots of a deleted checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They stay.
    #[default]
    Retain,
    /// They are deleted.
    Delete,
}

/// How far a checkpoint is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The step it is at; `Ready` and `Failed` are for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<CheckpointPhase>,
    /// `Ready`, `Reconciling`, `Stalled`, each with reason and message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The block after which the snapshots were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// Its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_hash: Option<String>,
    /// Hash of the state after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<String>,
    /// Version of the store's layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u32>,
    /// Id of the agent's process that held commits; another one at the end fails the checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The snapshots, one a volume.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["claim".into()]))]
    pub volumes: Vec<CheckpointVolume>,
    /// How long commits were held, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_milliseconds: Option<u64>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the snapshots were cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_at: Option<Time>,
    /// When it became `Ready` or `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// The step that a checkpoint is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CheckpointPhase {
    /// Waits for its block.
    Pending,
    /// Commits are being held and data is written out.
    Quiescing,
    /// The snapshots are being cut.
    Snapshotting,
    /// The snapshots are there and are being proven.
    Verifying,
    /// A node can be restored from it.
    Ready,
    /// It failed; a node cannot be restored from it.
    Failed,
}

/// The snapshot of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointVolume {
    /// Name of the volume claim.
    pub claim: String,
    /// Name of the `VolumeSnapshot`.
    pub snapshot: String,
    /// Whether the storage driver calls it ready to use.
    #[serde(default)]
    pub ready_to_use: bool,
    /// Size of a volume made from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub restore_size: Option<Quantity>,
}
