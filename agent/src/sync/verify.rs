//! Checks fetched blocks as far as they can be checked by themselves: numbers, canonical form, links among
//! each other. What they say about state is checked when they are applied.

use honeygraph_chain::BlockRange;
use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::peer::PeerFault;

use crate::peers::FetchError;
use crate::wire::UnixMillis;
use crate::wire::batch::WireBlock;

/// A block whose hash is computed, with the time its sender gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedBlock {
    /// The block.
    pub block: HashedBlock,
    /// When it was made, if the sender knows.
    pub timestamp: Option<UnixMillis>,
}

/// The blocks that stand, and what is wrong with the one after them.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The first blocks of the range, in order, linked.
    pub blocks: Vec<CheckedBlock>,
    /// Why there are no more of those that were handed in.
    pub fault: Option<PeerFault>,
}

/// Checks the blocks that came for `asked`: each has the next number of the range, canonical bytes with that
/// number inside, and links to the one before. The first link, and those right after a checkpoint (which
/// name the checkpoint instead), are left to whoever knows what they must be. Fewer blocks than asked for
/// are no fault here.
pub fn check_blocks(blocks: Vec<WireBlock>, asked: BlockRange, schedule: &CheckpointSchedule) -> Checked {
    let mut checked = Checked {
        blocks: Vec::with_capacity(blocks.len()),
        fault: None,
    };
    let mut expected = asked.iter();
    for wire in blocks {
        let before = checked.blocks.last().map(|before| &before.block);
        let result = match expected.next() {
            Some(number) if number == wire.number => check_block(wire, before, schedule),
            _ => Err(PeerFault::WrongNumber),
        };
        match result {
            Ok(block) => checked.blocks.push(block),
            Err(fault) => {
                checked.fault = Some(fault);
                break;
            }
        }
    }
    checked
}

/// [`check_blocks`] on a thread for blocking work: hashing and parsing take about a millisecond per MiB
/// and more.
pub async fn check_blocks_off_thread(
    blocks: Vec<WireBlock>,
    asked: BlockRange,
    schedule: CheckpointSchedule,
) -> Result<Checked, FetchError> {
    tokio::task::spawn_blocking(move || check_blocks(blocks, asked, &schedule))
        .await
        .map_err(FetchError::internal)
}

fn check_block(
    wire: WireBlock,
    before: Option<&HashedBlock>,
    schedule: &CheckpointSchedule,
) -> Result<CheckedBlock, PeerFault> {
    let number = wire.number;
    let block = HashedBlock::from_canonical(wire.bytes).map_err(|_| PeerFault::Malformed)?;
    if block.number() != number {
        return Err(PeerFault::WrongNumber);
    }
    if let Some(before) = before {
        let names_checkpoint = schedule.kind_at(before.number()).is_some();
        if !names_checkpoint && block.previous_hash() != before.hash() {
            return Err(PeerFault::BrokenLink);
        }
    }
    Ok(CheckedBlock {
        block,
        timestamp: wire.timestamp,
    })
}

#[cfg(test)]
mod tests {
    use honeygraph_chain::{Block, BlockNumber, ContentId, Operation, Operations, Path};

    use super::*;

    fn number(number: u64) -> BlockNumber {
        BlockNumber::try_from(number).unwrap()
    }

    fn schedule() -> CheckpointSchedule {
        CheckpointSchedule::default()
    }

    /// Blocks 99..=103: block 101 is a checkpoint, so block 102 names its document.
    fn chain() -> (BlockRange, Vec<WireBlock>) {
        let range = BlockRange::new(number(99), number(103)).unwrap();
        let mut previous_hash = ContentId::of(b"before");
        let mut blocks = Vec::new();
        for number in range.iter() {
            let block = HashedBlock::from(Block {
                number,
                previous_hash,
                operations: Operations::new(vec![
                    Operation::Del {
                        path: Path(vec![number.to_string()]),
                    },
                    Operation::WriteMarker,
                ])
                .unwrap(),
            });
            previous_hash = if schedule().kind_at(number).is_some() {
                ContentId::of(b"a checkpoint document")
            } else {
                block.hash()
            };
            blocks.push(WireBlock {
                number,
                timestamp: Some(UnixMillis(number.get())),
                bytes: block.bytes().to_vec(),
            });
        }
        (range, blocks)
    }

    fn faulty(change: impl FnOnce(&mut Vec<WireBlock>)) -> (usize, Option<PeerFault>) {
        let (range, mut blocks) = chain();
        change(&mut blocks);
        let checked = check_blocks(blocks, range, &schedule());
        (checked.blocks.len(), checked.fault)
    }

    #[tokio::test]
    async fn linked_blocks_pass_over_a_checkpoint() {
        let (range, blocks) = chain();
        let checked = check_blocks_off_thread(blocks.clone(), range, schedule())
            .await
            .unwrap();
        assert_eq!(checked.fault, None);
        assert_eq!(checked.blocks.len(), blocks.len());
        for (checked, wire) in checked.blocks.iter().zip(&blocks) {
            assert_eq!(checked.block.bytes(), wire.bytes);
            assert_eq!(checked.timestamp, wire.timestamp);
        }
    }

    #[test]
    fn a_broken_link_is_found_where_it_is() {
        let relink = |blocks: &mut Vec<WireBlock>, at: usize| {
            let block = HashedBlock::from_canonical(blocks[at].bytes.clone()).unwrap();
            blocks[at].bytes = block.relinked(ContentId::of(b"elsewhere")).bytes().to_vec();
        };
        assert_eq!(
            faulty(|blocks| relink(blocks, 1)),
            (1, Some(PeerFault::BrokenLink))
        );
        // The link after the checkpoint is not ours to know, but the next block contradicts a changed hash.
        assert_eq!(
            faulty(|blocks| relink(blocks, 3)),
            (4, Some(PeerFault::BrokenLink))
        );
        assert_eq!(
            faulty(|blocks| relink(blocks, 4)),
            (4, Some(PeerFault::BrokenLink))
        );
    }

    #[test]
    fn numbers_must_be_the_next_ones_outside_and_inside() {
        assert_eq!(
            faulty(|blocks| blocks.swap(1, 2)),
            (1, Some(PeerFault::WrongNumber))
        );
        assert_eq!(
            faulty(|blocks| {
                blocks.remove(0);
            }),
            (0, Some(PeerFault::WrongNumber))
        );
        let inside = faulty(|blocks| blocks[2].bytes = blocks[1].bytes.clone());
        assert_eq!(inside, (2, Some(PeerFault::WrongNumber)));
        let beyond = faulty(|blocks| {
            let mut more = blocks[4].clone();
            more.number = number(104);
            blocks.push(more);
        });
        assert_eq!(beyond, (5, Some(PeerFault::WrongNumber)));
    }

    #[test]
    fn bytes_that_are_not_canonical_are_malformed() {
        assert_eq!(
            faulty(|blocks| blocks[3].bytes.push(b' ')),
            (3, Some(PeerFault::Malformed))
        );
        assert_eq!(
            faulty(|blocks| blocks[0].bytes = vec![0xff]),
            (0, Some(PeerFault::Malformed))
        );
        assert_eq!(
            faulty(|blocks| blocks[0].bytes.clear()),
            (0, Some(PeerFault::Malformed))
        );
    }

    #[test]
    fn a_prefix_of_the_range_is_no_fault() {
        assert_eq!(faulty(|blocks| blocks.truncate(2)), (2, None));
        assert_eq!(faulty(Vec::clear), (0, None));
    }
}
