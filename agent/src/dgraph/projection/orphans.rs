//! The blocks of a fork that left the canonical chain.

use honeygraph_chain::checkpoint::DeltaWriter;
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::{BlockNumber, ContentId};

use crate::replica::checkpoint_chain_at;
use crate::store::{Position, StoreError, StoredBlock, View};

/// A fork, from one of its blocks down to where it left the canonical chain.
#[derive(Debug)]
pub(super) struct Orphans {
    /// The highest first.
    pub blocks: Vec<(BlockNumber, StoredBlock)>,
    /// The last block that both have.
    pub ancestor: BlockReference,
}

/// What a block follows.
enum Parent {
    Canonical(BlockReference),
    Orphan(BlockNumber, StoredBlock),
}

/// The fork that ends with `tip`; none where `tip` is not stored, or not all that it hangs on.
pub(super) fn orphans_from(
    view: &View,
    tip: BlockReference,
    position: &Position,
) -> Result<Option<Orphans>, StoreError> {
    let mut blocks = Vec::new();
    let mut next = view.fork_block(tip)?.map(|stored| (tip.number, stored));
    while let Some((number, stored)) = next.take() {
        let parent = parent_of(view, number, &stored, position)?;
        blocks.push((number, stored));
        match parent {
            Some(Parent::Canonical(ancestor)) => return Ok(Some(Orphans { blocks, ancestor })),
            Some(Parent::Orphan(number, stored)) => next = Some((number, stored)),
            None => {}
        }
    }
    Ok(None)
}

/// A block names its parent by its hash; right after a checkpoint, by the checkpoint. That of a fork is not kept:
/// it is computed from the fork's blocks where more than one could have made it.
fn parent_of(
    view: &View,
    number: BlockNumber,
    stored: &StoredBlock,
    position: &Position,
) -> Result<Option<Parent>, StoreError> {
    let hash = stored.previous_hash(number)?;
    let Some(before) = number.previous() else {
        return Ok(None);
    };
    if let Some(parent) = view.block(before)? {
        let checkpoint = view.checkpoint(before)?;
        if parent.hash == hash || checkpoint.is_some_and(|record| record.state_hash == hash) {
            return Ok(Some(Parent::Canonical(BlockReference {
                number: before,
                hash: parent.hash,
            })));
        }
    }
    if let Some(parent) = view.fork_block(BlockReference { number: before, hash })? {
        return Ok(Some(Parent::Orphan(before, parent)));
    }
    let Some(kind) = position.schedule.kind_at(before) else {
        return Ok(None);
    };
    let mut makers = view.fork_blocks_at(before).collect::<Result<Vec<_>, _>>()?;
    if makers.len() > 1 && kind == CheckpointKind::Delta {
        let mut proven = None;
        for (place, maker) in makers.iter().enumerate() {
            if checkpoint_of(view, before, maker, position)? == Some(hash) {
                proven = Some(place);
            }
        }
        return Ok(proven.map(|place| Parent::Orphan(before, makers.swap_remove(place))));
    }
    // A fork is kept with what it hangs on, so that the only one there is the one.
    let only = if makers.len() == 1 { makers.pop() } else { None };
    Ok(only.map(|maker| Parent::Orphan(before, maker)))
}

/// The content id of the delta at a checkpoint of a fork; none where its period does not start on the canonical
/// chain, or where the roots that it names are not known.
fn checkpoint_of(
    view: &View,
    number: BlockNumber,
    stored: &StoredBlock,
    position: &Position,
) -> Result<Option<ContentId>, StoreError> {
    let period = position.schedule.period_of(number);
    let mut operations = vec![stored.decode(number)?.block().operations.clone()];
    let mut previous = stored.previous_hash(number)?;
    for number in period.iter().rev().skip(1) {
        let reference = BlockReference {
            number,
            hash: previous,
        };
        let stored = match view.fork_block(reference)? {
            Some(stored) => stored,
            None => match view.block(number)?.filter(|stored| stored.hash == previous) {
                Some(stored) => stored,
                None => return Ok(None),
            },
        };
        operations.push(stored.decode(number)?.block().operations.clone());
        previous = stored.previous_hash(number)?;
    }
    let chain = match period.start().previous() {
        Some(before) => checkpoint_chain_at(view, before)?,
        None => None,
    };
    let Some(chain) = chain.filter(|chain| chain.link() == previous) else {
        return Ok(None);
    };
    let mut delta = DeltaWriter::new(&chain);
    for operations in operations.iter().rev() {
        delta.push(operations);
    }
    Ok(delta.content_id(number))
}
