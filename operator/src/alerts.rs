//! The alerts, and when they fire: one source for the `PrometheusRule` of a node, for that of the operator and for the plain
//! rule files in `deploy/prometheus`. Each has a section in `docs/runbooks.md`.

mod agents;
mod operator;

use honeygraph_crds::AlertThresholds;
use serde::Serialize;

use crate::names::NodeIdentity;

/// Job of the agents in Prometheus.
pub const AGENT_JOB: &str = "honeygraph";
/// Job of the operator in Prometheus.
pub const OPERATOR_JOB: &str = "honeygraph-operator";

/// The page that has a section for each alert.
const RUNBOOKS: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/runbooks.md");

/// Whose metrics are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All agents that a Prometheus asks.
    EveryAgent,
    /// The agents of one node, by the labels that its `PodMonitor` gives them.
    Node {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Scope {
    /// The agents of one node.
    pub fn node(identity: &NodeIdentity) -> Self {
        Self::Node {
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
        }
    }

    /// The same text with `AGENTS` replaced by what selects the metrics of these agents.
    pub(crate) fn fill(&self, text: &str) -> String {
        let matchers = match self {
            Self::EveryAgent => format!("job=\"{AGENT_JOB}\""),
            Self::Node { namespace, name } => {
                format!("job=\"{AGENT_JOB}\",namespace=\"{namespace}\",node=\"{name}\"")
            }
        };
        text.replace("AGENTS", &matchers)
    }
}

/// Rules as a rule file of Prometheus has them, and the spec of a `PrometheusRule`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Group {
    name: &'static str,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Rule {
    alert: &'static str,
    expr: String,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    hold: Option<&'static str>,
    labels: Labels,
    annotations: Annotations,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Labels {
    severity: Severity,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Annotations {
    summary: String,
    description: String,
    runbook_url: String,
}

/// How soon somebody has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// Now: something does not work.
    Critical,
    /// In working hours: something will not work.
    Warning,
}

/// One alert, with words that stand for a scope and thresholds.
struct Alert {
    name: &'static str,
    expression: &'static str,
    /// For how long the expression holds before somebody is told.
    hold: Option<&'static str>,
    severity: Severity,
    summary: &'static str,
    description: &'static str,
}

impl Alert {
    fn rule(&self, fill: impl Fn(&str) -> String) -> Rule {
        Rule {
            alert: self.name,
            expr: fill(self.expression),
            hold: self.hold,
            labels: Labels {
                severity: self.severity,
            },
            annotations: Annotations {
                summary: fill(self.summary),
                description: fill(self.description),
                runbook_url: format!("{RUNBOOKS}#{}", self.name.to_lowercase()),
            },
        }
    }
}

fn filled(groups: &[(&'static str, &[Alert])], fill: impl Fn(&str) -> String) -> RuleFile {
    let groups = groups.iter().map(|(name, alerts)| Group {
        name,
        rules: alerts.iter().map(|alert| alert.rule(&fill)).collect(),
    });
    RuleFile {
        groups: groups.collect(),
    }
}

/// The alerts on agents.
pub fn on_agents(scope: &Scope, thresholds: &AlertThresholds) -> RuleFile {
    let head_age = seconds(&thresholds.head_age).unwrap_or(300).to_string();
    let [lag, gap] = [thresholds.lag_blocks, thresholds.gap_blocks].map(|blocks| blocks.to_string());
    filled(agents::GROUPS, |text| {
        scope
            .fill(text)
            .replace("HEAD_AGE_SECONDS", &head_age)
            .replace("HEAD_AGE", &thresholds.head_age)
            .replace("LAG_BLOCKS", &lag)
            .replace("GAP_BLOCKS", &gap)
    })
}

/// The alerts on the operator, and on what it says of nodes.
pub fn on_the_operator() -> RuleFile {
    filled(operator::GROUPS, |text| {
        text.replace("OPERATOR_JOB", OPERATOR_JOB)
    })
}

/// A duration in whole seconds.
fn seconds(duration: &str) -> Option<u64> {
    let duration: kube::core::Duration = duration.parse().ok()?;
    (!duration.is_negative()).then(|| std::time::Duration::from(duration).as_secs())
}

#[cfg(test)]
mod tests;
