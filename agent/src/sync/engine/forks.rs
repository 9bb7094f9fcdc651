//! Forks that the voters among the peers stand on or hold: fetched by hash, so that the tree of forks holds them and
//! the fork choice can weigh them. What others say opens no fork.

use std::sync::Arc;
use std::time::{Duration, Instant};

use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::peer::PeerId;
use honeygraph_chain::planner::FetchKind;
use honeygraph_chain::quorum::VoterId;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::{Done, SyncEngine, unix_now};
use crate::peers::PeerUrl;
use crate::peers::client::{BatchRequest, PeerClient, Traffic};
use crate::replica::{FetchedBlock, ReplicaGone, ReplicaHandle};
use crate::store::{Store, StoreError};
use crate::sync::fetch::{Fetched, fetch_range, linked_of};
use crate::wire::NetworkName;
use crate::wire::batch::{MAX_BATCH_BLOCKS, MAX_BATCH_BYTES};

/// Voters that are looked at at once.
const LOOKED_AT_MAX: usize = 4;
/// Blocks of a voter's own chain that are fetched in one look; the next look goes on.
const BLOCKS_A_LOOK: u64 = 2 * MAX_BATCH_BLOCKS;
/// Forks that a voter holds beside its own chain and that are fetched in one look, and blocks of one: each is a call.
const TIPS_A_LOOK: usize = 4;
const BLOCKS_A_TIP: u64 = 128;
/// Time between two looks at what a voter holds beside its own chain.
const TIPS_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Time for an answer with blocks.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A look at a voter has ended.
#[derive(Debug)]
pub(super) struct Looked(PeerId);

impl SyncEngine {
    /// Looks where a voter stands that has just answered.
    pub(super) fn look_at_forks_of(&mut self, peer: &PeerId) {
        let status = Arc::clone(&self.status.borrow());
        let (Some(position), Some(lowest)) = (&status.position, status.lowest_reorganized) else {
            return;
        };
        let Some(known) = self.registry.get(peer) else {
            return;
        };
        let is_batch = known
            .profile
            .is_some_and(|profile| profile.kind == FetchKind::Batch);
        let (Some(voter), Some(head), true) = (&known.voter, known.head(), is_batch) else {
            return;
        };
        let plausible = BlockNumber::highest_at(unix_now().as_secs());
        let busy = self.looking.contains(peer) || self.looking.len() >= LOOKED_AT_MAX;
        if busy || position.halted.is_some() || head <= lowest || head > plausible {
            return;
        }
        let now = Instant::now();
        let last = self.looked_at_tips.get(peer);
        let tips = last.is_none_or(|last| now.duration_since(*last) >= TIPS_AGAIN_AFTER);
        if tips {
            self.looked_at_tips.insert(peer.clone(), now);
        }
        let look = Look {
            client: self.client.clone(),
            url: known.url.clone(),
            replica: self.replica.clone(),
            store: self.store.clone(),
            network: self.settings.network.clone(),
            schedule: position.schedule,
            voter: voter.clone(),
            lowest,
            height: position.state_height,
            plausible,
        };
        self.looking.insert(peer.clone());
        let peer = peer.clone();
        self.tasks.spawn(async move {
            match look.run(head, tips).await {
                Ok(()) => Done::LookedAtForks(Looked(peer)),
                Err(gone) => Done::Gone(gone),
            }
        });
    }

    pub(super) fn on_looked(&mut self, Looked(peer): &Looked) {
        self.looking.remove(peer);
    }

    /// A voter no longer answers: nobody knows where it stands.
    pub(super) fn forget_stand_of(&mut self, peer: &PeerId) {
        let voter = self.registry.get(peer).and_then(|known| known.voter.clone());
        let Some(voter) = voter else { return };
        let replica = self.replica.clone();
        self.tasks.spawn(async move {
            match replica.voter_stands(voter, None).await {
                Ok(()) => Done::Nothing,
                Err(gone) => Done::Gone(gone),
            }
        });
    }
}

/// A look at one voter.
struct Look {
    client: PeerClient,
    url: PeerUrl,
    replica: ReplicaHandle,
    store: Store,
    network: NetworkName,
    schedule: CheckpointSchedule,
    voter: VoterId,
    /// Lowest block that a fork may leave the followed chain at.
    lowest: BlockNumber,
    height: BlockNumber,
    /// Highest block that the clock allows.
    plausible: BlockNumber,
}

/// What is known here of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Here {
    Followed,
    OnFork,
    Unknown,
}

impl Look {
    async fn run(&self, head: BlockNumber, tips: bool) -> Result<(), ReplicaGone> {
        if let Some((shared, here)) = self.shared(head).await {
            // A peer that is ahead on our chain is followed at the front.
            let is_ahead = here == Here::Followed && shared.number >= self.height;
            let stands = if is_ahead || shared.number == head {
                shared
            } else {
                self.hold_from(shared, head).await?
            };
            self.replica
                .voter_stands(self.voter.clone(), Some(stands))
                .await?;
        }
        if tips && let Ok(said) = self.client.status(&self.url).await {
            let others = said
                .forks
                .map(|forks| forks.others.into_vec())
                .unwrap_or_default();
            for tip in others.into_iter().take(TIPS_A_LOOK) {
                let reference = BlockReference {
                    number: tip.head,
                    hash: tip.head_hash,
                };
                let is_near = tip.head > self.lowest && tip.head <= self.plausible;
                let is_short = tip.head.distance_from(tip.common_ancestor) <= BLOCKS_A_TIP;
                if is_near && is_short && self.here(reference) == Here::Unknown {
                    self.hold_tip(reference).await?;
                }
            }
        }
        Ok(())
    }

