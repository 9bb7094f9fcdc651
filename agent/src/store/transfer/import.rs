//! Taking a file into a store, through the replica.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::peer::PeerId;
use honeygraph_chain::{BlockNumber, ContentId};

use super::format::{BlockRecord, Record, RecordReader};
use super::inspect::{Inspected, inspect};
use super::{ProgressFn, TransferError, TransferPart, TransferProgress};
use crate::replica::{ExtendOutcome, FetchedBlock, HistoryOutcome, Replica, StartDocuments};
use crate::store::CheckpointRecord;

/// Blocks that are handed over at once.
const BATCH_BLOCKS: usize = 512;
/// Blocks of a period that is checked as a whole, and their bytes.
const MAX_PERIOD: (usize, usize) = (4_096, 64 << 20);

/// How a file is taken.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The network that it has to be of.
    pub network: String,
    /// A checkpoint that the file has to prove.
    pub trusted_checkpoint: Option<(BlockNumber, ContentId)>,
    /// Bytes of its full state document at most.
    pub document_bytes_max: u64,
}

/// What was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    /// The block whose state the store started from, where it was empty.
    pub started_at: Option<BlockNumber>,
    /// Blocks that are stored now and were not before.
    pub new_blocks: u64,
    /// Blocks of the file that could not be proven and were left out: nothing that is known fixes their hash.
    pub left_out: u64,
    /// Highest block whose state is applied now.
    pub state_height: BlockNumber,
}

/// Takes a file: starts an empty store from its documents, fills gaps, and extends the chain. What is stored
/// already is never replaced.
pub fn import(
    replica: &mut Replica,
    path: &Path,
    options: &ImportOptions,
    progress: ProgressFn<'_>,
) -> Result<Imported, TransferError> {
    let found = inspect(path, &replica.store().view(), options, progress)?;
    let before = replica.writer().have().block_count();
    let mut outcome = Imported::default();
    let mut reader = RecordReader::open(path)?;
    let documents = Documents::read(
        &mut reader,
        replica.store().directory(),
        replica.position().is_none(),
    )?;
    if replica.position().is_none() {
        let documents = documents.files.to_start(&found).ok_or(TransferError::NoStart)?;
        outcome.started_at = Some(replica.start_from(&documents)?);
    }
    let is_started_here = outcome.started_at.is_some();
    if let Some(first) = found.hanging.first()
        && let Some(position) = replica.position()
        && first < position.history_start
    {
        replica.set_history_start(first)?;
    }
    let peer: PeerId = "import"
        .parse()
        .map_err(|error| reader.unusable(format_args!("{error}")))?;
    let height = replica
        .position()
        .map_or(BlockNumber::default(), |now| now.state_height);
    let mut taking = Taking {
        replica,
        peer,
        height,
        hanging: &found.hanging,
        is_started_here,
        period: Vec::new(),
        period_bytes: 0,
        front: Vec::new(),
        left_out: 0,
    };
    let mut next = documents.first;
    let mut done = 0;
    while let Some(record) = next {
        match record {
            Record::Block(block) => {
                taking.block(&reader, block)?;
                done += 1;
            }
            Record::Checkpoint(record) => taking.checkpoint(&record)?,
            Record::Document(_) | Record::Piece(_) => {
                return Err(reader.unusable("a document after the blocks"));
            }
        }
        if taking.is_batch_full() {
            taking.extend()?;
        }
        let (part, total) = (TransferPart::Apply, found.header.blocks);
        if done % 64 == 0 || done == total {
            progress(TransferProgress { part, done, total });
        }
        next = reader.next()?;
    }
    taking.fill()?;
    taking.extend()?;
    outcome.left_out = taking.left_out;
    outcome.new_blocks = replica.writer().have().block_count().saturating_sub(before);
    outcome.state_height = replica.position().map_or(height, |now| now.state_height);
    Ok(outcome)
}

/// Blocks on their way into the replica.
struct Taking<'replica> {
    replica: &'replica mut Replica,
    peer: PeerId,
    /// Blocks up to this one are history, those above extend the chain.
    height: BlockNumber,
    /// Blocks of history that are proven by what was there before.
    hanging: &'replica IntervalSet,
    /// Whether the store starts from this file.
    is_started_here: bool,
    period: Vec<FetchedBlock>,
    period_bytes: usize,
    front: Vec<FetchedBlock>,
    left_out: u64,
}

