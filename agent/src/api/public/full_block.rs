//! `GET /api/query/block/{num}/full`: a whole block in the shape of the JavaScript honeygraph.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::state::Leaf;
use honeygraph_chain::{BlockNumber, ContentId, Path, PathKey};

use super::as_of::AsOf;
use super::nested::{Nested, segments_below};
use crate::api::Node;
use crate::api::error::ApiError;
use crate::api::extract::{Parameters, PathBlock};
use crate::store::{Position, StoreError, StoredBlock, View};
use crate::wire::UnixMillis;
use crate::wire::shapes::{BlockErrorAnswer, ErrorAnswer, FullBlock, FullOperation, FullPath, MAIN_FORK};

/// Leaves that the previous values of one answer name at most; what is beyond has no previous value.
const MAX_PREVIOUS_LEAVES: usize = 100_000;

/// A block with its operations.
///
/// `previousValue` is what stood at the path before the block, while the node can still undo the block.
#[utoipa::path(get, path = "/api/query/block/{num}/full", tag = "query",
    params(
        ("num" = u64, Path, description = "The block"),
        ("fork" = Option<String>, Query, description = "`main`, or the hash of a fork's highest block, or of the block")
    ),
    responses(
        (status = 200, description = "The block", body = FullBlock, headers(
            ("honeygraph-block" = u64, description = "The block after which the answer is true"),
            ("honeygraph-hash" = String, description = "Hash of that block")
        )),
        (status = 400, description = "Not a block number", body = ErrorAnswer),
        (status = 404, description = "Not here", body = BlockErrorAnswer)
    )
)]
pub(super) async fn full_block(
    State(node): State<Arc<Node>>,
    PathBlock(block): PathBlock,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let fork = parameters.text("fork").unwrap_or(MAIN_FORK).to_owned();
    let tips: Vec<_> = node.status().forks.iter().map(|fork| fork.tip).collect();
    let peer_id = node.settings.peer_id.to_string();
    let answer = AsOf::read(&node, move |view, position| {
        let found = find(view, &tips, block, &fork)?;
        let (place, stored) = found.ok_or(ApiError::BlockNotFound {
            block,
            fork: Some(fork.clone()),
        })?;
        shape(view, position, block, &stored, &place, &peer_id)
    })
    .await?;
    node.work.hold(answer.into_response())
}

/// Where a block was found.
enum Place {
    Canonical,
    Orphan { fork: String },
}

fn find(
    view: &View,
    tips: &[BlockReference],
    block: BlockNumber,
    fork: &str,
) -> Result<Option<(Place, StoredBlock)>, StoreError> {
    let canonical = || Ok(view.block(block)?.map(|stored| (Place::Canonical, stored)));
    if fork == MAIN_FORK {
        return canonical();
    }
    let Ok(hash) = fork.parse::<ContentId>() else {
        return Ok(None);
    };
    let tip = tips.iter().find(|tip| tip.hash == hash);
    let mut here = tip.copied().unwrap_or(BlockReference { number: block, hash });
    while here.number >= block {
        let Some(stored) = view.fork_block(here)? else {
            // Below its first block a fork is the canonical chain.
            let on_chain = view
                .block(here.number)?
                .is_some_and(|stored| stored.hash == here.hash);
            return if on_chain { canonical() } else { Ok(None) };
        };
        if here.number == block {
            return Ok(Some((
                Place::Orphan {
                    fork: fork.to_owned(),
                },
                stored,
            )));
        }
        let previous = stored.previous_hash(here.number)?;
        let Some(number) = here.number.previous() else {
            return Ok(None);
        };
        // The first block after a checkpoint links to its document.
        let checkpoint = view.checkpoint_by_id(previous)?;
        let hash = checkpoint
            .and_then(|checkpoint| checkpoint.block_hash)
            .unwrap_or(previous);
        here = BlockReference { number, hash };
    }
    Ok(None)
}

fn shape(
    view: &View,
    position: Option<&Position>,
    number: BlockNumber,
    stored: &StoredBlock,
    place: &Place,
    peer_id: &str,
) -> Result<FullBlock, ApiError> {
    let decoded = stored.decode(number)?;
    let timestamp = (stored.timestamp_ms > 0).then_some(UnixMillis(stored.timestamp_ms));
    let mut full = FullBlock::from_block(&decoded, timestamp, peer_id);
    match place {
        Place::Orphan { fork } => {
            full.fork_id.clone_from(fork);
            full.operations = full
                .operations
                .into_vec()
                .into_iter()
                .map(|operation| FullOperation {
                    reverted: true,
                    ..operation
                })
                .collect();
        }
        Place::Canonical => {
            let irreversible = position.and_then(Position::irreversible_block);
            let height = position.map(|position| position.state_height);
            full.is_applied = height.is_some_and(|height| number > height).then_some(false);
            full.is_finalized = irreversible.is_some_and(|highest| number <= highest);
            if let Some(undo) = view.undo(number)? {
                full.operations = with_previous_values(full.operations.into_vec(), undo)
                    .into_iter()
                    .collect();
            }
        }
    }
    Ok(full)
}

/// Adds what stood at each operation's path before the block.
fn with_previous_values(
    operations: Vec<FullOperation>,
    undo: Vec<(PathKey, Option<Leaf>)>,
) -> Vec<FullOperation> {
    let before: BTreeMap<PathKey, Leaf> = undo
        .into_iter()
        .filter_map(|(key, leaf)| Some((key, leaf?)))
        .collect();
    let mut room = MAX_PREVIOUS_LEAVES;
    let with_value = |operation: FullOperation| {
        let Some(FullPath::Segments(segments)) = &operation.path else {
            return operation;
        };
        let key = PathKey::from(&Path(segments.clone()));
        let mut nested = Nested::default();
        for (leaf_key, leaf) in before
            .range(key.clone()..)
            .take_while(|(other, _)| other.is_at_or_below(&key))
        {
            let Some(left) = room.checked_sub(1) else {
                return operation;
            };
            room = left;
            if let Some(below) = segments_below(leaf_key, segments.len())
                && nested.add(&below, leaf.value().clone()).is_err()
            {
                return operation;
            }
        }
        FullOperation {
            previous_value: nested.into_value(),
            ..operation
        }
    };
    operations.into_iter().map(with_value).collect()
}
