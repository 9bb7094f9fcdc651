//! `GET /api/sync/blocks`: many blocks in one answer, in the batch wire.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};
use sha2::{Digest, Sha256};

use super::caches::BatchKey;
use crate::api::Node;
use crate::api::error::ApiError;
use crate::api::extract::Parameters;
use crate::api::work::Weight;
use crate::store::{Position, StoreError, View};
use crate::wire::batch::{BATCH_CONTENT_TYPE, BatchEncoder, MAX_BATCH_BLOCKS};
use crate::wire::shapes::{BlockErrorAnswer, ErrorAnswer};
use crate::wire::{NetworkName, UnixMillis};

/// What never changes may be kept for a year.
pub(super) const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// What may change is asked for again.
const CHANGING: HeaderValue = HeaderValue::from_static("no-cache");
/// The fastest level: it takes a third of the bytes at a few hundred megabytes a second.
const ZSTD_LEVEL: i32 = 1;

/// How an answer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ContentCoding {
    Identity,
    Zstd,
}

impl ContentCoding {
    /// What the caller accepts; zstd where it says so.
    fn accepted(headers: &HeaderMap) -> Self {
        let accepts = headers
            .get_all(ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(accepts_zstd);
        if accepts { Self::Zstd } else { Self::Identity }
    }
}

/// Whether an item of `Accept-Encoding` is zstd with a weight above 0.
fn accepts_zstd(item: &str) -> bool {
    let mut parts = item.split(';').map(str::trim);
    let named = parts
        .next()
        .is_some_and(|coding| coding.eq_ignore_ascii_case("zstd"));
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    named && weight.is_none_or(|weight| weight.trim().parse().is_ok_and(|weight: f32| weight > 0.0))
}

/// An answer, encoded.
#[derive(Debug)]
pub(crate) struct EncodedBatch {
    pub(super) body: Bytes,
    /// Of final blocks: they keep it for ever.
    etag: Option<HeaderValue>,
}

/// Why a range cannot be encoded; shared by all who wait for it.
#[derive(Debug)]
enum EncodeError {
    Missing(BlockNumber),
    Store(Arc<StoreError>),
    Internal(String),
}

impl From<StoreError> for EncodeError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<&EncodeError> for ApiError {
    fn from(error: &EncodeError) -> Self {
        match error {
            EncodeError::Missing(block) => Self::block_not_found(*block),
            EncodeError::Store(error) => Self::Store(Arc::clone(error)),
            EncodeError::Internal(reason) => Self::Internal(reason.clone()),
        }
    }
}

/// The blocks of a range in the batch wire.
///
/// At most 512 blocks may be asked for; an answer ends after the block with which it reaches 4 MiB. Compressed
/// with zstd where `Accept-Encoding` says so. Where all blocks asked for are final the answer has an `ETag` and
/// never changes. 404 names the first block that is not here.
#[utoipa::path(get, path = "/api/sync/blocks", tag = "sync",
    params(("from" = u64, Query, description = "First block"), ("to" = u64, Query, description = "Last block")),
    responses(
        (status = 200, description = "The blocks", content_type = "application/vnd.honeygraph.blocks", body = [u8]),
        (status = 304, description = "The caller has them already"),
        (status = 400, description = "A parameter that cannot be", body = ErrorAnswer),
        (status = 404, description = "Not all here", body = BlockErrorAnswer)
    )
)]
pub(super) async fn blocks(
    State(node): State<Arc<Node>>,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let range = parameters.required_range()?;
    if range.len() > MAX_BATCH_BLOCKS {
        let last = range.start().saturating_add(MAX_BATCH_BLOCKS - 1);
        let allowed = format!("at most {last}: one answer has at most {MAX_BATCH_BLOCKS} blocks");
        return Err(ApiError::parameter("to", range.end().to_string(), allowed));
    }
    let coding = ContentCoding::accepted(&headers);
    let batch = encoded(&node, range, coding).await?;
    node.work.hold(answer(&batch, coding, &headers))
}

fn answer(batch: &EncodedBatch, coding: ContentCoding, asked: &HeaderMap) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(CACHE_CONTROL, CHANGING);
    if let Some(etag) = &batch.etag {
        headers.insert(CACHE_CONTROL, IMMUTABLE);
        headers.insert(ETAG, etag.clone());
        if is_known(asked, etag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(BATCH_CONTENT_TYPE));
    if coding == ContentCoding::Zstd {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"));
    }
    (headers, Body::from(batch.body.clone())).into_response()
}

