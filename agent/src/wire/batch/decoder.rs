//! Reads a batch as it arrives.

use bytes::{Buf, Bytes, BytesMut};
use crc32fast::Hasher;
use honeygraph_chain::{BlockNumber, BlockRange};
use tokio_util::codec::Decoder;
use tokio_util::codec::length_delimited::LengthDelimitedCodec;

use super::{
    BATCH_CUT_BYTES, BLOCK_FRAME_OVERHEAD, KIND_BLOCK, KIND_END, KIND_START, MAX_BATCH_BLOCKS,
    MAX_BLOCK_BYTES, MAX_OTHER_FRAME, NextNumber, WireBlock, WireError,
};
use crate::wire::{NetworkName, PROTOCOL_VERSION, UnixMillis};

/// How much of what was asked for a whole answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchExtent {
    /// Every block.
    Complete,
    /// The first blocks; the answer ended at [`BATCH_CUT_BYTES`], as it must.
    Cut,
}

/// Reads the answer to one request in pieces of any size. Holds at most one frame.
#[derive(Debug)]
pub struct BatchDecoder {
    network: NetworkName,
    asked: BlockRange,
    codec: LengthDelimitedCodec,
    buffer: BytesMut,
    /// Bytes that came and are not yet part of a whole frame.
    open_bytes: usize,
    /// Length of the frame that is coming, as it says.
    open_frame: usize,
    state: State,
    received: u64,
    canonical_bytes: usize,
    checksum: Hasher,
}

#[derive(Debug, Clone)]
enum State {
    BeforeStart,
    Blocks,
    Ended(BatchExtent),
    Failed(WireError),
}

impl BatchDecoder {
    /// Waits for the answer to a request for `asked`.
    pub fn new(network: NetworkName, asked: BlockRange) -> Result<Self, WireError> {
        if asked.len() > MAX_BATCH_BLOCKS {
            return Err(WireError::RangeTooLong { range: asked });
        }
        let codec = LengthDelimitedCodec::builder()
            .length_field_length(4)
            .big_endian()
            .max_frame_length(MAX_OTHER_FRAME)
            .new_codec();
        Ok(Self {
            network,
            asked,
            codec,
            buffer: BytesMut::new(),
            open_bytes: 0,
            open_frame: 0,
            state: State::BeforeStart,
            received: 0,
            canonical_bytes: 0,
            checksum: Hasher::new(),
        })
    }

    /// Takes the next piece of the answer and appends the blocks that it completes. After an error every
    /// further call gives the same error; what was appended before it stays valid as far as it goes.
    pub fn push(&mut self, piece: &[u8], blocks: &mut Vec<WireBlock>) -> Result<(), WireError> {
        let result = self.read(piece, blocks);
        if let Err(error) = &result {
            self.state = State::Failed(error.clone());
            self.buffer = BytesMut::new();
        }
        result
    }

    /// Canonical bytes of the blocks that came, with those of the one that is coming.
    pub fn block_bytes(&self) -> usize {
        self.canonical_bytes + self.open_frame.saturating_sub(BLOCK_FRAME_OVERHEAD)
    }

    /// The stream is over: whether the answer was whole.
    pub fn finish(self) -> Result<BatchExtent, WireError> {
        match self.state {
            State::Ended(extent) => Ok(extent),
            State::Failed(error) => Err(error),
            State::BeforeStart | State::Blocks if self.open_bytes == 0 => Err(WireError::MissingEnd),
            State::BeforeStart | State::Blocks => Err(WireError::Truncated),
        }
    }

    fn read(&mut self, piece: &[u8], blocks: &mut Vec<WireBlock>) -> Result<(), WireError> {
        match &self.state {
            State::Failed(error) => return Err(error.clone()),
            State::Ended(_) if !piece.is_empty() => return Err(WireError::TrailingBytes),
            _ => {}
        }
        self.buffer.extend_from_slice(piece);
        self.open_bytes += piece.len();
        while let Some(payload) = self.next_frame()? {
            self.open_bytes -= 4 + payload.len();
            self.open_frame = 0;
            let payload = payload.freeze();
            self.frame(payload, blocks)?;
            if matches!(self.state, State::Ended(_)) {
                return if self.buffer.is_empty() {
                    Ok(())
                } else {
                    Err(WireError::TrailingBytes)
                };
            }
        }
        Ok(())
    }

    fn next_frame(&mut self) -> Result<Option<BytesMut>, WireError> {
        let limit = self.codec.max_frame_length();
        // The codec takes a length out of the buffer once it is whole.
        if self.buffer.len() == self.open_bytes
            && let Some((length, _)) = self.buffer.split_first_chunk()
        {
            self.open_frame = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        }
        // A length of 4 bytes without adjustment can only be too large.
        self.codec
            .decode(&mut self.buffer)
            .map_err(|_| WireError::FrameTooLarge { limit })
    }

