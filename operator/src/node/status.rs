//! The last step of a reconcile: what is seen of a node, summed up for people and programs. Pure.

use honeygraph_crds::{
    AgentStatus, HoneygraphNode, HoneygraphNodeStatus, NodeCondition, NodePhase, PeerCounts,
};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::apply::Waiting;
use super::observe::{ObservedAgent, Obstacle};
use crate::agent::{self, Agreement, SyncMode};
use crate::conditions::{ConditionStatus, Observed, holds, merged};
use crate::names::{NodeIdentity, Role};

/// Blocks behind the head of the network at which a node still counts as in sync: a minute.
const IN_SYNC_BLOCKS: u64 = 20;

/// Blocks for which votes on a checkpoint may be awaited before the state counts as not verified: two of the periods
/// in which checkpoints are taken. The one before it is agreed on meanwhile.
const VOTING_BLOCKS: u64 = 200;

/// What one reconcile found.
#[derive(Debug)]
pub enum Findings<'a> {
    /// `spec.suspend` is set: nothing was looked at.
    Suspended,
    /// The node is being deleted.
    Terminating {
        /// What is waited for.
        waiting: &'a Waiting,
    },
    /// The node cannot be built or applied until somebody changes something.
    Stalled {
        /// One word for programs.
        reason: &'a str,
        /// What to do.
        message: &'a str,
        /// What the agents that run anyhow say.
        agents: &'a [ObservedAgent],
    },
    /// The node was applied, as far as its order allowed.
    Applied {
        /// What is waited for.
        waiting: &'a [Waiting],
        /// Pods that do not run.
        obstacles: &'a [Obstacle],
        /// What the agents say.
        agents: &'a [ObservedAgent],
        /// Whether they write a Dgraph.
        has_dgraph: bool,
    },
}

/// The status of a node after a reconcile.
pub fn status(
    node: &HoneygraphNode,
    identity: &NodeIdentity,
    findings: &Findings<'_>,
    now: Timestamp,
) -> HoneygraphNodeStatus {
    let former = node.status.clone().unwrap_or_default();
    let generation = node.metadata.generation;
    let mut status = match findings {
        // What was seen last stays visible.
        Findings::Suspended | Findings::Terminating { .. } => former.clone(),
        Findings::Stalled { agents, .. } | Findings::Applied { agents, .. } => HoneygraphNodeStatus {
            last_checkpoint: former.last_checkpoint.clone(),
            restore: former.restore.clone(),
            ..seen(agents)
        },
    };
    status.observed_generation = generation;
    status.selector = Some(selector(identity));
    status.conditions = merged(&former.conditions, conditions(node, findings), generation, now);
    status.phase = Some(phase(node, findings, &status));
    status
}

/// What the agents say, summed up: of a height the best, of what is wrong the worst.
fn seen(agents: &[ObservedAgent]) -> HoneygraphNodeStatus {
    let answers: Vec<_> = answers(agents).collect();
    let best = |of: fn(&agent::SyncStatus) -> Option<u64>| {
        answers.iter().filter_map(|status| of(&status.sync)).max()
    };
    let state_height = best(|sync| sync.state_height);
    let network_head = best(|sync| sync.network_head);
    let gaps = || answers.iter().filter_map(|status| status.sync.gaps.as_ref());
    let peers = answers.iter().map(|status| {
        let peers = &status.sync.peers;
        (peers.iter().filter(|peer| peer.is_alive).count(), peers.len())
    });
    HoneygraphNodeStatus {
        head: best(|sync| sync.head),
        state_height,
        lib: best(|sync| sync.lib),
        network_head,
        lag: network_head
            .zip(state_height)
            .map(|(head, height)| head.saturating_sub(height)),
        missing_blocks: gaps().map(|gaps| gaps.total_missing).max(),
        largest_gap: gaps().filter_map(|gaps| gaps.largest).max(),
        peers: peers.max().map(|(alive, known)| PeerCounts {
            alive: u32::try_from(alive).unwrap_or(u32::MAX),
            known: u32::try_from(known).unwrap_or(u32::MAX),
        }),
        replicas: i32::try_from(agents.len()).unwrap_or(i32::MAX),
        ready_replicas: i32::try_from(agents.iter().filter(|agent| agent.ready).count()).unwrap_or(i32::MAX),
        agents: agents
            .iter()
            .map(|agent| {
                let answer = agent.answer.as_ref().and_then(|answer| answer.as_ref().ok());
                AgentStatus {
                    name: agent.name.clone(),
                    ready: agent.ready,
                    session_id: answer.map(|status| status.session_id.clone()),
                    head: answer.and_then(|status| status.sync.head),
                    state_height: answer.and_then(|status| status.sync.state_height),
                }
            })
            .collect(),
        ..HoneygraphNodeStatus::default()
    }
}

