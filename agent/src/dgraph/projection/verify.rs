//! Compares what stands in Dgraph with the log, piece by piece, and repairs what differs.
//!
//! A repair is written only if the cursor has not moved since the piece was read, so that it can never put an
//! older value over a newer one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use honeygraph_chain::{BlockNumber, BlockRange, ContentId, PathKey};
use serde::{Deserialize, Serialize};

use super::cursor::Cursor;
use super::facts::{
    BlockRow, CheckpointRow, clear_checkpoint, clear_node, clear_orphan, clear_state, is_indexed, put_state,
};
use super::region::Region;
use super::replacement::{Judged, StoredPath, StoredState, judge};
use super::runner::Writers;
use super::touched::StateNode;
use crate::dgraph::client::{Mutation, Uid};
use crate::store::{StoreError, View};

/// Blocks of one piece.
pub(super) const BLOCKS: u64 = 250;
/// Nodes of the state of one piece.
pub(super) const NODES: usize = 1_000;

/// Characters of a value that a difference shows.
const SHOWN: usize = 80;

/// One thing that stands otherwise in Dgraph than in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Which: `block 7`, `checkpoint 101`, `state balances/alice`.
    pub place: String,
    /// How it differs.
    pub reason: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.reason)
    }
}

/// What was found wrong, and what puts it right.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// Blocks and checkpoints that differ, are missing, or should not be there.
    pub blocks: u64,
    /// Nodes of the state that differ, are missing, or should not be there.
    pub nodes: u64,
    /// The facts.
    pub facts: Mutation,
    /// What differs, in words.
    pub differences: Vec<Difference>,
}

impl Repair {
    fn differs(&mut self, place: impl fmt::Display, reason: impl Into<String>) {
        self.differences.push(Difference {
            place: place.to_string(),
            reason: reason.into(),
        });
    }
}

/// The parts that are compared, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Piece {
    /// Blocks and checkpoints of the log, as they stand in Dgraph.
    #[default]
    Blocks,
    /// Blocks that stand in Dgraph.
    StoredBlocks,
    /// Checkpoints that stand in Dgraph.
    StoredCheckpoints,
    /// Nodes of the state that stand in Dgraph.
    StoredState,
    /// The state of the log, as it stands in Dgraph.
    State,
}

impl Piece {
    /// The next part; none after the last.
    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::Blocks => Some(Self::StoredBlocks),
            Self::StoredBlocks => Some(Self::StoredCheckpoints),
            Self::StoredCheckpoints => Some(Self::StoredState),
            Self::StoredState => Some(Self::State),
            Self::State => None,
        }
    }
}

/// How far each part was compared.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub blocks: Option<BlockNumber>,
    pub stored_blocks: Uid,
    pub stored_checkpoints: Uid,
    pub stored_state: Uid,
    pub state: Option<PathKey>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            blocks: None,
            stored_blocks: Uid(0),
            stored_checkpoints: Uid(0),
            stored_state: Uid(0),
            state: None,
        }
    }
}

/// What came of comparing one piece.
#[derive(Debug)]
pub(super) enum Compared {
    /// It was compared.
    Piece {
        repair: Repair,
        /// Rows that were looked at.
        rows: u64,
        /// Whether it is the last of its part.
        ends: bool,
    },
    /// It cannot be compared as things stand.
    NotNow(String),
}

impl Compared {
    pub(super) fn nothing() -> Self {
        Self::Piece {
            repair: Repair::default(),
            rows: 0,
            ends: true,
        }
    }
}

/// A block as it stands on the node of its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoodBlock {
    /// The number that the node is of.
    pub node: BlockNumber,
    /// The number that stands there.
    pub number: Option<BlockNumber>,
    /// The fork that stands there.
    pub fork: Option<String>,
    /// Everything else.
    pub row: BlockRow,
}

/// A node that says it is a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockNode {
    /// Its uid.
    pub uid: Uid,
    /// The number that stands there.
    pub number: Option<BlockNumber>,
    /// The hash that stands there.
    pub hash: Option<ContentId>,
    /// Whether it is on a fork.
    pub is_on_fork: bool,
}

