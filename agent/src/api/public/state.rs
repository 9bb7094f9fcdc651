//! `GET /api/query/state/{*path}`: the leaf or the nested object at a path.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use honeygraph_chain::{Path, PathKey};
use percent_encoding::percent_decode_str;

use super::as_of::AsOf;
use super::nested::{Nested, segments_below};
use crate::api::Node;
use crate::api::error::{ApiError, shown};
use crate::api::extract::Parameters;
use crate::store::{Position, StoreError, View};
use crate::wire::shapes::{ErrorAnswer, MAIN_FORK, StateAnswer};
use honeygraph_chain::path::MAX_KEY_BYTES;

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
        (status = 200, description = "What stands there", body = StateAnswer, headers(
            ("honeygraph-block" = u64, description = "The block after which the answer is true"),
            ("honeygraph-hash" = String, description = "Hash of that block")
        )),
        (status = 400, description = "A parameter that cannot be", body = ErrorAnswer),
        (status = 404, description = "Nothing stands there", body = ErrorAnswer)
    )
)]
pub(super) async fn state(
    State(node): State<Arc<Node>>,
    parameters: Parameters,
    uri: Uri,
) -> Result<Response, ApiError> {
    let path = path_of(&uri)?;
    let limit = parameters.count("limit", DEFAULT_LEAVES, MAX_LEAVES)?;
    let answer = AsOf::read(&node, move |view, position| read(view, position, &path, limit)).await?;
    node.work.hold(answer.into_response())
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

fn read(
    view: &View,
    position: Option<&Position>,
    path: &Path,
    limit: usize,
) -> Result<StateAnswer, ApiError> {
    let key = PathKey::from(path);
    let not_found = || ApiError::NotFound(format!("Nothing stands at {}", shown(&canonical(path))));
    if key.as_bytes().len() > MAX_KEY_BYTES {
        return Err(not_found());
    }
    let position = position.ok_or_else(not_found)?;
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
fn canonical(path: &Path) -> String {
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

    #[test]
    fn an_answer_has_bounds_whatever_the_state_holds() {
        use honeygraph_chain::JsonValue;
        use honeygraph_chain::state::Leaf;

        use crate::test_chain::{Home, settings};

        let home = Home::new();
        let mut replica = home.started(settings());
        let leaf = |value| Leaf::try_from(value).unwrap();
        let mut transaction = replica.writer().begin();
        let deep = Path([vec!["deep".to_owned()], vec![String::new(); 30_000]].concat());
        transaction.set_leaf(&PathKey::from(&deep), Some(&leaf(JsonValue::Null)));
        for part in 0..3_u32 {
            let wide = Path(vec!["wide".to_owned(), part.to_string()]);
            let text = JsonValue::String("x".repeat(5 << 20));
            transaction.set_leaf(&PathKey::from(&wide), Some(&leaf(text)));
        }
        transaction.commit().unwrap();
        let view = replica.store().view();
        let position = view.position().unwrap();
        let read = |path: &str| read(&view, position.as_ref(), &Path::from_slashed(path), 10).unwrap();
        let deep = read("deep");
        assert_eq!((deep.truncated, deep.data), (true, JsonValue::object(Vec::new())));
        let wide = read("wide");
        assert!(wide.truncated);
        assert!(wide.data.to_canonical().len() < MAX_BYTES);
        assert!(wide.data.member("0").is_some() && wide.data.member("1").is_none());
        let one = read("wide/1");
        assert!(!one.truncated);
    }
}