fn answers(agents: &[ObservedAgent]) -> impl Iterator<Item = &agent::AgentStatus> {
    agents
        .iter()
        .filter_map(|agent| agent.answer.as_ref()?.as_ref().ok())
}

/// The selector of the agents' pods, as `kubectl scale` and autoscalers want it.
fn selector(identity: &NodeIdentity) -> String {
    let pairs: Vec<_> = identity
        .selector(Role::Agent)
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(",")
}

fn conditions(node: &HoneygraphNode, findings: &Findings<'_>) -> Vec<Observed> {
    let condition = |kind: NodeCondition, status: ConditionStatus, reason: &str, message: &str| {
        Observed::new(kind.as_str(), status, reason, message)
    };
    match findings {
        Findings::Suspended => {
            let mut kept = kept(node, &[NodeCondition::Ready]);
            kept.push(condition(
                NodeCondition::Reconciling,
                ConditionStatus::False,
                "Suspended",
                "spec.suspend is set: nothing is reconciled",
            ));
            kept.push(condition(
                NodeCondition::Stalled,
                ConditionStatus::False,
                "Suspended",
                "",
            ));
            kept
        }
        Findings::Terminating { waiting } => vec![
            condition(
                NodeCondition::Ready,
                ConditionStatus::False,
                "Terminating",
                "the node is being deleted",
            ),
            condition(
                NodeCondition::Reconciling,
                ConditionStatus::True,
                waiting.reason,
                &waiting.message,
            ),
            condition(NodeCondition::Stalled, ConditionStatus::False, "Terminating", ""),
        ],
        Findings::Stalled {
            reason,
            message,
            agents,
        } => {
            let mut conditions = vec![
                condition(NodeCondition::Ready, ConditionStatus::False, reason, message),
                condition(
                    NodeCondition::Reconciling,
                    ConditionStatus::False,
                    reason,
                    message,
                ),
                condition(NodeCondition::Stalled, ConditionStatus::True, reason, message),
            ];
            conditions.extend(of_agents(agents));
            conditions
        }
        Findings::Applied {
            waiting,
            obstacles,
            agents,
            has_dgraph,
        } => {
            let mut conditions = vec![ready(waiting, obstacles, agents, *has_dgraph)];
            conditions.push(match waiting.first() {
                Some(waiting) => condition(
                    NodeCondition::Reconciling,
                    ConditionStatus::True,
                    waiting.reason,
                    &waiting.message,
                ),
                None => condition(NodeCondition::Reconciling, ConditionStatus::False, "UpToDate", ""),
            });
            let obstacle = obstacles.iter().find(|obstacle| obstacle.needs_a_person);
            conditions.push(match obstacle {
                Some(obstacle) => condition(
                    NodeCondition::Stalled,
                    ConditionStatus::True,
                    &obstacle.reason,
                    &format!("pod {}: {}", obstacle.pod, obstacle.message),
                ),
                None => condition(NodeCondition::Stalled, ConditionStatus::False, "UpToDate", ""),
            });
            conditions.extend(of_agents(agents));
            conditions
        }
    }
}

/// Conditions of before that are not looked at now.
fn kept(node: &HoneygraphNode, kinds: &[NodeCondition]) -> Vec<Observed> {
    let former = node.status.iter().flat_map(|status| &status.conditions);
    former
        .filter_map(|former| {
            let kind = kinds.iter().find(|kind| kind.as_str() == former.type_)?;
            let status = match former.status.as_str() {
                "True" => ConditionStatus::True,
                "False" => ConditionStatus::False,
                _ => ConditionStatus::Unknown,
            };
            Some(Observed::new(
                kind.as_str(),
                status,
                former.reason.clone(),
                former.message.clone(),
            ))
        })
        .collect()
}

