//! `GET|POST /api/query/dql`: questions in Dgraph's own language, which change nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use honeygraph_chain::{BlockNumber, ContentId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::as_of::AsOf;
use crate::api::Node;
use crate::api::authorize::KeyHolder;
use crate::api::error::ApiError;
use crate::api::extract::{JsonBody, Parameters};
use crate::api::limits::hold_place;
use crate::dgraph::client::DgraphError;
use crate::dgraph::pass_through::{PassThrough, PassThroughError, Passed};
use crate::wire::shapes::ErrorAnswer;

/// Most variables of a question.
const MAX_VARIABLES: usize = 100;

/// A question.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DqlQuestion {
    /// The question, in DQL.
    query: String,
    /// Values of its variables, by their names with the `$`.
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

/// What Dgraph answered, and the block at which that was true.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct DqlAnswer {
    /// The block up to which Dgraph had blocks and operations.
    #[schema(value_type = u64)]
    applied_block: BlockNumber,
    /// Hash of that block.
    #[schema(value_type = String)]
    applied_hash: ContentId,
    /// The block after which Dgraph's state was true, behind `appliedBlock` while the node catches up; absent while
    /// it is replaced by a newer one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    state_block: Option<BlockNumber>,
    /// Dgraph's answer: a member for each block of the question.
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
}

/// How a question is answered, whichever way it was asked.
#[derive(utoipa::IntoResponses)]
#[allow(dead_code, reason = "it describes answers; none is made of it")]
enum DqlResponses {
    /// What Dgraph answered
    #[response(status = 200, headers(
        ("honeygraph-block" = u64, description = "As `appliedBlock`"),
        ("honeygraph-hash" = String, description = "As `appliedHash`")
    ))]
    Answered(DqlAnswer),
    /// Not a question that Dgraph answers, or its answer is too large
    #[response(status = 400)]
    Refused(ErrorAnswer),
    /// No key, or a wrong one
    #[response(status = 401)]
    NoKey(ErrorAnswer),
    /// This node hands no questions on
    #[response(status = 404)]
    Off(ErrorAnswer),
    /// The question is too long
    #[response(status = 413)]
    TooLong(ErrorAnswer),
    /// Dgraph does not answer, or too many are asking
    #[response(status = 503)]
    Away(ErrorAnswer),
}

/// Who may ask: a holder of an API key, on a node that hands questions on.
pub(super) struct Asker(PassThrough);

impl FromRequestParts<Arc<Node>> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, ApiError> {
        let pass_through = node
            .dgraph
            .as_ref()
            .and_then(|dgraph| dgraph.pass_through.clone());
        let pass_through = pass_through.ok_or(ApiError::DqlOff)?;
        KeyHolder::from_request_parts(parts, node).await?;
        Ok(Self(pass_through))
    }
}

/// Asks Dgraph in DQL. Needs a key, also from loopback. Nothing can be written.
///
/// Off unless the node is told to: `DGRAPH_QUERY=read-only`. The answer says at which block Dgraph stood.
#[utoipa::path(get, path = "/api/query/dql", tag = "query", security(("api_key" = [])),
    params(
        ("query" = String, Query, description = "The question, in DQL"),
        ("variables" = Option<String>, Query, description = "A JSON object with the values of its variables, by their names with the `$`")
    ),
    responses(DqlResponses)
)]
pub(super) async fn ask_by_address(
    Asker(pass_through): Asker,
    State(node): State<Arc<Node>>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let text = parameters.text("query").ok_or(ApiError::ParameterMissing {
        name: "query",
        allowed: "a question in DQL",
    })?;
    let variables = parameters.text("variables");
    let length = text.len() + variables.map_or(0, str::len);
    if length > pass_through.limits().body_bytes {
        return Err(ApiError::Body {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            reason: format!(
                "the question has more than {} bytes",
                pass_through.limits().body_bytes
            ),
        });
    }
    let variables = variables.map(serde_json::from_str).transpose().map_err(|_| {
        let allowed = "a JSON object of texts, by the variables' names";
        ApiError::parameter("variables", variables.unwrap_or_default(), allowed)
    })?;
    let question = DqlQuestion {
        query: text.to_owned(),
        variables: variables.unwrap_or_default(),
    };
    ask(&node, &pass_through, question).await
}

/// The same, for long questions.
#[utoipa::path(post, path = "/api/query/dql", tag = "query", security(("api_key" = [])),
    request_body = DqlQuestion,
    responses(DqlResponses)
)]
pub(super) async fn ask_by_body(
    Asker(pass_through): Asker,
    State(node): State<Arc<Node>>,
    JsonBody(question): JsonBody<DqlQuestion>,
) -> Result<Response, ApiError> {
    ask(&node, &pass_through, question).await
}

async fn ask(node: &Node, pass_through: &PassThrough, question: DqlQuestion) -> Result<Response, ApiError> {
    if question.query.trim().is_empty() {
        return Err(ApiError::parameter("query", question.query, "a question in DQL"));
    }
    if let Some(name) = question.variables.keys().find(|name| !name.starts_with('$')) {
        let allowed = "named with a `$` before each name";
        return Err(ApiError::parameter("variables", name, allowed));
    }
    if question.variables.len() > MAX_VARIABLES {
        let count = question.variables.len().to_string();
        return Err(ApiError::parameter(
            "variables",
            count,
            format!("at most {MAX_VARIABLES}"),
        ));
    }
    let place = Arc::clone(&node.dql_places)
        .try_acquire_owned()
        .map_err(|_| ApiError::Busy)?;
    let passed = pass_through.ask(question.query, question.variables).await;
    let Passed {
        applied,
        state_block,
        data,
    } = passed.map_err(|error| refused(&error, pass_through))?;
    let answer = DqlAnswer {
        applied_block: applied.number,
        applied_hash: applied.hash,
        state_block,
        data,
    };
    let answer = AsOf::block(applied.number, applied.hash, answer);
    Ok(hold_place(answer.into_response(), place))
}

/// What is wrong with a question is the caller's to mend; what is wrong with Dgraph is not, and passes.
fn refused(error: &PassThroughError, pass_through: &PassThrough) -> ApiError {
    let bad_request = |reason: String| ApiError::Body {
        status: StatusCode::BAD_REQUEST,
        reason,
    };
    match error {
        PassThroughError::Dgraph(DgraphError::Refused { message, .. }) => {
            bad_request(format!("Dgraph refused the question: {message}"))
        }
        PassThroughError::Dgraph(DgraphError::AnswerTooLarge { limit, .. }) => bad_request(format!(
            "the answer has more than {limit} bytes; ask for less, with `first:` or fewer predicates"
        )),
        PassThroughError::TimedOut(_) | PassThroughError::Dgraph(DgraphError::TimedOut { .. }) => {
            ApiError::TimedOut {
                milliseconds: pass_through.limits().timeout.as_millis(),
            }
        }
        PassThroughError::NoCursor => ApiError::DgraphAway(
            "Dgraph holds no blocks of this network yet; `dgraph` in GET /api/sync/status says how far it is"
                .to_owned(),
        ),
        PassThroughError::Dgraph(error) => {
            tracing::warn!(%error, "a DQL question was not answered");
            ApiError::DgraphAway(format!(
                "{}; the other GET /api/query calls answer from the log, and `dgraph` in GET /api/sync/status says \
                 when it is back",
                error.without_endpoint()
            ))
        }
    }
}
