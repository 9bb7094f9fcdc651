//! Questions of other people, handed on to Dgraph: in DQL, reading only, bounded in time and bytes.
//!
//! They go to Dgraph as requests that are marked as reading only and carry no mutation, so that whatever their
//! text says nothing is written. Each is asked together with the cursor, of one snapshot, so that the block at
//! which its answer is true is exact.

use std::collections::BTreeMap;
use std::time::Duration;

use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::{BlockNumber, ContentId};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::timeout;

use super::client::{DgraphClient, DgraphError, DgraphSettings, Query, Reading, SettingsError};
use super::status::ProjectionStatus;

/// What a question may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassThroughLimits {
    /// Longest question with its variables, in bytes.
    pub body_bytes: usize,
    /// Largest answer, in bytes.
    pub answer_bytes: usize,
    /// Time for a question.
    pub timeout: Duration,
    /// Questions under way at once, at least 1.
    pub concurrent: usize,
}

/// Hands questions on. Has connections of its own, so that they do not stand in the way of writes.
#[derive(Debug, Clone)]
pub struct PassThrough {
    client: DgraphClient,
    status: watch::Receiver<ProjectionStatus>,
    limits: PassThroughLimits,
}

/// What Dgraph answered, and when that was true.
#[derive(Debug)]
pub struct Passed {
    /// The block up to which Dgraph had blocks and operations.
    pub applied: BlockReference,
    /// The block after which Dgraph's state was true; none while it is replaced by a newer one.
    pub state_block: Option<BlockNumber>,
    /// Dgraph's answer.
    pub data: Box<RawValue>,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PassThroughError {
    /// Dgraph holds nothing of this network, or it is not known yet.
    #[error("dgraph holds no cursor of this network")]
    NoCursor,
    /// It took too long.
    #[error("dgraph did not answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// Dgraph said no, or nothing.
    #[error(transparent)]
    Dgraph(#[from] DgraphError),
}

impl PassThrough {
    /// Hands questions on to this Dgraph.
    pub fn new(
        mut settings: DgraphSettings,
        limits: PassThroughLimits,
        status: watch::Receiver<ProjectionStatus>,
    ) -> Result<Self, SettingsError> {
        settings.max_answer_bytes = limits.answer_bytes;
        settings.timeouts.query = limits.timeout;
        Ok(Self {
            client: DgraphClient::new(settings)?,
            status,
            limits,
        })
    }

    /// What a question may cost.
    pub const fn limits(&self) -> PassThroughLimits {
        self.limits
    }

    /// Asks. Variables are named with their `$`.
    pub async fn ask(
        &self,
        text: String,
        variables: BTreeMap<String, String>,
    ) -> Result<Passed, PassThroughError> {
        let cursor_query = self.status.borrow().cursor_query.clone();
        let cursor_query = cursor_query.ok_or(PassThroughError::NoCursor)?;
        let query = variables
            .into_iter()
            .fold(Query::new(text), |query, (name, value)| query.with(&name, value));
        let queries = [cursor_query, query];
        let asked = self.client.query_together(&queries, Reading::Strict);
        let [cursor, answer] = timeout(self.limits.timeout, asked)
            .await
            .map_err(|_| PassThroughError::TimedOut(self.limits.timeout))??;
        let CursorAnswer { cursor } = cursor.read()?;
        let cursor = cursor.into_iter().next().ok_or(PassThroughError::NoCursor)?;
        Ok(Passed {
            applied: BlockReference {
                number: cursor.applied_block,
                hash: cursor.applied_hash,
            },
            state_block: cursor.state_block,
            data: answer.read()?,
        })
    }
}

/// The answer to [`ProjectionStatus::cursor_query`].
#[derive(Debug, Deserialize)]
struct CursorAnswer {
    #[serde(default)]
    cursor: Vec<CursorNode>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CursorNode {
    applied_block: BlockNumber,
    applied_hash: ContentId,
    state_block: Option<BlockNumber>,
}
