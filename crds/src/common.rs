//! What several parts of the resources share.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// Variables of the agent that the operator sets: each has a field of its own or belongs to how the pod is built.
pub const RESERVED_VARIABLES: &[&str] = &[
    "ADMIN_LISTEN",
    "ADMIN_TOKEN",
    "ADMIN_TOKEN_FILE",
    "ADVERTISE_URL",
    "API_KEY",
    "API_KEYS_FILE",
    "DATA_DIR",
    "DGRAPH_ALPHA",
    "DGRAPH_AUTH_TOKEN_FILE",
    "DGRAPH_CA_FILE",
    "DGRAPH_CERTIFICATE_FILE",
    "DGRAPH_KEY_FILE",
    "DGRAPH_MODE",
    "DGRAPH_NAMESPACE",
    "DGRAPH_PASSWORD_FILE",
    "DGRAPH_USER",
    "HONEYCOMB_CERTIFICATES",
    "HONEYCOMB_SOURCES",
    "HONEYCOMB_SOURCES_FILE",
    "INGEST_LISTEN",
    "INGEST_TLS_CERTIFICATE_FILE",
    "INGEST_TLS_CLIENT_CA_FILE",
    "INGEST_TLS_KEY_FILE",
    "LIMIT_RATE_PER_ADDRESS",
    "LIMIT_RATE_PER_PEER",
    "MAX_REORG_DEPTH",
    "METRICS_LISTEN",
    "NETWORK",
    "PEERS",
    "PEER_ID",
    "PUBLIC_LISTEN",
    "SYNC_BUFFER_BYTES",
    "SYNC_ENABLED",
    "SYNC_INTERVAL",
    "SYNC_IN_FLIGHT_MAX",
    "SYNC_RANGE_BLOCKS_MAX",
    "TRUSTED_PROXIES",
    "VERIFICATION",
    "VOTERS",
];

/// A key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub name: String,
    /// Key in it.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::data_key())]
    pub key: String,
}

/// A key of a `ConfigMap` in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyReference {
    /// Name of the `ConfigMap`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub name: String,
    /// Key in it.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::data_key())]
    pub key: String,
}

/// A `HoneygraphNode` in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeReference {
    /// Name of the `HoneygraphNode`.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = rules::object_name())]
    pub name: String,
}

/// A `Checkpoint` in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointReference {
    /// Name of the `Checkpoint`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rules::object_name())]
    pub name: String,
}

/// A volume: every member has one of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.storageClassName) == has(oldSelf.storageClassName) && \
     (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
    "the storage class of existing volumes cannot be changed; create another node, which fills itself from its peers"
))]
pub struct Storage {
    /// Size of the volume. It can grow, where the storage class allows it, but not shrink.
    #[schemars(schema_with = "schema::quantity")]
    #[x_kube(validation = rules::quantity("1Gi", "64Ti"), validation = rules::grows_only())]
    pub size: Quantity,
    /// Storage class of the volume; the default one of the cluster unless set. It cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rules::object_name())]
    pub storage_class_name: Option<String>,
}

impl Storage {
    /// A volume of a size, of the default storage class.
    pub(crate) fn of_size(size: &str) -> Self {
        Self {
            size: Quantity(size.to_owned()),
            storage_class_name: None,
        }
    }
}

/// What a container asks for and may use, as in a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceRequirements {
    /// What the container is sure to get, by resource (`cpu`, `memory`, ...).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub requests: BTreeMap<String, Quantity>,
    /// What the container never gets more of, by resource.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub limits: BTreeMap<String, Quantity>,
}

/// An environment variable, with its value or where to find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.value) != has(self.valueFrom)",
    "give the variable either value or valueFrom"
))]
pub struct EnvironmentVariable {
    /// Name of the variable. Those that the operator sets from other fields are refused.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(
        validation = Rule::new("self.matches('^[A-Z][A-Z0-9_]*$')")
            .message("must be the name of a setting of the agent: A-Z, 0-9 and _"),
        validation = Rule::new(reserved_variables_rule())
            .message("is set by the operator; use the field of this resource instead (docs/honeygraphnode.md)"),
    )]
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// Where its value is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvironmentVariableSource>,
}

/// Where the value of a variable is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.secretKeyRef) != has(self.configMapKeyRef)",
    "give either secretKeyRef or configMapKeyRef"
))]
pub struct EnvironmentVariableSource {
    /// A key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyReference>,
    /// A key of a `ConfigMap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyReference>,
}

fn reserved_variables_rule() -> String {
    let names: Vec<_> = RESERVED_VARIABLES
        .iter()
        .map(|name| format!("'{name}'"))
        .collect();
    format!("!(self in [{}])", names.join(", "))
}
