//! The file: a zstd stream of records, each with its length and checksum.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::TransferError;
use crate::store::CheckpointRecord;
use crate::wire::batch::MAX_BLOCK_BYTES;

/// The version this program writes and the highest it reads.
pub const FILE_VERSION: u32 = 1;
/// What the header says first.
const FORMAT: &str = "honeygraph-export";
/// Bytes of a piece of a document: IPFS's own chunk size.
pub(super) const PIECE_BYTES: usize = 262_144;
/// Bytes of a record's kind and payload at most: a block and what stands before it.
const MAX_RECORD_BYTES: usize = MAX_BLOCK_BYTES + 64;
/// Bytes of a header at most: a full period of full states of deltas, twice over.
const MAX_HEADER_BYTES: usize = 1 << 20;
/// Window of the compression that a reader accepts: 8 MiB, which bounds its memory (RFC 9659).
const MAX_WINDOW_LOG: u32 = 23;
/// Compression: fast, since the file is read as often as it is written.
const ZSTD_LEVEL: i32 = 3;
/// The longest period between two checkpoints that is taken.
const MAX_INTERVAL: u64 = 100_000_000;

const KIND_HEADER: u8 = 1;
const KIND_DOCUMENT: u8 = 2;
const KIND_PIECE: u8 = 3;
const KIND_CHECKPOINT: u8 = 4;
const KIND_BLOCK: u8 = 5;
const KIND_END: u8 = 6;

/// What the file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    format: String,
    version: u32,
    /// The network's prefix.
    pub network: String,
    /// Which blocks are checkpoints.
    pub schedule: CheckpointSchedule,
    /// Blocks from the first to the last; there may be holes.
    pub range: Option<BlockRange>,
    /// How many blocks there are.
    pub blocks: u64,
    /// The documents that a node starts from; none: the file only fills gaps.
    pub start: Option<StartHeader>,
}

/// The documents that a node starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartHeader {
    /// The full state.
    pub state: ContentId,
    /// The deltas after it, oldest first.
    pub deltas: Vec<ContentId>,
    /// The block that the last of them covers: the file's blocks above are applied to the state.
    pub height: BlockNumber,
}

impl Header {
    pub(super) fn new(
        network: String,
        schedule: CheckpointSchedule,
        range: Option<BlockRange>,
        blocks: u64,
        start: Option<StartHeader>,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: FILE_VERSION,
            network,
            schedule,
            range,
            blocks,
            start,
        }
    }
}

/// The end of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    documents: u64,
    checkpoints: u64,
    blocks: u64,
    /// Over every record before, as it stands in the stream; hex digits.
    sha256: String,
}

/// One record after the header.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// A document begins; its pieces follow.
    Document(ContentId),
    /// A piece of it.
    Piece(Vec<u8>),
    /// A checkpoint; it comes after its block.
    Checkpoint(CheckpointRecord),
    /// A block.
    Block(BlockRecord),
}

/// A block as it stands in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct BlockRecord {
    pub(super) number: BlockNumber,
    pub(super) timestamp_ms: u64,
    pub(super) bytes: Vec<u8>,
}

/// Writes a file.
pub(super) struct RecordWriter {
    zstd: zstd::Encoder<'static, BufWriter<File>>,
    sha256: Sha256,
    end: End,
}

impl RecordWriter {
    pub(super) fn new(file: File, header: &Header) -> io::Result<Self> {
        let mut zstd = zstd::Encoder::new(BufWriter::new(file), ZSTD_LEVEL)?;
        zstd.include_checksum(true)?;
        let end = End {
            documents: 0,
            checkpoints: 0,
            blocks: 0,
            sha256: String::new(),
        };
        let mut writer = Self {
            zstd,
            sha256: Sha256::new(),
            end,
        };
        writer.json(KIND_HEADER, header)?;
        Ok(writer)
    }

