//! The reference chain: what a honeycomb network agreed on, made block by block.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use honeygraph_chain::block::HashedBlock;
use honeygraph_chain::checkpoint::{Anchor, CheckpointChain, DeltaWriter};
use honeygraph_chain::network::{CheckpointKind, CheckpointSchedule};
use honeygraph_chain::operation::Operations;
use honeygraph_chain::state::{BlockEffect, MemoryState};
use honeygraph_chain::state_document::StateDocumentWriter;
use honeygraph_chain::{Block, BlockNumber, ContentId, JsonValue, Operation, StateDigest};

use crate::generator::{Generator, GeneratorSettings, UnfitState};

/// How a chain is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainSettings {
    /// What the generated blocks look like.
    pub generator: GeneratorSettings,
    /// Seed of the generated blocks: two chains of the same genesis and seed are equal.
    pub seed: u64,
    /// Which blocks are checkpoints.
    pub schedule: CheckpointSchedule,
    /// Blocks that are kept, with their effects and checkpoint documents; at least 1. Older ones are
    /// forgotten, which bounds the memory: one takes some 20 KB.
    pub kept_blocks: usize,
}

impl Default for ChainSettings {
    /// Seed 1, the checkpoints of real honeycombs, every block kept.
    fn default() -> Self {
        Self {
            generator: GeneratorSettings::default(),
            seed: 1,
            schedule: CheckpointSchedule::default(),
            kept_blocks: usize::MAX,
        }
    }
}

/// Why a chain cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The genesis is no state document.
    #[error("genesis: {0}")]
    Genesis(#[from] honeygraph_chain::state_document::StateDocumentError),
    /// The recorded blocks are not readable.
    #[error("recorded blocks: {0}")]
    Record(String),
    /// No content can be generated on the state.
    #[error(transparent)]
    UnfitState(#[from] UnfitState),
    /// A block that its own state does not take.
    #[error("block {number}: {error}")]
    State {
        /// The block.
        number: BlockNumber,
        /// What is wrong.
        error: String,
    },
    /// The block to fork at is not kept.
    #[error("cannot fork at block {at}: only blocks {from}..={head} are kept")]
    NotKept {
        /// The block asked for.
        at: BlockNumber,
        /// Lowest block that can be forked at.
        from: BlockNumber,
        /// Highest.
        head: BlockNumber,
    },
}

/// A checkpoint that the chain made.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Block, block hash, content id and digest.
    pub anchor: Anchor,
    /// Of which kind the document is.
    pub kind: CheckpointKind,
    /// The document.
    pub document: Arc<[u8]>,
    /// Content id of the checkpoint before.
    pub previous_id: ContentId,
}

/// One block of the chain and what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainBlock {
    /// The block.
    pub block: HashedBlock,
    /// When it was made, in milliseconds of Unix time.
    pub unix_millis: i64,
    /// Running index of its first operation, or of the next one where it has none.
    pub first_index: u64,
    /// What it did to the state.
    pub effect: BlockEffect,
    /// Digest of the state after it.
    pub state_digest: StateDigest,
    /// Content id of the last checkpoint before it.
    pub fork_hash: ContentId,
    /// Content id of the checkpoint before that; the genesis has none before it.
    pub previous_checkpoint: Option<ContentId>,
    /// The checkpoint that it is.
    pub checkpoint: Option<Checkpoint>,
}

impl ChainBlock {
    /// Running indexes of its operations; an empty range where it has none.
    pub fn indexes(&self) -> std::ops::Range<u64> {
        self.first_index..self.first_index + length(self.block.block().operations.as_slice())
    }
}

/// Where a chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The highest block, or the one that the genesis covers.
    pub number: BlockNumber,
    /// Its hash; the content id of the genesis where there is no block.
    pub hash: ContentId,
    /// Digest of the state after it.
    pub state_digest: StateDigest,
    /// Running index of the next operation.
    pub next_index: u64,
}

/// What is known of every checkpoint for ever: little.
#[derive(Debug, Clone, Copy)]
struct CheckpointRecord {
    block: BlockNumber,
    kind: CheckpointKind,
    id: ContentId,
}

