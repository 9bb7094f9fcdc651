//! Checkpoints: honeycomb's own documents, and what a block after one links to.

use serde::{Deserialize, Serialize};

use crate::block_number::BlockNumber;
use crate::content_id::{ContentHasher, ContentId};
use crate::network::CheckpointKind;
use crate::operation::{Operation, Operations};
use crate::state_digest::StateDigest;

/// What voters vote on and what binds the blocks between two checkpoints
/// (`docs/protocol.md`, sections 3 and 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Anchor {
    /// The checkpoint's block.
    pub block_num: BlockNumber,
    /// Hash of that block.
    pub block_hash: ContentId,
    /// Content id of the checkpoint's document.
    pub state_hash: ContentId,
    /// Digest of the state after the block.
    pub state_digest: StateDigest,
}

/// A delta that a later delta names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaReference {
    /// Its content id.
    pub hash: ContentId,
    /// The block it covers.
    pub hive_block: BlockNumber,
}

impl DeltaReference {
    fn write_canonical(&self, out: &mut Vec<u8>) {
        let text = format!(
            "{{\"hash\":\"{}\",\"hive_block\":{}}}",
            self.hash, self.hive_block
        );
        out.extend_from_slice(text.as_bytes());
    }
}

/// The full state before the one that a chain of checkpoints stands on. A full state does not name it; the deltas
/// after it do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Option<String>", into = "Option<String>")]
pub enum PreviousRoot {
    /// There is none: the chain stands on the first document of its network.
    #[default]
    None,
    /// Its content id.
    Known(ContentId),
    /// There may be one: whoever starts from a full state alone cannot tell, and cannot compute the deltas after it
    /// before somebody who can be trusted says which.
    Unknown,
}

/// How [`PreviousRoot::Unknown`] is stored; no content id looks like it.
const UNKNOWN: &str = "unknown";

impl From<PreviousRoot> for Option<String> {
    fn from(root: PreviousRoot) -> Self {
        match root {
            PreviousRoot::None => None,
            PreviousRoot::Known(id) => Some(id.to_string()),
            PreviousRoot::Unknown => Some(UNKNOWN.to_owned()),
        }
    }
}

impl TryFrom<Option<String>> for PreviousRoot {
    type Error = crate::content_id::ContentIdError;

    fn try_from(text: Option<String>) -> Result<Self, Self::Error> {
        Ok(match text.as_deref() {
            None => Self::None,
            Some(UNKNOWN) => Self::Unknown,
            Some(id) => Self::Known(id.parse()?),
        })
    }
}

/// Where the chain of checkpoints stands: everything a delta document says except its operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointChain {
    /// Block of the last checkpoint.
    pub last_block: BlockNumber,
    /// Content id of the last full state.
    pub root: ContentId,
    /// The full state before it.
    pub prev_root: PreviousRoot,
    /// The deltas since `root`, oldest first.
    pub deltas: Vec<DeltaReference>,
}

impl CheckpointChain {
    /// The chain at a full state with nothing before it: a network's genesis.
    pub const fn from_state(block: BlockNumber, id: ContentId) -> Self {
        Self {
            last_block: block,
            root: id,
            prev_root: PreviousRoot::None,
            deltas: Vec::new(),
        }
    }

    /// What the first block after the last checkpoint links to: the checkpoint's content id.
    pub fn link(&self) -> ContentId {
        self.deltas.last().map_or(self.root, |delta| delta.hash)
    }

    /// What the block after `number` links to, whose hash is `hash` if it is known: the checkpoint's content id
    /// right after a checkpoint.
    pub fn link_after(&self, number: BlockNumber, hash: Option<ContentId>) -> ContentId {
        match hash {
            Some(hash) if self.last_block != number => hash,
            _ => self.link(),
        }
    }

    /// The chain after one more checkpoint.
    #[must_use]
    pub fn after(&self, kind: CheckpointKind, block: BlockNumber, id: ContentId) -> Self {
        match kind {
            CheckpointKind::Delta => {
                let mut next = self.clone();
                next.last_block = block;
                next.deltas.push(DeltaReference {
                    hash: id,
                    hive_block: block,
                });
                next
            }
            CheckpointKind::State => Self {
                last_block: block,
                root: id,
                prev_root: PreviousRoot::Known(self.root),
                deltas: Vec::new(),
            },
        }
    }
}

/// Builds the delta document of a period, block by block.
///
/// Canonical JSON of `[n+1, {chain, ops, prev_root, root}]`.
#[derive(Debug, Clone)]
pub struct DeltaWriter {
    after_number: Vec<u8>,
    /// Bytes of it up to the end of the list of deltas.
    chain_bytes: usize,
    empty: bool,
    /// None where the full state before the last one is not known.
    tail: Option<Vec<u8>>,
}

/// What stands between the list of deltas and the log.
const AFTER_CHAIN: &[u8] = b"],\"ops\":[";

