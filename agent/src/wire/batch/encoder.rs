//! Writes a batch.

use bytes::{BufMut, Bytes, BytesMut};
use crc32fast::Hasher;
use honeygraph_chain::{BlockNumber, BlockRange};

use super::{
    BATCH_CUT_BYTES, BLOCK_FRAME_OVERHEAD, KIND_BLOCK, KIND_END, KIND_START, MAX_BATCH_BLOCKS,
    MAX_BLOCK_BYTES, NextNumber, WireError,
};
use crate::wire::{NetworkName, PROTOCOL_VERSION, UnixMillis};

/// Writes the answer to one request, block by block; [`BatchEncoder::finish`] hands it over. It stays small: no answer has
/// more than [`BATCH_CUT_BYTES`] and a block.
#[derive(Debug)]
pub struct BatchEncoder {
    range: BlockRange,
    sent: u64,
    canonical_bytes: usize,
    checksum: Hasher,
    out: BytesMut,
}

impl BatchEncoder {
    /// Starts the answer to a request for `range`.
    pub fn new(network: &NetworkName, range: BlockRange) -> Result<Self, WireError> {
        if range.len() > MAX_BATCH_BLOCKS {
            return Err(WireError::RangeTooLong { range });
        }
        let name = network.as_str().as_bytes();
        let mut payload = BytesMut::new();
        payload.put_u8(KIND_START);
        payload.put_u16(PROTOCOL_VERSION);
        // A network's name has at most 32 bytes.
        payload.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        payload.put_slice(name);
        payload.put_u64(range.start().get());
        payload.put_u64(range.end().get());
        let mut encoder = Self {
            range,
            sent: 0,
            canonical_bytes: 0,
            checksum: Hasher::new(),
            out: BytesMut::new(),
        };
        encoder.frame(&payload);
        Ok(encoder)
    }

    /// The block to push next, none when the answer is to be finished: all are there, or it has reached
    /// [`BATCH_CUT_BYTES`].
    pub fn next(&self) -> Option<BlockNumber> {
        (self.sent < self.range.len() && self.canonical_bytes < BATCH_CUT_BYTES)
            .then(|| self.range.start().saturating_add(self.sent))
    }

    /// Appends a block; it must be the one that [`BatchEncoder::next`] names.
    pub fn push(
        &mut self,
        number: BlockNumber,
        timestamp: Option<UnixMillis>,
        canonical: &[u8],
    ) -> Result<(), WireError> {
        if canonical.len() > MAX_BLOCK_BYTES {
            return Err(WireError::FrameTooLarge {
                limit: MAX_BLOCK_BYTES,
            });
        }
        match self.next() {
            Some(next) if next == number => {}
            Some(next) => {
                return Err(WireError::WrongNumber {
                    expected: NextNumber::Block(next),
                    found: number.get(),
                });
            }
            None => {
                return Err(WireError::WrongNumber {
                    expected: NextNumber::End,
                    found: number.get(),
                });
            }
        }
        self.out.reserve(BLOCK_FRAME_OVERHEAD + canonical.len());
        let length_at = self.out.len();
        self.out.put_u32(0);
        self.out.put_u8(KIND_BLOCK);
        self.out.put_u64(number.get());
        match timestamp {
            None => self.out.put_u8(0),
            Some(timestamp) => {
                self.out.put_u8(1);
                self.out.put_u64(timestamp.0);
            }
        }
        self.out.put_slice(canonical);
        let payload = &self.out[length_at + 4..];
        self.checksum.update(payload);
        let length = length_of(payload);
        self.out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
        self.sent += 1;
        self.canonical_bytes += canonical.len();
        Ok(())
    }

    /// Ends the answer and returns it. To stop while [`BatchEncoder::next`] still
    /// names a block is a short answer, which the reader holds against the sender.
    pub fn finish(mut self) -> Bytes {
        let mut payload = BytesMut::new();
        payload.put_u8(KIND_END);
        payload.put_u64(self.sent);
        payload.put_u32(self.checksum.clone().finalize());
        self.frame(&payload);
        self.out.freeze()
    }

    fn frame(&mut self, payload: &[u8]) {
        self.out.put_u32(length_of(payload));
        self.out.put_slice(payload);
    }
}

/// Length prefix of a payload; payloads are at most [`MAX_BLOCK_BYTES`] and a few bytes.
fn length_of(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).unwrap_or(u32::MAX)
}
