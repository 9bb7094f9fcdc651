//! The checkpoints of a node and what they are for.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;

/// When checkpoints are taken and how long they are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSchedule {
    /// Takes a checkpoint every so many blocks, a multiple of 100; a network makes a block every 3 seconds.
    #[serde(default = "CheckpointSchedule::default_every_blocks")]
    #[schemars(range(min = 100, max = 100_000_000))]
    #[x_kube(validation = ("self % 100 == 0", "must be a multiple of 100: checkpoints are cut at the network's anchors"))]
    pub every_blocks: i32,
    /// Volume snapshot class; the default one of the storage driver unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub volume_snapshot_class_name: Option<String>,
    /// How many are kept.
    #[serde(default)]
    pub keep: CheckpointRetention,
    /// Longest time that commits may be held for a checkpoint; then everything goes on and that checkpoint fails.
    #[serde(default = "CheckpointSchedule::default_pause_budget")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = rules::duration("100ms", "5m"))]
    pub pause_budget: String,
    /// Boots a clone of each checkpoint and proves its anchor before it counts as ready.
    #[serde(default = "CheckpointSchedule::default_verify")]
    pub verify: bool,
}

impl CheckpointSchedule {
    const fn default_every_blocks() -> i32 {
        1200
    }

    fn default_pause_budget() -> String {
        "10s".to_owned()
    }

    const fn default_verify() -> bool {
        true
    }
}

impl Default for CheckpointSchedule {
    fn default() -> Self {
        Self {
            every_blocks: Self::default_every_blocks(),
            volume_snapshot_class_name: None,
            keep: CheckpointRetention::default(),
            pause_budget: Self::default_pause_budget(),
            verify: Self::default_verify(),
        }
    }
}

/// How many checkpoints of the schedule are kept. The newest ready one and those that a node restores from stay anyhow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointRetention {
    /// The newest so many.
    #[serde(default = "CheckpointRetention::default_last")]
    #[schemars(range(min = 1, max = 1000))]
    pub last: i32,
    /// The newest of each of the last so many hours.
    #[serde(default = "CheckpointRetention::default_hourly")]
    #[schemars(range(min = 0, max = 1000))]
    pub hourly: i32,
    /// The newest of each of the last so many days.
    #[serde(default = "CheckpointRetention::default_daily")]
    #[schemars(range(min = 0, max = 1000))]
    pub daily: i32,
}

impl CheckpointRetention {
    const fn default_last() -> i32 {
        3
    }

    const fn default_hourly() -> i32 {
        24
    }

    const fn default_daily() -> i32 {
        7
    }
}

impl Default for CheckpointRetention {
    fn default() -> Self {
        Self {
            last: Self::default_last(),
            hourly: Self::default_hourly(),
            daily: Self::default_daily(),
        }
    }
}

/// What is done about state that is proven wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// Rolls back to the newest checkpoint that passes every check, without a person.
    #[serde(default = "Recovery::default_automatic")]
    pub automatic: bool,
    /// Most tries within `window`.
    #[serde(default = "Recovery::default_max_attempts")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: i32,
    /// Time in which tries are counted.
    #[serde(default = "Recovery::default_window")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = rules::duration("1m", "720h"))]
    pub window: String,
    /// What is done after the last try: `Stop` leaves the node as it is and alerts, `Rebuild` starts it anew from a
    /// verified state document of its peers.
    #[serde(default)]
    pub when_exhausted: WhenExhausted,
}

impl Recovery {
    const fn default_automatic() -> bool {
        true
    }

    const fn default_max_attempts() -> i32 {
        3
    }

    fn default_window() -> String {
        "1h".to_owned()
    }
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            automatic: Self::default_automatic(),
            max_attempts: Self::default_max_attempts(),
            window: Self::default_window(),
            when_exhausted: WhenExhausted::default(),
        }
    }
}

/// What is done after the last try of a recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenExhausted {
    /// Leaves the node as it is and alerts.
    #[default]
    Stop,
    /// Starts the node anew from a verified state document of its peers.
    Rebuild,
}
