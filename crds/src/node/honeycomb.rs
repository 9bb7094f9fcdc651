//! The honeycombs of a node.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::IngestExposure;
use crate::SecretKeyReference;

/// The honeycombs that push blocks to a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!self.sources.exists(source, source.clientCertificate) || \
     (has(self.exposure.tls) && has(self.exposure.tls.clientAuthoritySecretName))",
    "a source with clientCertificate needs exposure.tls.clientAuthoritySecretName"
))]
pub struct Honeycomb {
    /// Honeycombs that may push blocks. A network with none lives on what its peers have.
    #[serde(default)]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub sources: Vec<HoneycombSource>,
    /// How honeycombs reach the WebSocket that they push to.
    #[serde(default)]
    pub exposure: IngestExposure,
}

/// A honeycomb that may push blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.token) || self.clientCertificate",
    "give the source a token, or clientCertificate: true"
))]
pub struct HoneycombSource {
    /// Name of the honeycomb.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = (
        "self.matches('^[A-Za-z0-9._-]+$') && self != 'loopback'",
        "must be the name of a honeycomb: a-z, A-Z, 0-9, ., _ and -, not loopback"
    ))]
    pub name: String,
    /// Its token, 16 to 512 visible ASCII characters without comma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretKeyReference>,
    /// Lets it in with a client certificate that has its name as a DNS name, of `exposure.tls.clientAuthoritySecretName`.
    #[serde(default)]
    pub client_certificate: bool,
    /// Weight of its vote on what is true; 0 is no vote.
    #[serde(default = "super::peers::default_weight")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub vote_weight: i32,
}