fn ready(
    waiting: &[Waiting],
    obstacles: &[Obstacle],
    agents: &[ObservedAgent],
    has_dgraph: bool,
) -> Observed {
    let not =
        |reason: &str, message: String| Observed::new(NodeCondition::Ready.as_str(), false, reason, message);
    if agents.is_empty() {
        return not("ScaledToZero", "spec.agent.replicas is 0".to_owned());
    }
    if let Some(obstacle) = obstacles.first() {
        return not(
            &obstacle.reason,
            format!("pod {}: {}", obstacle.pod, obstacle.message),
        );
    }
    for agent in agents {
        let name = &agent.name;
        match &agent.answer {
            _ if !agent.ready => {}
            None => return not("AgentUnreachable", format!("{name} has no address yet")),
            Some(Err(error)) => return not("AgentUnreachable", format!("{name}: {error}")),
            Some(Ok(status)) if !status.alive => {
                return not(
                    "AgentHalted",
                    format!("{name} has stopped committing; see its log"),
                );
            }
            Some(Ok(status)) if has_dgraph => {
                let dgraph = status.sync.dgraph.as_ref();
                if let Some(mismatch) = dgraph.and_then(|dgraph| dgraph.mismatch) {
                    let block = mismatch.block;
                    return not(
                        "DgraphMismatch",
                        format!("{name}: Dgraph contradicts the log at block {block}"),
                    );
                }
                // The cursor is a row of Dgraph: that it was read shows that Dgraph serves what it should.
                if !dgraph.is_some_and(|dgraph| dgraph.connected && dgraph.applied_block.is_some()) {
                    let error = dgraph
                        .and_then(|dgraph| dgraph.last_error.clone())
                        .unwrap_or_default();
                    return not(
                        "WaitingForDgraph",
                        format!("{name} has not read its cursor from Dgraph yet {error}"),
                    );
                }
            }
            Some(Ok(_)) => {}
        }
    }
    let unready: Vec<_> = agents
        .iter()
        .filter(|agent| !agent.ready)
        .map(|agent| agent.name.as_str())
        .collect();
    if !unready.is_empty() {
        return not("AgentsNotReady", format!("not ready: {}", unready.join(", ")));
    }
    if let Some(waiting) = waiting.iter().find(|waiting| waiting.reason != "RollingOut") {
        return not(waiting.reason, waiting.message.clone());
    }
    let message = format!("{} of {} agents serve", agents.len(), agents.len());
    Observed::new(NodeCondition::Ready.as_str(), true, "Serving", message)
}

/// What only agents can say.
fn of_agents(agents: &[ObservedAgent]) -> [Observed; 3] {
    let answers: Vec<_> = answers(agents).collect();
    if answers.is_empty() {
        return [
            NodeCondition::Synced,
            NodeCondition::StateVerified,
            NodeCondition::ForkSafe,
        ]
        .map(|kind| {
            Observed::new(
                kind.as_str(),
                ConditionStatus::Unknown,
                "NoAnswer",
                "no agent has answered",
            )
        });
    }
    [synced(&answers), state_verified(&answers), fork_safe(&answers)]
}

fn synced(answers: &[&agent::AgentStatus]) -> Observed {
    let of = |status: bool, reason: &str, message: String| {
        Observed::new(NodeCondition::Synced.as_str(), status, reason, message)
    };
    for status in answers {
        let (name, sync) = (&status.peer_id, &status.sync);
        let missing = sync.gaps.map_or(0, |gaps| gaps.total_missing);
        match (sync.network_head, sync.lag) {
            (None, _) => {
                return of(
                    false,
                    "NoNetworkHead",
                    format!("{name} hears of no head of its network"),
                );
            }
            (_, Some(lag)) if lag > IN_SYNC_BLOCKS => {
                return of(false, "Behind", format!("{name} is {lag} blocks behind"));
            }
            // What is missing at the head has not come yet: that is the lag.
            (_, lag) if missing > lag.unwrap_or_default() => {
                return of(false, "Gaps", format!("{name} misses {missing} blocks"));
            }
            _ => {}
        }
    }
    of(true, "AtTheHead", "no gap, at the head of the network".to_owned())
}

