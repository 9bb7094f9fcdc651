//! Every error that the API answers with.

use std::sync::Arc;

use axum::Json;
use axum::http::header::{CONTENT_RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use honeygraph_chain::BlockNumber;

use crate::store::StoreError;
use crate::sync::NoConsensus;
use crate::wire::shapes::{Agreement, BlockErrorAnswer, ErrorAnswer};

/// Bytes of a refused value that an answer repeats.
const SHOWN_BYTES: usize = 128;

/// Why a call is not answered with what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// A parameter that cannot be.
    #[error("parameter `{name}`: `{}` is not allowed; it must be {allowed}", shown(.value))]
    Parameter {
        name: &'static str,
        value: String,
        allowed: String,
    },
    /// A parameter that must be there.
    #[error("parameter `{name}` is missing; it must be {allowed}")]
    ParameterMissing {
        name: &'static str,
        allowed: &'static str,
    },
    /// A body that cannot be.
    #[error("{reason}")]
    Body { status: StatusCode, reason: String },
    /// A block that is not here.
    #[error("Block not found")]
    BlockNotFound {
        block: BlockNumber,
        fork: Option<String>,
    },
    /// Voters that do not agree, or are too few.
    #[error("No consensus found")]
    NoConsensus { block: BlockNumber, why: NoConsensus },
    /// Something else that is not here.
    #[error("{0}")]
    NotFound(String),
    /// A path that no call has.
    #[error("no such call; GET /openapi.json lists all")]
    UnknownRoute,
    /// A method that the call does not have.
    #[error("this call has another method; GET /openapi.json lists all")]
    WrongMethod,
    /// No key, or a wrong one.
    #[error("this call needs `Authorization: Bearer` with a key of this node (on the admin port: its token)")]
    Unauthorized,
    /// No key is configured, and the caller is not this machine itself.
    #[error("this node has no key configured, so this call answers only to direct loopback; set {setting}")]
    LoopbackOnly { setting: &'static str },
    /// What was asked for cannot be done as things stand.
    #[error("{0}")]
    Conflict(String),
    /// A range outside the document.
    #[error("the range lies outside the document's {length} bytes")]
    RangeNotSatisfiable { length: u64 },
    /// The address sends too many requests.
    #[error("too many requests from this address; try again in {retry_after_seconds} s")]
    RateLimited { retry_after_seconds: u64 },
    /// All places are taken.
    #[error("too many requests at once; try again in a second")]
    Busy,
    /// The time for one request is over.
    #[error("not done within {milliseconds} ms; ask for less")]
    TimedOut { milliseconds: u128 },
    /// Questions are not handed on to Dgraph here.
    #[error("this node hands no questions on to Dgraph; DGRAPH_QUERY=read-only lets it")]
    DqlOff,
    /// The node has no Dgraph.
    #[error("this node has no Dgraph; DGRAPH_ALPHA names one")]
    NoDgraph,
    /// Dgraph does not answer.
    #[error("{0}")]
    DgraphAway(String),
    /// A part of the node that has stopped.
    #[error("{0}")]
    Stopped(String),
    /// The store failed. What failed is for the log alone.
    #[error("this node cannot read what it stored; its log says why")]
    Store(Arc<StoreError>),
    /// Something that must not be. What it is, is for the log alone.
    #[error("internal error; this node's log says which")]
    Internal(String),
}

impl ApiError {
    pub(crate) fn parameter(
        name: &'static str,
        value: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        Self::Parameter {
            name,
            value: value.into(),
            allowed: allowed.into(),
        }
    }

    pub(crate) const fn block_not_found(block: BlockNumber) -> Self {
        Self::BlockNotFound { block, fork: None }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::Parameter { .. } | Self::ParameterMissing { .. } => StatusCode::BAD_REQUEST,
            Self::Body { status, .. } => *status,
            Self::BlockNotFound { .. }
            | Self::NoConsensus { .. }
            | Self::NotFound(_)
            | Self::DqlOff
            | Self::NoDgraph
            | Self::UnknownRoute => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::LoopbackOnly { .. } => StatusCode::FORBIDDEN,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::RangeNotSatisfiable { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy | Self::TimedOut { .. } | Self::DgraphAway(_) | Self::Stopped(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Store(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match &self {
            Self::Store(error) => tracing::error!(%error, "a call failed"),
            Self::Internal(reason) => tracing::error!(reason, "a call failed"),
            _ => {}
        }
        let status = self.status();
        let error = self.to_string();
        let mut response = match &self {
            Self::BlockNotFound { block, fork } => {
                let fork = fork.clone();
                (
                    status,
                    Json(BlockErrorAnswer {
                        error,
                        block_num: *block,
                        fork,
                        agreement: None,
                    }),
                )
                    .into_response()
            }
            Self::NoConsensus { block, why } => (
                status,
                Json(BlockErrorAnswer {
                    error,
                    block_num: *block,
                    fork: None,
                    agreement: Some(match why {
                        NoConsensus::Conflict => Agreement::Conflict,
                        NoConsensus::Undecided => Agreement::Undecided,
                    }),
                }),
            )
                .into_response(),
            _ => (status, Json(ErrorAnswer { error })).into_response(),
        };
        let headers = response.headers_mut();
        match self {
            Self::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::RateLimited { retry_after_seconds } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(retry_after_seconds));
            }
            Self::Busy | Self::TimedOut { .. } | Self::DgraphAway(_) | Self::Stopped(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::RangeNotSatisfiable { length } => {
                if let Ok(range) = HeaderValue::from_str(&format!("bytes */{length}")) {
                    headers.insert(CONTENT_RANGE, range);
                }
            }
            _ => {}
        }
        response
    }
}

/// Answers a path that no call has.
pub(crate) async fn unknown_route() -> ApiError {
    ApiError::UnknownRoute
}

/// Answers a method that a call does not have.
pub(crate) async fn wrong_method() -> ApiError {
    ApiError::WrongMethod
}

/// The beginning of a refused value.
pub(crate) fn shown(value: &str) -> String {
    let mut end = value.len().min(SHOWN_BYTES);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let rest = if end < value.len() { "..." } else { "" };
    format!("{}{rest}", &value[..end])
}
