//! How a node fetches what it misses.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// How missing blocks are fetched and verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sync {
    /// Fetches missing blocks from peers.
    #[serde(default = "Sync::default_enabled")]
    pub enabled: bool,
    /// Time between two looks for gaps; a jump of a source is looked at once.
    #[serde(default = "Sync::default_interval")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = rules::duration("100ms", "24h"))]
    pub interval: String,
    /// Which blocks of older peers are taken, whose hashes cannot be computed again: `Strict` takes those that a
    /// verified checkpoint covers, `Quorum` takes them on a quorum of voters and marks them unverified.
    #[serde(default)]
    pub verification: Verification,
    /// Rates, buffers, depths.
    #[serde(default)]
    pub limits: SyncLimits,
}

impl Sync {
    const fn default_enabled() -> bool {
        true
    }

    fn default_interval() -> String {
        "30s".to_owned()
    }
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            enabled: Self::default_enabled(),
            interval: Self::default_interval(),
            verification: Verification::default(),
            limits: SyncLimits::default(),
        }
    }
}

/// Which blocks of older peers are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verification {
    /// Those that a verified checkpoint covers.
    #[default]
    Strict,
    /// Those that a quorum of voters has, marked unverified.
    Quorum,
}

/// Limits of the exchange with peers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncLimits {
    /// Most blocks of one request.
    #[serde(default = "SyncLimits::default_batch_blocks")]
    #[schemars(range(min = 32, max = 512))]
    pub batch_blocks: i32,
    /// Most requests to peers under way at once.
    #[serde(default = "SyncLimits::default_requests_in_flight")]
    #[schemars(range(min = 1, max = 1024))]
    pub requests_in_flight: i32,
    /// Most that is held between fetching and committing.
    #[serde(default = "SyncLimits::default_buffer_size")]
    #[schemars(schema_with = "schema::quantity")]
    #[x_kube(validation = rules::quantity("16Mi", "64Gi"))]
    pub buffer_size: Quantity,
    /// Deepest reorganization that is undone, in blocks.
    #[serde(default = "SyncLimits::default_reorganization_blocks")]
    #[schemars(range(min = 1, max = 100_000))]
    pub reorganization_blocks: i32,
    /// Requests a second that are answered to one peer.
    #[serde(default = "SyncLimits::default_requests_per_second_per_peer")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_second_per_peer: i32,
    /// Requests a second that are answered to one address.
    #[serde(default = "SyncLimits::default_requests_per_second_per_address")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_second_per_address: i32,
}

impl SyncLimits {
    const fn default_batch_blocks() -> i32 {
        512
    }

    const fn default_requests_in_flight() -> i32 {
        32
    }

    fn default_buffer_size() -> Quantity {
        Quantity("64Mi".to_owned())
    }

    const fn default_reorganization_blocks() -> i32 {
        1000
    }

    const fn default_requests_per_second_per_peer() -> i32 {
        100
    }

    const fn default_requests_per_second_per_address() -> i32 {
        200
    }
}

impl Default for SyncLimits {
    fn default() -> Self {
        Self {
            batch_blocks: Self::default_batch_blocks(),
            requests_in_flight: Self::default_requests_in_flight(),
            buffer_size: Self::default_buffer_size(),
            reorganization_blocks: Self::default_reorganization_blocks(),
            requests_per_second_per_peer: Self::default_requests_per_second_per_peer(),
            requests_per_second_per_address: Self::default_requests_per_second_per_address(),
        }
    }
}