fn state_verified(answers: &[&agent::AgentStatus]) -> Observed {
    let of = |status: ConditionStatus, reason: &str, message: String| {
        Observed::new(NodeCondition::StateVerified.as_str(), status, reason, message)
    };
    let newest = |status: &&&agent::AgentStatus| {
        status
            .sync
            .checkpoint
            .as_ref()
            .map(|checkpoint| checkpoint.block_num)
    };
    for status in answers {
        if let Some(checkpoint) = &status.sync.checkpoint
            && checkpoint.agreement == Agreement::Conflict
        {
            let (name, block) = (&status.peer_id, checkpoint.block_num);
            return of(
                ConditionStatus::False,
                "Conflict",
                format!("{name}: voters contradict block {block}"),
            );
        }
    }
    let Some((checkpoint, lib)) = answers
        .iter()
        .max_by_key(newest)
        .and_then(|status| Some((status.sync.checkpoint.as_ref()?, status.sync.lib)))
    else {
        return of(
            ConditionStatus::Unknown,
            "NoCheckpoint",
            "no checkpoint yet".to_owned(),
        );
    };
    let block = checkpoint.block_num;
    match checkpoint.agreement {
        Agreement::Agreed => of(
            ConditionStatus::True,
            "Agreed",
            format!("most of the weight stands behind block {block}"),
        ),
        Agreement::Unanchored => of(
            ConditionStatus::True,
            "Unanchored",
            format!("the only voter stands behind block {block}"),
        ),
        Agreement::Undecided | Agreement::Conflict => match lib {
            Some(lib) if lib.saturating_add(VOTING_BLOCKS) >= block => of(
                ConditionStatus::True,
                "Agreed",
                format!("most of the weight stands behind block {lib}; votes on block {block} are awaited"),
            ),
            _ => of(
                ConditionStatus::Unknown,
                "Undecided",
                format!("too few votes on block {block}"),
            ),
        },
    }
}

fn fork_safe(answers: &[&agent::AgentStatus]) -> Observed {
    let of = |status: bool, reason: &str, message: String| {
        Observed::new(NodeCondition::ForkSafe.as_str(), status, reason, message)
    };
    for status in answers {
        let name = &status.peer_id;
        match status.sync.mode {
            Some(SyncMode::Halted) => {
                let message = format!("{name} has stopped: something contradicts what is final; see its log");
                return of(false, "Halted", message);
            }
            Some(SyncMode::Partitioned) => {
                return of(
                    false,
                    "Partitioned",
                    format!("{name} is cut off from most of the votes"),
                );
            }
            _ => {}
        }
    }
    of(true, "OnTheNetworksFork", String::new())
}

fn phase(node: &HoneygraphNode, findings: &Findings<'_>, status: &HoneygraphNodeStatus) -> NodePhase {
    let holds = |kind: NodeCondition| holds(&status.conditions, kind.as_str());
    let was_ready = node.status.iter().any(|former| {
        matches!(
            former.phase,
            Some(NodePhase::Ready | NodePhase::Syncing | NodePhase::Degraded)
        )
    });
    match findings {
        Findings::Suspended => NodePhase::Suspended,
        Findings::Terminating { .. } => NodePhase::Terminating,
        Findings::Stalled { .. } => NodePhase::Stalled,
        Findings::Applied { .. } if holds(NodeCondition::Stalled) => NodePhase::Stalled,
        Findings::Applied { .. } if holds(NodeCondition::Ready) && holds(NodeCondition::Synced) => {
            NodePhase::Ready
        }
        Findings::Applied { .. } if holds(NodeCondition::Ready) => NodePhase::Syncing,
        Findings::Applied { agents: [], .. } => NodePhase::Pending,
        Findings::Applied { .. } if was_ready => NodePhase::Degraded,
        Findings::Applied { .. } => NodePhase::Progressing,
    }
}

/// Name of the node in log lines and events.
pub fn display_name(node: &HoneygraphNode) -> String {
    format!("{}/{}", node.namespace().unwrap_or_default(), node.name_any())
}
