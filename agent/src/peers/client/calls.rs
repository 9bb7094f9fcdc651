//! The calls whose answers are JSON.

use honeygraph_chain::peer::{PeerFault, PeerId};
use honeygraph_chain::{BlockNumber, BlockRange};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;

use super::body::{Body, BodyLimits};
use super::{PeerClient, expect_status, send};
use crate::peers::fault::FetchError;
use crate::peers::url::PeerUrl;
use crate::wire::batch::MAX_BLOCK_BYTES;
use crate::wire::shapes::{
    AnchorAnswer, Anchors, Capabilities, CheckpointEntry, Checkpoints, FullBlock, FullBlockError, HashAnswer,
    Head, PeerEntries, ReportedBlock, SyncStatus,
};

/// Most bytes of an answer about a node or a block's hash (256 KiB).
const MAX_SMALL_ANSWER: u64 = 256 << 10;

/// Most bytes of a list (2 MiB).
const MAX_LIST_ANSWER: u64 = 2 << 20;

/// Most bytes of a block in the JavaScript shape, which repeats names and previous values (16 MiB).
const MAX_BLOCK_ANSWER: u64 = 2 * MAX_BLOCK_BYTES as u64;

/// A peer that a list names, its id and URL checked for their form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// What it calls itself.
    pub id: PeerId,
    /// Its base URL.
    pub url: PeerUrl,
}

/// A peer list as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerList {
    /// The well-formed entries among the first ones.
    pub peers: Vec<KnownPeer>,
    /// Entries that the sender put into the list.
    pub sent: usize,
}

impl PeerList {
    /// Entries that were ill-formed or beyond the number that is read.
    pub fn refused(&self) -> usize {
        self.sent.saturating_sub(self.peers.len())
    }
}

impl From<PeerEntries> for PeerList {
    fn from(entries: PeerEntries) -> Self {
        let sent = entries.sent();
        let peers = entries
            .into_vec()
            .into_iter()
            .filter_map(|entry| {
                Some(KnownPeer {
                    id: entry.id.parse().ok()?,
                    url: entry.url.parse().ok()?,
                })
            })
            .collect();
        Self { peers, sent }
    }
}

