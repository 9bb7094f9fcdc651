//! Writing a file from what is stored.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use honeygraph_chain::checkpoint::{CheckpointChain, DeltaWriter};
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::{BlockNumber, BlockRange};

use super::format::{BlockRecord, Header, PIECE_BYTES, Record, RecordWriter, StartHeader};
use super::{ProgressFn, TransferError, TransferPart, TransferProgress};
use crate::store::{CheckpointRecord, StoreError, View};

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// It stays, and the export is refused.
    Refuse,
    /// It is replaced.
    Replace,
}

/// What is exported.
#[derive(Debug, Clone, Copy)]
pub struct ExportOptions {
    /// First block; none: all from the lowest on.
    pub from: Option<BlockNumber>,
    /// Last block; none: all up to the highest.
    pub to: Option<BlockNumber>,
    /// What becomes of a file that is there already.
    pub overwrite: Overwrite,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// What the file says of itself.
    pub header: Header,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Blocks between two calls of the progress function.
const PROGRESS_BLOCKS: u64 = 64;

/// A file that is removed unless it is finished.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes blocks and what a node starts from to a file, which appears under its name once it is whole.
pub fn export(
    view: &View,
    path: &Path,
    options: &ExportOptions,
    progress: ProgressFn<'_>,
) -> Result<Exported, TransferError> {
    let file_error = |error: io::Error| TransferError::File {
        path: path.to_owned(),
        error,
    };
    if options.overwrite == Overwrite::Refuse && path.exists() {
        return Err(TransferError::Exists {
            path: path.to_owned(),
        });
    }
    let plan = Plan::of(view, options)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let unfinished = Unfinished(PathBuf::from(name));
    let file = File::create(&unfinished.0).map_err(file_error)?;
    let mut writer = RecordWriter::new(file, &plan.header).map_err(file_error)?;
    let mut put = |record: &Record| writer.write(record).map_err(file_error);
    plan.write_documents(view, &mut put, progress)?;
    plan.write_chain(view, &mut put, progress)?;
    writer.finish().map_err(file_error)?;
    std::fs::rename(&unfinished.0, path).map_err(file_error)?;
    let bytes = std::fs::metadata(path).map_err(file_error)?.len();
    Ok(Exported {
        header: plan.header,
        bytes,
    })
}

/// What goes into a file.
struct Plan {
    header: Header,
    /// The full state that a node starts from, and the deltas after it.
    start: Option<(CheckpointRecord, Vec<CheckpointRecord>)>,
    /// Checkpoints of this range go into the file.
    checkpoints: BlockRange,
}

type Put<'writer> = &'writer mut dyn FnMut(&Record) -> Result<(), TransferError>;

impl Plan {
    fn of(view: &View, options: &ExportOptions) -> Result<Self, TransferError> {
        let position = view.position()?.ok_or(TransferError::Empty)?;
        let from = options.from.unwrap_or_default();
        let to = options.to.unwrap_or(BlockNumber::MAX).min(position.state_height);
        let wanted = BlockRange::new(from, to).map_err(|_| TransferError::Empty)?;
        let have = view.have()?;
        let runs: Vec<BlockRange> = have.present_in(wanted).collect();
        let blocks = runs.iter().map(|run| run.len()).sum();
        let range = match (runs.first(), runs.last()) {
            (Some(first), Some(last)) => BlockRange::new(first.start(), last.end()).ok(),
            _ => None,
        };
        let start = start_documents(view, runs.last().copied(), to)?;
        if start.is_none() && range.is_none() {
            return Err(TransferError::Empty);
        }
        let lowest = [
            start.as_ref().map(|(state, _)| state.block_num),
            range.map(|range| range.start().saturating_sub(1)),
        ];
        let lowest = lowest.into_iter().flatten().min().unwrap_or(to);
        let checkpoints = BlockRange::new(lowest, to).unwrap_or(BlockRange::single(to));
        let start_header = start.as_ref().map(|(state, deltas)| StartHeader {
            state: state.state_hash,
            deltas: deltas.iter().map(|delta| delta.state_hash).collect(),
            height: deltas.last().unwrap_or(state).block_num,
        });
        Ok(Self {
            header: Header::new(position.network, position.schedule, range, blocks, start_header),
            start,
            checkpoints,
        })
    }

