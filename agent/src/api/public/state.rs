//! `GET /api/query/state/{*path}`: the leaf or the nested object at a path.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use honeygraph_chain::{Path, PathKey};
use percent_encoding::percent_decode_str;

use super::nested::{Nested, segments_below};
use crate::api::Node;
use crate::api::error::ApiError;
use crate::api::extract::Parameters;
use crate::store::{StoreError, View};
use crate::wire::shapes::{ErrorAnswer, MAIN_FORK, StateAnswer};

const PREFIX: &str = "/api/query/state/";
/// Leaves of an answer where the caller does not say.
const DEFAULT_LEAVES: usize = 1_000;
/// Most leaves of an answer.
const MAX_LEAVES: usize = 10_000;
/// Bytes of keys and leaves after which an answer is cut (8 MiB).
const MAX_BYTES: usize = 8 << 20;

/// The state at a path, after the newest commit.
///
/// Segments are percent-decoded, so that `%2F` is a slash inside a segment. The answer says after which block it
/// is true, and whether leaves were left out.
#[utoipa::path(get, path = "/api/query/state/{*path}", tag = "query",
    params(
        ("path" = String, Path, description = "Segments with `/` between them"),
        ("limit" = Option<usize>, Query, description = "Most leaves, 1 to 10,000; 1,000 by default")
    ),
    responses(
        (status = 200, description = "What stands there", body = StateAnswer),
        (status = 400, description = "A parameter that cannot be", body = ErrorAnswer),
        (status = 404, description = "Nothing stands there", body = ErrorAnswer)
    )
)]
pub(super) async fn state(
    State(node): State<Arc<Node>>,
    parameters: Parameters,
    uri: Uri,
) -> Result<Json<StateAnswer>, ApiError> {
    let path = path_of(&uri)?;
    let limit = parameters.count("limit", DEFAULT_LEAVES, MAX_LEAVES)?;
    node.read(move |view| read(view, &path, limit)).await.map(Json)
}

/// The path, segment by segment, out of the address as it was sent.
fn path_of(uri: &Uri) -> Result<Path, ApiError> {
    let raw = uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let segments = raw.split('/').map(|segment| {
        let decoded = percent_decode_str(segment).decode_utf8();
        let decoded =
            decoded.map_err(|_| ApiError::parameter("path", segment, "UTF-8 once it is percent-decoded"))?;
        Ok(decoded.into_owned())
    });
    segments.collect::<Result<_, ApiError>>().map(Path)
}

fn read(view: &View, path: &Path, limit: usize) -> Result<StateAnswer, ApiError> {
    let key = PathKey::from(path);
    let not_found = || ApiError::NotFound(format!("Nothing stands at {}", shown(path)));
    let position = view.position()?.ok_or_else(not_found)?;
    let mut nested = Nested::default();
    let mut truncated = false;
    let mut bytes = 0_usize;
    for (count, row) in view.leaves(&key).enumerate() {
        let (leaf_key, leaf) = row?;
        bytes = bytes.saturating_add(leaf_key.as_bytes().len() + leaf.value().to_canonical().len());
        if count == limit || bytes > MAX_BYTES {
            truncated = true;
            break;
        }
        let below = segments_below(&leaf_key, path.0.len())
            .ok_or_else(|| StoreError::damaged("key of a leaf", hex::encode(leaf_key.as_bytes())))?;
        truncated |= nested.add(&below, leaf.value().clone()).is_err();
    }
    let data = match nested.into_value() {
        Some(data) => data,
        // There is something, but none of it fits.
        None if truncated => honeygraph_chain::JsonValue::object(Vec::new()),
        None => return Err(not_found()),
    };
    Ok(StateAnswer {
        path: path.to_string(),
        fork: MAIN_FORK.to_owned(),
        block_num: position.state_height,
        block_hash: position.state_block_hash,
        truncated,
        data,
    })
}

/// A path as canonical JSON, which shows where segments end.
fn shown(path: &Path) -> String {
    let mut text = Vec::new();
    path.write_canonical(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_one_by_one() {
        let uri: Uri = "/api/query/state/a%2Fb/c%20d?limit=1".parse().unwrap();
        assert_eq!(
            path_of(&uri).unwrap(),
            Path(vec!["a/b".to_owned(), "c d".to_owned()])
        );
        let bad: Uri = "/api/query/state/%ff".parse().unwrap();
        assert!(path_of(&bad).is_err());
    }
}
