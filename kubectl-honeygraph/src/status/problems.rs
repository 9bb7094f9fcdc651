//! What is wrong with nodes, and what to do about it.

use std::collections::BTreeMap;

use honeygraph_crds::{CheckpointPhase, HoneygraphNode, NodeCondition};
use honeygraph_operator::agent::{Agreement, SyncMode, SyncStatus};
use kube::ResourceExt;
use serde::Serialize;

use super::CheckpointLine;
use crate::advice;
use crate::sight::{AgentFault, NodeSight, namespace};
use crate::text::{count, counted};

/// Blocks behind the head at which a node still counts as in sync, as the operator has it: a minute.
const IN_SYNC_BLOCKS: u64 = 20;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Somebody has to do something.
    Failed,
    /// It may pass by itself.
    Warning,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Namespace of the node.
    pub namespace: String,
    /// The node.
    pub node: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// All problems, the worst first.
pub(super) fn problems(
    sights: &[NodeSight],
    checkpoints: &[CheckpointLine],
    not_understood: &[String],
) -> Vec<Problem> {
    let mut problems: Vec<_> = sights.iter().flat_map(of_node).collect();
    problems.extend(disagreements(sights));
    problems.extend(checkpoints.iter().filter_map(of_checkpoint));
    problems.extend(not_understood.iter().map(|name| {
        let (namespace, node) = name.split_once('/').unwrap_or(("", name));
        Problem {
            severity: Severity::Failed,
            namespace: namespace.to_owned(),
            node: node.to_owned(),
            what: "its object is not understood: it is of another version than this program".to_owned(),
            hint: "use the kubectl-honeygraph of the operator's release; see kubectl honeygraph doctor"
                .to_owned(),
        }
    }));
    problems.sort_by_key(|problem| problem.severity);
    problems
}

/// Conditions that are not as they should be, then what its agents say beyond them.
fn of_node(sight: &NodeSight) -> Vec<Problem> {
    let node = &sight.node;
    let conditions = bad_conditions(node);
    let mut problems: Vec<_> = conditions
        .iter()
        .map(|bad| problem(node, bad.severity, bad.what.clone(), bad.reason))
        .collect();
    if node.status.is_none() {
        let what = "the operator has not looked at it yet".to_owned();
        let mut unseen = problem(node, Severity::Warning, what, "");
        "is the operator there? kubectl honeygraph doctor".clone_into(&mut unseen.hint);
        problems.push(unseen);
    }
    // What stalls a node keeps its agents from answering too.
    let is_covered = |kind: NodeCondition| {
        let kinds = [kind, NodeCondition::Stalled].map(NodeCondition::as_str);
        conditions.iter().any(|bad| kinds.contains(&bad.kind))
    };
    for agent in &sight.agents {
        let found = match &agent.answer {
            Ok(sync) => of_agent(sync),
            Err(AgentFault::Forbidden) => Vec::new(),
            Err(fault) => vec![Finding {
                kind: NodeCondition::Ready,
                severity: Severity::Failed,
                reason: "NoAnswer",
                what: fault.to_string(),
            }],
        };
        problems.extend(
            found
                .into_iter()
                .filter(|finding| !is_covered(finding.kind))
                .map(|finding| {
                    let what = format!("{}: {}", agent.name, finding.what);
                    problem(node, finding.severity, what, finding.reason)
                }),
        );
    }
    problems
}

fn problem(node: &HoneygraphNode, severity: Severity, what: String, reason: &str) -> Problem {
    Problem {
        severity,
        namespace: namespace(node),
        node: node.name_any(),
        what,
        hint: advice::for_reason(node, reason),
    }
}

/// A condition that is not as it should be.
pub(crate) struct BadCondition<'a> {
    kind: &'a str,
    pub(crate) severity: Severity,
    pub(crate) reason: &'a str,
    pub(crate) what: String,
}

/// The conditions of a node that are not as they should be, one for each reason.
pub(crate) fn bad_conditions(node: &HoneygraphNode) -> Vec<BadCondition<'_>> {
    let all = node.status.iter().flat_map(|status| &status.conditions);
    let mut bad: Vec<BadCondition<'_>> = Vec::new();
    for condition in all {
        let severity = match (condition.type_.as_str(), condition.status.as_str()) {
            ("Stalled", "True") | ("Ready" | "StateVerified" | "ForkSafe", "False") => Severity::Failed,
            ("Synced", "False") if condition.reason == "NoNetworkHead" => Severity::Failed,
            ("Ready" | "StateVerified" | "ForkSafe" | "Synced", "Unknown")
            | ("Synced" | "CheckpointFresh", "False") => Severity::Warning,
            _ => continue,
        };
        bad.push(BadCondition {
            kind: &condition.type_,
            severity,
            reason: &condition.reason,
            what: match condition.message.as_str() {
                "" => condition.reason.clone(),
                message => format!("{}: {message}", condition.reason),
            },
        });
    }
    // That no agent answers follows from what is worse, and is said of three conditions.
    let failed = bad.iter().any(|condition| condition.severity == Severity::Failed);
    bad.retain(|condition| !(failed && condition.reason == "NoAnswer"));
    // `Stalled` says more than `Ready`, which comes first.
    bad.sort_by_key(|condition| condition.kind != NodeCondition::Stalled.as_str());
    let mut said = Vec::new();
    bad.retain(|condition| {
        let is_new = !said.contains(&condition.reason);
        said.push(condition.reason);
        is_new
    });
    bad
}

