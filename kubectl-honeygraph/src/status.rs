//! `kubectl honeygraph status`: all nodes on one screen, what is wrong with them, and what to do.

mod problems;
mod screen;

use honeygraph_crds::{Checkpoint, CheckpointPhase, DgraphMode, HoneygraphNode, NodePhase};
use honeygraph_operator::agent::{Agreement, SyncMode, SyncStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

pub(crate) use problems::bad_conditions;
pub use problems::{Problem, Severity};
pub use screen::screen;

use crate::sight::{AgentSight, NodeSight, namespace, only_objects};

/// Where nodes stand.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// The nodes, as the operator last saw them.
    pub nodes: Vec<NodeLine>,
    /// Their agents, as they answered now.
    pub agents: Vec<AgentLine>,
    /// Checkpoints that are under way or failed.
    pub checkpoints: Vec<CheckpointLine>,
    /// What is wrong and what to do, the worst first.
    pub problems: Vec<Problem>,
    /// Names of nodes that this version does not understand.
    pub not_understood: Vec<String>,
    /// Whether agents were asked; without the right to reach pods they are not.
    pub agents_asked: bool,
}

/// A node, as the operator last saw it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeLine {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The network it follows.
    pub network: String,
    /// The region it stands in.
    pub region: String,
    /// Whose Dgraph it writes.
    pub mode: DgraphMode,
    /// Its conditions in one word; none before the operator saw it.
    pub phase: Option<NodePhase>,
    /// Newest block that is stored.
    pub head: Option<u64>,
    /// Newest irreversible block.
    pub lib: Option<u64>,
    /// Blocks behind the head of the network.
    pub lag: Option<u64>,
    /// Blocks that are missing.
    pub missing_blocks: Option<u64>,
    /// Blocks of the largest gap.
    pub largest_gap: Option<u64>,
    /// Peers that answer.
    pub peers_alive: Option<u32>,
    /// Peers that are known.
    pub peers_known: Option<u32>,
    /// Agents that are ready.
    pub agents_ready: i32,
    /// Agents that are wanted.
    pub agents: i32,
    /// Block of the newest checkpoint that is ready.
    pub checkpoint_block: Option<u64>,
    /// When that was cut.
    pub checkpoint_time: Option<Timestamp>,
}

/// An agent, as it answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentLine {
    /// Namespace of its node.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Why it did not answer; the rest is absent then.
    pub fault: Option<String>,
    /// What it is doing.
    pub mode: Option<&'static str>,
    /// Newest block that it stores.
    pub head: Option<u64>,
    /// Newest block whose state it has applied.
    pub state_height: Option<u64>,
    /// Newest irreversible block.
    pub lib: Option<u64>,
    /// Blocks behind the head of the network.
    pub lag: Option<u64>,
    /// Blocks that it misses.
    pub missing_blocks: Option<u64>,
    /// Its gaps.
    pub gaps: Option<u64>,
    /// Peers that answer it.
    pub peers_alive: usize,
    /// Peers that it knows.
    pub peers_known: usize,
    /// Newest anchor of the network that it holds.
    pub anchor_block: Option<u64>,
    /// What the voters say of it.
    pub agreement: Option<&'static str>,
    /// Blocks that its Dgraph is behind; absent where it has none, or has not read it.
    pub dgraph_lag: Option<u64>,
}

/// A checkpoint that is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointLine {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The node that it is of.
    pub node: String,
    /// The step it is at.
    pub phase: CheckpointPhase,
    /// Its block.
    pub block: Option<u64>,
}

