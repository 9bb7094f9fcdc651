//! What watches a node.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{rules, schema};

/// What watches a node. Kinds that the cluster does not have are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// A `PodMonitor` of the Prometheus operator.
    #[serde(default)]
    pub pod_monitor: PodMonitor,
    /// A `PrometheusRule` of the Prometheus operator.
    #[serde(default)]
    pub rules: AlertRules,
    /// A `ConfigMap` with a dashboard that Grafana's sidecar finds.
    #[serde(default)]
    pub dashboard: bool,
}

/// A `PodMonitor` of the Prometheus operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMonitor {
    /// Makes one where the kind exists.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Time between two scrapes.
    #[serde(default = "PodMonitor::default_interval")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = rules::duration("1s", "1h"))]
    pub interval: String,
    /// Labels by which Prometheus finds it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: BTreeMap<String, String>,
}

impl PodMonitor {
    fn default_interval() -> String {
        "30s".to_owned()
    }
}

impl Default for PodMonitor {
    fn default() -> Self {
        Self {
            enabled: yes(),
            interval: Self::default_interval(),
            labels: BTreeMap::new(),
        }
    }
}

/// A `PrometheusRule` of the Prometheus operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertRules {
    /// Makes one where the kind exists.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Labels by which Prometheus finds it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: BTreeMap<String, String>,
    /// When alerts fire.
    #[serde(default)]
    pub thresholds: AlertThresholds,
}

impl Default for AlertRules {
    fn default() -> Self {
        Self {
            enabled: yes(),
            labels: BTreeMap::new(),
            thresholds: AlertThresholds::default(),
        }
    }
}

/// When alerts fire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertThresholds {
    /// Blocks behind the head of the network.
    #[serde(default = "AlertThresholds::default_lag_blocks")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub lag_blocks: i32,
    /// Blocks of the largest gap.
    #[serde(default = "AlertThresholds::default_gap_blocks")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub gap_blocks: i32,
    /// Age of the newest block that anybody announced.
    #[serde(default = "AlertThresholds::default_head_age")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = rules::duration("10s", "24h"))]
    pub head_age: String,
    /// Age of the newest checkpoint that is ready.
    #[serde(default = "AlertThresholds::default_checkpoint_age")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = rules::duration("10m", "8760h"))]
    pub checkpoint_age: String,
}

impl AlertThresholds {
    const fn default_lag_blocks() -> i32 {
        200
    }

    const fn default_gap_blocks() -> i32 {
        1000
    }

    fn default_head_age() -> String {
        "5m".to_owned()
    }

    fn default_checkpoint_age() -> String {
        "3h".to_owned()
    }
}

impl Default for AlertThresholds {
    fn default() -> Self {
        Self {
            lag_blocks: Self::default_lag_blocks(),
            gap_blocks: Self::default_gap_blocks(),
            head_age: Self::default_head_age(),
            checkpoint_age: Self::default_checkpoint_age(),
        }
    }
}

const fn yes() -> bool {
    true
}
