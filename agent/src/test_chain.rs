//! The chain of the published vectors, for tests.

use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use honeygraph_chain::block::{Block, HashedBlock};
use honeygraph_chain::checkpoint::PreviousRoot;
use honeygraph_chain::{BlockNumber, ContentId, JsonValue, StateDigest};
use serde::Deserialize;

use crate::ingest::{LastIndex, SourceCursor, SourceEventKind};
use crate::replica::{FetchedBlock, Replica, ReplicaSettings, StartDocuments};
use crate::store::{Store, StoreSettings};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vectors {
    genesis: Genesis,
    blocks: Vec<serde_json::Value>,
    checkpoints: Vec<Checkpoint>,
}

#[derive(Deserialize)]
struct Genesis {
    document: JsonValue,
    cid: ContentId,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Checkpoint {
    pub(crate) block_num: BlockNumber,
    pub(crate) cid: ContentId,
    pub(crate) state_digest: StateDigest,
    pub(crate) document: JsonValue,
}

pub(crate) struct Chain {
    pub(crate) genesis: (ContentId, Vec<u8>),
    pub(crate) blocks: Vec<FetchedBlock>,
    pub(crate) checkpoints: Vec<Checkpoint>,
}

pub(crate) fn chain() -> &'static Chain {
    static CHAIN: LazyLock<Chain> = LazyLock::new(|| {
        let text = include_bytes!("../../chain/tests/data/honeycomb.json");
        let vectors: Vectors = serde_json::from_slice(text).unwrap();
        let blocks = vectors.blocks.iter().map(|block| {
            let hashed = serde_json::json!({
                "blockNum": block["blockNum"],
                "operations": block["operations"],
                "previousHash": block["previousHash"],
            });
            let value: JsonValue = serde_json::from_value(hashed).unwrap();
            let block = HashedBlock::from_canonical(value.to_canonical()).unwrap();
            FetchedBlock {
                block,
                timestamp_ms: 1_544_788_800_000,
            }
        });
        Chain {
            genesis: (vectors.genesis.cid, vectors.genesis.document.to_canonical()),
            blocks: blocks.collect(),
            checkpoints: vectors.checkpoints,
        }
    });
    &CHAIN
}

pub(crate) fn number(number: u64) -> BlockNumber {
    BlockNumber::try_from(number).unwrap()
}

/// Block number of the block at a place in the chain.
pub(crate) fn at(place: usize) -> BlockNumber {
    chain().blocks[place].block.number()
}

pub(crate) fn settings() -> ReplicaSettings {
    ReplicaSettings {
        commit_blocks: 512,
        pending_blocks: 4_096,
        ..ReplicaSettings::new("spkcc")
    }
}

/// A directory with a replica in it.
pub(crate) struct Home {
    pub(crate) directory: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }

    pub(crate) fn open(&self, settings: ReplicaSettings) -> Replica {
        let (_, writer, _) =
            Store::open(&self.directory.path().join("data"), &StoreSettings::default()).unwrap();
        Replica::new(writer, settings).unwrap()
    }

    /// A replica that was started from the genesis document.
    pub(crate) fn started(&self, settings: ReplicaSettings) -> Replica {
        let mut replica = self.open(settings);
        let (state_id, document) = &chain().genesis;
        let documents = StartDocuments {
            state: self.file("genesis.json", document),
            state_id: *state_id,
            prev_root: PreviousRoot::None,
            deltas: Vec::new(),
            anchor: None,
        };
        replica.start_from(&documents).unwrap();
        replica
    }
}

/// A block as a source sends it.
pub(crate) fn block_event(block: &Block) -> SourceEventKind {
    SourceEventKind::Block {
        number: block.number,
        operations: block.operations.clone(),
        timestamp_ms: 5,
        cursor: SourceCursor {
            last_index: LastIndex(None),
            block: block.number,
        },
    }
}
