//! The second step of a reconcile: from a lenient spec to what will be built. Pure.

mod agents;
mod dgraph;
mod voters;

use std::collections::BTreeMap;

use honeygraph_crds::{
    DeletionPolicy, Exposure, HoneygraphNode, IngestExposure, Monitoring, ResourceRequirements,
    SecretKeyReference, Storage,
};
use k8s_openapi::api::core::v1::{EnvVar, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{Resource, ResourceExt};
use kube_quantity::ParsedQuantity;
use secrecy::SecretString;
use strum::IntoStaticStr;
use thiserror::Error;

use super::dereference::Dereferenced;
use crate::names::{GENERATION_LABEL, Member, NodeIdentity, Role};
use crate::settings::Images;

pub use dgraph::{ALPHA_GRPC_PORT, owns_dgraph};
pub use voters::PUBLIC_PORT;

/// A node as it will be built: whatever a spec left open is decided, and whatever it names is there.
#[derive(Debug, Clone)]
pub struct ValidatedNode {
    /// Its name, its labels, its owner reference.
    pub identity: NodeIdentity,
    /// Its agents.
    pub agents: Agents,
    /// The Dgraph that it owns.
    pub dgraph: Option<OwnedDgraph>,
    /// What becomes of its volumes when it is deleted.
    pub volumes: DeletionPolicy,
    /// How its public API is reached.
    pub exposure: Exposure,
    /// How honeycombs reach it.
    pub ingest: IngestExposure,
    /// What watches it.
    pub monitoring: Monitoring,
}

/// The agents of a node.
#[derive(Debug, Clone)]
pub struct Agents {
    /// Each of them.
    pub members: Vec<AgentMember>,
    /// Their image.
    pub image: String,
    /// What each asks for.
    pub resources: ResourceRequirements,
    /// Volume of each.
    pub storage: Storage,
    /// Their priority.
    pub priority_class: Option<String>,
    /// Settings of the agent that are the same for all.
    pub settings: BTreeMap<&'static str, String>,
    /// Further variables.
    pub env: Vec<EnvVar>,
    /// Files from Secrets, each with the setting that names it.
    pub files: Vec<SecretFile>,
    /// The name of the node that owns the Dgraph they write, where that is inside the cluster.
    pub writes_to: Option<String>,
}

/// One agent.
#[derive(Debug, Clone)]
pub struct AgentMember {
    /// Which one.
    pub member: Member,
    /// Settings of its own.
    pub settings: BTreeMap<&'static str, String>,
    /// The lines of its file of honeycombs; none where no honeycomb with a token pushes to it.
    pub sources_file: Option<SecretString>,
    /// Whether honeycombs push to it.
    pub has_sources: bool,
    /// Generation of its claim.
    pub claim_generation: u32,
}

/// A key of a Secret that is mounted as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// The setting that takes the file's path.
    pub setting: &'static str,
    /// The file's name.
    pub file: &'static str,
    /// The Secret.
    pub secret: String,
    /// The key in it.
    pub key: String,
}

/// A Dgraph that a node owns.
#[derive(Debug, Clone)]
pub struct OwnedDgraph {
    /// Image of both programs.
    pub image: String,
    /// The zeros.
    pub zeros: DgraphMembers,
    /// The alphas.
    pub alphas: DgraphMembers,
    /// Memory for cached data, in MiB.
    pub cache_mebibytes: u64,
    /// Where the token of `--security token=...` stands.
    pub token: SecretKeyReference,
    /// Where the key that signs logins stands; none without access control.
    pub login_key: Option<SecretKeyReference>,
    /// Secret with the alphas' certificate; none without TLS.
    pub tls_secret: Option<String>,
}

/// The zeros or the alphas of a Dgraph.
#[derive(Debug, Clone)]
pub struct DgraphMembers {
    /// Each of them, with the generation of its claim.
    pub members: Vec<(Member, u32)>,
    /// Volume of each.
    pub storage: Storage,
    /// What each asks for.
    pub resources: ResourceRequirements,
    /// Further flags.
    pub flags: BTreeMap<String, String>,
}

/// What keeps a node from being built until somebody changes something. The name of the variant is the reason of the
/// event and of the condition `Stalled`.
#[derive(Debug, Clone, PartialEq, Eq, Error, IntoStaticStr)]
pub enum Invalid {
    /// A Secret does not exist.
    #[error("Secret {name} does not exist; create it, or change {field}")]
    SecretMissing {
        /// Its name.
        name: String,
        /// The field that names it.
        field: String,
    },
    /// A Secret has no such key.
    #[error("Secret {name} has no key {key}, or it is empty; add it, or change {field}")]
    SecretKeyMissing {
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// The field that names it.
        field: String,
    },
    /// What stands in a Secret cannot be used. The value is not repeated.
    #[error("key {key} of Secret {name} cannot be used ({field}): {allowed}")]
    SecretUnusable {
        /// The name of the Secret.
        name: String,
        /// The key.
        key: String,
        /// The field that names it.
        field: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The node that owns the Dgraph does not exist.
    #[error("HoneygraphNode {name} does not exist; create it, or change spec.dgraph.clusterRef.nodeRef")]
    DgraphOwnerMissing {
        /// Its name.
        name: String,
    },
    /// The node that owns the Dgraph owns none.
    #[error(
        "HoneygraphNode {name} owns no Dgraph; name the node that does in spec.dgraph.clusterRef.nodeRef"
    )]
    DgraphOwnerHasNone {
        /// Its name.
        name: String,
    },
    /// In `Hybrid` a Dgraph is for the nodes of one region.
    #[error(
        "HoneygraphNode {name} stands in region {region}, this node in {own}: in mode Hybrid a Dgraph is for the nodes of one region; use Shared, or a node of this region"
    )]
    DgraphOwnerElsewhere {
        /// The owner.
        name: String,
        /// Its region.
        region: String,
        /// The region of this node.
        own: String,
    },
    /// A Dgraph with known holes.
    #[error("image {image} is older than Dgraph 25.4, which the operator needs; change spec.dgraph.image")]
    DgraphTooOld {
        /// The image.
        image: String,
    },
    /// A value that the schema lets through and that means nothing.
    #[error("{field}={value}: {allowed}")]
    FieldUnusable {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Peers or sources, and none of them votes.
    #[error("no source and no peer has a vote; give at least one a voteWeight above 0")]
    NobodyVotes,
}

