//! `GET /api/checkpoints/{contentId}`: the bytes of a checkpoint's document.
//!
//! Documents of full states are stored in pieces and streamed from there. Delta documents are not stored: they
//! are computed from the blocks of their period.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use honeygraph_chain::checkpoint::DeltaWriter;
use honeygraph_chain::network::CheckpointKind;
use honeygraph_chain::{BlockRange, ContentId};

use super::blocks::{IMMUTABLE, is_known};
use crate::api::Node;
use crate::api::error::ApiError;
use crate::api::extract::PathText;
use crate::api::node::compute;
use crate::api::work::Weight;
use crate::replica::checkpoint_chain_at;
use crate::store::{CheckpointRecord, DOCUMENT_CHUNK_BYTES, Store, View};
use crate::wire::shapes::ErrorAnswer;

/// Most operations' bytes of a delta document that is computed for a caller (256 MiB).
const MAX_DELTA_BYTES: usize = 256 << 20;

/// Where the bytes of a document come from.
enum Source {
    Stored { length: u64 },
    Computed(Bytes),
}

impl Source {
    const fn length(&self) -> u64 {
        match self {
            Self::Stored { length } => *length,
            Self::Computed(bytes) => bytes.len() as u64,
        }
    }
}

/// The document with a content id.
///
/// `Range` with one range is answered with that part, so that a download can be resumed.
#[utoipa::path(get, path = "/api/checkpoints/{contentId}", tag = "checkpoints",
    params(("contentId" = String, Path, description = "Content id of the document (CIDv0)")),
    responses(
        (status = 200, description = "The document", content_type = "application/json", body = [u8]),
        (status = 206, description = "A part of it", content_type = "application/json", body = [u8]),
        (status = 304, description = "The caller has it already"),
        (status = 400, description = "Not a content id", body = ErrorAnswer),
        (status = 404, description = "Not here", body = ErrorAnswer),
        (status = 416, description = "A range outside the document", body = ErrorAnswer)
    )
)]
pub(super) async fn document(
    State(node): State<Arc<Node>>,
    PathText(text): PathText,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id: ContentId = text.parse().map_err(|_| {
        ApiError::parameter(
            "contentId",
            text,
            "a CIDv0: `Qm` and 44 more characters of base58",
        )
    })?;
    let source = find(&node, id).await?;
    let length = source.length();
    let etag =
        HeaderValue::from_str(&format!("\"{id}\"")).map_err(|error| ApiError::Internal(error.to_string()))?;
    let mut answer = HeaderMap::new();
    answer.insert(ETAG, etag.clone());
    answer.insert(CACHE_CONTROL, IMMUTABLE);
    if is_known(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, answer).into_response());
    }
    answer.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let part = asked_part(&headers, &etag, length)?;
    let status = if part.is_some() {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    if let Some(part) = part {
        let content_range = format!("bytes {}-{}/{length}", part.start, part.end - 1);
        let content_range =
            HeaderValue::from_str(&content_range).map_err(|error| ApiError::Internal(error.to_string()))?;
        answer.insert(CONTENT_RANGE, content_range);
    }
    let part = part.unwrap_or(Part {
        start: 0,
        end: length,
    });
    answer.insert(CONTENT_LENGTH, HeaderValue::from(part.end - part.start));
    let body = match source {
        Source::Computed(bytes) => {
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            Body::from(bytes.slice(place(part.start)..place(part.end)))
        }
        Source::Stored { .. } => Body::from_stream(stored_part(node.store.clone(), id, part)),
    };
    node.work.hold((status, answer, body).into_response())
}

/// A part of a document, its end not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    start: u64,
    end: u64,
}

/// The part that `Range` asks for. What is no single range of bytes is ignored, as is one that `If-Range`
/// makes depend on another document.
fn asked_part(headers: &HeaderMap, etag: &HeaderValue, length: u64) -> Result<Option<Part>, ApiError> {
    if headers.get(IF_RANGE).is_some_and(|condition| condition != etag) {
        return Ok(None);
    }
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let Some((first, last)) = range
        .and_then(|range| range.trim().strip_prefix("bytes="))
        .filter(|range| !range.contains(','))
        .and_then(|range| range.split_once('-'))
    else {
        return Ok(None);
    };
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number beyond any document is as good as the highest one.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = (first.trim(), last.trim());
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Part {
            start: first,
            end: last.saturating_add(1).min(length),
        },
        (Some(start), None) if last.is_empty() => Part { start, end: length },
        (None, Some(suffix)) if first.is_empty() => {
            // A suffix of nothing cannot be given.
            let start = if suffix == 0 {
                length
            } else {
                length.saturating_sub(suffix)
            };
            Part { start, end: length }
        }
        _ => return Ok(None),
    };
    if part.start < length {
        Ok(Some(part))
    } else {
        Err(ApiError::RangeNotSatisfiable { length })
    }
}

