//! The alerts on the operator, and on nodes whose agents cannot tell themselves. `OPERATOR_JOB` stands for its job.

use super::Alert;
use super::Severity::{Critical, Warning};

pub(super) const GROUPS: &[(&str, &[Alert])] =
    &[("honeygraph-operator", OPERATOR), ("honeygraph-nodes", NODES)];

const OPERATOR: &[Alert] = &[
    Alert {
        name: "HoneygraphOperatorDown",
        expression: r#"absent(up{job="OPERATOR_JOB"} == 1)"#,
        hold: Some("5m"),
        severity: Critical,
        summary: "No operator answers",
        description: "Prometheus has reached no operator for 5 minutes. Nodes go on as they are; nothing is repaired or changed.",
    },
    Alert {
        name: "HoneygraphOperatorNotLeading",
        expression: r#"sum by (job) (honeygraph_operator_leader{job="OPERATOR_JOB"}) == 0"#,
        hold: Some("5m"),
        severity: Critical,
        summary: "Operators run and none leads",
        description: "For 5 minutes none has held the Lease. Nodes go on as they are; nothing is repaired or changed.",
    },
    Alert {
        name: "HoneygraphReconcilesFailing",
        expression: r#"sum by (job, outcome) (increase(honeygraph_operator_reconciles_total{job="OPERATOR_JOB",outcome!="success"}[15m])) > 3"#,
        hold: Some("15m"),
        severity: Warning,
        summary: "Reconciles keep failing at the step {{ $labels.outcome }}",
        description: r#"About {{ $value | printf "%.0f" }} failed in the last 15 minutes. They are tried again with growing pauses."#,
    },
];

const NODES: &[Alert] = &[
    Alert {
        name: "HoneygraphNodeNotReady",
        expression: r#"sum by (namespace, node) (honeygraph_operator_node_phase{job="OPERATOR_JOB",phase=~"Pending|Progressing|Degraded|Restoring"}) > 0"#,
        hold: Some("30m"),
        severity: Critical,
        summary: "The node {{ $labels.namespace }}/{{ $labels.node }} does not become ready",
        description: "For half an hour a part of it has been missing, or has not answered.",
    },
    Alert {
        name: "HoneygraphNodeStalled",
        expression: r#"sum by (namespace, node) (honeygraph_operator_node_phase{job="OPERATOR_JOB",phase="Stalled"}) > 0"#,
        hold: Some("5m"),
        severity: Warning,
        summary: "The node {{ $labels.namespace }}/{{ $labels.node }} waits for a person",
        description: "What its spec says cannot be done. Its condition Stalled says why and what to change.",
    },
    Alert {
        name: "HoneygraphNodeUndecodable",
        // Counted when it is seen, be it before the first scrape.
        expression: r#"honeygraph_operator_undecodable_objects_total{job="OPERATOR_JOB"}
- (
  honeygraph_operator_undecodable_objects_total{job="OPERATOR_JOB"} offset 1h
  or
  honeygraph_operator_undecodable_objects_total{job="OPERATOR_JOB"} * 0
)
> 0"#,
        hold: None,
        severity: Warning,
        summary: "A node cannot be read and is skipped",
        description: "It was written by another version, or around the rules of its definition. Its parts stay as they are.",
    },
];
