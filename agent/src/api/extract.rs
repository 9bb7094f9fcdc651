//! Reads parameters and bodies; what is wrong is a 400 that names the parameter, the value and what is allowed.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use honeygraph_chain::{BlockNumber, BlockRange};
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// What a block number may be.
const BLOCK_NUMBER: &str = "a whole number from 0 to 9007199254740991";

/// Reads a block number.
pub(crate) fn block_number(name: &'static str, text: &str) -> Result<BlockNumber, ApiError> {
    // `u64::from_str` takes a plus sign, which no number here has.
    let number = (!text.starts_with('+')).then(|| text.parse().ok()).flatten();
    number.ok_or_else(|| ApiError::parameter(name, text, BLOCK_NUMBER))
}

/// The parameters behind `?`. Of doubled ones the last counts, unknown ones are ignored.
#[derive(Debug)]
pub(crate) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// A text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A block number.
    pub(crate) fn block(&self, name: &'static str) -> Result<Option<BlockNumber>, ApiError> {
        self.text(name).map(|text| block_number(name, text)).transpose()
    }

    /// A range that must be given, `from` and `to`.
    pub(crate) fn required_range(&self) -> Result<BlockRange, ApiError> {
        let missing = |name| ApiError::ParameterMissing {
            name,
            allowed: BLOCK_NUMBER,
        };
        let from = self.block("from")?.ok_or_else(|| missing("from"))?;
        let to = self.block("to")?.ok_or_else(|| missing("to"))?;
        range(from, to)
    }

    /// A range of which either end may be left out.
    pub(crate) fn range_within(&self, whole: BlockRange) -> Result<BlockRange, ApiError> {
        let from = self.block("from")?;
        let to = self.block("to")?;
        match (from, to) {
            (Some(from), Some(to)) => range(from, to),
            (Some(from), None) => range(from, whole.end().max(from)),
            (None, Some(to)) => range(whole.start().min(to), to),
            (None, None) => Ok(whole),
        }
    }

    /// A number with a default and bounds.
    pub(crate) fn count(&self, name: &'static str, default: usize, most: usize) -> Result<usize, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        let count = text.parse().ok().filter(|count| (1..=most).contains(count));
        count.ok_or_else(|| ApiError::parameter(name, text, format!("a whole number from 1 to {most}")))
    }
}

fn range(from: BlockNumber, to: BlockNumber) -> Result<BlockRange, ApiError> {
    BlockRange::new(from, to)
        .map_err(|_| ApiError::parameter("to", to.to_string(), format!("at least `from`, which is {from}")))
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(
            url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        ))
    }
}

/// The one parameter in the path.
#[derive(Debug)]
pub(crate) struct PathText(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let parameters = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::parameter("path", parts.uri.path(), "UTF-8 once it is percent-decoded"))?;
        let mut values = parameters.iter().map(|(_, value)| value.to_owned());
        values
            .next()
            .map(Self)
            .ok_or_else(|| ApiError::Internal("a path without its parameter".to_owned()))
    }
}

/// The block number in the path.
#[derive(Debug)]
pub(crate) struct PathBlock(pub(crate) BlockNumber);

impl<S: Send + Sync> FromRequestParts<S> for PathBlock {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let PathText(text) = PathText::from_request_parts(parts, state).await?;
        block_number("block", &text).map(Self)
    }
}

/// A body of JSON, no longer than the limit.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(refused(&rejection)),
        }
    }
}

fn refused(rejection: &JsonRejection) -> ApiError {
    // Well-formed JSON of another shape is a bad request here, as it is for the JavaScript honeygraph.
    let status = match rejection.status() {
        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        status => status,
    };
    ApiError::Body {
        status,
        reason: rejection.body_text(),
    }
}