/// The reference chain of a honeycomb network: first the recorded blocks, then generated ones without end.
pub struct ReferenceChain {
    settings: ChainSettings,
    genesis: Arc<[u8]>,
    genesis_block: BlockNumber,
    genesis_id: ContentId,
    state: MemoryState,
    checkpoints: CheckpointChain,
    /// Content id of the checkpoint before the last one.
    previous_checkpoint: Option<ContentId>,
    delta: DeltaWriter,
    /// Blocks that were recorded and are still to come.
    recorded: VecDeque<Operations>,
    generator: Option<Generator>,
    head: Head,
    kept: VecDeque<Arc<ChainBlock>>,
    records: Vec<CheckpointRecord>,
}

/// The published vectors: a real network's state and 500 blocks on it.
const VECTORS: &[u8] = include_bytes!("../../../chain/tests/data/honeycomb.json");

/// The block of [`FIRST_MILLIS`].
const FIRST_BLOCK: u64 = 28_559_102;

/// 2018-12-14T12:00:00Z in milliseconds of Unix time, when the vectors' first block was made.
const FIRST_MILLIS: i64 = 1_544_788_800_000;

/// Milliseconds from one block to the next.
const MILLIS_PER_BLOCK: i64 = 3_000;

/// When a block is made, in milliseconds of Unix time: 3 s after the one before, as in the vectors.
pub fn block_unix_millis(number: BlockNumber) -> i64 {
    let number = i64::try_from(number.get()).unwrap_or(i64::MAX);
    let first = i64::try_from(FIRST_BLOCK).unwrap_or_default();
    FIRST_MILLIS.saturating_add(number.saturating_sub(first).saturating_mul(MILLIS_PER_BLOCK))
}

impl ReferenceChain {
    /// The chain that starts as the published vectors do, on a state that a real network published, and
    /// replays their blocks first.
    pub fn from_vectors(settings: ChainSettings) -> Result<Self, ChainError> {
        #[derive(serde::Deserialize)]
        struct Vectors {
            genesis: Genesis,
            blocks: Vec<RecordedBlock>,
        }
        #[derive(serde::Deserialize)]
        struct Genesis {
            document: JsonValue,
        }
        #[derive(serde::Deserialize)]
        struct RecordedBlock {
            operations: Vec<honeygraph_chain::operation::OperationFields>,
        }
        let record = |error: &dyn std::fmt::Display| ChainError::Record(error.to_string());
        let vectors: Vectors = serde_json::from_slice(VECTORS).map_err(|error| record(&error))?;
        let mut chain = Self::from_genesis(&vectors.genesis.document.to_canonical(), settings)?;
        for block in vectors.blocks {
            let operations = block
                .operations
                .into_iter()
                .map(Operation::try_from)
                .collect::<Result<_, _>>()
                .map_err(|error| record(&error))?;
            chain
                .recorded
                .push_back(Operations::new(operations).map_err(|error| record(&error))?);
        }
        Ok(chain)
    }

    /// The chain of a network that starts from this state document, `[n+1, state]` in canonical JSON.
    pub fn from_genesis(document: &[u8], settings: ChainSettings) -> Result<Self, ChainError> {
        let (covered, state) = MemoryState::from_document(document)?;
        let id = ContentId::of(document);
        let checkpoints = CheckpointChain::from_state(covered, id);
        Ok(Self {
            settings,
            genesis: document.into(),
            genesis_block: covered,
            genesis_id: id,
            delta: DeltaWriter::new(&checkpoints),
            checkpoints,
            previous_checkpoint: None,
            recorded: VecDeque::new(),
            generator: None,
            head: Head {
                number: covered,
                hash: id,
                state_digest: state.digest(),
                next_index: 0,
            },
            state,
            kept: VecDeque::new(),
            records: Vec::new(),
        })
    }

    /// The genesis document.
    pub fn genesis_document(&self) -> &[u8] {
        &self.genesis
    }