impl PeerClient {
    /// What a peer can do; none from an older one, which does not know the call.
    pub async fn capabilities(&self, peer: &PeerUrl) -> Result<Option<Capabilities>, FetchError> {
        let url = peer.call(&["api", "sync", "capabilities"], &[]);
        match self.get(url, MAX_SMALL_ANSWER).await {
            Ok(capabilities) => Ok(Some(capabilities)),
            Err(FetchError::Peer(PeerFault::NotFound)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where a peer stands.
    pub async fn status(&self, peer: &PeerUrl) -> Result<SyncStatus, FetchError> {
        self.get(peer.call(&["api", "sync", "status"], &[]), MAX_LIST_ANSWER)
            .await
    }

    /// A peer's head.
    pub async fn head(&self, peer: &PeerUrl) -> Result<Head, FetchError> {
        self.get(peer.call(&["api", "query", "head"], &[]), MAX_SMALL_ANSWER)
            .await
    }

    /// A block in the shape of the JavaScript honeygraph; of the peer's canonical fork unless one is named.
    pub async fn block_by_number(
        &self,
        peer: &PeerUrl,
        number: BlockNumber,
        fork: Option<&str>,
    ) -> Result<ReportedBlock, FetchError> {
        let query: Vec<_> = fork.map(|fork| ("fork", fork)).into_iter().collect();
        let read = self.block_within(peer, number, &query, MAX_BLOCK_ANSWER);
        read.await.map(|(block, _)| block)
    }

    /// A block in that shape from the peer's canonical fork, and the bytes of the answer: at most `limit`, or as many
    /// as such a block can have.
    pub async fn small_block_by_number(
        &self,
        peer: &PeerUrl,
        number: BlockNumber,
        limit: u64,
    ) -> Result<(ReportedBlock, u64), FetchError> {
        self.block_within(peer, number, &[], limit.min(MAX_BLOCK_ANSWER))
            .await
    }

    async fn block_within(
        &self,
        peer: &PeerUrl,
        number: BlockNumber,
        query: &[(&str, &str)],
        limit: u64,
    ) -> Result<(ReportedBlock, u64), FetchError> {
        let text = number.to_string();
        let url = peer.call(&["api", "query", "block", &text, "full"], query);
        let body = self.get_bytes(url, limit).await?;
        let bytes = body.len() as u64;
        let block = tokio::task::spawn_blocking(move || {
            let block: FullBlock = serde_json::from_slice(&body).map_err(|_| PeerFault::Malformed)?;
            block.into_reported(number).map_err(|error| match error {
                FullBlockError::WrongNumber { .. } => PeerFault::WrongNumber,
                FullBlockError::TooManyOperations { .. } => PeerFault::TooLarge,
                _ => PeerFault::Malformed,
            })
        })
        .await
        .map_err(FetchError::internal)?
        .map_err(FetchError::Peer)?;
        Ok((block, bytes))
    }

    /// The anchors of the checkpoints in `range`, ascending.
    pub async fn anchors(&self, peer: &PeerUrl, range: BlockRange) -> Result<Vec<AnchorAnswer>, FetchError> {
        let (from, to) = (range.start().to_string(), range.end().to_string());
        let url = peer.call(&["api", "sync", "anchors"], &[("from", &from), ("to", &to)]);
        let answer: Anchors = self.get(url, MAX_LIST_ANSWER).await?;
        let anchors = answer.anchors.into_vec();
        ascending_within(range, anchors.iter().map(|anchor| anchor.block_num))?;
        Ok(anchors)
    }

    /// The hash of a block on a peer's canonical fork.
    pub async fn hash(&self, peer: &PeerUrl, number: BlockNumber) -> Result<HashAnswer, FetchError> {
        let url = peer.call(&["api", "sync", "hash", &number.to_string()], &[]);
        let answer: HashAnswer = self.get(url, MAX_SMALL_ANSWER).await?;
        if answer.block_num == number {
            Ok(answer)
        } else {
            Err(PeerFault::WrongNumber.into())
        }
    }

    /// The checkpoints in `range`, ascending.
    pub async fn checkpoints(
        &self,
        peer: &PeerUrl,
        range: BlockRange,
    ) -> Result<Vec<CheckpointEntry>, FetchError> {
        let (from, to) = (range.start().to_string(), range.end().to_string());
        let url = peer.call(&["api", "checkpoints"], &[("from", &from), ("to", &to)]);
        let answer: Checkpoints = self.get(url, MAX_LIST_ANSWER).await?;
        let checkpoints = answer.checkpoints.into_vec();
        ascending_within(range, checkpoints.iter().map(|checkpoint| checkpoint.block_num))?;
        Ok(checkpoints)
    }

    /// The peers that a peer knows.
    pub async fn peers(&self, peer: &PeerUrl) -> Result<PeerList, FetchError> {
        let url = peer.call(&["api", "sync", "peers"], &[]);
        let entries: PeerEntries = self.get(url, MAX_LIST_ANSWER).await?;
        Ok(entries.into())
    }

    /// The honeygraph nodes that a honeycomb node knows.
    pub async fn honeygraph_peers(&self, honeycomb: &PeerUrl) -> Result<PeerList, FetchError> {
        let url = honeycomb.call(&["api", "honeygraph-peers"], &[]);
        let entries: PeerEntries = self.get(url, MAX_LIST_ANSWER).await?;
        Ok(entries.into())
    }

    async fn get<T: DeserializeOwned>(&self, url: Url, limit: u64) -> Result<T, FetchError> {
        read_json(&self.get_bytes(url, limit).await?)
    }

    async fn get_bytes(&self, url: Url, limit: u64) -> Result<Vec<u8>, FetchError> {
        self.answer(self.request(Method::GET, url)?, limit).await
    }

    async fn answer(&self, request: RequestBuilder, limit: u64) -> Result<Vec<u8>, FetchError> {
        let deadline = Instant::now() + self.timeouts.call;
        let request = request
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "zstd");
        let response = expect_status(send(request, deadline).await?, &[StatusCode::OK])?;
        Body::new(response, BodyLimits::both(limit))?
            .read_all(deadline)
            .await
    }
}

fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, FetchError> {
    serde_json::from_slice(body).map_err(|_| PeerFault::Malformed.into())
}

fn ascending_within(
    range: BlockRange,
    numbers: impl Iterator<Item = BlockNumber> + Clone,
) -> Result<(), FetchError> {
    if !numbers.clone().all(|number| range.contains(number)) {
        return Err(PeerFault::WrongNumber.into());
    }
    if !numbers.is_sorted_by(|before, after| before < after) {
        return Err(PeerFault::Malformed.into());
    }
    Ok(())
}
