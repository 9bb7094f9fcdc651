//! Reading a file whole before anything of it is taken: records, content ids, links, delta documents.

use std::collections::BTreeMap;
use std::path::Path;

use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::content_id::ContentHasher;
use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::{BlockNumber, ContentId};

use super::format::{Header, Record, RecordReader};
use super::hanging::Hanging;
use super::{ImportOptions, ProgressFn, TransferError, TransferPart, TransferProgress};
use crate::store::chain_walk::{ChainWalk, CheckpointFinding};
use crate::store::{CheckpointRecord, View};

/// Blocks between two calls of the progress function.
const PROGRESS_BLOCKS: u64 = 64;
/// Bytes of all delta documents of a file: they are held in memory when a node starts from them.
const MAX_DELTA_BYTES: u64 = 256 << 20;

/// What a sound file holds.
pub(super) struct Inspected {
    pub(super) header: Header,
    /// The records of the documents that a node starts from: the full state, and the last of all.
    pub(super) start: Option<(CheckpointRecord, CheckpointRecord)>,
    /// The blocks that hang on what the store holds, or where it is empty all: it starts on the word of the file.
    pub(super) hanging: IntervalSet,
}

/// A document that is being read.
struct OpenDocument {
    id: ContentId,
    /// What it covers, as its first bytes say.
    covered: Option<BlockNumber>,
    bytes: u64,
    hasher: ContentHasher,
}

struct Inspector<'caller> {
    reader: RecordReader,
    view: &'caller View,
    options: &'caller ImportOptions,
    walk: ChainWalk,
    /// Documents that the header promises, those to come last first.
    promised: Vec<ContentId>,
    open: Option<OpenDocument>,
    delta_bytes: u64,
    /// Which block each document covers.
    covered: BTreeMap<ContentId, BlockNumber>,
    hanging: Hanging,
    /// What the store has.
    have: IntervalSet,
    /// Whether it has a state.
    has_state: bool,
    /// The last checkpoint and the last block.
    last: (Option<BlockNumber>, Option<BlockNumber>),
    /// Hash of the last block.
    last_hash: Option<ContentId>,
    start: (Option<CheckpointRecord>, Option<CheckpointRecord>),
    trusted: Trusted,
    blocks: u64,
}

/// What was found of the checkpoint that the operator vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trusted {
    NotSeen,
    NotComputable,
    Proven,
}

/// Checks a file against itself, the options, and what the store holds. Changes nothing.
pub(super) fn inspect(
    path: &Path,
    view: &View,
    options: &ImportOptions,
    progress: ProgressFn<'_>,
) -> Result<Inspected, TransferError> {
    let reader = RecordReader::open(path)?;
    let header = reader.header().clone();
    if header.network != options.network {
        return Err(TransferError::OtherNetwork {
            found: header.network,
            wanted: options.network.clone(),
        });
    }
    let position = view.position()?;
    if let Some(position) = position.as_ref().filter(|now| now.schedule != header.schedule) {
        return Err(TransferError::OtherChain {
            reason: format!(
                "its checkpoints are every {} blocks at {}, here every {} at {}",
                header.schedule.delta_interval,
                header.schedule.delta_offset,
                position.schedule.delta_interval,
                position.schedule.delta_offset
            ),
        });
    }
    if position.is_none() && header.start.is_none() {
        return Err(TransferError::NoStart);
    }
    let promised = header.start.iter().flat_map(|start| {
        let deltas = start.deltas.iter().rev().copied();
        deltas.chain([start.state])
    });
    let mut inspector = Inspector {
        view,
        options,
        walk: ChainWalk::new(header.schedule),
        promised: promised.collect(),
        open: None,
        delta_bytes: 0,
        covered: BTreeMap::new(),
        hanging: Hanging::default(),
        have: view.have()?,
        has_state: position.is_some(),
        last: (None, None),
        last_hash: None,
        start: (None, None),
        trusted: Trusted::NotSeen,
        blocks: 0,
        reader,
    };
    while let Some(record) = inspector.reader.next()? {
        inspector.record(record)?;
        let (done, total) = (inspector.blocks, header.blocks);
        if done > 0 && (done.is_multiple_of(PROGRESS_BLOCKS) || done == total) {
            let part = TransferPart::Verify;
            progress(TransferProgress { part, done, total });
        }
    }
    inspector.end(header, position.is_none())
}