    /// Content id of the genesis document.
    pub const fn genesis_id(&self) -> ContentId {
        self.genesis_id
    }

    /// The block that the genesis covers; the first block is the one after it.
    pub const fn genesis_block(&self) -> BlockNumber {
        self.genesis_block
    }

    /// Where the chain stands.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// The state after the head.
    pub const fn state(&self) -> &MemoryState {
        &self.state
    }

    /// Where the chain of checkpoints stands.
    pub const fn checkpoints(&self) -> &CheckpointChain {
        &self.checkpoints
    }

    /// Makes the next block.
    pub fn next_block(&mut self) -> Result<Arc<ChainBlock>, ChainError> {
        let number = self.head.number.next();
        let operations = match self.recorded.pop_front() {
            Some(operations) => operations,
            None => self.generator()?.next_operations(number),
        };
        let made = Arc::new(self.append(operations)?);
        if self.kept.len() >= self.settings.kept_blocks.max(1) {
            self.kept.pop_front();
        }
        self.kept.push_back(made.clone());
        Ok(made)
    }

    fn generator(&mut self) -> Result<&mut Generator, ChainError> {
        let generator = match self.generator.take() {
            Some(generator) => generator,
            None => Generator::new(self.settings.generator, self.settings.seed, &self.state)?,
        };
        Ok(self.generator.insert(generator))
    }

    fn append(&mut self, operations: Operations) -> Result<ChainBlock, ChainError> {
        let number = self.head.number.next();
        let failed = |error: String| ChainError::State { number, error };
        let effect = self
            .state
            .apply(&operations)
            .map_err(|error| failed(error.to_string()))?;
        self.delta.push(&operations);
        let previous_hash = if self.head.number == self.checkpoints.last_block {
            self.checkpoints.link()
        } else {
            self.head.hash
        };
        let first_index = self.head.next_index;
        let block = HashedBlock::from(Block {
            number,
            previous_hash,
            operations,
        });
        self.head = Head {
            number,
            hash: block.hash(),
            state_digest: self.state.digest(),
            next_index: first_index + length(block.block().operations.as_slice()),
        };
        let fork_hash = self.checkpoints.link();
        let previous_checkpoint = self.previous_checkpoint;
        let checkpoint = match self.settings.schedule.kind_at(number) {
            Some(kind) => Some(self.checkpoint(kind).map_err(|error| failed(error.to_string()))?),
            None => None,
        };
        Ok(ChainBlock {
            block,
            unix_millis: block_unix_millis(number),
            first_index,
            effect,
            state_digest: self.head.state_digest,
            fork_hash,
            previous_checkpoint,
            checkpoint,
        })
    }

    /// Makes the checkpoint at the head.
    fn checkpoint(
        &mut self,
        kind: CheckpointKind,
    ) -> Result<Checkpoint, honeygraph_chain::path::PathKeyError> {
        let number = self.head.number;
        let document = match kind {
            CheckpointKind::Delta => {
                let delta = std::mem::replace(&mut self.delta, DeltaWriter::new(&self.checkpoints));
                delta.document(number).unwrap_or_default()
            }
            CheckpointKind::State => {
                let mut writer = StateDocumentWriter::new(number);
                for (key, leaf) in self.state.iter() {
                    writer.push(key, leaf)?;
                }
                writer.finish()
            }
        };
        let id = ContentId::of(&document);
        let previous_id = self.checkpoints.link();
        self.checkpoints = self.checkpoints.after(kind, number, id);
        self.delta = DeltaWriter::new(&self.checkpoints);
        self.previous_checkpoint = Some(previous_id);
        self.records.push(CheckpointRecord {
            block: number,
            kind,
            id,
        });
        Ok(Checkpoint {
            anchor: Anchor {
                block_num: number,
                block_hash: self.head.hash,
                state_hash: id,
                state_digest: self.head.state_digest,
            },
            kind,
            document: document.into(),
            previous_id,
        })
    }

