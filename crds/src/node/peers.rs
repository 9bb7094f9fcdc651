//! The peers of a node.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{SecretKeyReference, rules, schema};

/// Who a node exchanges blocks with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Peers {
    /// Peers outside this Kubernetes cluster that are always known.
    #[serde(default, rename = "static")]
    #[schemars(length(max = 1024))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["url".into()]))]
    pub fixed: Vec<StaticPeer>,
    /// Peering with other `HoneygraphNodes` of the same network in this Kubernetes cluster.
    #[serde(default)]
    pub automatic: AutomaticPeers,
    /// File of API keys, one a line; who sends one may call what changes something in the public API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_keys: Option<SecretKeyReference>,
}

/// A peer that is always known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticPeer {
    /// Address of its public API.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rules::url())]
    pub url: String,
    /// Weight of its vote on what is true; 0 is no vote.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub vote_weight: i32,
}

/// Where other nodes are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PeerScope {
    /// Nowhere.
    None,
    /// In the namespace of the node.
    #[default]
    Namespace,
    /// In all namespaces.
    Cluster,
}

/// Peering with other nodes in the same Kubernetes cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "self.scope != 'None' || !has(self.selector)",
    "scope None looks for no nodes: leave out selector"
))]
pub struct AutomaticPeers {
    /// Where other nodes of the same network are looked for: `None` nowhere, `Namespace` in the namespace of this node,
    /// `Cluster` in all namespaces.
    #[serde(default)]
    pub scope: PeerScope,
    /// Labels that the other nodes must have; any unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<LabelSelector>,
    /// Weight of the vote of each such node on what is true; 0 is no vote.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub vote_weight: i32,
}

impl Default for AutomaticPeers {
    fn default() -> Self {
        Self {
            scope: PeerScope::default(),
            selector: None,
            vote_weight: default_weight(),
        }
    }
}

pub(super) const fn default_weight() -> i32 {
    1
}