impl Taking<'_> {
    fn block(&mut self, reader: &RecordReader, block: BlockRecord) -> Result<(), TransferError> {
        let number = block.number;
        let fetched = FetchedBlock {
            block: HashedBlock::from_canonical(block.bytes)
                .map_err(|error| reader.unusable(format_args!("block {number}: {error}")))?,
            timestamp_ms: block.timestamp_ms,
        };
        if number > self.height {
            self.fill()?;
            self.front.push(fetched);
            return Ok(());
        }
        if !self.hanging.contains(number) {
            self.left_out += 1;
            return self.fill();
        }
        let goes_on = self
            .period
            .last()
            .is_none_or(|last| last.block.number().next() == number);
        if !goes_on || self.period.len() >= MAX_PERIOD.0 || self.period_bytes > MAX_PERIOD.1 {
            self.fill()?;
        }
        self.period_bytes += fetched.block.bytes().len();
        self.period.push(fetched);
        Ok(())
    }

    fn checkpoint(&mut self, record: &CheckpointRecord) -> Result<(), TransferError> {
        if record.block_num > self.height {
            return self.extend();
        }
        if self.is_started_here {
            self.replica.learn_checkpoints(std::slice::from_ref(record))?;
        } else if self.hanging.contains(record.block_num) {
            // Its blocks prove it, but not the state after them.
            self.replica.learn_checkpoints(&[CheckpointRecord {
                state_digest: None,
                ..record.clone()
            }])?;
        }
        self.fill()
    }

    const fn is_batch_full(&self) -> bool {
        self.front.len() >= BATCH_BLOCKS
    }

    /// Hands over the period that was gathered.
    fn fill(&mut self) -> Result<(), TransferError> {
        let mut period = std::mem::take(&mut self.period);
        self.period_bytes = 0;
        // What is stored at its end proves the rest.
        while period
            .last()
            .is_some_and(|last| self.replica.writer().have().contains(last.block.number()))
        {
            period.pop();
        }
        let (Some(first), Some(last)) = (period.first(), period.last()) else {
            return Ok(());
        };
        let missing = match honeygraph_chain::BlockRange::new(first.block.number(), last.block.number()) {
            Ok(range) => self.replica.writer().have().missing_in(range).count(),
            Err(_) => 0,
        };
        if missing == 0 {
            return Ok(());
        }
        match self.replica.fill_history(&period)? {
            HistoryOutcome::Stored => Ok(()),
            HistoryOutcome::StoredFrom { first: lowest } => {
                self.left_out += lowest.distance_from(first.block.number());
                Ok(())
            }
            HistoryOutcome::NeedsCheckpoints { .. } | HistoryOutcome::NeedsDocument { .. } => {
                self.left_out += period.len() as u64;
                Ok(())
            }
            HistoryOutcome::Rejected { at, fault, .. } => Err(TransferError::Refused { block: at, fault }),
        }
    }

    /// Hands over the blocks at the front that were gathered.
    fn extend(&mut self) -> Result<(), TransferError> {
        let mut blocks = std::mem::take(&mut self.front);
        let before = blocks.len() as u64;
        let Some(mut tip) = self.replica.position().map(|now| now.state_height) else {
            return Ok(());
        };
        blocks.retain(|block| block.block.number() > tip);
        // Past a hole nothing can be applied; the node fetches it.
        blocks.retain(|block| {
            let follows = block.block.number() == tip.next();
            tip = if follows { tip.next() } else { tip };
            follows
        });
        self.left_out += before - blocks.len() as u64;
        if blocks.is_empty() {
            return Ok(());
        }
        match self.replica.extend(&self.peer, &blocks)? {
            ExtendOutcome::Accepted { .. } => Ok(()),
            ExtendOutcome::NotNext { next } => Err(TransferError::Halted {
                reason: format!("the store waits for block {next}"),
            }),
            ExtendOutcome::Rejected { discarded, fault, .. } => Err(TransferError::Refused {
                block: discarded.end(),
                fault,
            }),
            ExtendOutcome::NeedsHistory => Err(TransferError::Halted {
                reason: "the store and the file lack blocks since the last checkpoint".to_owned(),
            }),
            ExtendOutcome::NeedsCheckpoint { block } => Err(TransferError::Halted {
                reason: format!("checkpoint {block} has to be known first"),
            }),
            ExtendOutcome::Halted => Err(TransferError::Halted {
                reason: self
                    .replica
                    .position()
                    .and_then(|now| now.halted.clone())
                    .unwrap_or_else(|| "the store has no state".to_owned()),
            }),
        }
    }
}

/// Documents taken out of the file.
struct Documents {
    files: DocumentFiles,
    /// The first record behind them.
    first: Option<Record>,
}

/// The full state and the deltas, in files beside the store that are removed in the end.
struct DocumentFiles {
    state: Option<(ContentId, PathBuf)>,
    deltas: Vec<(ContentId, PathBuf)>,
}

impl Drop for DocumentFiles {
    fn drop(&mut self) {
        for (_, path) in self.state.iter().chain(&self.deltas) {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl DocumentFiles {
    fn to_start(&self, found: &Inspected) -> Option<StartDocuments> {
        let (state_id, path) = self.state.as_ref()?;
        let (state, last) = found.start.as_ref()?;
        Some(StartDocuments {
            state: path.clone(),
            state_id: *state_id,
            prev_root: state.previous_root(),
            deltas: self.deltas.clone(),
            anchor: last.anchor(),
        })
    }
}

impl Documents {
    /// Reads up to the first record that belongs to no document; keeps the documents where they are wanted.
    fn read(reader: &mut RecordReader, directory: &Path, wanted: bool) -> Result<Self, TransferError> {
        let state_id = reader.header().start.as_ref().map(|start| start.state);
        let mut files = DocumentFiles {
            state: None,
            deltas: Vec::new(),
        };
        let mut open: Option<(File, PathBuf)> = None;
        let mut first = None;
        while let Some(record) = reader.next()? {
            match record {
                Record::Document(_) | Record::Piece(_) if !wanted => {}
                Record::Document(id) => {
                    let path = if Some(id) == state_id {
                        let path = directory.join("import-state.json.part");
                        files.state = Some((id, path.clone()));
                        path
                    } else {
                        let path = directory.join(format!("import-{id}.json.part"));
                        files.deltas.push((id, path.clone()));
                        path
                    };
                    let file = File::create(&path).map_err(|error| TransferError::File {
                        path: path.clone(),
                        error,
                    })?;
                    open = Some((file, path));
                }
                Record::Piece(piece) => match &mut open {
                    Some((file, path)) => file.write_all(&piece).map_err(|error| TransferError::File {
                        path: path.clone(),
                        error,
                    })?,
                    None => return Err(reader.unusable("a piece of no document")),
                },
                other => {
                    first = Some(other);
                    break;
                }
            }
        }
        Ok(Self { files, first })
    }
}