    pub(super) fn write(&mut self, record: &Record) -> io::Result<()> {
        match record {
            Record::Document(id) => {
                self.end.documents += 1;
                self.record(KIND_DOCUMENT, &[id.digest()])
            }
            Record::Piece(bytes) => self.record(KIND_PIECE, &[bytes]),
            Record::Checkpoint(checkpoint) => {
                self.end.checkpoints += 1;
                self.json(KIND_CHECKPOINT, checkpoint)
            }
            Record::Block(block) => {
                self.end.blocks += 1;
                let number = block.number.get().to_be_bytes();
                let timestamp = block.timestamp_ms.to_be_bytes();
                self.record(KIND_BLOCK, &[&number, &timestamp, &block.bytes])
            }
        }
    }

    /// Writes the end and makes the file durable.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.end.sha256 = hex::encode(self.sha256.clone().finalize());
        let end = self.end.clone();
        self.json(KIND_END, &end)?;
        let file = self.zstd.finish()?.into_inner().map_err(io::Error::from)?;
        file.sync_all()
    }

    fn json(&mut self, kind: u8, value: &impl Serialize) -> io::Result<()> {
        self.record(kind, &[&serde_json::to_vec(value)?])
    }

    fn record(&mut self, kind: u8, payload: &[&[u8]]) -> io::Result<()> {
        let length = 1 + payload.iter().map(|part| part.len()).sum::<usize>();
        let length = u32::try_from(length).map_err(io::Error::other)?;
        let mut crc32 = crc32fast::Hasher::new();
        crc32.update(&[kind]);
        self.put(&length.to_be_bytes())?;
        self.put(&[kind])?;
        for part in payload {
            crc32.update(part);
            self.put(part)?;
        }
        self.put(&crc32.finalize().to_be_bytes())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sha256.update(bytes);
        self.zstd.write_all(bytes)
    }
}

/// Reads a file; holds one record.
pub(super) struct RecordReader {
    path: PathBuf,
    zstd: zstd::Decoder<'static, BufReader<File>>,
    sha256: Sha256,
    seen: End,
    header: Header,
}

impl RecordReader {
    pub(super) fn open(path: &Path) -> Result<Self, TransferError> {
        let file_error = |error| TransferError::File {
            path: path.to_owned(),
            error,
        };
        let file = File::open(path).map_err(file_error)?;
        let mut zstd = zstd::Decoder::new(file).map_err(file_error)?;
        zstd.window_log_max(MAX_WINDOW_LOG).map_err(file_error)?;
        let mut reader = Self {
            path: path.to_owned(),
            zstd,
            sha256: Sha256::new(),
            seen: End {
                documents: 0,
                checkpoints: 0,
                blocks: 0,
                sha256: String::new(),
            },
            header: Header::new(String::new(), CheckpointSchedule::default(), None, 0, None),
        };
        let not_ours = "it is not an export of honeygraph-agent";
        let first = reader
            .record(MAX_HEADER_BYTES)
            .map_err(|_| reader.unusable(not_ours))?;
        reader.header = reader.read_header(first)?;
        Ok(reader)
    }

    pub(super) const fn header(&self) -> &Header {
        &self.header
    }

    /// The next record; none at the end, where counts and checksum were found to be right.
    pub(super) fn next(&mut self) -> Result<Option<Record>, TransferError> {
        let before = self.sha256.clone();
        let (kind, payload) = self.record(MAX_RECORD_BYTES)?;
        let record = match kind {
            KIND_DOCUMENT => {
                self.seen.documents += 1;
                let digest = <[u8; 32]>::try_from(payload.as_slice())
                    .map_err(|_| self.unusable("a document without content id"))?;
                Record::Document(ContentId::from_digest(digest))
            }
            KIND_PIECE if payload.len() <= PIECE_BYTES => Record::Piece(payload),
            KIND_CHECKPOINT => {
                self.seen.checkpoints += 1;
                Record::Checkpoint(self.json("a checkpoint", &payload)?)
            }
            KIND_BLOCK => {
                self.seen.blocks += 1;
                Record::Block(self.block(&payload)?)
            }
            KIND_END => {
                let end: End = self.json("its end", &payload)?;
                self.seen.sha256 = hex::encode(before.finalize());
                if end != self.seen {
                    return Err(self.unusable("its counts or its checksum are wrong"));
                }
                let mut after = [0];
                return match self.zstd.read(&mut after) {
                    Ok(0) => Ok(None),
                    Ok(_) => Err(self.unusable("something follows its end")),
                    Err(error) => Err(self.broken(&error)),
                };
            }
            other => return Err(self.unusable(format_args!("record of unknown kind {other} or size"))),
        };
        Ok(Some(record))
    }

