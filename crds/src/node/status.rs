//! What the operator has seen of a node.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator has seen of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HoneygraphNodeStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The conditions in one word, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<NodePhase>,
    /// `Ready`, `Reconciling`, `Stalled`, `Synced`, `StateVerified`, `CheckpointFresh`, `ForkSafe`, each with reason and
    /// message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Newest block that is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<u64>,
    /// Newest block whose state is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_height: Option<u64>,
    /// Newest irreversible block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lib: Option<u64>,
    /// Newest block that anybody announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_head: Option<u64>,
    /// Blocks from `stateHeight` to `networkHead`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Blocks that are missing below `networkHead`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_blocks: Option<u64>,
    /// Blocks of the largest gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_gap: Option<u64>,
    /// Peers of the agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<PeerCounts>,
    /// The newest checkpoint that is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<LastCheckpoint>,
    /// The agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub agents: Vec<AgentStatus>,
    /// Number of agents that exist, for `kubectl scale`.
    #[serde(default)]
    pub replicas: i32,
    /// Number of agents that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Selector of the agents' pods, for `kubectl scale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The last rollback, as it is recorded with the volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreRecord>,
}

/// The conditions of a node in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodePhase {
    /// Nothing is there yet.
    Pending,
    /// Parts are made or changed.
    Progressing,
    /// Everything is there; the node fetches what it misses.
    Syncing,
    /// Everything is there, and the node follows its network.
    Ready,
    /// A part that was there is not.
    Degraded,
    /// The node is rolled back to a checkpoint.
    Restoring,
    /// A person has to change something.
    Stalled,
    /// `suspend` is set.
    Suspended,
    /// The node is being deleted.
    Terminating,
}

impl NodePhase {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Progressing,
        Self::Syncing,
        Self::Ready,
        Self::Degraded,
        Self::Restoring,
        Self::Stalled,
        Self::Suspended,
        Self::Terminating,
    ];

    /// As it stands in a status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Progressing => "Progressing",
            Self::Syncing => "Syncing",
            Self::Ready => "Ready",
            Self::Degraded => "Degraded",
            Self::Restoring => "Restoring",
            Self::Stalled => "Stalled",
            Self::Suspended => "Suspended",
            Self::Terminating => "Terminating",
        }
    }
}

/// Peers of the agents of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerCounts {
    /// Peers that answer.
    pub alive: u32,
    /// Peers that are known.
    pub known: u32,
}

/// The newest checkpoint of a node that is ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastCheckpoint {
    /// Name of the `Checkpoint`.
    pub name: String,
    /// Its block.
    pub block: u64,
    /// When it was cut.
    pub time: Time,
}

/// An agent of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Name of its `StatefulSet`, `<node>-agent-<i>`.
    pub name: String,
    /// Whether it serves proven data.
    pub ready: bool,
    /// Id of its process: another one after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Newest block that it stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<u64>,
    /// Newest block whose state it has applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_height: Option<u64>,
}

/// A rollback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreRecord {
    /// Name of the `Checkpoint`.
    pub checkpoint: String,
    /// Its block.
    pub block: u64,
    /// Generation of the volumes that were made from it, the `<N>` of `<node>-<role>-g<N>`.
    pub volume_generation: i64,
    /// How it ended; unset while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RestoreOutcome>,
    /// When it began.
    pub started_at: Time,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// What was chosen and why, or what failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a rollback ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestoreOutcome {
    /// The restored node proved the checkpoint's anchor.
    Succeeded,
    /// The volumes of before are in use again.
    Undone,
    /// It stopped; a person has to decide.
    Failed,
}
