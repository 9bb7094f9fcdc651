//! `GET /api/query/head`.

use std::sync::Arc;

use axum::extract::State;

use super::as_of::AsOf;
use crate::api::Node;
use crate::api::error::ApiError;
use crate::api::extract::Parameters;
use crate::api::standing;
use crate::wire::shapes::{ErrorAnswer, Head, MAIN_FORK};

/// The highest stored block of a fork; 0 while there is none.
#[utoipa::path(get, path = "/api/query/head", tag = "query",
    params(("fork" = Option<String>, Query, description = "`main`, or the hash of a fork's highest block")),
    responses(
        (status = 200, description = "The head", body = Head, headers(
            ("honeygraph-block" = u64, description = "The block after which the answer is true"),
            ("honeygraph-hash" = String, description = "Hash of that block")
        )),
        (status = 404, description = "No such fork", body = ErrorAnswer)
    )
)]
pub(super) async fn head(State(node): State<Arc<Node>>, parameters: Parameters) -> AsOf<Head> {
    let fork = parameters.text("fork").unwrap_or(MAIN_FORK);
    let status = node.status();
    let head = if fork == MAIN_FORK {
        Some(standing::head(&status).unwrap_or_default())
    } else {
        let mut tips = status.forks.iter().map(|fork| fork.tip);
        let tip = tips.find(|tip| tip.hash.to_string() == fork);
        tip.map(|tip| tip.number)
    };
    let not_found = || ApiError::NotFound("Fork not found; GET /api/sync/status lists them".to_owned());
    let answer = head.ok_or_else(not_found).map(|head| Head {
        head,
        fork: fork.to_owned(),
    });
    AsOf::position(status.position.as_ref(), answer)
}
