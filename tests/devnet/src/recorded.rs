//! What the published vectors say about the end of the recorded chain.

use anyhow::Context;
use honeygraph_chain::checkpoint::Anchor;
use honeygraph_chain::{BlockNumber, ContentId, StateDigest};
use serde::Deserialize;

const VECTORS: &[u8] = include_bytes!("../../../chain/tests/data/honeycomb.json");

#[derive(Deserialize)]
struct Vectors {
    blocks: Vec<Block>,
    checkpoints: Vec<Checkpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    block_num: Option<BlockNumber>,
    block_hash: ContentId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checkpoint {
    block_num: BlockNumber,
    cid: ContentId,
    state_digest: StateDigest,
}

/// The anchor of the last recorded block, which is a checkpoint.
pub(crate) fn last_anchor() -> anyhow::Result<Anchor> {
    let vectors: Vectors = serde_json::from_slice(VECTORS).context("the vectors")?;
    let checkpoint = vectors
        .checkpoints
        .last()
        .context("the vectors have no checkpoint")?;
    let block = vectors.blocks.last().context("the vectors have no block")?;
    anyhow::ensure!(
        block
            .block_num
            .is_none_or(|number| number == checkpoint.block_num),
        "the vectors do not end at a checkpoint"
    );
    Ok(Anchor {
        block_num: checkpoint.block_num,
        block_hash: block.block_hash,
        state_hash: checkpoint.cid,
        state_digest: checkpoint.state_digest,
    })
}

#[cfg(test)]
mod tests {
    use honeygraph_honeycomb::reference_chain::{ChainSettings, ReferenceChain};

    use super::*;

    #[test]
    fn the_stand_in_reaches_the_recorded_anchor() {
        let anchor = last_anchor().unwrap();
        let mut chain = ReferenceChain::from_vectors(ChainSettings::default()).unwrap();
        while chain.head().number < anchor.block_num {
            chain.next_block().unwrap();
        }
        let block = chain.block(anchor.block_num).unwrap();
        assert_eq!(block.checkpoint.as_ref().unwrap().anchor, anchor);
    }
}
