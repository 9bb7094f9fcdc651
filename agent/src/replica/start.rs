//! Starting a replica from documents: a full state, and the deltas after it.

use std::io::Read;
use std::path::{Path, PathBuf};

use honeygraph_chain::checkpoint::{Anchor, CheckpointChain, DeltaDocument, PreviousRoot};
use honeygraph_chain::content_id::ContentHasher;
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::state::{StateError, StateOverlay};
use honeygraph_chain::state_document::read_state_document;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId, Operations, StateDigest};

use super::below::CommittedState;
use super::{Replica, StoreError};
use crate::store::{CheckpointRecord, Position};

/// Largest delta document that is read: 100 blocks of half a megabyte.
pub const DELTA_BYTES_MAX: u64 = 64 << 20;

/// What a replica starts from.
#[derive(Debug)]
pub struct StartDocuments {
    /// File with the full state document.
    pub state: PathBuf,
    /// Its content id.
    pub state_id: ContentId,
    /// The full state before it.
    pub prev_root: PreviousRoot,
    /// Files with the deltas after it, oldest first, without a hole; their content ids were checked.
    pub deltas: Vec<(ContentId, PathBuf)>,
    /// The anchor of the last document, where it is known.
    pub anchor: Option<Anchor>,
}

/// Why a replica cannot start from documents.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file cannot be read.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A document is not what its content id says, or is malformed.
    #[error("document {id}: {reason}")]
    Document {
        /// Its content id.
        id: ContentId,
        /// What is wrong.
        reason: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Replica {
    /// Replaces whatever the replica holds by the state that the documents spell. Blocks that are stored stay
    /// as history; those above the new state go, since what is stored is not fetched to be applied again.
    pub fn start_from(&mut self, documents: &StartDocuments) -> Result<BlockNumber, StartError> {
        let malformed = |id: ContentId, reason: String| StartError::Document { id, reason };
        let position = self.writer.position();
        let schedule = position.map_or(self.settings.schedule, |position| position.schedule);
        let (count, most) = (documents.deltas.len() as u64, schedule.deltas_max());
        if count > most {
            let reason = format!("{count} deltas stand on it; the checkpoint schedule has at most {most}");
            return Err(malformed(documents.state_id, reason));
        }
        self.running = None;
        let (root_block, root_digest) = self.replace_leaves(documents)?;

        let mut chain = CheckpointChain {
            last_block: root_block,
            root: documents.state_id,
            prev_root: documents.prev_root,
            deltas: Vec::new(),
        };
        let mut records = vec![CheckpointRecord::of_start(
            root_block,
            documents.state_id,
            root_digest,
            documents.prev_root,
        )];
        let mut digest = root_digest;
        for (id, path) in &documents.deltas {
            let delta = read_delta(*id, path)?;
            if delta.root != chain.root || delta.chain != chain.deltas || delta.covered <= chain.last_block {
                return Err(malformed(
                    *id,
                    "it does not follow the document before".to_owned(),
                ));
            }
            digest = self.apply_log(*id, &delta, digest)?;
            self.keep_document(*id, path)?;
            records.push(CheckpointRecord {
                block_num: delta.covered,
                kind: CheckpointKind::Delta,
                state_hash: *id,
                block_hash: None,
                state_digest: Some(digest),
                root: delta.root,
                prev_root: delta.prev_root,
            });
            chain = chain.after(CheckpointKind::Delta, delta.covered, *id);
        }
        let block_hash = documents
            .anchor
            .filter(|anchor| anchor.block_num == chain.last_block && anchor.state_digest == digest)
            .map(|anchor| anchor.block_hash);
        if let (Some(last), Some(hash)) = (records.last_mut(), block_hash) {
            last.block_hash = Some(hash);
        }
        let height = chain.last_block;
        let before = self.writer.position().cloned();
        let last = self.writer.have().last();
        let above = last.map(|last| BlockRange::new(height.next(), last));
        let mut transaction = self.writer.begin();
        for record in &records {
            transaction.put_checkpoint(record)?;
        }
        if let Some(Ok(above)) = above {
            transaction.remove_blocks(above);
        }
        transaction.finish_replacing_state();
        let position = Position {
            network: self.settings.network.clone(),
            schedule,
            history_start: before
                .as_ref()
                .map_or(height.next(), |position| position.history_start),
            state_height: height,
            state_block_hash: block_hash,
            state_digest: digest,
            checkpoints: chain,
            irreversible: before.and_then(|position| position.irreversible),
            halted: None,
            commits: 0,
        };
        transaction.set_position(position.clone());
        transaction.commit()?;
        self.run_from(&position)?;
        for view in self.sources.values_mut() {
            view.tip = None;
        }
        tracing::info!(block = %height, id = %position.checkpoints.link(), "started from a checkpoint");
        self.after_advance()?;
        // The voters may have spoken before there was anything to compare with.
        self.decide(height)?;
        Ok(height)
    }

    /// Reads the full state document into the state, leaf by leaf, and keeps it to hand it on.
    fn replace_leaves(
        &mut self,
        documents: &StartDocuments,
    ) -> Result<(BlockNumber, StateDigest), StartError> {
        let id = documents.state_id;
        let file_error = |error| StartError::File {
            path: documents.state.clone(),
            error,
        };
        let file = std::fs::File::open(&documents.state).map_err(file_error)?;
        let mut hasher = ContentHasher::new();
        let mut reader = std::io::BufReader::with_capacity(
            1 << 16,
            Hashed {
                inner: file,
                hasher: &mut hasher,
            },
        );
        let mut digest = StateDigest::EMPTY;
        let mut failure = None;
        self.writer.replace_state(|replacement| {
            let read = read_state_document(&mut reader, |key, leaf| {
                digest = digest.plus(StateDigest::of_leaf(&key, leaf.value()));
                replacement
                    .set(&key, Some(&leaf))
                    .map_err(|error| error.to_string())
            });
            failure = Some(read);
            Ok(())
        })?;
        drop(reader);
        let covered = match failure {
            Some(Ok(covered)) => covered,
            Some(Err(error)) => {
                return Err(StartError::Document {
                    id,
                    reason: error.to_string(),
                });
            }
            None => {
                return Err(StartError::Document {
                    id,
                    reason: "it was not read".to_owned(),
                });
            }
        };
        let found = hasher.finish();
        if found != id {
            return Err(StartError::Document {
                id,
                reason: format!("the file has content id {found}"),
            });
        }
        self.keep_document(id, &documents.state)?;
        Ok((covered, digest))
    }

    fn keep_document(&mut self, id: ContentId, path: &Path) -> Result<(), StartError> {
        let file_error = |error| StartError::File {
            path: path.to_owned(),
            error,
        };
        let mut file = std::fs::File::open(path).map_err(file_error)?;
        let mut chunk = 0;
        loop {
            let mut piece = Vec::new();
            file.by_ref()
                .take(262_144)
                .read_to_end(&mut piece)
                .map_err(file_error)?;
            if piece.is_empty() {
                return Ok(());
            }
            let mut transaction = self.writer.begin();
            transaction.put_document_chunk(id, chunk, &piece);
            transaction.commit()?;
            chunk += 1;
        }
    }

    /// Applies the log of a delta document to the state that is being replaced.
    fn apply_log(
        &mut self,
        id: ContentId,
        delta: &DeltaDocument,
        digest: StateDigest,
    ) -> Result<StateDigest, StartError> {
        let malformed = |reason: String| StartError::Document { id, reason };
        let operations = Operations::new(delta.log.clone()).map_err(|error| malformed(error.to_string()))?;
        let committed = CommittedState::uncounted(self.writer.store());
        let mut overlay = StateOverlay::new(committed, digest);
        overlay.apply(&operations).map_err(|error| match error {
            StateError::Read(error) => StartError::Store(error),
            other => malformed(other.to_string()),
        })?;
        let after = overlay.digest();
        self.writer.continue_replacing(|replacement| {
            for (key, leaf) in overlay.changed() {
                replacement.set(key, leaf)?;
            }
            Ok(())
        })?;
        Ok(after)
    }
}

/// Reads a delta document, one at a time: all of them together may be large.
fn read_delta(id: ContentId, path: &Path) -> Result<DeltaDocument, StartError> {
    let file_error = |error| StartError::File {
        path: path.to_owned(),
        error,
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(file_error)?;
    let mut file = file.take(DELTA_BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(file_error)?;
    let malformed = |reason| StartError::Document { id, reason };
    if bytes.len() as u64 > DELTA_BYTES_MAX {
        return Err(malformed(format!("it has more than {DELTA_BYTES_MAX} bytes")));
    }
    DeltaDocument::parse(&bytes).map_err(|error| malformed(error.to_string()))
}

/// Hashes what is read through it.
struct Hashed<'hasher, R> {
    inner: R,
    hasher: &'hasher mut ContentHasher,
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