    pub(super) fn unusable(&self, reason: impl std::fmt::Display) -> TransferError {
        TransferError::Unusable {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }

    fn broken(&self, error: &io::Error) -> TransferError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            self.unusable("it is cut off")
        } else {
            self.unusable(error)
        }
    }

    fn record(&mut self, limit: usize) -> Result<(u8, Vec<u8>), TransferError> {
        let mut length = [0; 4];
        self.take(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 || length > limit {
            return Err(self.unusable(format_args!("a record of {length} bytes, allowed are {limit}")));
        }
        let mut record = vec![0; length];
        self.take(&mut record)?;
        let mut crc32 = [0; 4];
        self.take(&mut crc32)?;
        if crc32fast::hash(&record) != u32::from_be_bytes(crc32) {
            return Err(self.unusable("the checksum of a record is wrong"));
        }
        let kind = record.remove(0);
        Ok((kind, record))
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), TransferError> {
        let read = self.zstd.read_exact(bytes);
        read.map_err(|error| self.broken(&error))?;
        self.sha256.update(&*bytes);
        Ok(())
    }

    fn block(&self, payload: &[u8]) -> Result<BlockRecord, TransferError> {
        let short = || self.unusable("a block that is too short");
        let (number, rest) = payload.split_first_chunk::<8>().ok_or_else(short)?;
        let (timestamp, bytes) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        Ok(BlockRecord {
            number: BlockNumber::try_from(u64::from_be_bytes(*number))
                .map_err(|error| self.unusable(error))?,
            timestamp_ms: u64::from_be_bytes(*timestamp),
            bytes: bytes.to_vec(),
        })
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, what: &str, bytes: &[u8]) -> Result<T, TransferError> {
        serde_json::from_slice(bytes).map_err(|error| self.unusable(format_args!("{what}: {error}")))
    }

    fn read_header(&self, (kind, payload): (u8, Vec<u8>)) -> Result<Header, TransferError> {
        #[derive(Deserialize)]
        struct Version {
            format: String,
            version: u32,
        }
        let not_ours = || self.unusable("it is not an export of honeygraph-agent");
        // Of a version that is not known only these two can be relied on.
        let version: Version = serde_json::from_slice(&payload).map_err(|_| not_ours())?;
        if kind != KIND_HEADER || version.format != FORMAT || version.version == 0 {
            return Err(not_ours());
        }
        if version.version > FILE_VERSION {
            return Err(TransferError::TooNew {
                found: version.version,
                supported: FILE_VERSION,
            });
        }
        let header: Header = self.json("its header", &payload)?;
        let schedule = &header.schedule;
        let intervals = [schedule.delta_interval, schedule.state_interval];
        if intervals
            .iter()
            .any(|interval| !(1..=MAX_INTERVAL).contains(interval))
            || !schedule.state_interval.is_multiple_of(schedule.delta_interval)
        {
            return Err(self.unusable("its checkpoints are at impossible blocks"));
        }
        Ok(header)
    }
}

/// What a file says of itself, to open the store accordingly.
pub fn read_header(path: &Path) -> Result<Header, TransferError> {
    Ok(RecordReader::open(path)?.header().clone())
}