/// Where nodes stand, of what was seen of them.
pub fn report(sights: &[NodeSight], checkpoints: &[Checkpoint], not_understood: &[String]) -> StatusReport {
    let shown: Vec<_> = checkpoints.iter().filter_map(checkpoint_line).collect();
    StatusReport {
        nodes: sights.iter().map(|sight| node_line(&sight.node)).collect(),
        agents: sights
            .iter()
            .flat_map(|sight| {
                let namespace = namespace(&sight.node);
                sight
                    .agents
                    .iter()
                    .map(move |agent| agent_line(&namespace, agent))
            })
            .collect(),
        problems: problems::problems(sights, &shown, not_understood),
        checkpoints: shown,
        not_understood: not_understood.to_vec(),
        agents_asked: !only_objects(sights.iter().flat_map(|sight| &sight.agents)),
    }
}

fn node_line(node: &HoneygraphNode) -> NodeLine {
    let status = node.status.clone().unwrap_or_default();
    NodeLine {
        namespace: namespace(node),
        name: node.name_any(),
        network: node.spec.network.clone(),
        region: node.spec.region.clone(),
        mode: node.spec.dgraph.mode,
        phase: status.phase,
        head: status.head,
        lib: status.lib,
        lag: status.lag,
        missing_blocks: status.missing_blocks,
        largest_gap: status.largest_gap,
        peers_alive: status.peers.map(|peers| peers.alive),
        peers_known: status.peers.map(|peers| peers.known),
        agents_ready: status.ready_replicas,
        agents: node.spec.agent.replicas,
        checkpoint_block: status.last_checkpoint.as_ref().map(|checkpoint| checkpoint.block),
        checkpoint_time: status.last_checkpoint.map(|checkpoint| checkpoint.time.0),
    }
}

fn agent_line(namespace: &str, agent: &AgentSight<SyncStatus>) -> AgentLine {
    let fault = agent.answer.as_ref().err().map(ToString::to_string);
    let sync = agent.answer.clone().unwrap_or_default();
    AgentLine {
        namespace: namespace.to_owned(),
        name: agent.name.clone(),
        fault,
        mode: sync.mode.map(mode_name),
        head: sync.head,
        state_height: sync.state_height,
        lib: sync.lib,
        lag: sync.lag,
        missing_blocks: sync.gaps.map(|gaps| gaps.total_missing),
        gaps: sync.gaps.map(|gaps| gaps.count),
        peers_alive: sync.peers.iter().filter(|peer| peer.is_alive).count(),
        peers_known: sync.peers.len(),
        anchor_block: sync.checkpoint.as_ref().map(|checkpoint| checkpoint.block_num),
        agreement: sync
            .checkpoint
            .as_ref()
            .map(|checkpoint| agreement_name(checkpoint.agreement)),
        dgraph_lag: sync.dgraph.and_then(|dgraph| dgraph.lag_blocks),
    }
}

fn checkpoint_line(checkpoint: &Checkpoint) -> Option<CheckpointLine> {
    let status = checkpoint.status.as_ref()?;
    let phase = status.phase.filter(|phase| *phase != CheckpointPhase::Ready)?;
    Some(CheckpointLine {
        namespace: checkpoint.namespace().unwrap_or_default(),
        name: checkpoint.name_any(),
        node: checkpoint.spec.node_ref.name.clone(),
        phase,
        block: status.block,
    })
}

/// As an agent's status says it.
pub(crate) const fn mode_name(mode: SyncMode) -> &'static str {
    match mode {
        SyncMode::Boot => "boot",
        SyncMode::Recover => "recover",
        SyncMode::Discover => "discover",
        SyncMode::Anchor => "anchor",
        SyncMode::Fill => "fill",
        SyncMode::Follow => "follow",
        SyncMode::Starved => "starved",
        SyncMode::Partitioned => "partitioned",
        SyncMode::Halted => "halted",
        SyncMode::Repair => "repair",
        SyncMode::Unknown => "unknown",
    }
}

const fn agreement_name(agreement: Agreement) -> &'static str {
    match agreement {
        Agreement::Agreed => "agreed",
        Agreement::Unanchored => "unanchored",
        Agreement::Conflict => "conflict",
        Agreement::Undecided => "undecided",
    }
}

#[cfg(test)]
mod tests;
