//! The peers of an agent, and who votes on what is true for it.
//!
//! Peers inside the Kubernetes cluster are configured ones for the agent, by exact host and port, so that it may
//! connect to their private addresses.

use std::collections::BTreeMap;

use kube::ResourceExt;

use super::agents::sources_of;
use super::{Invalid, members};
use crate::names::{Member, NodeIdentity, Role};
use crate::node::dereference::Dereferenced;

/// Port of the public API.
pub const PUBLIC_PORT: u16 = 3030;

/// `PEERS` of an agent: the other agents of its node, those of the nodes it peers with, and the static ones.
pub(super) fn peers(
    input: &Dereferenced,
    identity: &NodeIdentity,
    own: Member,
    agents: &[Member],
) -> Vec<String> {
    let siblings = agents
        .iter()
        .filter(|member| **member != own)
        .map(|member| url(identity, *member));
    let neighbours = input.neighbours.iter().flat_map(|neighbour| {
        let other = neighbour_identity(identity, &neighbour.name_any(), neighbour.namespace());
        members(Role::Agent, neighbour.spec.agent.replicas).map(move |member| url(&other, member))
    });
    let fixed = input.node.spec.peers.fixed.iter().map(|peer| peer.url.clone());
    let mut peers: Vec<_> = siblings.chain(neighbours).chain(fixed).collect();
    let mut seen = std::collections::BTreeSet::new();
    peers.retain(|peer| seen.insert(peer.clone()));
    peers
}

/// `VOTERS` of an agent.
///
/// Every agent of a node counts the same votes: a honeycomb votes by itself at the agent that it pushes to, and
/// through that agent, with the same weight, at the others. Of another node the first agent votes: one vote an
/// operator, however many agents it runs.
pub(super) fn voters(
    input: &Dereferenced,
    identity: &NodeIdentity,
    own: Member,
    agents: &[Member],
) -> Result<Vec<String>, Invalid> {
    let spec = &input.node.spec;
    let sources = &spec.honeycomb.sources;
    let mut voters = BTreeMap::new();
    for source in sources_of(own, agents.len(), sources) {
        voters.insert(source.name.clone(), i64::from(source.vote_weight));
    }
    for sibling in agents.iter().filter(|member| **member != own) {
        let through = sources_of(*sibling, agents.len(), sources);
        let weight = through.iter().map(|source| i64::from(source.vote_weight)).sum();
        voters.insert(url(identity, *sibling), weight);
    }
    let automatic = i64::from(spec.peers.automatic.vote_weight);
    for neighbour in &input.neighbours {
        if let Some(first) = members(Role::Agent, neighbour.spec.agent.replicas).next() {
            let other = neighbour_identity(identity, &neighbour.name_any(), neighbour.namespace());
            voters.insert(url(&other, first), automatic);
        }
    }
    for peer in &spec.peers.fixed {
        voters.insert(peer.url.clone(), i64::from(peer.vote_weight));
    }
    let anybody = !sources.is_empty() || !spec.peers.fixed.is_empty() || !input.neighbours.is_empty();
    voters.retain(|_, weight| *weight > 0);
    if anybody && voters.is_empty() {
        return Err(Invalid::NobodyVotes);
    }
    Ok(voters
        .into_iter()
        .map(|(voter, weight)| match weight {
            1 => voter,
            weight => format!("{voter}={weight}"),
        })
        .collect())
}

fn neighbour_identity(own: &NodeIdentity, name: &str, namespace: Option<String>) -> NodeIdentity {
    NodeIdentity {
        name: name.to_owned(),
        namespace: namespace.unwrap_or_else(|| own.namespace.clone()),
        ..own.clone()
    }
}

/// Address of an agent's public API inside the cluster.
pub(super) fn url(identity: &NodeIdentity, member: Member) -> String {
    format!("http://{}:{PUBLIC_PORT}", identity.host(member))
}