    /// The highest block of the voter's chain that is here, applied or on a fork.
    async fn shared(&self, head: BlockNumber) -> Option<(BlockReference, Here)> {
        let at_head = self.theirs(head).await?;
        if at_head.1 != Here::Unknown {
            return Some(at_head);
        }
        // Blocks of one chain are here up to one of them and not above it.
        let mut above = head;
        let mut below = if head > self.height {
            self.theirs(self.height).await?
        } else {
            at_head
        };
        match below.1 {
            Here::Followed => return Some(below),
            Here::OnFork => {}
            Here::Unknown => {
                above = below.0.number;
                below = self.lowest_shared().await?;
            }
        }
        while above.distance_from(below.0.number) > 1 {
            let middle = below
                .0
                .number
                .saturating_add(above.distance_from(below.0.number) / 2);
            let at = self.theirs(middle).await?;
            if at.1 == Here::Unknown {
                above = middle;
            } else {
                below = at;
            }
        }
        Some(below)
    }

    /// The lowest block that a fork may leave our chain at, where the voter's chain has it. The hash of the one that
    /// a node started from is not known, but the block after it names its document.
    async fn lowest_shared(&self) -> Option<(BlockReference, Here)> {
        let after = self.client.hash(&self.url, self.lowest.next()).await.ok()?;
        let block = BlockReference {
            number: self.lowest,
            hash: after.previous_hash,
        };
        self.is_joined(block.number, block.hash)
            .then_some((block, Here::Followed))
    }

    /// A block of the voter's chain.
    async fn theirs(&self, number: BlockNumber) -> Option<(BlockReference, Here)> {
        let hash = self.client.hash(&self.url, number).await.ok()?.block_hash;
        let block = BlockReference { number, hash };
        Some((block, self.here(block)))
    }

    fn here(&self, block: BlockReference) -> Here {
        let find = || -> Result<Here, StoreError> {
            let view = self.store.view();
            if view
                .block(block.number)?
                .is_some_and(|stored| stored.hash == block.hash)
            {
                return Ok(Here::Followed);
            }
            let is_held = view.fork_block(block)?.is_some();
            Ok(if is_held { Here::OnFork } else { Here::Unknown })
        };
        find().unwrap_or_else(|error| {
            tracing::error!(block = %block.number, %error, "stored block cannot be read");
            Here::Unknown
        })
    }

    /// Holds the voter's chain above a block. Gives the last block that is held.
    async fn hold_from(
        &self,
        shared: BlockReference,
        head: BlockNumber,
    ) -> Result<BlockReference, ReplicaGone> {
        let last = head.min(shared.number.saturating_add(BLOCKS_A_LOOK));
        let mut stands = shared;
        while stands.number < last {
            let range = BlockRange::starting_at(stands.number.next(), MAX_BATCH_BLOCKS);
            let rest = BlockRange::new(stands.number.next(), last);
            let Some(range) = rest.ok().and_then(|rest| range.intersection(rest)) else {
                break;
            };
            let request = BatchRequest {
                network: &self.network,
                range,
                timeout: TIMEOUT,
                byte_limit: MAX_BATCH_BYTES as u64,
                // Blocks of forks fill no gap.
                traffic: &Traffic::default(),
            };
            let answer = fetch_range(&self.client, &self.url, self.schedule, request).await;
            let blocks: Vec<FetchedBlock> = answer.blocks.into_iter().filter_map(Fetched::linked).collect();
            match self.replica.hold_fork(blocks).await? {
                Some(last) if last.number > stands.number => stands = last,
                _ => break,
            }
        }
        Ok(stands)
    }

    /// Holds a fork that the voter holds beside its own chain: by hash, from its tip down to what is here. Right
    /// above a checkpoint of the fork's own a block does not name the one before it: there it ends.
    async fn hold_tip(&self, tip: BlockReference) -> Result<(), ReplicaGone> {
        let mut blocks: Vec<FetchedBlock> = Vec::new();
        let mut at = tip;
        loop {
            let fork = at.hash.to_string();
            let Ok(reported) = self
                .client
                .block_by_number(&self.url, at.number, Some(&fork))
                .await
            else {
                return Ok(());
            };
            let Some(fetched) = linked_of(&reported).filter(|fetched| fetched.block.hash() == at.hash) else {
                return Ok(());
            };
            let Some(before) = at.number.previous() else {
                return Ok(());
            };
            let previous = fetched.block.previous_hash();
            blocks.push(fetched);
            if self.is_joined(before, previous) {
                break;
            }
            let is_checkpoint = self.schedule.kind_at(before).is_some();
            if is_checkpoint || before <= self.lowest || blocks.len() as u64 >= BLOCKS_A_TIP {
                return Ok(());
            }
            at = BlockReference {
                number: before,
                hash: previous,
            };
        }
        blocks.reverse();
        self.replica.hold_fork(blocks).await.map(|_| ())
    }

    /// Whether a block is here that the one above it links to: by its hash, or by the document of the checkpoint
    /// that it is.
    fn is_joined(&self, number: BlockNumber, link: ContentId) -> bool {
        let block = BlockReference { number, hash: link };
        let checkpoint = || {
            let record = self.store.view().checkpoint(number).ok().flatten();
            record.is_some_and(|record| record.state_hash == link)
        };
        self.here(block) != Here::Unknown || checkpoint()
    }
}
