//! Asking the voters that are peers for their anchors, and learning what trusted documents name.

use honeygraph_chain::checkpoint::Anchor;
use honeygraph_chain::peer::PeerId;
use honeygraph_chain::quorum::VoterId;
use honeygraph_chain::{BlockNumber, BlockRange};

use super::documents::{Delta, Giver, fetch_delta};
use super::{Done, SyncEngine};
use crate::peers::client::{DocumentTarget, PeerClient};
use crate::peers::{FetchError, PeerUrl};
use crate::replica::DELTA_BYTES_MAX;
use crate::wire::shapes::MAX_LISTED_ANCHORS;

/// Newest checkpoints that a voter is asked for beside the ones that come next.
const NEWEST_CHECKPOINTS: u64 = 10;

/// A voter's anchors were passed on, or it did not answer.
#[derive(Debug)]
pub(super) struct Voted {
    voter: PeerId,
    answered: bool,
}

impl SyncEngine {
    /// Asks every voter that is a peer for its anchors above the last irreversible block: one small question
    /// for up to 1,000 checkpoints.
    pub(super) fn ask_voters(&mut self) {
        let schedule = self.schedule();
        let interval = schedule.delta_interval;
        let status = self.status.borrow().clone();
        let from = status.position.as_ref().map(|position| {
            // What this node started from is asked about as well: it may be false.
            let start = position.history_start.saturating_sub(1);
            position.irreversible_block().map_or(start, BlockNumber::next)
        });
        let asked: Vec<_> = self
            .registry
            .voters()
            .filter(|(key, peer, _)| peer.is_alive && !self.asking_voters.contains(*key))
            .filter_map(|(key, peer, voter)| {
                Some((key.clone(), peer.url.clone(), voter.clone(), peer.head()?))
            })
            .collect();
        for (key, url, voter, head) in asked {
            let newest = head.saturating_sub(interval.saturating_mul(NEWEST_CHECKPOINTS));
            let span = interval.saturating_mul(MAX_LISTED_ANCHORS as u64 - 1);
            let mut ranges = Vec::new();
            if let Some(from) = from {
                let to = from.saturating_add(span).min(head);
                ranges.extend(BlockRange::new(from, to).ok());
                ranges.extend(BlockRange::new(newest.max(to.next()), head).ok());
            } else {
                ranges.extend(BlockRange::new(newest, head).ok());
            }
            if ranges.is_empty() {
                continue;
            }
            self.asking_voters.insert(key.clone());
            let (client, replica) = (self.client.clone(), self.replica.clone());
            self.tasks.spawn(async move {
                let anchors = anchors_of(&client, &url, ranges).await;
                let answered = anchors.is_ok();
                match replica.vote(VoterId(voter.0), anchors.unwrap_or_default()).await {
                    Ok(()) => Done::Voted(Voted { voter: key, answered }),
                    Err(gone) => Done::Gone(gone),
                }
            });
        }
    }

    pub(super) fn on_voted(&mut self, voted: &Voted) {
        self.asking_voters.remove(&voted.voter);
        self.voted_once.insert(voted.voter.clone());
        if !voted.answered {
            tracing::debug!(voter = %voted.voter, "voter did not answer");
        }
    }

    /// Far behind a checkpoint that most of the weight stands behind, fetches its document: a delta names every
    /// checkpoint since the last full state, and so proves the periods in between before anything of them is
    /// committed. It also names the full state before that, which a node that started from a full state alone needs
    /// to compute deltas.
    pub(super) fn learn_named_checkpoints(&mut self) {
        let schedule = self.schedule();
        let status = self.status.borrow().clone();
        let Some(position) = &status.position else { return };
        let far = |number: BlockNumber| number.distance_from(position.state_height) > schedule.delta_interval;
        let supported = status.newest_supported.filter(|(number, _)| far(*number));
        let wanted = status.previous_root_named_in.or(supported.map(|(_, id)| id));
        let Some(id) = wanted.filter(|id| !self.naming && self.named != Some(*id)) else {
            return;
        };
        let urls: Vec<PeerUrl> = self
            .registry
            .iter()
            .filter(|(_, peer)| peer.is_alive)
            .map(|(_, peer)| peer.url.clone())
            .collect();
        let gateways = match status.previous_root_named_in {
            Some(_) => self.settings.ipfs_gateways.clone(),
            None => Vec::new(),
        };
        if urls.is_empty() && gateways.is_empty() {
            return;
        }
        self.naming = true;
        let (client, replica) = (self.client.clone(), self.replica.clone());
        let target = DocumentTarget {
            path: self.settings.documents_directory.join(format!("{id}.json")),
            max_bytes: self.settings.document_bytes_max,
        };
        let peers = urls.into_iter().map(Giver::Peer);
        let givers: Vec<Giver> = peers.chain(gateways.into_iter().map(Giver::Gateway)).collect();
        self.tasks.spawn(async move {
            match fetch_delta(&client, &givers, id, &target, DELTA_BYTES_MAX).await {
                Delta::Document(document) => match replica.learn_named(*document).await {
                    Ok(()) => Done::Named { id, learned: true },
                    Err(gone) => Done::Gone(gone),
                },
                // A full state names nothing: then there is nothing to learn, and nothing to try again.
                Delta::Other => Done::Named { id, learned: true },
                Delta::NotFound => Done::Named { id, learned: false },
            }
        });
    }
}

async fn anchors_of(
    client: &PeerClient,
    url: &PeerUrl,
    ranges: Vec<BlockRange>,
) -> Result<Vec<Anchor>, FetchError> {
    let mut anchors = Vec::new();
    for range in ranges {
        anchors.extend(client.anchors(url, range).await?.into_iter().map(Anchor::from));
    }
    anchors.retain(|anchor| anchor.block_num > BlockNumber::default());
    Ok(anchors)
}
