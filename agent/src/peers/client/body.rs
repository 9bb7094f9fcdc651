//! Bodies of answers, read piece by piece under limits.

use bytes::Bytes;
use honeygraph_chain::peer::PeerFault;
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use tokio::time::{Instant, timeout_at};

use super::zstd_stream::ZstdStream;
use crate::peers::fault::FetchError;

/// The most that an answer may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    /// Bytes on the wire.
    pub(super) wire: u64,
    /// Bytes after decompression.
    pub(super) decoded: u64,
}

impl BodyLimits {
    /// The same limit before and after decompression.
    pub(super) const fn both(bytes: u64) -> Self {
        Self {
            wire: bytes,
            decoded: bytes,
        }
    }
}

/// A body that is being read.
pub(super) struct Body {
    response: Response,
    limits: BodyLimits,
    zstd: Option<ZstdStream>,
    pending: Bytes,
    wire_bytes: u64,
    decoded_bytes: u64,
}

impl Body {
    /// Starts reading; an answer that says that it is too large, or is encoded in a way that we did not
    /// ask for, is refused unread.
    pub(super) fn new(response: Response, limits: BodyLimits) -> Result<Self, FetchError> {
        if response
            .content_length()
            .is_some_and(|length| length > limits.wire)
        {
            return Err(PeerFault::TooLarge.into());
        }
        let zstd = match content_encoding(response.headers()).as_deref() {
            None => None,
            Some("zstd") => Some(ZstdStream::new().map_err(FetchError::internal)?),
            Some(_) => return Err(PeerFault::Malformed.into()),
        };
        Ok(Self {
            response,
            limits,
            zstd,
            pending: Bytes::new(),
            wire_bytes: 0,
            decoded_bytes: 0,
        })
    }

    /// Bytes that arrived so far.
    pub(super) const fn wire_bytes(&self) -> u64 {
        self.wire_bytes
    }

    /// The next piece, decompressed; none at the end.
    pub(super) async fn next(&mut self, deadline: Instant) -> Result<Option<Bytes>, FetchError> {
        loop {
            let piece = match &mut self.zstd {
                Some(zstd) => zstd.pull(&mut self.pending).map_err(|_| PeerFault::Malformed)?,
                None if self.pending.is_empty() => None,
                None => Some(std::mem::take(&mut self.pending)),
            };
            if let Some(piece) = piece {
                self.decoded_bytes = self.decoded_bytes.saturating_add(piece.len() as u64);
                if self.decoded_bytes > self.limits.decoded {
                    return Err(PeerFault::TooLarge.into());
                }
                // A small input can decompress to much: let others run in between.
                tokio::task::coop::consume_budget().await;
                return Ok(Some(piece));
            }
            let Ok(chunk) = timeout_at(deadline, self.response.chunk()).await else {
                return Err(PeerFault::TimedOut.into());
            };
            match chunk? {
                Some(chunk) => {
                    self.wire_bytes = self.wire_bytes.saturating_add(chunk.len() as u64);
                    if self.wire_bytes > self.limits.wire {
                        return Err(PeerFault::TooLarge.into());
                    }
                    self.pending = chunk;
                }
                None if self.zstd.as_ref().is_none_or(ZstdStream::is_complete) => return Ok(None),
                None => return Err(PeerFault::ShortAnswer.into()),
            }
        }
    }

    /// The whole body.
    pub(super) async fn read_all(mut self, deadline: Instant) -> Result<Vec<u8>, FetchError> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next(deadline).await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}

/// The coding of a body, none for plain bytes.
pub(super) fn content_encoding(headers: &HeaderMap) -> Option<String> {
    let codings: Vec<String> = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .map(|value| {
            String::from_utf8_lossy(value.as_bytes())
                .trim()
                .to_ascii_lowercase()
        })
        .filter(|coding| !coding.is_empty() && coding != "identity")
        .collect();
    (!codings.is_empty()).then(|| codings.join(","))
}