    fn write_documents(
        &self,
        view: &View,
        put: Put<'_>,
        progress: ProgressFn<'_>,
    ) -> Result<(), TransferError> {
        let Some((state, deltas)) = &self.start else {
            return Ok(());
        };
        put(&Record::Document(state.state_hash))?;
        let mut done = 0;
        for piece in view.document(state.state_hash) {
            let piece = piece?;
            done += piece.len() as u64;
            put(&Record::Piece(piece))?;
            progress(TransferProgress {
                part: TransferPart::Documents,
                done,
                total: 0,
            });
        }
        let mut chain = chain_at(state);
        for delta in deltas {
            let document = delta_document(view, &chain, delta)?.ok_or_else(|| {
                StoreError::damaged(format_args!("delta {}", delta.block_num), "it is gone")
            })?;
            put(&Record::Document(delta.state_hash))?;
            for piece in document.chunks(PIECE_BYTES) {
                put(&Record::Piece(piece.to_vec()))?;
            }
            chain = chain.after(CheckpointKind::Delta, delta.block_num, delta.state_hash);
        }
        Ok(())
    }

    /// Blocks and checkpoints upwards, each checkpoint after its block.
    fn write_chain(&self, view: &View, put: Put<'_>, progress: ProgressFn<'_>) -> Result<(), TransferError> {
        let mut checkpoints = view.checkpoints(self.checkpoints).peekable();
        let mut pass = |below: Option<BlockNumber>, put: Put<'_>| -> Result<(), TransferError> {
            while let Some(record) = checkpoints.next_if(|record| {
                below.is_none_or(|below| record.as_ref().map_or(true, |record| record.block_num < below))
            }) {
                put(&Record::Checkpoint(record?))?;
            }
            Ok(())
        };
        let mut done = 0;
        if let Some(range) = self.header.range {
            for row in view.blocks(range) {
                let (number, block) = row?;
                pass(Some(number), put)?;
                put(&Record::Block(BlockRecord {
                    number,
                    timestamp_ms: block.timestamp_ms,
                    bytes: block.bytes,
                }))?;
                done += 1;
                if done % PROGRESS_BLOCKS == 0 || done == self.header.blocks {
                    progress(TransferProgress {
                        part: TransferPart::Write,
                        done,
                        total: self.header.blocks,
                    });
                }
            }
        }
        pass(None, put)
    }
}

/// What a node starts from to take the blocks up to `to`: the newest full state that is stored, and deltas
/// up to where the blocks of the last run go on. None where one of them is missing.
fn start_documents(
    view: &View,
    last_run: Option<BlockRange>,
    to: BlockNumber,
) -> Result<Option<(CheckpointRecord, Vec<CheckpointRecord>)>, StoreError> {
    let below = BlockRange::new(BlockNumber::default(), to).unwrap_or(BlockRange::single(to));
    let mut later = Vec::new();
    let mut state = None;
    for record in view.checkpoints(below).rev() {
        let record = record?;
        if record.kind == CheckpointKind::State && view.has_document(record.state_hash)? {
            state = Some(record);
            break;
        }
        later.push(record);
    }
    let Some(state) = state else { return Ok(None) };
    later.reverse();
    // The lowest height from which the last run goes on.
    let enough = last_run.map(|run| run.start().saturating_sub(1));
    let mut chain = chain_at(&state);
    let mut deltas = Vec::new();
    for record in later {
        if enough.is_some_and(|enough| chain.last_block >= enough) {
            break;
        }
        if record.root != state.state_hash || delta_document(view, &chain, &record)?.is_none() {
            break;
        }
        chain = chain.after(CheckpointKind::Delta, record.block_num, record.state_hash);
        deltas.push(record);
    }
    Ok(Some((state, deltas)))
}

/// The chain of checkpoints right after a full state.
fn chain_at(state: &CheckpointRecord) -> CheckpointChain {
    CheckpointChain {
        prev_root: state.previous_root(),
        ..CheckpointChain::from_state(state.block_num, state.state_hash)
    }
}

/// A delta document: as it is stored, or computed from the blocks of its period.
fn delta_document(
    view: &View,
    chain: &CheckpointChain,
    record: &CheckpointRecord,
) -> Result<Option<Vec<u8>>, StoreError> {
    if view.has_document(record.state_hash)? {
        let mut document = Vec::new();
        for piece in view.document(record.state_hash) {
            document.extend_from_slice(&piece?);
        }
        return Ok(Some(document));
    }
    let Ok(period) = BlockRange::new(chain.last_block.next(), record.block_num) else {
        return Ok(None);
    };
    let mut delta = DeltaWriter::new(chain);
    let mut count = 0;
    for row in view.blocks(period) {
        let (number, block) = row?;
        delta.push(&block.decode(number)?.block().operations);
        count += 1;
    }
    let whole = count == period.len() && delta.content_id(record.block_num) == Some(record.state_hash);
    Ok(delta.document(record.block_num).filter(|_| whole))
}