    fn frame(&mut self, mut payload: Bytes, blocks: &mut Vec<WireBlock>) -> Result<(), WireError> {
        let whole = payload.clone();
        let kind = payload
            .try_get_u8()
            .map_err(|_| WireError::Malformed("no kind"))?;
        match (&self.state, kind) {
            (State::BeforeStart, KIND_START) => self.start(payload),
            (State::BeforeStart, found) => Err(WireError::OutOfOrder {
                expected: "a start",
                found,
            }),
            (_, KIND_BLOCK) => self.block(payload, &whole, blocks),
            (_, KIND_END) => self.end(payload),
            (_, found) => Err(WireError::OutOfOrder {
                expected: "a block or the end",
                found,
            }),
        }
    }

    fn start(&mut self, mut payload: Bytes) -> Result<(), WireError> {
        let malformed = |_| WireError::Malformed("start");
        let version = payload.try_get_u16().map_err(malformed)?;
        if version != PROTOCOL_VERSION {
            return Err(WireError::Version(version));
        }
        let length = usize::from(payload.try_get_u8().map_err(malformed)?);
        if payload.remaining() < length {
            return Err(WireError::Malformed("start"));
        }
        if payload.split_to(length) != self.network.as_str().as_bytes() {
            return Err(WireError::OtherNetwork);
        }
        let first = payload.try_get_u64().map_err(malformed)?;
        let last = payload.try_get_u64().map_err(malformed)?;
        if payload.has_remaining() {
            return Err(WireError::Malformed("start"));
        }
        if (first, last) != (self.asked.start().get(), self.asked.end().get()) {
            return Err(WireError::OtherRange { asked: self.asked });
        }
        self.state = State::Blocks;
        // The length of a frame is checked against this before anything is allocated for it.
        self.codec
            .set_max_frame_length(MAX_BLOCK_BYTES + BLOCK_FRAME_OVERHEAD - 4);
        Ok(())
    }

    fn block(
        &mut self,
        mut payload: Bytes,
        whole: &[u8],
        blocks: &mut Vec<WireBlock>,
    ) -> Result<(), WireError> {
        let malformed = |_| WireError::Malformed("block");
        let found = payload.try_get_u64().map_err(malformed)?;
        let number = self.expect(found)?;
        if self.canonical_bytes >= BATCH_CUT_BYTES {
            return Err(WireError::BeyondCut { number });
        }
        let timestamp = match payload.try_get_u8().map_err(malformed)? {
            0 => None,
            1 => Some(UnixMillis(payload.try_get_u64().map_err(malformed)?)),
            _ => return Err(WireError::Malformed("block")),
        };
        if payload.len() > MAX_BLOCK_BYTES {
            return Err(WireError::FrameTooLarge {
                limit: MAX_BLOCK_BYTES,
            });
        }
        self.checksum.update(whole);
        self.received += 1;
        self.canonical_bytes += payload.len();
        blocks.push(WireBlock {
            number,
            timestamp,
            bytes: payload.to_vec(),
        });
        Ok(())
    }

    fn expect(&self, found: u64) -> Result<BlockNumber, WireError> {
        let expected = if self.received < self.asked.len() {
            NextNumber::Block(self.asked.start().saturating_add(self.received))
        } else {
            NextNumber::End
        };
        match expected {
            NextNumber::Block(number) if number.get() == found => Ok(number),
            expected => Err(WireError::WrongNumber { expected, found }),
        }
    }

    fn end(&mut self, mut payload: Bytes) -> Result<(), WireError> {
        let malformed = |_| WireError::Malformed("end");
        let stated = payload.try_get_u64().map_err(malformed)?;
        let checksum = payload.try_get_u32().map_err(malformed)?;
        if payload.has_remaining() {
            return Err(WireError::Malformed("end"));
        }
        if stated != self.received {
            return Err(WireError::WrongCount {
                stated,
                received: self.received,
            });
        }
        if checksum != self.checksum.clone().finalize() {
            return Err(WireError::WrongChecksum);
        }
        let extent = if self.received == self.asked.len() {
            BatchExtent::Complete
        } else if self.canonical_bytes >= BATCH_CUT_BYTES {
            BatchExtent::Cut
        } else {
            return Err(WireError::Short {
                received: self.received,
                asked: self.asked.len(),
            });
        };
        self.state = State::Ended(extent);
        Ok(())
    }
}
