//! The batch wire: a run of blocks in one answer.
//!
//! A stream of frames, each a length (4 bytes, big endian, of what follows) and a payload that starts with
//! its kind. All numbers are big endian.
//!
//! | kind | payload after the kind byte |
//! |---|---|
//! | 1 start | version (2), length of the network's name (1), its name, first block (8), last block (8) |
//! | 2 block | number (8), 0 or 1 (1), after a 1 the time in Unix milliseconds (8), canonical bytes |
//! | 3 end | number of blocks (8), CRC-32 of the payloads of all block frames (4) |
//!
//! One start, the blocks in order without holes, one end, nothing after it. A sender stops after the block
//! with which the canonical bytes reach [`BATCH_CUT_BYTES`]; only then may it send fewer than were asked
//! for. So both sides know the bound of an answer, and one range always has the same bytes. The checksum
//! finds damage, not lies: those the hashes find.

mod decoder;
mod encoder;

pub use decoder::{BatchDecoder, BatchExtent};
pub use encoder::BatchEncoder;

use honeygraph_chain::peer::PeerFault;
use honeygraph_chain::{BlockNumber, BlockRange};

use super::UnixMillis;

/// Content type of a batch answer.
pub const BATCH_CONTENT_TYPE: &str = "application/vnd.honeygraph.blocks";

/// Canonical bytes after which a sender ends its answer (4 MiB).
pub const BATCH_CUT_BYTES: usize = 4 << 20;

/// Most canonical bytes of one block (8 MiB).
pub const MAX_BLOCK_BYTES: usize = 8 << 20;

/// Most canonical bytes of one answer: the last block may reach beyond the cut (12 MiB).
pub const MAX_BATCH_BYTES: usize = BATCH_CUT_BYTES + MAX_BLOCK_BYTES;

/// Most blocks that one request may ask for.
pub const MAX_BATCH_BLOCKS: u64 = 512;

/// Most bytes of a block frame besides the canonical bytes: length, kind, number, flag, time.
const BLOCK_FRAME_OVERHEAD: usize = 4 + 1 + 8 + 1 + 8;

/// Most bytes of a start or an end frame, length included.
const MAX_OTHER_FRAME: usize = 4 + 1 + 2 + 1 + super::NetworkName::MAX_BYTES + 8 + 8;

const KIND_START: u8 = 1;
const KIND_BLOCK: u8 = 2;
const KIND_END: u8 = 3;

/// One block as it travels: bytes that nobody has looked into yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireBlock {
    /// Its number, as the frame says.
    pub number: BlockNumber,
    /// When it was made, if the sender knows; not part of the hash.
    pub timestamp: Option<UnixMillis>,
    /// The canonical bytes its hash is made of.
    pub bytes: Vec<u8>,
}

/// The most bytes that a valid answer to a request for `range` has, before compression.
pub fn max_answer_bytes(range: BlockRange) -> usize {
    let blocks = usize::try_from(range.len().min(MAX_BATCH_BLOCKS)).unwrap_or(usize::MAX);
    MAX_BATCH_BYTES + 2 * MAX_OTHER_FRAME + blocks.saturating_mul(BLOCK_FRAME_OVERHEAD)
}

/// A batch that breaks the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// More blocks than one request may ask for.
    #[error("a request for {range} asks for more than {MAX_BATCH_BLOCKS} blocks")]
    RangeTooLong {
        /// The range.
        range: BlockRange,
    },
    /// A frame that says it is longer than its kind can be.
    #[error("a frame is longer than {limit} bytes")]
    FrameTooLarge {
        /// Most bytes allowed at this place.
        limit: usize,
    },
    /// Blocks after the cut.
    #[error("block {number} comes after the {BATCH_CUT_BYTES} bytes at which an answer ends")]
    BeyondCut {
        /// The block.
        number: BlockNumber,
    },
    /// A frame of an unknown kind, or with fields cut off or left over.
    #[error("a frame is malformed: {0}")]
    Malformed(&'static str),
    /// A frame where another kind must stand.
    #[error("frames out of order: kind {found} where {expected} must stand")]
    OutOfOrder {
        /// What may stand here.
        expected: &'static str,
        /// The kind that stands here.
        found: u8,
    },
    /// Another version of the format.
    #[error("protocol version {0}, this node reads {version}", version = super::PROTOCOL_VERSION)]
    Version(u16),
    /// Blocks of another network.
    #[error("the answer is of another network")]
    OtherNetwork,
    /// The sender answers another question.
    #[error("the answer is for other blocks than the {asked} asked for")]
    OtherRange {
        /// What was asked for.
        asked: BlockRange,
    },
    /// Not the block that comes next.
    #[error("block {found} where {expected} must stand")]
    WrongNumber {
        /// Next number, none after the last one asked for.
        expected: NextNumber,
        /// The number in the frame.
        found: u64,
    },
    /// The end frame counts other blocks than were sent.
    #[error("the end frame counts {stated} blocks, {received} came")]
    WrongCount {
        /// What the end frame says.
        stated: u64,
        /// What came.
        received: u64,
    },
    /// The end frame's checksum is not that of the blocks.
    #[error("the checksum of the blocks is wrong")]
    WrongChecksum,
    /// Fewer blocks than asked for, though the answer had room.
    #[error("{received} of {asked} blocks, below the size at which an answer may end early")]
    Short {
        /// Blocks that came.
        received: u64,
        /// Blocks asked for.
        asked: u64,
    },
    /// The stream ended inside a frame.
    #[error("the answer ends inside a frame")]
    Truncated,
    /// The stream ended between frames, without the end frame.
    #[error("the end frame is missing")]
    MissingEnd,
    /// Something follows the end frame.
    #[error("bytes after the end frame")]
    TrailingBytes,
}

/// The number that must come next in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextNumber {
    /// This block.
    Block(BlockNumber),
    /// The end frame: all blocks asked for are there.
    End,
}

impl std::fmt::Display for NextNumber {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Block(number) => number.fmt(formatter),
            Self::End => formatter.write_str("the end"),
        }
    }
}

impl WireError {
    /// What the sender of such a batch did wrong.
    pub const fn fault(&self) -> PeerFault {
        match self {
            Self::FrameTooLarge { .. } | Self::BeyondCut { .. } => PeerFault::TooLarge,
            Self::WrongNumber { .. } | Self::OtherRange { .. } => PeerFault::WrongNumber,
            Self::Short { .. } | Self::Truncated | Self::MissingEnd => PeerFault::ShortAnswer,
            Self::RangeTooLong { .. }
            | Self::Malformed(_)
            | Self::OutOfOrder { .. }
            | Self::Version(_)
            | Self::OtherNetwork
            | Self::WrongCount { .. }
            | Self::WrongChecksum
            | Self::TrailingBytes => PeerFault::Malformed,
        }
    }
}

#[cfg(test)]
mod tests;
