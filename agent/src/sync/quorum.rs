//! `verification=quorum`: operations of older peers are taken where more than half of the configured weight
//! gives the same ones.

use honeygraph_chain::quorum::{Agreement, VoterId, Voters};
use tokio::task::JoinSet;

use super::buffer::Run;
use super::fetch::Fetched;
use crate::peers::PeerUrl;
use crate::peers::client::PeerClient;

/// The voters that can be asked for blocks.
#[derive(Debug, Clone)]
pub(super) struct Quorum {
    pub(super) client: PeerClient,
    pub(super) voters: Voters,
    pub(super) peers: Vec<(VoterId, PeerUrl)>,
}

impl Quorum {
    /// Whether the voters give the same operations for every block of a run.
    pub(super) async fn vouches_for(&self, run: &Run) -> bool {
        for block in &run.blocks {
            let Fetched::Operations {
                number, operations, ..
            } = block
            else {
                return false;
            };
            let mut asked = JoinSet::new();
            for (voter, url) in &self.peers {
                let (client, voter, url, number) = (self.client.clone(), voter.clone(), url.clone(), *number);
                asked.spawn(async move {
                    let reported = client.block_by_number(&url, number, None).await.ok()?;
                    Some((voter, reported.operations))
                });
            }
            let mut votes = Vec::new();
            while let Some(answer) = asked.join_next().await {
                if let Some((voter, told)) = answer.ok().flatten() {
                    votes.push((voter, told == *operations));
                }
            }
            if !matches!(self.voters.decide(votes), Agreement::Agreed { value: true, .. }) {
                return false;
            }
        }
        true
    }
}
