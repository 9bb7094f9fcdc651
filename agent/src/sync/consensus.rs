//! Asking the configured voters for the hash of a block.

use honeygraph_chain::BlockNumber;
use honeygraph_chain::quorum::{Agreement, VoterId, Voters};
use tokio::task::JoinSet;

use super::handle::ConsensusFound;
use crate::peers::PeerUrl;
use crate::peers::client::PeerClient;
use crate::replica::ReplicaStatus;
use crate::store::Store;

/// Asks every configured voter for a block, and gives what more than half of their weight agrees on.
///
/// A honeycomb source votes with what its own stream computes to; what this node itself holds does not count.
pub(super) async fn ask(
    client: &PeerClient,
    store: &Store,
    status: &ReplicaStatus,
    voters: &Voters,
    peers: Vec<(VoterId, PeerUrl)>,
    block: BlockNumber,
) -> Option<ConsensusFound> {
    let mut cast = Vec::new();
    let ours = match store.view().block(block) {
        Ok(stored) => stored.map(|stored| stored.hash),
        Err(error) => {
            tracing::error!(%block, %error, "stored block cannot be read");
            None
        }
    };
    if let Some(hash) = ours {
        let standing = status
            .sources
            .iter()
            .filter(|source| source.canonical && source.tip >= Some(block));
        cast.extend(standing.map(|source| (VoterId(source.source.clone()), hash)));
    }
    let mut asked = JoinSet::new();
    for (voter, url) in peers {
        let client = client.clone();
        asked.spawn(async move {
            client
                .hash(&url, block)
                .await
                .ok()
                .map(|answer| (voter, answer.block_hash))
        });
    }
    while let Some(answer) = asked.join_next().await {
        cast.extend(answer.ok().flatten());
    }
    match voters.decide(cast) {
        Agreement::Agreed {
            value,
            voters,
            confidence,
        } => Some(ConsensusFound {
            block_hash: value,
            voters: voters.into_iter().map(|voter| voter.0).collect(),
            confidence,
        }),
        Agreement::Conflict | Agreement::Undecided => None,
    }
}
