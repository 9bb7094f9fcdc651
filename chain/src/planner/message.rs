//! What goes into the planner and what comes out.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::block_number::{BlockNumber, BlockRange};
use crate::interval::IntervalSet;
use crate::peer::{LocalFault, PeerFault, PeerId, PeerScore};

/// One request; never used twice by the same planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// How a peer is asked for a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FetchKind {
    /// Many blocks in one answer.
    Batch,
    /// One question a block, in order: older peers.
    Single,
}

/// What a peer can serve, by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerProfile {
    /// The blocks it has, from its base to its head; nothing while it has none.
    pub available: Option<BlockRange>,
    /// How it is asked.
    pub kind: FetchKind,
}

/// Why a fetch did not bring everything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchFault {
    /// The peer's doing; costs it score.
    #[error(transparent)]
    Peer(#[from] PeerFault),
    /// Our own doing; costs it nothing.
    #[error(transparent)]
    Local(#[from] LocalFault),
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The blocks to fetch are these and no others. Blocks in flight or buffered stay in the set until they
    /// are committed.
    WantedChanged {
        /// Every block that is not committed and should be.
        missing: IntervalSet,
        /// Blocks from here on, above the commit front, come first, then the gaps below.
        near_from: BlockNumber,
        /// Blocks at the head that are wanted before all others, although they cannot be applied yet.
        head_first: Option<BlockRange>,
    },
    /// Everything from `near_from` up to and including this block is committed.
    CommitFrontMoved {
        /// The last committed block.
        front: BlockNumber,
    },
    /// A peer is there, or what it says of itself has changed.
    PeerSeen {
        /// Its id.
        peer: PeerId,
        /// What it can serve.
        profile: PeerProfile,
        /// What was stored of it; ignored for a peer the planner knows.
        score: PeerScore,
    },
    /// A peer is gone.
    PeerRemoved {
        /// Its id.
        peer: PeerId,
    },
    /// A peer did something wrong outside of a fetch.
    PeerFaulted {
        /// Its id.
        peer: PeerId,
        /// What.
        fault: PeerFault,
    },
    /// A fetch brought every block, in bounds and linked to each other.
    FetchSucceeded {
        /// Which.
        request: RequestId,
        /// Bytes received.
        bytes: u64,
        /// From sending the request to the last byte.
        elapsed: Duration,
    },
    /// A fetch brought a valid prefix of its range, or all of it in an answer that did not end as it must.
    FetchPartly {
        /// Which.
        request: RequestId,
        /// Blocks of the prefix; all that were asked for where only the end of the answer is missing.
        blocks: u64,
        /// Bytes received.
        bytes: u64,
        /// From sending the request to the last byte.
        elapsed: Duration,
        /// Why there is no more, or what is wrong with the end; nothing if the answer was cut at the byte limit,
        /// as agreed.
        fault: Option<FetchFault>,
    },
    /// A fetch brought nothing.
    FetchFailed {
        /// Which.
        request: RequestId,
        /// Why.
        fault: FetchFault,
    },
    /// Buffered blocks were verified and handed over to be committed.
    RangeVerified {
        /// Which.
        range: BlockRange,
    },
    /// Blocks are committed, from wherever they came.
    RangeCommitted {
        /// Which.
        range: BlockRange,
    },
    /// Fetched blocks turned out wrong and were thrown away; they are to be fetched again.
    RangeRejected {
        /// Which.
        range: BlockRange,
        /// Whose fault it is; empty while that is not known.
        blamed: Vec<PeerId>,
        /// What is wrong with them.
        fault: PeerFault,
    },
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask a peer.
    Fetch(FetchOrder),
    /// Give a request up; report nothing about it.
    Cancel {
        /// Which.
        request: RequestId,
    },
    /// Put these blocks of an answer into the re-ordering buffer; the rest of it is not needed.
    Keep {
        /// Which answer.
        request: RequestId,
        /// Which of its blocks.
        range: BlockRange,
    },
    /// Throw these blocks out of the re-ordering buffer: they are no longer needed.
    Discard {
        /// Which.
        range: BlockRange,
    },
}

/// A request to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOrder {
    /// Its id.
    pub request: RequestId,
    /// Whom to ask.
    pub peer: PeerId,
    /// For which blocks.
    pub range: BlockRange,
    /// How.
    pub kind: FetchKind,
    /// When to give up, from sending.
    pub timeout: Duration,
    /// Where to stop reading: memory is set aside for so many bytes of blocks. With a valid prefix by then it is
    /// [`FetchPartly`](Event::FetchPartly) without a fault, else [`LocalFault::LimitTooLow`].
    pub byte_limit: u64,
}

/// Why a peer is not asked for a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AvoidReason {
    /// Its answer was bad.
    BadAnswer,
    /// It did not have the range.
    NotFound,
}

/// A peer that is not asked for a range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvoidedPeer {
    /// Its id.
    pub peer: PeerId,
    /// Until when.
    pub until: Duration,
    /// Why.
    pub reason: AvoidReason,
}

/// What a waiting range waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryHold {
    /// Its back-off, or a peer that was not there when it failed.
    BackOff,
    /// The end of its quarantine, or such a peer.
    Quarantine,
}

/// A range that failed and is to be tried again, as it is kept across restarts. Times are Unix times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryEntry {
    /// Which blocks.
    pub range: BlockRange,
    /// Failed attempts so far.
    pub attempts: u32,
    /// When to try again.
    pub not_before: Duration,
    /// What it waits for.
    pub hold: RetryHold,
    /// Whom not to ask.
    pub avoid: Vec<AvoidedPeer>,
}