impl Inspector<'_> {
    fn record(&mut self, record: Record) -> Result<(), TransferError> {
        match record {
            Record::Document(id) => {
                self.close()?;
                if self.promised.pop() != Some(id) {
                    return Err(self.reader.unusable("a document that its header does not name"));
                }
                self.open = Some(OpenDocument {
                    id,
                    covered: None,
                    bytes: 0,
                    hasher: ContentHasher::new(),
                });
            }
            Record::Piece(piece) => {
                let is_state = |id| {
                    let start = &self.reader.header().start;
                    start.as_ref().is_some_and(|start| start.state == id)
                };
                let Some(open) = &mut self.open else {
                    return Err(self.reader.unusable("a piece of no document"));
                };
                let length = piece.len() as u64;
                if open.bytes == 0 {
                    open.covered = covered_by(&piece);
                }
                open.bytes += length;
                open.hasher.update(&piece);
                if !is_state(open.id) {
                    self.delta_bytes += length;
                }
                if open.bytes > self.options.document_bytes_max || self.delta_bytes > MAX_DELTA_BYTES {
                    let reason = format!("document {} is larger than allowed", open.id);
                    return Err(self.reader.unusable(reason));
                }
            }
            Record::Checkpoint(record) => {
                self.close()?;
                self.checkpoint(record)?;
            }
            Record::Block(block) => {
                self.close()?;
                let number = block.number;
                let (checkpoint, last) = self.last;
                if last.is_some_and(|last| last >= number) || checkpoint.is_some_and(|last| last >= number) {
                    return Err(self
                        .reader
                        .unusable(format_args!("block {number} is out of order")));
                }
                self.last.1 = Some(number);
                self.blocks += 1;
                let block = HashedBlock::from_canonical(block.bytes)
                    .map_err(|error| self.reader.unusable(format_args!("block {number}: {error}")))?;
                self.block(number, &block)?;
            }
        }
        Ok(())
    }

    fn block(&mut self, number: BlockNumber, block: &HashedBlock) -> Result<(), TransferError> {
        if block.number() != number {
            let reason = format!("block {number} is block {}", block.number());
            return Err(self.reader.unusable(reason));
        }
        self.walk
            .block(block)
            .map_err(|error| self.reader.unusable(format_args!("block {number}: {error}")))?;
        self.hanging.block(number);
        self.last_hash = Some(block.hash());
        if !self.has_state {
            self.hanging.proves_last();
        }
        match self.view.block(number)? {
            Some(stored) if stored.hash != block.hash() => Err(TransferError::OtherChain {
                reason: format!(
                    "block {number} is {} there and {} here",
                    block.hash(),
                    stored.hash
                ),
            }),
            Some(_) => {
                self.hanging.proves_last();
                Ok(())
            }
            None => {
                if self.link_after(number)? == Some(block.hash()) {
                    self.hanging.proves_last();
                }
                Ok(())
            }
        }
    }

    /// What the stored block after one that is not stored links to.
    fn link_after(&self, number: BlockNumber) -> Result<Option<ContentId>, TransferError> {
        let next = number.next();
        if !self.have.contains(next) {
            return Ok(None);
        }
        let stored = self.view.block(next)?;
        Ok(stored.map(|block| block.previous_hash(next)).transpose()?)
    }

    /// Whether a checkpoint proves its block, and whether the store proves it.
    fn bind(&mut self, record: &CheckpointRecord, finding: &CheckpointFinding) -> Result<(), TransferError> {
        let number = record.block_num;
        if !self.has_state || self.last.1 != Some(number) {
            return Ok(());
        }
        let is_proven = *finding == CheckpointFinding::Proven;
        let known = self.view.checkpoint(number)?;
        let knows_block = known
            .as_ref()
            .is_some_and(|known| known.block_hash.is_some() && known.block_hash == self.last_hash);
        let is_named = known.is_some() || self.link_after(number)? == Some(record.state_hash);
        if knows_block || (is_proven && is_named) {
            self.hanging.proves_last();
        }
        if !knows_block && !is_proven {
            self.hanging.cut();
        }
        Ok(())
    }

    fn checkpoint(&mut self, record: CheckpointRecord) -> Result<(), TransferError> {
        let number = record.block_num;
        let (last, block) = self.last;
        if last.is_some_and(|last| last >= number) || block.is_some_and(|block| block > number) {
            let reason = format!("checkpoint {number} is out of order");
            return Err(self.reader.unusable(reason));
        }
        self.last.0 = Some(number);
        let covered = self.covered.get(&record.state_hash);
        if let Some(covered) = covered.filter(|covered| **covered != number) {
            let reason = format!("checkpoint {number} has the document of checkpoint {covered}");
            return Err(self.reader.unusable(reason));
        }
        let finding = self.walk.checkpoint(&record);
        let wrong = match finding {
            CheckpointFinding::Proven | CheckpointFinding::NotComputable => None,
            CheckpointFinding::Mismatch { computed, .. } => Some(format!(
                "checkpoint {number} is {}, its blocks compute to {computed}",
                record.state_hash
            )),
            CheckpointFinding::OtherBlock { .. } => {
                Some(format!("checkpoint {number} has another block than the file"))
            }
            CheckpointFinding::OtherRoot => {
                Some(format!("checkpoint {number} does not follow the one before"))
            }
        };
        if let Some(reason) = wrong {
            return Err(self.reader.unusable(reason));
        }
        if let Some(known) = self.view.checkpoint(number)?
            && known.state_hash != record.state_hash
        {
            return Err(TransferError::OtherChain {
                reason: format!(
                    "checkpoint {number} is {} there and {} here",
                    record.state_hash, known.state_hash
                ),
            });
        }
        self.bind(&record, &finding)?;
        self.trust(&record, &finding)?;
        if let Some(start) = &self.reader.header().start {
            if record.state_hash == start.state {
                self.start.0 = Some(record.clone());
            }
            if number == start.height {
                self.start.1 = Some(record);
            }
        }
        Ok(())
    }

    /// Compares with the checkpoint that the operator vouches for.
    fn trust(&mut self, record: &CheckpointRecord, finding: &CheckpointFinding) -> Result<(), TransferError> {
        let Some((block, id)) = self.options.trusted_checkpoint else {
            return Ok(());
        };
        if record.block_num != block {
            return Ok(());
        }
        if record.state_hash != id {
            return Err(TransferError::NotTrusted {
                block,
                id,
                reason: format!("its checkpoint there is {}", record.state_hash),
            });
        }
        let start = self.reader.header().start.as_ref();
        let is_document = start.is_some_and(|start| start.state == id || start.deltas.contains(&id));
        self.trusted = if is_document || *finding == CheckpointFinding::Proven {
            Trusted::Proven
        } else {
            Trusted::NotComputable
        };
        Ok(())
    }

    /// Ends the document that is being read.
    fn close(&mut self) -> Result<(), TransferError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let found = open.hasher.finish();
        let reason = match open.covered {
            _ if found != open.id => format!("document {} has content id {found}", open.id),
            None => format!("document {} covers no block", open.id),
            Some(covered) => {
                self.covered.insert(open.id, covered);
                return Ok(());
            }
        };
        Err(self.reader.unusable(reason))
    }

    fn end(mut self, header: Header, is_empty: bool) -> Result<Inspected, TransferError> {
        self.close()?;
        if !self.promised.is_empty() {
            return Err(self
                .reader
                .unusable("a document that its header names is missing"));
        }
        let start = match (&header.start, self.start) {
            (None, _) => None,
            (Some(_), (Some(state), Some(last))) => Some((state, last)),
            (Some(_), _) => {
                return Err(self
                    .reader
                    .unusable("the checkpoints of its documents are missing"));
            }
        };
        if let Some((block, id)) = self.options.trusted_checkpoint {
            let reason = match self.trusted {
                Trusted::Proven if !is_empty => None,
                Trusted::Proven => start
                    .as_ref()
                    .filter(|(state, _)| state.block_num > block)
                    .map(|(state, _)| format!("the file starts later, from checkpoint {}", state.block_num)),
                Trusted::NotSeen => Some("it is not in the file".to_owned()),
                Trusted::NotComputable => Some("blocks of its period are missing in the file".to_owned()),
            };
            if let Some(reason) = reason {
                return Err(TransferError::NotTrusted { block, id, reason });
            }
        }
        Ok(Inspected {
            header,
            start,
            hanging: self.hanging.finish(),
        })
    }
}

/// The block that a document covers, from its first bytes: `[n+1,`.
fn covered_by(piece: &[u8]) -> Option<BlockNumber> {
    let digits = piece.strip_prefix(b"[")?;
    let end = digits.iter().take(20).position(|byte| *byte == b',')?;
    let number: BlockNumber = std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()?;
    number.previous()
}
