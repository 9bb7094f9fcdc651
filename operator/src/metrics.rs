//! The operator's own metrics.

use std::sync::Arc;
use std::time::Duration;

use honeygraph_crds::NodePhase;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What is counted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<Ending, Counter>,
    duration: Histogram,
    phases: Family<NodeInPhase, Gauge>,
    undecodable: Counter,
    leader: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    /// `success`, or the step that failed.
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeInPhase {
    namespace: String,
    node: String,
    phase: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("honeygraph_operator");
        let reconciles = Family::default();
        let duration = Histogram::new(exponential_buckets(0.005, 2.0, 12));
        let phases = Family::default();
        let undecodable = Counter::default();
        let leader = Gauge::<i64>::default();
        registry.register(
            "reconciles",
            "Reconciles of nodes by how they ended",
            reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Time that a reconcile takes",
            Unit::Seconds,
            duration.clone(),
        );
        registry.register("node_phase", "1 for the phase that a node is in", phases.clone());
        registry.register(
            "undecodable_objects",
            "Times that a node could not be read and was skipped",
            undecodable.clone(),
        );
        registry.register("leader", "Whether this operator leads", leader.clone());
        Self {
            registry: Arc::new(registry),
            reconciles,
            duration,
            phases,
            undecodable,
            leader,
        }
    }
}

impl Metrics {
    /// A reconcile ended, with the step that failed if one did.
    pub fn observe_reconcile(&self, took: Duration, failed: Option<&'static str>) {
        let outcome = Ending {
            outcome: failed.unwrap_or("success"),
        };
        self.reconciles.get_or_create(&outcome).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// A node is in a phase and in no other.
    pub fn observe_phase(&self, namespace: &str, node: &str, phase: Option<NodePhase>) {
        self.forget(namespace, node);
        if let Some(phase) = phase {
            self.phases.get_or_create(&labels(namespace, node, phase)).set(1);
        }
    }

    /// A node is gone.
    pub fn forget(&self, namespace: &str, node: &str) {
        for phase in NodePhase::ALL {
            self.phases.remove(&labels(namespace, node, phase));
        }
    }

    /// A node could not be read.
    pub fn count_undecodable(&self) {
        self.undecodable.inc();
    }

    /// Whether this operator leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All of them in the text format of `OpenMetrics`.
    ///
    /// # Errors
    /// A value cannot be written.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn labels(namespace: &str, node: &str, phase: NodePhase) -> NodeInPhase {
    NodeInPhase {
        namespace: namespace.to_owned(),
        node: node.to_owned(),
        phase: phase.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_in_one_phase() {
        let metrics = Metrics::default();
        metrics.observe_phase("default", "eu", Some(NodePhase::Progressing));
        metrics.observe_phase("default", "eu", Some(NodePhase::Ready));
        metrics.observe_reconcile(Duration::from_millis(20), None);
        metrics.observe_reconcile(Duration::from_millis(20), Some("Apply"));
        let text = metrics.encode().expect("text");
        let phases: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("honeygraph_operator_node_phase{"))
            .collect();
        assert_eq!(
            phases,
            [r#"honeygraph_operator_node_phase{namespace="default",node="eu",phase="Ready"} 1"#]
        );
        assert!(
            text.contains(r#"honeygraph_operator_reconciles_total{outcome="Apply"} 1"#),
            "{text}"
        );
        assert!(
            text.contains("honeygraph_operator_reconcile_duration_seconds_count 2"),
            "{text}"
        );
        metrics.forget("default", "eu");
        assert!(!metrics.encode().expect("text").contains("phase=\"Ready\""));
    }

    #[test]
    fn the_page_has_every_metric_and_no_other() {
        let metrics = Metrics::default();
        metrics.observe_phase("default", "eu", Some(NodePhase::Ready));
        metrics.observe_reconcile(Duration::from_millis(20), None);
        let text = metrics.encode().expect("text");
        let mut measured: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .map(|line| match line.split_once(' ') {
                Some((name, "counter")) => format!("{name}_total"),
                Some((name, _)) => name.to_owned(),
                None => line.to_owned(),
            })
            .collect();
        let page = crate::committed::read("docs/operator.md");
        let rows = page
            .lines()
            .filter(|line| line.starts_with("| `honeygraph_operator_"));
        let mut described: Vec<_> = rows
            .flat_map(|row| crate::committed::metrics_in(row).into_iter().take(1))
            .collect();
        measured.sort();
        described.sort();
        assert_eq!(measured, described);
    }
}
