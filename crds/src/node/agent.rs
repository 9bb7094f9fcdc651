//! The agents of a node.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{EnvironmentVariable, ResourceRequirements, Storage, rules};

/// The agents of a node: each has a `StatefulSet`, a volume and an identity of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// Number of agents; `kubectl scale` changes it. Each is called `<node>-agent-<i>`; honeycombs are spread over
    /// them, readers use one Service. 0 keeps the volumes and runs nothing.
    #[serde(default = "Agent::default_replicas")]
    #[schemars(range(min = 0, max = 32))]
    pub replicas: i32,
    /// Image of the agent; that of the operator's own release unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rules::image())]
    pub image: Option<String>,
    /// What the container asks for and may use.
    #[serde(default)]
    pub resources: ResourceRequirements,
    /// Volume of each agent.
    #[serde(default = "Agent::default_storage")]
    pub storage: Storage,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub priority_class_name: Option<String>,
    /// Further settings of the agent (docs/configuration.md), such as `HISTORY_BLOCKS`. Those that have a field of this
    /// resource are refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvironmentVariable>,
}

impl Agent {
    const fn default_replicas() -> i32 {
        1
    }

    fn default_storage() -> Storage {
        Storage::of_size("50Gi")
    }
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            replicas: Self::default_replicas(),
            image: None,
            resources: ResourceRequirements::default(),
            storage: Self::default_storage(),
            priority_class_name: None,
            env: Vec::new(),
        }
    }
}
