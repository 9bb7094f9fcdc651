//! The first step of a reconcile: everything that a node's spec refers to, read once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use honeygraph_crds::{HoneygraphNode, PeerScope, SecretKeyReference};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::core::{Selector, SelectorExt};
use kube::{Api, Client, ResourceExt};
use thiserror::Error;

use super::live::Live;
use crate::names::credentials_name;

/// A node with everything that its spec refers to.
#[derive(Debug, Clone)]
pub struct Dereferenced {
    /// The node.
    pub node: Arc<HoneygraphNode>,
    /// The Secrets it names that exist, by name, and the one that the operator made for it.
    pub secrets: BTreeMap<String, Secret>,
    /// The node that owns the Dgraph it writes, where it names one and that exists.
    pub dgraph_owner: Option<Arc<HoneygraphNode>>,
    /// Other nodes of the same network that it peers with, by namespace and name.
    pub neighbours: Vec<Arc<HoneygraphNode>>,
    /// Its claims.
    pub claims: Vec<PersistentVolumeClaim>,
}

/// Why something could not be read.
#[derive(Debug, Error)]
pub enum DereferenceError {
    /// The Kubernetes API did not answer as it should.
    #[error("failed to read {what}")]
    Read {
        /// What was read.
        what: String,
        /// The cause.
        source: kube::Error,
    },
    /// The selector of peers is none.
    #[error("failed to understand spec.peers.automatic.selector")]
    Selector {
        /// The cause.
        source: kube::core::ParseExpressionError,
    },
}

fn reading(what: impl Into<String>) -> impl FnOnce(kube::Error) -> DereferenceError {
    let what = what.into();
    move |source| DereferenceError::Read { what, source }
}

/// Reads what a node refers to. `nodes` are all that the operator knows; its claims are those seen in the cluster.
///
/// # Errors
/// As [`DereferenceError`] says. What does not exist is no error here: validation says what follows from it.
pub async fn dereference(
    client: &Client,
    nodes: &[Arc<HoneygraphNode>],
    node: Arc<HoneygraphNode>,
    live: &Live,
) -> Result<Dereferenced, DereferenceError> {
    let namespace = node.namespace().unwrap_or_default();
    let dgraph_owner = owner_name(&node).and_then(|owner| {
        let mut here = nodes.iter().filter(|other| other.namespace() == node.namespace());
        here.find(|other| other.name_any() == owner).cloned()
    });
    let mut names = secret_names(&node);
    names.insert(credentials_name(&node.name_any()));
    names.extend(
        dgraph_owner
            .iter()
            .map(|owner| credentials_name(&owner.name_any())),
    );
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let mut secrets = BTreeMap::new();
    for name in names {
        if let Some(secret) = api
            .get_opt(&name)
            .await
            .map_err(reading(format!("Secret {name}")))?
        {
            secrets.insert(name, secret);
        }
    }
    Ok(Dereferenced {
        neighbours: neighbours(nodes, &node)?,
        node,
        secrets,
        dgraph_owner,
        claims: live.claims.clone(),
    })
}

/// The node that a spec names as owner of its Dgraph.
pub fn owner_name(node: &HoneygraphNode) -> Option<&str> {
    let cluster = node.spec.dgraph.cluster_ref.as_ref()?;
    Some(cluster.node_ref.as_ref()?.name.as_str())
}

/// Every Secret that a spec names.
pub fn secret_names(node: &HoneygraphNode) -> BTreeSet<String> {
    let spec = &node.spec;
    let keys = spec
        .honeycomb
        .sources
        .iter()
        .filter_map(|source| source.token.as_ref())
        .chain(&spec.peers.api_keys)
        .chain(
            spec.dgraph
                .acl
                .iter()
                .flat_map(|acl| acl.hmac.iter().chain([&acl.password])),
        )
        .chain(&spec.dgraph.admin_token)
        .chain(
            spec.agent
                .env
                .iter()
                .filter_map(|variable| variable.value_from.as_ref()?.secret_key_ref.as_ref()),
        )
        .map(|SecretKeyReference { name, .. }| name);
    let ingest = spec.honeycomb.exposure.tls.as_ref();
    let whole = spec
        .dgraph
        .tls
        .iter()
        .flat_map(|tls| [&tls.server_secret_name, &tls.client_secret_name])
        .flatten()
        .chain(ingest.map(|tls| &tls.secret_name))
        .chain(ingest.and_then(|tls| tls.client_authority_secret_name.as_ref()));
    keys.chain(whole).cloned().collect()
}

/// The nodes that this one peers with, in a fixed order.
fn neighbours(
    nodes: &[Arc<HoneygraphNode>],
    node: &HoneygraphNode,
) -> Result<Vec<Arc<HoneygraphNode>>, DereferenceError> {
    let automatic = &node.spec.peers.automatic;
    let selector: Selector = automatic
        .selector
        .clone()
        .unwrap_or_default()
        .try_into()
        .map_err(|source| DereferenceError::Selector { source })?;
    let mut neighbours: Vec<_> = nodes
        .iter()
        .filter(|other| match automatic.scope {
            PeerScope::None => false,
            PeerScope::Namespace => other.namespace() == node.namespace(),
            PeerScope::Cluster => true,
        })
        .filter(|other| other.spec.network == node.spec.network)
        .filter(|other| other.metadata.deletion_timestamp.is_none())
        .filter(|other| (other.namespace(), other.name_any()) != (node.namespace(), node.name_any()))
        .filter(|other| selector.matches(other.labels()))
        .cloned()
        .collect();
    neighbours.sort_by_key(|other| (other.namespace(), other.name_any()));
    Ok(neighbours)
}