    /// Blocks that are kept, oldest first.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &Arc<ChainBlock>> + ExactSizeIterator {
        self.kept.iter()
    }

    /// A block, where it is kept.
    pub fn block(&self, number: BlockNumber) -> Option<&Arc<ChainBlock>> {
        let first = self.kept.front()?.block.number();
        let place = number.get().checked_sub(first.get())?;
        self.kept.get(usize::try_from(place).ok()?)
    }

    /// Kept blocks with an operation of these running indexes, oldest first, with the empty blocks between
    /// and right after them.
    pub fn blocks_with_indexes(
        &self,
        indexes: RangeInclusive<u64>,
    ) -> impl Iterator<Item = &Arc<ChainBlock>> {
        let from = self
            .kept
            .partition_point(|block| block.indexes().end <= *indexes.start());
        let end = indexes.end().saturating_add(1);
        self.kept.range(from..).take_while(move |block| {
            block.first_index < end || (block.first_index == end && block.indexes().is_empty())
        })
    }

    /// A document of the chain by its content id: the genesis, or a kept checkpoint's.
    pub fn document(&self, id: ContentId) -> Option<&[u8]> {
        if id == self.genesis_id {
            return Some(&self.genesis);
        }
        let checkpoints = self.kept.iter().filter_map(|block| block.checkpoint.as_ref());
        checkpoints
            .rev()
            .find(|checkpoint| checkpoint.anchor.state_hash == id)
            .map(|checkpoint| &*checkpoint.document)
    }

    /// A chain that is equal up to and including block `at` and goes its own way from there with another
    /// seed: two honeycombs that disagree. Recorded blocks that are still to come are not part of it.
    ///
    /// `at` and the period it lies in must be kept.
    pub fn fork(&self, at: BlockNumber, seed: u64) -> Result<Self, ChainError> {
        let not_kept = || ChainError::NotKept {
            at,
            from: self
                .kept
                .front()
                .map_or(self.head.number, |block| block.block.number()),
            head: self.head.number,
        };
        let mut chain = Self::from_genesis(
            &self.genesis,
            ChainSettings {
                seed,
                ..self.settings
            },
        )?;
        for record in self.records.iter().take_while(|record| record.block <= at) {
            chain.previous_checkpoint = Some(chain.checkpoints.link());
            if record.kind == CheckpointKind::Delta {
                chain.checkpoints.last_block = record.block;
                chain
                    .checkpoints
                    .deltas
                    .push(honeygraph_chain::checkpoint::DeltaReference {
                        hash: record.id,
                        hive_block: record.block,
                    });
            } else {
                chain.checkpoints = chain.checkpoints.after(record.kind, record.block, record.id);
            }
            chain.records.push(*record);
        }
        chain.delta = DeltaWriter::new(&chain.checkpoints);
        let mut number = chain.checkpoints.last_block;
        while number < at {
            number = number.next();
            let block = self.block(number).ok_or_else(not_kept)?;
            chain.delta.push(&block.block.block().operations);
        }
        chain.state = self.state.clone();
        chain.kept.clone_from(&self.kept);
        while let Some(block) = chain.kept.pop_back_if(|block| block.block.number() > at) {
            chain.state.undo(&block.effect);
        }
        chain.head = match chain.kept.back() {
            Some(block) if block.block.number() == at => Head {
                number: at,
                hash: block.block.hash(),
                state_digest: block.state_digest,
                next_index: block.indexes().end,
            },
            None if at == self.genesis_block && self.keeps_from_genesis() => chain.head,
            _ => return Err(not_kept()),
        };
        Ok(chain)
    }

    fn keeps_from_genesis(&self) -> bool {
        let first = self.kept.front().map(|block| block.block.number());
        first.is_none_or(|first| first == self.genesis_block.next())
    }
}

/// Blocks without end; an error ends it.
impl Iterator for ReferenceChain {
    type Item = Arc<ChainBlock>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.next_block() {
            Ok(block) => Some(block),
            Err(error) => {
                tracing::error!(%error, "the reference chain ends");
                None
            }
        }
    }
}

fn length(operations: &[Operation]) -> u64 {
    u64::try_from(operations.len()).unwrap_or(u64::MAX)
}
