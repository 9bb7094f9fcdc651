//! Answers of the query API, which all say after which block they are true.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use honeygraph_chain::{BlockNumber, ContentId};
use serde::Serialize;

use crate::api::Node;
use crate::api::error::ApiError;
use crate::api::work::Weight;
use crate::store::{Position, View};

/// Names the block after which an answer is true.
pub(super) const BLOCK: HeaderName = HeaderName::from_static("honeygraph-block");
/// Names that block's hash.
pub(super) const HASH: HeaderName = HeaderName::from_static("honeygraph-hash");

/// An answer, and the block after which it is true. That nothing was found is true after a block, too.
pub(super) struct AsOf<T> {
    block: Option<(BlockNumber, Option<ContentId>)>,
    answer: Result<Json<T>, ApiError>,
}

impl<T> AsOf<T> {
    /// An answer that is true where a replica stands.
    pub(super) fn position(position: Option<&Position>, answer: Result<T, ApiError>) -> Self {
        Self {
            block: position.map(|position| (position.state_height, position.state_block_hash)),
            answer: answer.map(Json),
        }
    }

    /// An answer that is true after a block.
    pub(super) fn block(number: BlockNumber, hash: ContentId, answer: T) -> Self {
        Self {
            block: Some((number, Some(hash))),
            answer: Ok(Json(answer)),
        }
    }

    /// Reads megabytes of the store, and where it stands in the same moment.
    pub(super) async fn read(
        node: &Node,
        read: impl FnOnce(&View, Option<&Position>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<Self, ApiError>
    where
        T: Send + 'static,
    {
        node.read_with(Weight::Heavy, move |view| {
            let position = view.position()?;
            let answer = read(view, position.as_ref());
            Ok(Self::position(position.as_ref(), answer))
        })
        .await
    }
}

impl<T: Serialize> IntoResponse for AsOf<T> {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        if let Some((number, hash)) = self.block {
            headers.insert(BLOCK, HeaderValue::from(number.get()));
            let hash = hash.and_then(|hash| HeaderValue::from_str(&hash.to_string()).ok());
            if let Some(hash) = hash {
                headers.insert(HASH, hash);
            }
        }
        (headers, self.answer).into_response()
    }
}
