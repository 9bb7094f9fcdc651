//! The Dgraph of a node.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NodeReference, ResourceRequirements, SecretKeyReference, Storage, rules, schema};

/// Whose Dgraph a node writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DgraphMode {
    /// A Dgraph of the node's own.
    Independent,
    /// One Dgraph for all nodes of a region: one owns it, the others name that one in `clusterRef`.
    #[default]
    Hybrid,
    /// One Dgraph for all nodes: one owns it or it runs elsewhere, the others have a `clusterRef`.
    Shared,
    /// No Dgraph: the agent alone.
    Embedded,
}

/// The Dgraph that the log is projected into.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mode != 'Embedded' || !(has(self.image) || has(self.zero) || has(self.alpha) || \
            has(self.clusterRef) || has(self.acl) || has(self.tls) || has(self.adminToken))")
        .message("mode Embedded is the agent alone: leave out image, zero, alpha, clusterRef, acl, tls and adminToken"),
    validation = Rule::new("self.mode != 'Independent' || !has(self.clusterRef)")
        .message("mode Independent is a Dgraph of the node's own: leave out clusterRef, or use Hybrid or Shared"),
    validation = Rule::new("!has(self.clusterRef) || !(has(self.image) || has(self.zero) || has(self.alpha))")
        .message("with clusterRef the Dgraph belongs to another: leave out image, zero and alpha"),
    validation = Rule::new("!has(self.acl) || has(self.clusterRef) || has(self.acl.hmac)")
        .message("acl.hmac is needed where this node owns the Dgraph"),
    validation = Rule::new("!has(self.acl) || !has(self.clusterRef) || !has(self.acl.hmac)")
        .message("with clusterRef the Dgraph belongs to another: leave out acl.hmac"),
    validation = Rule::new("!has(self.tls) || has(self.clusterRef) || has(self.tls.serverSecretName)")
        .message("tls.serverSecretName is needed where this node owns the Dgraph"),
    validation = Rule::new("!has(self.tls) || !has(self.clusterRef) || !has(self.tls.serverSecretName)")
        .message("with clusterRef the Dgraph belongs to another: leave out tls.serverSecretName"),
)]
pub struct Dgraph {
    /// Whose Dgraph this node writes: `Independent` is one of the node's own, `Hybrid` one for the nodes of a region,
    /// `Shared` one for all nodes, `Embedded` none. In `Hybrid` and `Shared` a node without `clusterRef` owns the
    /// Dgraph.
    #[serde(default)]
    pub mode: DgraphMode,
    /// Image of Dgraph, 25.4 or newer; the one that this operator was tested with unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = rules::image())]
    pub image: Option<String>,
    /// The zeros, which hand out ids and timestamps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zero: Option<DgraphZero>,
    /// The alphas, which hold the data and answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<DgraphAlpha>,
    /// The Dgraph of another node, or one that runs elsewhere; unset where this node owns its Dgraph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_ref: Option<DgraphCluster>,
    /// Access control (ACL); off unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<DgraphAccessControl>,
    /// TLS of the alphas; off unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<DgraphTls>,
    /// Token of the alphas' flag `--security token=...`; made by the operator unless set, where this node owns the
    /// Dgraph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_token: Option<SecretKeyReference>,
}

/// The zeros of a Dgraph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DgraphZero {
    /// Number of zeros. One is enough: the log is the redundancy.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 5))]
    #[x_kube(validation = rules::odd())]
    pub replicas: i32,
    /// Volume of each zero.
    #[serde(default = "DgraphZero::default_storage")]
    pub storage: Storage,
    /// What the container asks for and may use.
    #[serde(default)]
    pub resources: ResourceRequirements,
    /// Further flags, by name without dashes, such as `v: "2"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::flags")]
    #[x_kube(
        validation = Rule::new("self.all(name, name in ['audit', 'limit', 'rebalance_interval', 'trace', 'v', 'vmodule'])")
            .message("flags of a zero that may be set: audit, limit, rebalance_interval, trace, v, vmodule"),
    )]
    pub flags: BTreeMap<String, String>,
}

