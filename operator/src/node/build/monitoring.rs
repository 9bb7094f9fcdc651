//! What makes Prometheus watch a node, for clusters with the Prometheus operator.

use std::collections::BTreeMap;

use honeygraph_crds::{AlertRules, PodMonitor};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;

use crate::alerts::{AGENT_JOB, Scope, on_agents};
use crate::dashboard::dashboard;
use crate::names::{NETWORK_LABEL, NODE_LABEL, NodeIdentity, REGION_LABEL, Role};

/// Label by which Grafana's sidecar finds a dashboard.
const DASHBOARD_LABEL: &str = "grafana_dashboard";

/// The kind `PodMonitor`.
pub fn pod_monitor_kind() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("monitoring.coreos.com", "v1", "PodMonitor"),
        "podmonitors",
    )
}

/// The kind `PrometheusRule`.
pub fn prometheus_rule_kind() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("monitoring.coreos.com", "v1", "PrometheusRule"),
        "prometheusrules",
    )
}

/// Has Prometheus scrape the agents of a node. The job is called as the rules expect it.
pub(super) fn pod_monitor(identity: &NodeIdentity, wanted: &PodMonitor) -> DynamicObject {
    let relabelled = |label: &str, target: &str| {
        let source = format!(
            "__meta_kubernetes_pod_label_{}",
            label.replace(['.', '/', '-'], "_")
        );
        json!({"sourceLabels": [source], "targetLabel": target})
    };
    let mut monitor = DynamicObject::new(&identity.name, &pod_monitor_kind()).data(json!({"spec": {
        "selector": {"matchLabels": identity.selector(Role::Agent)},
        "podMetricsEndpoints": [{
            "port": "metrics",
            "interval": wanted.interval,
            "relabelings": [
                {"targetLabel": "job", "replacement": AGENT_JOB},
                // Alerts name the pod and not its address.
                {
                    "sourceLabels": ["__meta_kubernetes_namespace", "__meta_kubernetes_pod_name"],
                    "separator": "/",
                    "targetLabel": "instance",
                },
                relabelled(NODE_LABEL, "node"),
                relabelled(NETWORK_LABEL, "network"),
                relabelled(REGION_LABEL, "region"),
            ],
        }],
    }}));
    monitor.metadata = identity.metadata(identity.name.clone(), with(identity, &wanted.labels));
    monitor
}

/// Has Prometheus tell when something is wrong with the agents of a node.
pub(super) fn prometheus_rule(identity: &NodeIdentity, wanted: &AlertRules) -> DynamicObject {
    let scope = Scope::node(identity);
    let rules = on_agents(&scope, &wanted.thresholds);
    let mut object = DynamicObject::new(&identity.name, &prometheus_rule_kind()).data(json!({"spec": rules}));
    object.metadata = identity.metadata(identity.name.clone(), with(identity, &wanted.labels));
    object
}

/// A dashboard of the agents of a node, for Grafana's sidecar.
pub(super) fn dashboard_map(identity: &NodeIdentity) -> ConfigMap {
    let mut labels = identity.role_labels(Role::Agent);
    labels.insert(DASHBOARD_LABEL.to_owned(), "1".to_owned());
    let file = format!("honeygraph-{}-{}.json", identity.namespace, identity.name);
    let made = dashboard(&Scope::node(identity));
    ConfigMap {
        metadata: identity.metadata(identity.dashboard(), labels),
        data: Some(BTreeMap::from([(file, made)])),
        ..ConfigMap::default()
    }
}

/// The labels of a role's object with further ones, by which Prometheus finds it.
fn with(identity: &NodeIdentity, further: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut labels = further.clone();
    labels.extend(identity.role_labels(Role::Agent));
    labels
}