/// A checkpoint as it stands on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoodCheckpoint {
    /// The node.
    pub uid: Uid,
    /// What stands there; none where it can be no checkpoint.
    pub row: Option<CheckpointRow>,
}

/// Compares blocks and checkpoints.
pub(super) fn repair_blocks(
    view: &View,
    region: &Region,
    range: BlockRange,
    blocks: Vec<StoodBlock>,
    checkpoints: Vec<StoodCheckpoint>,
    writers: Writers,
) -> Result<Repair, StoreError> {
    let mut repair = Repair::default();
    let mut blocks: BTreeMap<BlockNumber, StoodBlock> =
        blocks.into_iter().map(|block| (block.node, block)).collect();
    for row in view.blocks(range) {
        let (number, stored) = row?;
        let expected = BlockRow::of(number, &stored)?;
        let place = format_args!("block {number}").to_string();
        match blocks.remove(&number) {
            None => {
                repair.differs(place, "not in Dgraph");
                expected.put(region, &mut repair.facts)?;
            }
            Some(stood) => {
                let mut differing = expected.differing(&stood.row, writers);
                if stood.number != Some(number) {
                    differing.push(super::schema::predicate::BLOCK_NUM);
                }
                if stood.fork.is_some() {
                    differing.push(super::schema::predicate::FORK_ID);
                    repair
                        .facts
                        .clear(region.block(number), super::schema::predicate::FORK_ID);
                }
                if differing.is_empty() {
                    continue;
                }
                repair.differs(place, format!("other {}", differing.join(", ")));
                expected.put_over(&stood.row, region, &mut repair.facts)?;
            }
        }
        repair.blocks += 1;
    }
    let checkpoints: BTreeMap<Uid, StoodCheckpoint> = checkpoints
        .into_iter()
        .map(|checkpoint| (checkpoint.uid, checkpoint))
        .collect();
    for record in view.checkpoints(range) {
        let record = record?;
        let expected = CheckpointRow::of(&record);
        let stood = checkpoints.get(&region.checkpoint(record.block_num));
        let row = stood.and_then(|stood| stood.row.as_ref());
        if !row.is_some_and(|row| expected.is_right(row)) {
            let reason = if stood.is_none() {
                "not in Dgraph"
            } else {
                "differs"
            };
            repair.differs(format_args!("checkpoint {}", record.block_num), reason);
            expected.put(region, row, &mut repair.facts)?;
            repair.blocks += 1;
        }
    }
    Ok(repair)
}

/// Compares nodes that say they are blocks with where blocks stand.
pub(super) fn repair_stored_blocks(
    view: &View,
    region: &Region,
    cursor: &Cursor,
    page: &[BlockNode],
) -> Result<Repair, StoreError> {
    let mut repair = Repair::default();
    let from = cursor.from.unwrap_or_default();
    let stands = |number: BlockNumber| {
        from <= number && cursor.applied.is_some_and(|applied| number <= applied.number)
    };
    for node in page {
        let is_canonical = !node.is_on_fork
            && node
                .number
                .is_some_and(|number| stands(number) && node.uid == region.block(number));
        let is_orphan = node.is_on_fork && node.hash.is_some_and(|hash| node.uid == region.orphan(hash));
        // One whose number or fork was changed on the node of a block is found with its block.
        let is_of_block = node
            .uid
            .0
            .checked_sub(region.block(BlockNumber::default()).0)
            .and_then(|number| BlockNumber::try_from(number).ok())
            .is_some_and(|number| node.uid == region.block(number) && stands(number));
        if is_canonical || is_of_block {
            continue;
        }
        let number = node.number.map_or("?".to_owned(), |number| number.to_string());
        if let (true, Some(hash)) = (is_orphan, node.hash) {
            if is_followed(view, node, stands)? {
                repair.differs(
                    format_args!("block {number}"),
                    format!("node {} has it on a fork, too", node.uid),
                );
                clear_orphan(region, hash, &mut repair.facts);
                repair.blocks += 1;
            }
            continue;
        }
        repair.differs(
            format_args!("block {number}"),
            format!("node {} is no block of the log", node.uid),
        );
        clear_node(node.uid, &mut repair.facts);
        repair.blocks += 1;
    }
    Ok(repair)
}

