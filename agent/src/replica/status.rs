//! What a replica says about itself.

use std::collections::BTreeSet;

use honeygraph_chain::checkpoint::Anchor;
use honeygraph_chain::fork::Fork;
use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::quorum::Voters;
use honeygraph_chain::{BlockNumber, ContentId};
use serde::Serialize;

use super::Replica;
use crate::store::Position;

/// Counts since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Blocks made durable.
    pub committed_blocks: u64,
    /// Blocks that were taken on a quorum, without a hash that can be computed again.
    pub unverified_blocks: u64,
    /// Blocks that were stored above a gap, to be applied later.
    pub ahead_blocks: u64,
    /// Such blocks that were removed again, because they did not fit what came below them.
    pub ahead_discarded: u64,
    /// Blocks of forks that were kept.
    pub fork_blocks: u64,
    /// Reorganizations done.
    pub reorganizations: u64,
    /// Blocks undone by the last one.
    pub last_reorganization_depth: u64,
    /// Checkpoints that did not compute to what was reported.
    pub state_hash_mismatches: u64,
    /// Times that the voters agreed on another chain than this replica's.
    pub divergences: u64,
    /// Times that a source was set aside: its chain contradicts what is trusted, or breaks the state rules.
    pub sources_set_aside: u64,
}

/// One honeycomb source as this replica sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Its name.
    pub source: String,
    /// Whether a session is open.
    pub connected: bool,
    /// The head it reports.
    pub head: Option<BlockNumber>,
    /// The last block of its chain that is here.
    pub tip: Option<BlockNumber>,
    /// Where its chain ends here: the hash of that block.
    pub tip_hash: Option<ContentId>,
    /// Whether it stands on the canonical chain.
    pub canonical: bool,
    /// Its blocks that wait for a gap to be filled.
    pub pending: usize,
    /// Why nothing of it is taken until it starts anew, where that is so.
    pub set_aside: Option<String>,
}

/// Where a replica stands, after each change.
#[derive(Debug, Clone, Default)]
pub struct ReplicaStatus {
    /// None before the replica was started from a document.
    pub position: Option<Position>,
    /// Which canonical blocks are stored.
    pub have: IntervalSet,
    /// The highest head that sources report.
    pub network_head: Option<BlockNumber>,
    /// First block that sources have sent but that waits in memory: it is not known yet what it links to.
    pub first_pending: Option<BlockNumber>,
    /// Highest block that a connected source has sent and that is stored above a gap.
    pub newest_ahead: Option<BlockNumber>,
    /// First block near the head that can be stored before the gap below it is filled; none where no long gap is.
    pub ahead_from: Option<BlockNumber>,
    /// The newest checkpoint above the state height that somebody trusted reports.
    pub newest_reported: Option<(BlockNumber, ContentId)>,
    /// The newest one that is trusted enough to start from.
    pub newest_supported: Option<(BlockNumber, ContentId)>,
    /// A trusted delta whose document names the full state before the one that the replica started from; none where
    /// that is known.
    pub previous_root_named_in: Option<ContentId>,
    /// What the voters agree on there, if they do.
    pub newest_agreed: Option<Anchor>,
    /// Checkpoints of this replica that voters contradict: theirs can have no majority any more.
    pub conflicts: BTreeSet<BlockNumber>,
    /// Where commits are or will be held: nothing above is taken.
    pub held_at: Option<BlockNumber>,
    /// Highest block that is applied, committed or not.
    pub applied: Option<BlockNumber>,
    /// The sources.
    pub sources: Vec<SourceStatus>,
    /// Forks beside the canonical chain.
    pub forks: Vec<Fork>,
    /// Lowest block at which a fork may leave the canonical chain.
    pub lowest_reorganized: Option<BlockNumber>,
    /// Who votes.
    pub voters: Voters,
    /// Counts.
    pub counters: Counters,
}

impl Replica {
    /// Where the replica stands.
    pub fn status(&self) -> ReplicaStatus {
        let running = self.running.as_ref();
        let newest_supported = self.newest_supported();
        let canonical = |hash| {
            running.is_some_and(|running| running.tree.is_on_chain_of(hash, running.tip.reference().hash))
        };
        let sources = self.sources.iter().map(|(source, view)| SourceStatus {
            source: source.to_string(),
            connected: view.connected,
            head: view.head,
            tip: view.tip.map(|tip| tip.number),
            tip_hash: view.tip.map(|tip| tip.hash),
            canonical: view.tip.is_some_and(|tip| canonical(tip.hash)),
            pending: view.pending.len(),
            set_aside: view.set_aside.as_ref().map(ToString::to_string),
        });
        let forks = running.map(|running| running.tree.forks_beside(running.tip.reference().hash));
        let newest_reported = self.newest_reported();
        let durable = self.writer.durable();
        ReplicaStatus {
            position: durable.position,
            have: durable.have,
            network_head: self.network_head(),
            first_pending: self.first_pending(),
            newest_ahead: self.newest_ahead(),
            ahead_from: self.ahead_from(newest_reported),
            newest_reported,
            newest_supported,
            previous_root_named_in: self.previous_root_named_in(),
            newest_agreed: newest_supported.and_then(|(number, _)| self.agreed_anchor(number)),
            conflicts: self.conflicts(),
            held_at: self.stop,
            applied: running.map(|running| running.stage.tip.number),
            sources: sources.collect(),
            forks: forks.unwrap_or_default(),
            lowest_reorganized: running.map(|running| running.tree.root().number),
            voters: self.settings.voters.clone(),
            counters: self.counters,
        }
    }
}
