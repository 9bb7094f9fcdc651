//! Whose fault a failure is.

/// Something a peer did wrong; costs it score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PeerFault {
    /// No connection, or it broke.
    #[error("unreachable")]
    Unreachable,
    /// No complete answer in time.
    #[error("timed out")]
    TimedOut,
    /// A 5xx answer.
    #[error("server error {status}")]
    ServerError {
        /// HTTP status.
        status: u16,
    },
    /// A 429 answer.
    #[error("rate limited")]
    RateLimited {
        /// Seconds it asked to wait, capped by the reader.
        retry_after_seconds: u32,
    },
    /// Another status than the call allows.
    #[error("unexpected status {status}")]
    UnexpectedStatus {
        /// HTTP status.
        status: u16,
    },
    /// It does not have what it advertised or was asked for.
    #[error("does not have the range")]
    NotFound,
    /// Bytes that are not of the format.
    #[error("malformed answer")]
    Malformed,
    /// More bytes than were allowed.
    #[error("answer too large")]
    TooLarge,
    /// Fewer blocks than asked for.
    #[error("short answer")]
    ShortAnswer,
    /// A block with another number than was asked for.
    #[error("wrong block number")]
    WrongNumber,
    /// A block that does not link to the one before.
    #[error("broken link")]
    BrokenLink,
    /// Content that does not have the hash it must have.
    #[error("wrong hash")]
    WrongHash,
    /// A block that the state rules refuse.
    #[error("breaks the state rules")]
    BreaksState,
    /// Blocks that a checkpoint proves to be false.
    #[error("contradicts a checkpoint")]
    CheckpointMismatch,
}

/// Something that is our own doing; costs no peer anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalFault {
    /// Our request was taken back: shutdown, a hedge that lost, a range no longer wanted.
    #[error("cancelled")]
    Cancelled,
    /// The address is one that we do not connect to.
    #[error("address refused: {0}")]
    AddressRefused(String),
    /// A block is larger than the request had room for. The next attempt has room for twice as much.
    #[error("the block is larger than the {limit} bytes that the request had room for")]
    LimitTooLow {
        /// Bytes that the request had room for.
        limit: u64,
    },
    /// Our disk, our memory, our bug.
    #[error("local failure: {0}")]
    Internal(String),
}