/// Reads a part of a stored document piece by piece, as fast as the caller takes it. A document never changes,
/// so each piece is read from the store as it is then; one that was pruned meanwhile breaks the answer off.
fn stored_part(store: Store, id: ContentId, part: Part) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    const CHUNK: u64 = DOCUMENT_CHUNK_BYTES as u64;
    stream::try_unfold((store, part.start), move |(store, at)| async move {
        if at >= part.end {
            return Ok(None);
        }
        let reading = store.clone();
        let piece = compute(move || {
            let chunk = u32::try_from(at / CHUNK).map_err(|error| ApiError::Internal(error.to_string()))?;
            let piece = reading.view().document_chunk(id, chunk)?;
            piece.ok_or_else(|| ApiError::Internal(format!("piece {chunk} of document {id} is gone")))
        });
        let piece = Bytes::from(piece.await.map_err(|error| logged(&error))?);
        let within = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(piece.len());
        let start = within(at % CHUNK);
        let end = within(part.end - (at - at % CHUNK));
        let piece = piece.slice(start..end);
        if piece.is_empty() {
            let reason = format!("document {id} ends before byte {}", part.end);
            return Err(logged(&ApiError::Internal(reason)));
        }
        let next = at + piece.len() as u64;
        Ok(Some((piece, (store, next))))
    })
}

/// An answer whose head was sent can only be broken off.
fn logged(error: &ApiError) -> std::io::Error {
    match error {
        ApiError::Store(error) => tracing::error!(%error, "a document is broken off"),
        error => tracing::error!(?error, "a document is broken off"),
    }
    std::io::Error::other(error.to_string())
}

async fn find(node: &Node, id: ContentId) -> Result<Source, ApiError> {
    let not_found = || ApiError::NotFound("Document not found".to_owned());
    // A document is whole once its checkpoint is recorded.
    let recorded = node.read(move |view| match view.checkpoint_by_id(id)? {
        Some(record) => Ok(Some((record, view.document_bytes(id)?))),
        None => Ok(None),
    });
    let record = match recorded.await?.ok_or_else(not_found)? {
        (_, Some(length)) => return Ok(Source::Stored { length }),
        (record, None) if record.kind == CheckpointKind::Delta => record,
        _ => return Err(not_found()),
    };
    if let Some(reason) = node.caches.absent.get(&id).await {
        return Err(ApiError::NotFound(reason.to_string()));
    }
    let computed = node.caches.documents.try_get_with(id, async {
        let computed = node.read_with(Weight::Document, move |view| delta(view, &record));
        computed.await.map(Bytes::from)
    });
    let error = match computed.await {
        Ok(bytes) => return Ok(Source::Computed(bytes)),
        Err(error) => error,
    };
    Err(match &*error {
        ApiError::Store(error) => ApiError::Store(Arc::clone(error)),
        ApiError::NotFound(reason) => {
            node.caches.absent.insert(id, reason.as_str().into()).await;
            ApiError::NotFound(reason.clone())
        }
        other => ApiError::Internal(format!("{other:?}")),
    })
}

/// Computes the delta document of a checkpoint from the blocks of its period.
fn delta(view: &View, record: &CheckpointRecord) -> Result<Vec<u8>, ApiError> {
    let not_here = |why: &str| ApiError::NotFound(format!("Document not found: {why}"));
    let chain = match record.block_num.previous() {
        Some(before) => checkpoint_chain_at(view, before)?,
        None => None,
    };
    let chain = chain.ok_or_else(|| not_here("the checkpoint before it is not known here"))?;
    let first = chain.last_block.next();
    let period =
        BlockRange::new(first, record.block_num).map_err(|error| ApiError::Internal(error.to_string()))?;
    let mut writer = DeltaWriter::new(&chain);
    let mut next = period.start();
    let mut bytes = 0_usize;
    for row in view.blocks(period) {
        let (number, stored) = row?;
        if number != next {
            break;
        }
        bytes = bytes.saturating_add(stored.bytes.len());
        if bytes > MAX_DELTA_BYTES {
            return Err(not_here("it is too large to be computed for a caller"));
        }
        writer.push(&stored.decode(number)?.block().operations);
        next = number.next();
    }
    if next <= period.end() {
        return Err(not_here("blocks of its period are not here"));
    }
    if writer.content_id(record.block_num) != Some(record.state_hash) {
        return Err(not_here(
            "the checkpoints since the last full state, or that one, are not all known here",
        ));
    }
    let document = writer.document(record.block_num);
    document.ok_or_else(|| not_here("the full state before the last one is not known here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(range: &str, length: u64) -> Result<Option<(u64, u64)>, ()> {
        let etag = HeaderValue::from_static("\"x\"");
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, range.parse().unwrap());
        asked_part(&headers, &etag, length)
            .map(|part| part.map(|part| (part.start, part.end)))
            .map_err(|_| ())
    }

    #[test]
    fn single_ranges_are_taken_and_others_ignored() {
        assert_eq!(part("bytes=0-9", 100), Ok(Some((0, 10))));
        assert_eq!(part("bytes=90-", 100), Ok(Some((90, 100))));
        assert_eq!(part("bytes=90-99999999999999999999999", 100), Ok(Some((90, 100))));
        assert_eq!(part("bytes=-10", 100), Ok(Some((90, 100))));
        assert_eq!(part("bytes=-1000", 100), Ok(Some((0, 100))));
        for ignored in [
            "bytes=0-1,3-4",
            "bytes=9-3",
            "bytes=a-b",
            "lines=1-2",
            "bytes=-",
            "bytes=+1-2",
        ] {
            assert_eq!(part(ignored, 100), Ok(None), "{ignored}");
        }
        for outside in ["bytes=100-", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(part(outside, 100), Err(()), "{outside}");
        }
        assert_eq!(part("bytes=0-", 0), Err(()));
    }
}
