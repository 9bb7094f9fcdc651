//! Labels, all with a bounded set of values.

use honeygraph_chain::peer::PeerFault;
use prometheus_client::encoding::EncodeLabelSet;

use crate::dgraph::client::DgraphError;

/// A peer as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerLabel<'a> {
    /// One that our own configuration names, by that name.
    Configured(&'a str),
    /// Any other: strangers do not choose label values.
    Discovered,
}

/// How a request to a peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// With a good answer.
    Success,
    /// With a fault of the peer.
    Fault(PeerFault),
    /// We gave it up: another peer was faster.
    Cancelled,
    /// With a fault of our own.
    LocalFault,
}

impl RequestOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Cancelled => "cancelled",
            Self::LocalFault => "local_fault",
            Self::Fault(fault) => match fault {
                PeerFault::Unreachable => "unreachable",
                PeerFault::TimedOut => "timed_out",
                PeerFault::ServerError { .. } => "server_error",
                PeerFault::RateLimited { .. } => "rate_limited",
                PeerFault::UnexpectedStatus { .. } => "unexpected_status",
                PeerFault::NotFound => "not_found",
                PeerFault::Malformed => "malformed",
                PeerFault::TooLarge => "too_large",
                PeerFault::ShortAnswer => "short_answer",
                PeerFault::WrongNumber => "wrong_number",
                PeerFault::BrokenLink => "broken_link",
                PeerFault::WrongHash => "wrong_hash",
                PeerFault::BreaksState => "breaks_state",
                PeerFault::CheckpointMismatch => "checkpoint_mismatch",
            },
        }
    }
}

/// What became of blocks that came from peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockOutcome {
    /// Verified and durable.
    Committed,
    /// Refused: they do not prove.
    Refused,
    /// Here already: fetched twice.
    Duplicate,
}

impl BlockOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Refused => "refused",
            Self::Duplicate => "duplicate",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PeerRequestLabels {
    peer: String,
    outcome: &'static str,
}

impl PeerRequestLabels {
    pub(super) fn new(peer: PeerLabel<'_>, outcome: RequestOutcome) -> Self {
        let peer = match peer {
            PeerLabel::Configured(name) => name,
            PeerLabel::Discovered => "discovered",
        };
        Self {
            peer: peer.to_owned(),
            outcome: outcome.as_str(),
        }
    }
}

/// How a transaction of the projection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectionOutcome {
    /// Its step stands in Dgraph.
    Committed,
    /// It met another writer; the step is done again.
    Conflict,
    /// No answer came: it may stand or not. Dgraph is asked.
    Unknown,
    /// Nothing was written.
    Failed,
}

impl ProjectionOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Conflict => "conflict",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }
}

impl From<&DgraphError> for ProjectionOutcome {
    fn from(error: &DgraphError) -> Self {
        if error.is_conflict() {
            Self::Conflict
        } else if error.outcome_unknown() {
            Self::Unknown
        } else {
            Self::Failed
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    outcome: &'static str,
}

impl From<ProjectionOutcome> for OutcomeLabels {
    fn from(outcome: ProjectionOutcome) -> Self {
        Self {
            outcome: outcome.as_str(),
        }
    }
}

impl OutcomeLabels {
    pub(super) const fn new(outcome: BlockOutcome) -> Self {
        Self {
            outcome: outcome.as_str(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HttpLabels {
    pub(super) listener: &'static str,
    pub(super) route: String,
    pub(super) status: u16,
}