impl DeltaWriter {
    /// The document of the period that starts after `chain.last_block`.
    pub fn new(chain: &CheckpointChain) -> Self {
        let mut out = b",{\"chain\":[".to_vec();
        for (position, delta) in chain.deltas.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            delta.write_canonical(&mut out);
        }
        let chain_bytes = out.len();
        out.extend_from_slice(AFTER_CHAIN);
        let prev_root = match chain.prev_root {
            PreviousRoot::None => Some(String::new()),
            PreviousRoot::Known(id) => Some(id.to_string()),
            PreviousRoot::Unknown => None,
        };
        let tail = prev_root.map(|prev_root| {
            format!("],\"prev_root\":\"{prev_root}\",\"root\":\"{}\"}}]", chain.root).into_bytes()
        });
        Self {
            after_number: out,
            chain_bytes,
            empty: true,
            tail,
        }
    }

    /// Goes on to the document of the period after the one whose delta this is: that of the same chain with `delta`
    /// at its end. The deltas before it, some hundreds, are not spelled anew.
    pub fn start_after(&mut self, delta: &DeltaReference) {
        self.after_number.truncate(self.chain_bytes);
        if !self.after_number.ends_with(b"[") {
            self.after_number.push(b',');
        }
        delta.write_canonical(&mut self.after_number);
        self.chain_bytes = self.after_number.len();
        self.after_number.extend_from_slice(AFTER_CHAIN);
        self.empty = true;
    }

    /// Appends the operations of the next block.
    pub fn push(&mut self, operations: &Operations) {
        for operation in operations.as_slice() {
            if !std::mem::take(&mut self.empty) {
                self.after_number.push(b',');
            }
            operation.write_log_entry(&mut self.after_number);
        }
    }

    /// Where the log ends now, for [`DeltaWriter::rewind`].
    pub const fn mark(&self) -> DeltaMark {
        DeltaMark {
            length: self.after_number.len(),
            empty: self.empty,
        }
    }

    /// Takes back everything pushed since a mark.
    pub fn rewind(&mut self, mark: DeltaMark) {
        self.after_number.truncate(mark.length);
        self.empty = mark.empty;
    }

    /// The document that covers everything up to and including block `covered`; none where it cannot be computed
    /// ([`PreviousRoot::Unknown`]).
    pub fn document(&self, covered: BlockNumber) -> Option<Vec<u8>> {
        let tail = self.tail.as_ref()?;
        let mut out = format!("[{}", covered.next()).into_bytes();
        out.extend_from_slice(&self.after_number);
        out.extend_from_slice(tail);
        Some(out)
    }

    /// The content id of that document.
    pub fn content_id(&self, covered: BlockNumber) -> Option<ContentId> {
        let tail = self.tail.as_ref()?;
        let mut hasher = ContentHasher::new();
        hasher.update(format!("[{}", covered.next()).as_bytes());
        hasher.update(&self.after_number);
        hasher.update(tail);
        Some(hasher.finish())
    }
}

/// A place in the log of a delta document that is being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaMark {
    length: usize,
    empty: bool,
}

/// A delta document, read.
#[derive(Debug, Clone, PartialEq)]
pub struct DeltaDocument {
    /// The block it covers (the document says this plus one).
    pub covered: BlockNumber,
    /// Content id of the last full state.
    pub root: ContentId,
    /// The full state before it: a delta always names it, if there is one.
    pub prev_root: PreviousRoot,
    /// The deltas since `root` before this one, oldest first.
    pub chain: Vec<DeltaReference>,
    /// The log since the checkpoint before.
    pub log: Vec<Operation>,
}

/// A document that is no delta document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a delta document: {0}")]
pub struct DeltaDocumentError(pub String);

#[derive(Deserialize)]
struct DeltaBody {
    root: ContentId,
    prev_root: String,
    chain: Vec<DeltaReference>,
    ops: Vec<String>,
}

impl DeltaDocument {
    /// Reads a document. Its content id is the caller's to check, before.
    pub fn parse(bytes: &[u8]) -> Result<Self, DeltaDocumentError> {
        let (number, body): (BlockNumber, DeltaBody) =
            serde_json::from_slice(bytes).map_err(|error| DeltaDocumentError(error.to_string()))?;
        let covered = number
            .previous()
            .ok_or_else(|| DeltaDocumentError("it covers no block".to_owned()))?;
        let prev_root = match body.prev_root.as_str() {
            "" => PreviousRoot::None,
            id => PreviousRoot::Known(
                id.parse()
                    .map_err(|error| DeltaDocumentError(format!("prev_root: {error}")))?,
            ),
        };
        let mut log = Vec::with_capacity(body.ops.len());
        for (position, entry) in body.ops.iter().enumerate() {
            log.push(
                Operation::from_log_entry(entry)
                    .map_err(|error| DeltaDocumentError(format!("ops[{position}]: {error}")))?,
            );
        }
        Ok(Self {
            covered,
            root: body.root,
            prev_root,
            chain: body.chain,
            log,
        })
    }

    /// Whether bytes look like a delta rather than a full state: the members it must have are there.
    pub fn is_delta(bytes: &[u8]) -> bool {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "read for their presence")]
        struct Shape {
            root: ContentId,
            prev_root: serde::de::IgnoredAny,
            chain: serde::de::IgnoredAny,
            ops: serde::de::IgnoredAny,
        }
        serde_json::from_slice::<(BlockNumber, Shape)>(bytes).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Path;

    #[test]
    fn going_on_after_a_delta_spells_the_same_as_starting_anew() {
        let number = |number: u64| BlockNumber::try_from(number).unwrap();
        let operations = Operations::new(vec![
            Operation::Del {
                path: Path::from_slashed("a/b"),
            },
            Operation::WriteMarker,
        ])
        .unwrap();
        let mut chain = CheckpointChain::from_state(number(0), ContentId::of(b"genesis"));
        let mut going_on = DeltaWriter::new(&chain);
        for block in [100, 200, 300] {
            going_on.push(&operations);
            let id = going_on.content_id(number(block)).unwrap();
            chain = chain.after(CheckpointKind::Delta, number(block), id);
            going_on.start_after(chain.deltas.last().unwrap());
            let mut anew = DeltaWriter::new(&chain);
            assert_eq!(going_on.document(number(block)), anew.document(number(block)));
            anew.push(&operations);
            let mut next = going_on.clone();
            next.push(&operations);
            assert_eq!(next.document(number(block)), anew.document(number(block)));
        }
    }
}
