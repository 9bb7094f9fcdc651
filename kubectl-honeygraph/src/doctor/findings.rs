//! What was looked at: facts, without a judgement.

use honeygraph_crds::HoneygraphNode;
use honeygraph_operator::agent::SyncStatus;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::version::Info;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use super::Right;
use crate::sight::AgentSight;

/// Something that was looked for.
pub type Seen<T> = Result<T, Unseen>;

/// Why something could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unseen {
    /// The caller has no right to.
    #[error("you may not {0}")]
    Forbidden(String),
    /// The API server did not answer as it should.
    #[error("{0}")]
    Failed(String),
}

/// All that was looked at.
#[derive(Debug, Clone)]
pub struct Findings {
    /// The time, by the API server's clock where it told.
    pub now: Timestamp,
    /// Where nodes were looked for: `in namespace default`.
    pub place: String,
    /// Version of Kubernetes.
    pub version: Seen<Info>,
    /// The definitions of group `honeygraph.io`.
    pub definitions: Seen<Vec<CustomResourceDefinition>>,
    /// The operators.
    pub operators: Seen<Vec<OperatorFindings>>,
    /// The nodes.
    pub nodes: Seen<Vec<NodeFindings>>,
    /// Names of nodes that this version does not understand.
    pub not_understood: Vec<String>,
}

/// An operator.
#[derive(Debug, Clone)]
pub struct OperatorFindings {
    /// Its Deployment.
    pub deployment: Deployment,
    /// The Lease by which one of its pods leads; none where there is no such Lease.
    pub lease: Seen<Option<Lease>>,
    /// Rights that it should have and has not.
    pub lacking: Seen<Vec<Right>>,
}

/// A node.
#[derive(Debug, Clone)]
pub struct NodeFindings {
    /// Its object.
    pub node: HoneygraphNode,
    /// Its agents.
    pub agents: Vec<AgentFindings>,
    /// Its pods.
    pub pods: Seen<Vec<Pod>>,
    /// Its volume claims.
    pub claims: Seen<Vec<PersistentVolumeClaim>>,
}

/// An agent.
#[derive(Debug, Clone)]
pub struct AgentFindings {
    /// What it says.
    pub sight: AgentSight<SyncStatus>,
    /// How far its clock is ahead of the API server's.
    pub ahead: Option<SignedDuration>,
}
