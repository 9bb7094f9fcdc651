//! Ranges of blocks over the batch wire.

use std::time::Duration;

use honeygraph_chain::BlockRange;
use honeygraph_chain::peer::LocalFault;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING};
use reqwest::{Method, StatusCode};
use tokio::time::Instant;

use super::body::{Body, BodyLimits};
use super::{PeerClient, Traffic, expect_status, send};
use crate::peers::fault::FetchError;
use crate::peers::url::PeerUrl;
use crate::wire::NetworkName;
use crate::wire::batch::{
    BATCH_CONTENT_TYPE, BatchDecoder, BatchExtent, WireBlock, WireError, max_answer_bytes,
};

/// What zstd may add to bytes that it cannot compress.
const COMPRESSION_OVERHEAD: usize = 64 << 10;

/// One request for blocks.
#[derive(Debug, Clone, Copy)]
pub struct BatchRequest<'a> {
    /// Our network.
    pub network: &'a NetworkName,
    /// The blocks, at most [`crate::wire::batch::MAX_BATCH_BLOCKS`].
    pub range: BlockRange,
    /// Time for the whole answer.
    pub timeout: Duration,
    /// Bytes of blocks that there is room for: reading stops before more.
    pub byte_limit: u64,
    /// Where what arrives is counted.
    pub traffic: &'a Traffic,
}

/// What came of a request for blocks.
#[derive(Debug)]
pub struct FetchedBatch {
    /// The first blocks of the range, in order; nobody has looked into their bytes yet.
    pub blocks: Vec<WireBlock>,
    /// From sending the request until now.
    pub elapsed: Duration,
    /// How it ended.
    pub outcome: BatchOutcome,
}

/// How a request for blocks ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchOutcome {
    /// A whole answer, its checksum right.
    Whole(BatchExtent),
    /// Reading stopped at the byte limit; the blocks before it stand.
    Stopped,
    /// A failure; the blocks before it are what arrived in order. None are left where the damage could be
    /// in any of them (a wrong checksum or count).
    Failed(FetchError),
}

impl PeerClient {
    /// Asks a peer of our own kind for a range of blocks.
    pub async fn blocks(&self, peer: &PeerUrl, request: BatchRequest<'_>) -> FetchedBatch {
        let started = Instant::now();
        let mut batch = FetchedBatch {
            blocks: Vec::new(),
            elapsed: Duration::ZERO,
            outcome: BatchOutcome::Whole(BatchExtent::Complete),
        };
        let result = self
            .read_batch(peer, request, started + request.timeout, &mut batch)
            .await;
        batch.outcome = result.unwrap_or_else(BatchOutcome::Failed);
        batch.elapsed = started.elapsed();
        batch
    }

    async fn read_batch(
        &self,
        peer: &PeerUrl,
        request: BatchRequest<'_>,
        deadline: Instant,
        batch: &mut FetchedBatch,
    ) -> Result<BatchOutcome, FetchError> {
        let (range, traffic, limit) = (request.range, request.traffic, request.byte_limit);
        let mut decoder = BatchDecoder::new(request.network.clone(), range).map_err(FetchError::internal)?;
        let (from, to) = (range.start().to_string(), range.end().to_string());
        let url = peer.call(&["api", "sync", "blocks"], &[("from", &from), ("to", &to)]);
        let request = self
            .request(Method::GET, url)?
            .header(ACCEPT, BATCH_CONTENT_TYPE)
            .header(ACCEPT_ENCODING, "zstd");
        let response = expect_status(send(request, deadline).await?, &[StatusCode::OK])?;
        let most = max_answer_bytes(range);
        let limits = BodyLimits {
            wire: (most + COMPRESSION_OVERHEAD) as u64,
            decoded: most as u64,
        };
        let mut body = Body::new(response, limits)?;
        let mut received = 0;
        loop {
            let piece = body.next(deadline).await;
            traffic.count_received(body.wire_bytes() - received);
            received = body.wire_bytes();
            let Some(piece) = piece? else { break };
            let before = batch.blocks.len();
            let pushed = decoder.push(&piece, &mut batch.blocks);
            let new = batch.blocks.iter().skip(before);
            traffic.count_blocks(new.map(|block| block.bytes.len() as u64).sum());
            pushed.inspect_err(|error| forget_doubtful(error, &mut batch.blocks))?;
            if decoder.block_bytes() as u64 > limit {
                return if batch.blocks.is_empty() {
                    Err(LocalFault::LimitTooLow { limit }.into())
                } else {
                    Ok(BatchOutcome::Stopped)
                };
            }
        }
        Ok(BatchOutcome::Whole(decoder.finish()?))
    }
}

fn forget_doubtful(error: &WireError, blocks: &mut Vec<WireBlock>) {
    if matches!(error, WireError::WrongChecksum | WireError::WrongCount { .. }) {
        blocks.clear();
    }
}
