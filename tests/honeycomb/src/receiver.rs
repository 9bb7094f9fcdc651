//! The connection of a honeycomb to one honeygraph node: `docs/protocol.md`, section 5, as the client.

mod outstanding;
mod session;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use honeygraph_chain::BlockNumber;
use tokio::sync::{Notify, watch};

use crate::messages::{Framing, Identity, MarkerForm};
use crate::reference_chain::{Head, ReferenceChain};
use session::{Session, SessionError};

/// First delay before connecting again.
const FIRST_DELAY: Duration = Duration::from_millis(50);

/// Longest delay before connecting again.
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// How a honeygraph node is fed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverSettings {
    /// Its ingest socket, `ws://host:4000/`.
    pub url: String,
    /// Who the honeycomb says it is.
    pub identity: Identity,
    /// Sent as `Authorization: Bearer ...` with the handshake.
    pub bearer_token: Option<String>,
    /// Where the first connection starts.
    pub start: Start,
    /// Where a later connection goes on.
    pub resume: Resume,
    /// How operations are put into frames.
    pub framing: Framing,
    /// How write markers are spelled.
    pub marker: MarkerForm,
    /// Operations that may be sent and not acknowledged yet.
    pub window: u64,
    /// Blocks that are sent before a checkpoint message is: it may arrive late.
    pub checkpoint_delay_blocks: u64,
}

impl ReceiverSettings {
    /// The usual settings for a node's socket.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            identity: Identity {
                source: "honeycomb".to_owned(),
                token: "DLUX".to_owned(),
            },
            bearer_token: None,
            start: Start::Beginning,
            resume: Resume::Unacknowledged,
            framing: Framing::default(),
            marker: MarkerForm::default(),
            window: 2_048,
            checkpoint_delay_blocks: 0,
        }
    }
}

/// Where the first connection starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first block that is kept.
    Beginning,
    /// After the head; the node asks for what it misses.
    Head,
}

/// Where a later connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// At the first block that was not acknowledged.
    Unacknowledged,
    /// After the head: what happened in between is a gap.
    Head,
}

/// Whether a node is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// It is.
    On,
    /// The connection is closed and not opened.
    Stopped,
}

/// How far a node is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Whether a session is open (identified).
    pub connected: bool,
    /// Sessions that were opened.
    pub sessions: u64,
    /// The first block that is not wholly sent.
    pub next_block: BlockNumber,
    /// Operations sent, repeated ones included.
    pub sent_operations: u64,
    /// Operations sent in this session that are not acknowledged.
    pub outstanding: u64,
    /// The highest acknowledged running index.
    pub acknowledged_index: Option<u64>,
    /// `request_missing` messages that were answered with operations.
    pub answered_requests: u64,
    /// Errors the node sent, and operations it did not take.
    pub refusals: u64,
    /// The last refusal or the reason of the last disconnection.
    pub last_error: Option<String>,
    /// `lastIndex` of the node's last `sync_status`.
    pub reported_index: Option<i64>,
}

/// The chain that all connections of a honeycomb read, and its head.
pub(crate) struct SharedChain {
    pub(crate) chain: RwLock<ReferenceChain>,
    pub(crate) head: watch::Sender<Head>,
    /// Some node took a block, or is no longer fed.
    pub(crate) taken: Notify,
}

impl SharedChain {
    pub(crate) fn read<T>(&self, read: impl FnOnce(&ReferenceChain) -> T) -> T {
        read(&self.chain.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Feeds one node until its task is aborted or every sender of `sending` is gone.
pub(crate) async fn run(
    chain: Arc<SharedChain>,
    settings: ReceiverSettings,
    mut sending: watch::Receiver<Sending>,
    progress: watch::Sender<Progress>,
) {
    let session = Session::new(chain, settings, progress);
    let mut delays = delays();
    loop {
        if sending.wait_for(|sending| *sending == Sending::On).await.is_err() {
            return;
        }
        let sessions = session.progress().sessions;
        let ended = session.run(&mut sending).await;
        session.disconnected(&ended);
        match ended {
            SessionError::Stopped => delays = self::delays(),
            error => {
                tracing::debug!(%error, "honeycomb lost a node");
                if session.progress().sessions > sessions {
                    delays = self::delays();
                }
                tokio::time::sleep(delays.next().unwrap_or(LONGEST_DELAY)).await;
            }
        }
    }
}

fn delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .with_jitter()
        .without_max_times()
        .build()
}
