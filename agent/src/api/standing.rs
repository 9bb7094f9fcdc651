//! Where the node stands, put together from the replica and the sync engine.

use honeygraph_chain::checkpoint::Anchor;
use honeygraph_chain::peer::Standing;
use honeygraph_chain::{BlockNumber, BlockRange};

use super::node::DgraphView;
use crate::config::DgraphMode;
use crate::replica::ReplicaStatus;
use crate::store::{Position, StoreError, View};
use crate::sync::{PeerSummary, SyncView};
use crate::wire::UnixMillis;
use crate::wire::shapes::{
    Agreement, CheckpointStatus, DgraphMismatch, DgraphStatus, DgraphWriters, ForkStatus, ForkTip, GapStatus,
    MAIN_FORK, PeerEntry, PeerStatus, SyncMode, SyncStatus, VerificationPolicy, VerificationStatus,
};

/// Forks that the status names.
const TIPS: usize = 64;

/// The highest stored canonical block.
pub(crate) fn head(status: &ReplicaStatus) -> Option<BlockNumber> {
    let height = status.position.as_ref().map(|position| position.state_height);
    height.max(status.have.last())
}

/// From the first block this replica wants to the highest it knows of; none before it has a state.
pub(crate) fn wanted_range(status: &ReplicaStatus, sync: &SyncView) -> Option<BlockRange> {
    let start = status.position.as_ref()?.history_start;
    let end = head(status).max(sync.network_head(status))?;
    BlockRange::new(start, end).ok()
}

/// What the voters say about the anchor of a checkpoint.
pub(crate) fn agreement(status: &ReplicaStatus, checkpoint: BlockNumber) -> Agreement {
    let irreversible = status.position.as_ref().and_then(Position::irreversible_block);
    if status.conflicts.contains(&checkpoint) {
        Agreement::Conflict
    } else if irreversible.is_none_or(|block| checkpoint > block) {
        Agreement::Undecided
    } else if status.voters.is_single() {
        Agreement::Unanchored
    } else {
        Agreement::Agreed
    }
}

/// Peers that answer and are not banned, as lists name them.
pub(crate) fn alive_peers(view: &SyncView) -> impl Iterator<Item = PeerEntry> {
    view.peers
        .iter()
        .filter(|peer| peer.is_alive && !matches!(peer.standing, Standing::Banned { .. }))
        .map(|peer| PeerEntry {
            id: peer.id.to_string(),
            url: peer.url.to_string(),
        })
}

/// What the node is doing: what the sync engine says, unless commits are stopped.
pub(crate) fn mode(status: &ReplicaStatus, view: &SyncView) -> Option<SyncMode> {
    let halted = status
        .position
        .as_ref()
        .is_some_and(|position| position.halted.is_some());
    if halted { Some(SyncMode::Halted) } else { view.mode }
}

/// The answer to `GET /api/sync/status`, without what it says of Dgraph.
pub(crate) fn sync_status(
    status: &ReplicaStatus,
    sync: &SyncView,
    view: &View,
    policy: VerificationPolicy,
) -> Result<SyncStatus, StoreError> {
    let position = status.position.as_ref();
    let state_height = position.map(|position| position.state_height);
    let irreversible = position.and_then(Position::irreversible_block);
    let (newest, verified_height) = match state_height {
        Some(height) => newest_checkpoints(view, height)?,
        None => (None, None),
    };
    let newest_agreement = newest.map_or(Agreement::Undecided, |anchor| agreement(status, anchor.block_num));
    Ok(SyncStatus {
        is_syncing: sync.is_syncing,
        last_sync_block: state_height.unwrap_or_default(),
        peers: sync.peers.iter().map(peer_status).collect(),
        head: head(status),
        state_height,
        lib: irreversible,
        network_head: sync.network_head(status),
        lag: sync
            .network_head(status)
            .zip(state_height)
            .map(|(head, height)| head.distance_from(height)),
        gaps: wanted_range(status, sync).map(|wanted| gap_status(status, wanted)),
        forks: Some(ForkStatus {
            canonical: MAIN_FORK.to_owned(),
            others: fork_tips(status).collect(),
            reorganizations: status.counters.reorganizations,
        }),
        checkpoint: newest.map(|anchor| CheckpointStatus {
            block_num: anchor.block_num,
            block_hash: anchor.block_hash,
            state_hash: anchor.state_hash,
            state_digest: anchor.state_digest,
            agreement: newest_agreement,
        }),
        verification: Some(VerificationStatus {
            policy,
            verified_height,
            unverified_blocks: status.counters.unverified_blocks,
            agreement: newest_agreement,
        }),
        mode: mode(status, sync),
        dgraph: None,
    })
}

/// How far the node's Dgraph is.
pub(crate) fn dgraph_status(dgraph: &DgraphView, status: &ReplicaStatus) -> DgraphStatus {
    let projection = dgraph.status.borrow().clone();
    let height = status.position.as_ref().map(|position| position.state_height);
    DgraphStatus {
        mode: match dgraph.mode {
            DgraphMode::Independent => DgraphWriters::Independent,
            DgraphMode::Shared => DgraphWriters::Shared,
            DgraphMode::Hybrid => DgraphWriters::Hybrid,
            DgraphMode::Embedded => DgraphWriters::Unknown,
        },
        connected: projection.connected,
        from_block: projection.from,
        applied_block: projection.applied.map(|applied| applied.number),
        applied_hash: projection.applied.map(|applied| applied.hash),
        state_block: projection.state_block,
        lag_blocks: height.and_then(|height| projection.lag(height)),
        mismatch: projection.mismatch.map(|mismatch| DgraphMismatch {
            block: mismatch.block,
            log_hash: mismatch.log_hash,
            dgraph_hash: mismatch.dgraph_hash,
        }),
        last_error: projection.last_error,
    }
}

fn peer_status(peer: &PeerSummary) -> PeerStatus {
    PeerStatus {
        id: peer.id.to_string(),
        url: peer.url.to_string(),
        source: Some(peer.source),
        is_alive: peer.is_alive,
        reliability: peer.reliability,
        last_seen: peer.last_seen_ms.map(UnixMillis),
    }
}

fn gap_status(status: &ReplicaStatus, wanted: BlockRange) -> GapStatus {
    let mut gaps = GapStatus::default();
    for gap in status.have.missing_in(wanted) {
        gaps.count += 1;
        gaps.total_missing += gap.len();
        gaps.largest = gaps.largest.max(Some(gap.len()));
        gaps.first = gaps.first.or_else(|| Some(gap.into()));
    }
    gaps
}

/// The newest checkpoint of which everything is known, and the newest whose document was computed here or started from.
fn newest_checkpoints(
    view: &View,
    height: BlockNumber,
) -> Result<(Option<Anchor>, Option<BlockNumber>), StoreError> {
    let (mut newest, mut computed) = (None, None);
    let Ok(range) = BlockRange::new(BlockNumber::default(), height) else {
        return Ok((newest, computed));
    };
    for record in view.checkpoints(range).rev() {
        let record = record?;
        newest = newest.or_else(|| record.anchor());
        computed = computed.or_else(|| record.is_computed().then_some(record.block_num));
        if newest.is_some() && computed.is_some() {
            break;
        }
    }
    Ok((newest, computed))
}

fn fork_tips(status: &ReplicaStatus) -> impl Iterator<Item = ForkTip> {
    status.forks.iter().take(TIPS).map(|fork| ForkTip {
        fork_id: fork.tip.hash.to_string(),
        head: fork.tip.number,
        head_hash: fork.tip.hash,
        common_ancestor: fork.ancestor.number,
    })
}