/// Whether `If-None-Match` names an entity tag.
pub(super) fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let etag = etag.to_str().unwrap_or_default();
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// The encoded range: from the cache, or encoded once for all who ask for it at the same time.
async fn encoded(
    node: &Node,
    range: BlockRange,
    coding: ContentCoding,
) -> Result<Arc<EncodedBatch>, ApiError> {
    let (irreversible, commits, missing) = {
        let status = node.status();
        let position = status.position.as_ref();
        let irreversible = position.and_then(Position::irreversible_block);
        let missing = status.have.missing_in(range).next().map(BlockRange::start);
        (
            irreversible,
            position.map_or(0, |position| position.commits),
            missing,
        )
    };
    // With its first block here, an answer may end before the one that is missing.
    if let Some(missing) = missing
        && (missing == range.start() || node.caches.missing.get(&range).await == Some(missing))
    {
        return Err(ApiError::block_not_found(missing));
    }
    let is_final = irreversible.is_some_and(|highest| range.end() <= highest);
    let (cache, commits) = if is_final {
        (&node.caches.finalized, 0)
    } else {
        (&node.caches.recent, commits)
    };
    let key = BatchKey {
        range,
        coding,
        commits,
    };
    let store = node.store.clone();
    let network = node.settings.network.clone();
    let encode = async {
        node.metrics.count_batch_encoded();
        let work = move || encode(&store.view(), &network, range, coding).map(Arc::new);
        match node.work.run(Weight::Heavy, work).await {
            Ok(encoded) => encoded,
            Err(error) => Err(EncodeError::Internal(error.to_string())),
        }
    };
    let encoded = cache.try_get_with(key, encode).await;
    if let Err(EncodeError::Missing(block)) = encoded.as_ref().map_err(|error| &**error) {
        node.caches.missing.insert(range, *block).await;
    }
    encoded.map_err(|error| ApiError::from(&*error))
}

/// Encodes a range out of the store. A stored block is served only with its hash intact: a peer would hold
/// rotten bytes against us.
fn encode(
    view: &View,
    network: &NetworkName,
    range: BlockRange,
    coding: ContentCoding,
) -> Result<EncodedBatch, EncodeError> {
    let irreversible = view
        .position()?
        .and_then(|position| position.irreversible_block());
    let internal = |error: &dyn std::fmt::Display| EncodeError::Internal(error.to_string());
    let mut encoder = BatchEncoder::new(network, range).map_err(|error| internal(&error))?;
    let mut stored = view.blocks(range);
    while let Some(next) = encoder.next() {
        let block = match stored.next().transpose()? {
            Some((number, block)) if number == next => block,
            _ => return Err(EncodeError::Missing(next)),
        };
        if ContentId::of(&block.bytes) != block.hash {
            return Err(StoreError::damaged_block(next, "its bytes do not have its hash").into());
        }
        let timestamp = (block.timestamp_ms > 0).then_some(UnixMillis(block.timestamp_ms));
        encoder
            .push(next, timestamp, &block.bytes)
            .map_err(|error| internal(&error))?;
    }
    let plain = encoder.finish();
    let body = match coding {
        ContentCoding::Identity => plain,
        ContentCoding::Zstd => zstd::bulk::compress(&plain, ZSTD_LEVEL)
            .map_err(|error| internal(&error))?
            .into(),
    };
    let is_final = irreversible.is_some_and(|highest| range.end() <= highest);
    let etag = is_final.then(|| etag_of(&body)).flatten();
    Ok(EncodedBatch { body, etag })
}

/// The strong entity tag of a body: of its bytes as they are sent, so each coding has its own.
fn etag_of(body: &[u8]) -> Option<HeaderValue> {
    let digest = Sha256::digest(body);
    HeaderValue::from_str(&format!("\"{}\"", hex::encode(&digest[..16]))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zstd_is_used_only_where_it_is_accepted() {
        for (accept, expected) in [
            ("zstd", ContentCoding::Zstd),
            ("gzip, ZSTD;q=0.5", ContentCoding::Zstd),
            ("zstd;q=0", ContentCoding::Identity),
            ("zstd;q=x", ContentCoding::Identity),
            ("gzip, br", ContentCoding::Identity),
            ("*", ContentCoding::Identity),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, accept.parse().unwrap());
            assert_eq!(ContentCoding::accepted(&headers), expected, "{accept}");
        }
        assert_eq!(
            ContentCoding::accepted(&HeaderMap::new()),
            ContentCoding::Identity
        );
    }
}