impl DgraphZero {
    fn default_storage() -> Storage {
        Storage::of_size("2Gi")
    }
}

impl Default for DgraphZero {
    fn default() -> Self {
        Self {
            replicas: one(),
            storage: Self::default_storage(),
            resources: ResourceRequirements::default(),
            flags: BTreeMap::new(),
        }
    }
}

/// The alphas of a Dgraph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DgraphAlpha {
    /// Number of alphas, which copy from each other. One is enough: the log is the redundancy.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 7))]
    #[x_kube(validation = rules::odd())]
    pub replicas: i32,
    /// Volume of each alpha.
    #[serde(default = "DgraphAlpha::default_storage")]
    pub storage: Storage,
    /// What the container asks for and may use.
    #[serde(default)]
    pub resources: ResourceRequirements,
    /// Memory for cached data.
    #[serde(default = "DgraphAlpha::default_cache_size")]
    #[schemars(schema_with = "schema::quantity")]
    #[x_kube(validation = rules::quantity("64Mi", "1Ti"))]
    pub cache_size: Quantity,
    /// Further flags, by name without dashes, such as `limit: "query-timeout=30s"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::flags")]
    #[x_kube(
        validation = Rule::new("self.all(name, name in ['audit', 'badger', 'graphql', 'limit', 'trace', 'v', 'vmodule'])")
            .message("flags of an alpha that may be set: audit, badger, graphql, limit, trace, v, vmodule"),
    )]
    pub flags: BTreeMap<String, String>,
}

impl DgraphAlpha {
    fn default_storage() -> Storage {
        Storage::of_size("50Gi")
    }

    fn default_cache_size() -> Quantity {
        Quantity("512Mi".to_owned())
    }
}

impl Default for DgraphAlpha {
    fn default() -> Self {
        Self {
            replicas: one(),
            storage: Self::default_storage(),
            resources: ResourceRequirements::default(),
            cache_size: Self::default_cache_size(),
            flags: BTreeMap::new(),
        }
    }
}

/// A Dgraph that another owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.nodeRef) != has(self.endpoints)",
    "give either nodeRef, the node that owns the Dgraph, or endpoints of one that runs elsewhere"
))]
pub struct DgraphCluster {
    /// The node that owns the Dgraph, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ref: Option<NodeReference>,
    /// Alphas of a Dgraph that runs elsewhere, by their gRPC port; `host:port` is without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dgraph_endpoints")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub endpoints: Option<Vec<String>>,
}

/// Access control of a Dgraph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DgraphAccessControl {
    /// Key that signs logins, 32 bytes or more; given where this node owns the Dgraph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac: Option<SecretKeyReference>,
    /// User that the agents log in as.
    #[serde(default = "DgraphAccessControl::default_user")]
    #[schemars(length(min = 1, max = 128))]
    pub user: String,
    /// The user's password.
    pub password: SecretKeyReference,
    /// Namespace of Dgraph that the user logs in to; 0 is the root one.
    #[serde(default)]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub namespace: u64,
}

impl DgraphAccessControl {
    fn default_user() -> String {
        "groot".to_owned()
    }
}

/// TLS of a Dgraph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.serverSecretName) || has(self.clientSecretName)",
    "give serverSecretName, clientSecretName or both"
))]
pub struct DgraphTls {
    /// Secret with the alphas' certificate (`tls.crt`, `tls.key`) and its authority (`ca.crt`); given where this node
    /// owns the Dgraph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub server_secret_name: Option<String>,
    /// Secret with the authority of the alphas' certificates (`ca.crt`) and, where the alphas ask for one, the agents'
    /// certificate (`tls.crt`, `tls.key`); `ca.crt` of `serverSecretName` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub client_secret_name: Option<String>,
}

const fn one() -> i32 {
    1
}