/// Something that an agent says and a condition may say too.
struct Finding {
    /// The condition that would say it.
    kind: NodeCondition,
    severity: Severity,
    /// Reason of that condition, which names what to do.
    reason: &'static str,
    what: String,
}

fn of_agent(sync: &SyncStatus) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut find = |kind, severity, reason, what: String| {
        found.push(Finding {
            kind,
            severity,
            reason,
            what,
        });
    };
    match sync.mode {
        Some(SyncMode::Halted) => find(
            NodeCondition::ForkSafe,
            Severity::Failed,
            "Halted",
            "has stopped: something contradicts what is final".to_owned(),
        ),
        Some(SyncMode::Partitioned) => find(
            NodeCondition::ForkSafe,
            Severity::Failed,
            "Partitioned",
            "is cut off from most of the votes".to_owned(),
        ),
        Some(SyncMode::Starved) => find(
            NodeCondition::Synced,
            Severity::Failed,
            "NoNetworkHead",
            "misses blocks that nobody has or sends".to_owned(),
        ),
        _ => {}
    }
    let missing = sync.gaps.map_or(0, |gaps| gaps.total_missing);
    match (sync.network_head, sync.lag) {
        (None, _) => find(
            NodeCondition::Synced,
            Severity::Failed,
            "NoNetworkHead",
            "hears of no head of its network".to_owned(),
        ),
        (_, Some(lag)) if lag > IN_SYNC_BLOCKS => find(
            NodeCondition::Synced,
            Severity::Warning,
            "Behind",
            format!("is {} behind", counted(lag, "block")),
        ),
        // What is missing at the head has not come yet: that is the lag.
        (_, lag) if missing > lag.unwrap_or_default() => find(
            NodeCondition::Synced,
            Severity::Warning,
            "Gaps",
            format!("misses {}", counted(missing, "block")),
        ),
        _ => {}
    }
    if let Some(checkpoint) = &sync.checkpoint
        && checkpoint.agreement == Agreement::Conflict
    {
        find(
            NodeCondition::StateVerified,
            Severity::Failed,
            "Conflict",
            format!("voters contradict block {}", count(checkpoint.block_num)),
        );
    }
    if let Some(dgraph) = &sync.dgraph {
        if let Some(mismatch) = dgraph.mismatch {
            let what = format!("Dgraph contradicts the log at block {}", count(mismatch.block));
            find(NodeCondition::Ready, Severity::Failed, "DgraphMismatch", what);
        } else if !dgraph.connected {
            let error = dgraph.last_error.as_deref().unwrap_or("no answer");
            let what = format!("Dgraph cannot be written ({error})");
            find(NodeCondition::Ready, Severity::Failed, "WaitingForDgraph", what);
        }
    }
    if !sync.peers.is_empty() && sync.peers.iter().all(|peer| !peer.is_alive) {
        let what = format!("none of its {} answers", counted(sync.peers.len() as u64, "peer"));
        find(NodeCondition::Ready, Severity::Warning, "Partitioned", what);
    }
    found
}

/// What an agent holds at an anchor.
struct Held<'a> {
    node: &'a HoneygraphNode,
    agent: &'a str,
    state: &'a str,
}

/// Agents of one network that hold different states at one anchor.
fn disagreements(sights: &[NodeSight]) -> Vec<Problem> {
    let mut anchors: BTreeMap<(&str, u64), Vec<Held<'_>>> = BTreeMap::new();
    for sight in sights {
        for agent in &sight.agents {
            let answer = agent.answer.as_ref().ok();
            let Some(checkpoint) = answer.and_then(|sync| sync.checkpoint.as_ref()) else {
                continue;
            };
            anchors
                .entry((&sight.node.spec.network, checkpoint.block_num))
                .or_default()
                .push(Held {
                    node: &sight.node,
                    agent: &agent.name,
                    state: &checkpoint.state_hash,
                });
        }
    }
    anchors
        .into_iter()
        .filter_map(|((_, block), held)| {
            let one = held.first()?;
            let other = held.iter().find(|held| held.state != one.state)?;
            let what = format!(
                "{} and {} hold different states at block {}: {} and {}",
                one.agent,
                other.agent,
                count(block),
                one.state,
                other.state
            );
            Some(problem(one.node, Severity::Failed, what, "Conflict"))
        })
        .collect()
}

fn of_checkpoint(checkpoint: &CheckpointLine) -> Option<Problem> {
    (checkpoint.phase == CheckpointPhase::Failed).then(|| Problem {
        severity: Severity::Warning,
        namespace: checkpoint.namespace.clone(),
        node: checkpoint.node.clone(),
        what: format!("checkpoint {} failed", checkpoint.name),
        hint: format!(
            "kubectl -n {} describe checkpoint {}",
            checkpoint.namespace, checkpoint.name
        ),
    })
}