/// Whether the log follows a block of a fork by now, and Dgraph too.
fn is_followed(
    view: &View,
    node: &BlockNode,
    stands: impl Fn(BlockNumber) -> bool,
) -> Result<bool, StoreError> {
    let Some(number) = node.number.filter(|number| stands(*number)) else {
        return Ok(false);
    };
    let ours = view.block(number)?.map(|ours| ours.hash);
    Ok(ours.is_some() && ours == node.hash)
}

/// Compares nodes that say they are checkpoints with those of the log.
pub(super) fn repair_stored_checkpoints(
    view: &View,
    region: &Region,
    cursor: &Cursor,
    lowest: BlockNumber,
    page: &[StoodCheckpoint],
) -> Result<Repair, StoreError> {
    let mut repair = Repair::default();
    for stood in page {
        let number = stood.row.as_ref().map(|row| row.number);
        let expected = match number {
            // Another writer has more history than this log.
            Some(number) if number < lowest && cursor.from.is_some_and(|from| from <= number) => continue,
            Some(number) => view.checkpoint(number)?,
            None => None,
        };
        let is_applied = cursor
            .applied
            .is_some_and(|applied| number.is_some_and(|number| number <= applied.number));
        match (expected, number) {
            (Some(_), Some(number)) if is_applied && stood.uid == region.checkpoint(number) => {}
            _ => {
                let number = number.map_or("?".to_owned(), |number| number.to_string());
                repair.differs(
                    format_args!("checkpoint {number}"),
                    format!("node {} is no checkpoint of the log", stood.uid),
                );
                clear_checkpoint(stood.uid, &mut repair.facts);
                repair.blocks += 1;
            }
        }
    }
    Ok(repair)
}

/// Finds nodes of the state that stand in Dgraph and not in the log's state.
pub(super) fn repair_stored_state(
    view: &View,
    region: &Region,
    page: &[StoredPath],
) -> Result<Repair, StoreError> {
    let mut repair = Repair::default();
    for stored in page {
        match judge(view, region, stored)? {
            Judged::Gone => {
                repair.differs(format_args!("state {}", stored.path), "not in the log's state");
                clear_state(stored.uid, &mut repair.facts);
                repair.nodes += 1;
            }
            // Compared from the side of the log.
            Judged::Stands(..) | Judged::Unreadable => {}
        }
    }
    Ok(repair)
}

/// Compares nodes of the state with what stands in Dgraph of them.
pub(super) fn repair_state(
    view: &View,
    region: &Region,
    block: BlockNumber,
    nodes: BTreeSet<StateNode>,
    found: &[StoredState],
) -> Result<Repair, StoreError> {
    let found: BTreeMap<Uid, &StoredState> = found.iter().map(|stored| (stored.uid, stored)).collect();
    let mut repair = Repair::default();
    for node in nodes {
        let path = text_of(&node);
        let expected = node.value(view)?.filter(|_| is_indexed(&path));
        let stands = found.get(&region.state(node.key()));
        let is_right = match (stands, &expected) {
            (None, None) => true,
            (Some(stored), Some(expected)) => stored.path == path && stored.value.as_ref() == Some(expected),
            _ => false,
        };
        if !is_right {
            let reason = match stands {
                None => "not in Dgraph".to_owned(),
                Some(stored) if stored.path != path => {
                    format!("Dgraph has path {} there", shown(&stored.path))
                }
                Some(stored) => values(stored.value.as_deref(), expected.as_deref()),
            };
            repair.differs(format_args!("state {path}"), reason);
            put_state(region, &node, expected, block, &mut repair.facts)?;
            repair.nodes += 1;
        }
    }
    Ok(repair)
}

fn values(dgraph: Option<&str>, log: Option<&str>) -> String {
    let text = |value: Option<&str>| value.map_or("nothing".to_owned(), shown);
    format!("Dgraph has {}, the log {}", text(dgraph), text(log))
}

/// The start of a value.
fn shown(value: &str) -> String {
    let mut text: String = value.chars().take(SHOWN).collect();
    if text.len() < value.len() {
        text.push_str("...");
    }
    text
}

fn text_of(node: &StateNode) -> String {
    node.key()
        .to_path()
        .map(|path| path.to_string())
        .unwrap_or_default()
}