/// Checks a node and decides what its spec leaves open.
///
/// # Errors
/// The first thing that keeps it from being built.
pub fn validate(input: &Dereferenced, images: &Images) -> Result<ValidatedNode, Invalid> {
    let node = &input.node;
    let identity = identity(&input.node);
    let connection = dgraph::connection(input, &identity)?;
    Ok(ValidatedNode {
        agents: agents::agents(input, &identity, images, connection)?,
        dgraph: dgraph::owned(input, &identity, images)?,
        volumes: node.spec.volume_deletion_policy,
        exposure: node.spec.exposure.clone(),
        ingest: node.spec.honeycomb.exposure.clone(),
        monitoring: node.spec.monitoring.clone(),
        identity,
    })
}

/// The agents that a spec wants.
pub fn agent_members(node: &HoneygraphNode) -> impl Iterator<Item = Member> {
    members(Role::Agent, node.spec.agent.replicas)
}

/// Names and labels of a node.
pub fn identity(node: &HoneygraphNode) -> NodeIdentity {
    NodeIdentity {
        name: node.name_any(),
        namespace: node.namespace().unwrap_or_default(),
        network: node.spec.network.clone(),
        region: node.spec.region.clone(),
        owner: node.controller_owner_ref(&()).unwrap_or_default(),
    }
}

/// The generation of a member's claim that is in use: the newest, or the first where there is none.
fn claim_generation(claims: &[PersistentVolumeClaim], identity: &NodeIdentity, member: Member) -> u32 {
    claims
        .iter()
        .filter_map(|claim| claim.labels().get(GENERATION_LABEL)?.parse().ok())
        .filter(|generation| {
            let name = identity.claim_name(member, *generation);
            claims.iter().any(|claim| claim.name_any() == name)
        })
        .max()
        .unwrap_or(1)
}

/// The members of a role, from 0.
fn members(role: Role, count: i32) -> impl Iterator<Item = Member> {
    let count = u16::try_from(count).unwrap_or(0);
    (0..count).map(move |index| Member { role, index })
}

/// What stands under a key of a Secret, as text without the white space around it.
fn secret_text(input: &Dereferenced, reference: &SecretKeyReference, field: &str) -> Result<String, Invalid> {
    let SecretKeyReference { name, key } = reference;
    let secret = input.secrets.get(name).ok_or_else(|| Invalid::SecretMissing {
        name: name.clone(),
        field: field.to_owned(),
    })?;
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    let missing = || Invalid::SecretKeyMissing {
        name: name.clone(),
        key: key.clone(),
        field: field.to_owned(),
    };
    let value = value.ok_or_else(missing)?;
    let text = std::str::from_utf8(&value.0).map_err(|_| Invalid::SecretUnusable {
        name: name.clone(),
        key: key.clone(),
        field: field.to_owned(),
        allowed: "text in UTF-8 is allowed",
    })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(missing());
    }
    Ok(text.to_owned())
}

/// Checks that a Secret has all of these keys.
fn require_keys(input: &Dereferenced, name: &str, keys: &[&str], field: &str) -> Result<(), Invalid> {
    keys.iter().try_for_each(|key| {
        let reference = SecretKeyReference {
            name: name.to_owned(),
            key: (*key).to_owned(),
        };
        secret_text(input, &reference, field).map(drop)
    })
}

/// A quantity in whole bytes.
fn bytes(quantity: &Quantity, field: &'static str) -> Result<u64, Invalid> {
    ParsedQuantity::try_from(quantity)
        .ok()
        .and_then(|quantity| quantity.to_bytes_u64())
        .ok_or_else(|| Invalid::FieldUnusable {
            field,
            value: quantity.0.clone(),
            allowed: "a quantity such as 512Mi is allowed",
        })
}

/// A duration in whole milliseconds.
fn milliseconds(duration: &str, field: &'static str) -> Result<u64, Invalid> {
    let parsed: Result<kube::core::Duration, _> = duration.parse();
    parsed
        .ok()
        .filter(|duration| !duration.is_negative())
        .map(std::time::Duration::from)
        .and_then(|duration| u64::try_from(duration.as_millis()).ok())
        .ok_or_else(|| Invalid::FieldUnusable {
            field,
            value: duration.to_owned(),
            allowed: "a duration such as 30s or 1h30m is allowed",
        })
}
