//! Checkpoint documents by content id, from peers and IPFS gateways, streamed to disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use bytes::Bytes;
use honeygraph_chain::ContentId;
use honeygraph_chain::content_id::ContentHasher;
use honeygraph_chain::peer::PeerFault;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::Instant;
use url::Url;

use super::body::{Body, BodyLimits, content_encoding};
use super::{PeerClient, expect_status, send};
use crate::peers::fault::FetchError;
use crate::peers::url::PeerUrl;

/// Pieces that wait for the disk.
const WAITING_PIECES: usize = 16;

/// Where a document goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentTarget {
    /// The finished document: there only once its content id is proven. What has arrived before stands
    /// beside it, with `.part` appended, and is resumed. One download at a time may use a target.
    pub path: PathBuf,
    /// Most bytes it may have.
    pub max_bytes: u64,
}

/// A document that is on disk and has the content id it must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchedDocument {
    /// Its size.
    pub bytes: u64,
    /// Bytes that arrived for it now.
    pub wire_bytes: u64,
}

/// The beginning of a document on disk, and the hash of it.
struct Partial {
    file: File,
    hasher: ContentHasher,
    bytes: u64,
}

/// How one attempt ended.
enum Attempt {
    Done(FetchedDocument),
    /// What was on disk before does not fit; it is gone.
    StartOver,
}

impl PeerClient {
    /// Fetches a checkpoint document from a peer.
    pub async fn document(
        &self,
        peer: &PeerUrl,
        id: ContentId,
        target: &DocumentTarget,
    ) -> Result<FetchedDocument, FetchError> {
        let url = peer.call(&["api", "checkpoints", &id.to_string()], &[]);
        self.fetch_document(url, id, target).await
    }

    /// Fetches a file from an IPFS gateway.
    pub async fn ipfs_file(
        &self,
        gateway: &PeerUrl,
        id: ContentId,
        target: &DocumentTarget,
    ) -> Result<FetchedDocument, FetchError> {
        let url = gateway.call(&["ipfs", &id.to_string()], &[]);
        self.fetch_document(url, id, target).await
    }

    async fn fetch_document(
        &self,
        url: Url,
        id: ContentId,
        target: &DocumentTarget,
    ) -> Result<FetchedDocument, FetchError> {
        let deadline = Instant::now() + self.timeouts.document;
        // An earlier part may come from another peer: only a whole document blames this one.
        for _ in 0..2 {
            if let Attempt::Done(document) = self.attempt(url.clone(), id, target, deadline).await? {
                return Ok(document);
            }
        }
        Err(PeerFault::WrongHash.into())
    }

    async fn attempt(
        &self,
        url: Url,
        id: ContentId,
        target: &DocumentTarget,
        deadline: Instant,
    ) -> Result<Attempt, FetchError> {
        let opened = target.clone();
        let mut partial = blocking(move || Partial::open(&opened)).await?;
        let resumed_from = partial.bytes;
        let mut request = self
            .request(Method::GET, url)?
            .header(ACCEPT_ENCODING, "identity");
        if resumed_from > 0 {
            request = request.header(RANGE, format!("bytes={resumed_from}-"));
        }
        let head_deadline = deadline.min(Instant::now() + self.timeouts.document_stall);
        let response = send(request, head_deadline).await?;
        let wire_bytes = if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && resumed_from > 0 {
            // All of it may be there already; if not, the hash says so.
            0
        } else {
            let response = expect_status(response, &[StatusCode::OK, StatusCode::PARTIAL_CONTENT])?;
            if content_encoding(response.headers()).is_some() {
                return Err(PeerFault::Malformed.into());
            }
            if response.status() == StatusCode::OK {
                partial = blocking(move || partial.restart()).await?;
            } else if first_byte(response.headers()) != Some(resumed_from) {
                return Err(PeerFault::Malformed.into());
            }
            let streamed = self.stream_into(partial, response, target, deadline).await;
            if matches!(streamed, Err(FetchError::Peer(PeerFault::TooLarge))) {
                // Nothing can complete it.
                let part = target.part();
                blocking(move || fs::remove_file(part)).await?;
            }
            let wire_bytes;
            (partial, wire_bytes) = streamed?;
            wire_bytes
        };
        let bytes = partial.bytes;
        let target = target.clone();
        let proven = blocking(move || partial.close(id, &target)).await?;
        match (proven, bytes > wire_bytes) {
            (true, _) => Ok(Attempt::Done(FetchedDocument { bytes, wire_bytes })),
            (false, true) => Ok(Attempt::StartOver),
            (false, false) => Err(PeerFault::WrongHash.into()),
        }
    }

    /// Appends a body to what is on disk. What arrived stays there when the peer fails.
    async fn stream_into(
        &self,
        mut partial: Partial,
        response: Response,
        target: &DocumentTarget,
        deadline: Instant,
    ) -> Result<(Partial, u64), FetchError> {
        let room = target.max_bytes.saturating_sub(partial.bytes);
        let mut body = Body::new(response, BodyLimits::both(room))?;
        let (pieces, mut received) = mpsc::channel::<Bytes>(WAITING_PIECES);
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(piece) = received.blocking_recv() {
                partial.append(&piece)?;
            }
            io::Result::Ok(partial)
        });
        let result = loop {
            let next = deadline.min(Instant::now() + self.timeouts.document_stall);
            match body.next(next).await {
                Ok(Some(piece)) => {
                    if pieces.send(piece).await.is_err() {
                        break Ok(()); // The writer failed and says why.
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        drop(pieces);
        let partial = writer
            .await
            .map_err(FetchError::internal)?
            .map_err(FetchError::internal)?;
        result?;
        Ok((partial, body.wire_bytes()))
    }
}

impl DocumentTarget {
    /// Where what has arrived stands until the whole is proven.
    pub fn part(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".part");
        name.into()
    }
}

impl Partial {
    /// Opens what is there and hashes it; too much of it is thrown away.
    fn open(target: &DocumentTarget) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(target.part())?;
        let mut hasher = ContentHasher::new();
        let mut bytes = 0;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(buffer.get(..read).unwrap_or_default());
            bytes += read as u64;
            if bytes > target.max_bytes {
                return Self { file, hasher, bytes }.restart();
            }
        }
        Ok(Self { file, hasher, bytes })
    }

    /// Throws away what is there.
    fn restart(self) -> io::Result<Self> {
        self.file.set_len(0)?;
        Ok(Self {
            file: self.file,
            hasher: ContentHasher::new(),
            bytes: 0,
        })
    }

    fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.hasher.update(piece);
        self.bytes += piece.len() as u64;
        Ok(())
    }

    /// Puts the document in its place if it is the right one, else removes it.
    fn close(self, id: ContentId, target: &DocumentTarget) -> io::Result<bool> {
        if self.hasher.finish() != id {
            drop(self.file);
            fs::remove_file(target.part())?;
            return Ok(false);
        }
        self.file.sync_all()?;
        fs::rename(target.part(), &target.path)?;
        Ok(true)
    }
}

/// `first` of `Content-Range: bytes first-last/size`.
fn first_byte(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?
        .split('-')
        .next()?
        .trim()
        .parse()
        .ok()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, FetchError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(FetchError::internal)?
        .map_err(FetchError::internal)
}
