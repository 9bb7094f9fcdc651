//! What was seen of nodes: their objects, and what their agents say.

use honeygraph_crds::HoneygraphNode;
use honeygraph_operator::agent::SyncStatus;
use honeygraph_operator::names::{Member, Role};
use kube::ResourceExt;
use thiserror::Error;

/// A node, and what its agents say of themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSight {
    /// Its object.
    pub node: HoneygraphNode,
    /// Its agents, those that the spec wants.
    pub agents: Vec<AgentSight<SyncStatus>>,
}

/// An agent, and what it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSight<T> {
    /// Its name, `<node>-agent-<i>`.
    pub name: String,
    /// What it answered, or why it did not.
    pub answer: Result<T, AgentFault>,
}

/// Why an agent did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AgentFault {
    /// It has no pod.
    #[error("there is no pod {pod}")]
    NoPod {
        /// Name of the pod that should be there.
        pod: String,
    },
    /// The caller has no right to reach pods.
    #[error("you may not forward ports to pods")]
    Forbidden,
    /// No way to it.
    #[error("no answer ({reason})")]
    Unreachable {
        /// The cause.
        reason: String,
    },
    /// It does not take the call without a key.
    #[error("it wants an API key")]
    KeyWanted,
    /// It refused the call.
    #[error("it refuses with status {status}: {reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        reason: String,
    },
    /// What it says is not what was asked for.
    #[error("its answer cannot be read ({reason})")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
}

/// Names of the agents that the spec of a node wants.
pub fn agent_names(node: &HoneygraphNode) -> Vec<String> {
    let wanted = u16::try_from(node.spec.agent.replicas).unwrap_or_default();
    let identity = honeygraph_operator::node::validate::identity(node);
    (0..wanted)
        .map(|index| {
            identity.member_name(Member {
                role: Role::Agent,
                index,
            })
        })
        .collect()
}

/// The only pod of an agent.
pub fn pod_of(agent: &str) -> String {
    format!("{agent}-0")
}

/// The namespace of a node.
pub(crate) fn namespace(node: &HoneygraphNode) -> String {
    node.namespace().unwrap_or_default()
}

/// Whether the caller has no right to ask any agent, so that only objects were seen.
pub(crate) fn only_objects<'a, T: 'a>(agents: impl IntoIterator<Item = &'a AgentSight<T>>) -> bool {
    let mut agents = agents.into_iter().peekable();
    agents.peek().is_some() && agents.all(|agent| matches!(agent.answer, Err(AgentFault::Forbidden)))
}
