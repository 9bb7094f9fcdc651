//! Where the projection stands, as the API and the metrics tell it.
//!
//! The projection's runner feeds a watch channel ([`ProjectionStatus::channel`]); whoever reads it needs nothing
//! else of the projection.

use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::{BlockNumber, ContentId};
use tokio::sync::watch;

use super::client::{DgraphError, Query};

/// Where the projection stands. In the beginning nothing is known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProjectionStatus {
    /// Whether the last call to Dgraph was answered.
    pub connected: bool,
    /// The cursor, as it was last read or written: the block up to which Dgraph has blocks and operations.
    pub applied: Option<BlockReference>,
    /// The lowest block from which all up to the cursor stand there; none where that is not known.
    pub from: Option<BlockNumber>,
    /// The block after which Dgraph's state is true, behind the cursor while a node catches up; none while it is
    /// replaced by a newer one.
    pub state_block: Option<BlockNumber>,
    /// Where Dgraph contradicts this node's log, while it does.
    pub mismatch: Option<ProjectionMismatch>,
    /// What went wrong last, since Dgraph was last written to. Carries no secret and no address.
    pub last_error: Option<String>,
    /// Asks Dgraph for the cursor; none before it is known where it is kept.
    ///
    /// The answer is a block called `cursor` of at most one node, with `appliedBlock`, `appliedHash` and, where
    /// there is a whole state, `stateBlock`.
    pub cursor_query: Option<Query>,
}

/// A block of which Dgraph holds another one than this node's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectionMismatch {
    /// The block.
    pub block: BlockNumber,
    /// Its hash in the log; none where the log has no such block.
    pub log_hash: Option<ContentId>,
    /// Its hash in Dgraph; none where Dgraph has no such block.
    pub dgraph_hash: Option<ContentId>,
}

impl ProjectionStatus {
    /// The channel that carries it: the projection's runner has the sender, everybody else a receiver.
    pub fn channel() -> (watch::Sender<Self>, watch::Receiver<Self>) {
        watch::channel(Self::default())
    }

    /// Notes that a call to Dgraph failed. A conflict is no failure: another writer was faster.
    pub fn failed(&mut self, error: &DgraphError) {
        if error.is_conflict() {
            return;
        }
        self.connected = !matches!(
            error,
            DgraphError::Unavailable { .. }
                | DgraphError::TimedOut { .. }
                | DgraphError::TooOld { .. }
                | DgraphError::Unauthenticated { .. }
        );
        self.last_error = Some(error.without_endpoint());
    }

    /// Notes where the cursor stands, as Dgraph has just said.
    pub fn reached(&mut self, applied: BlockReference, state_block: Option<BlockNumber>) {
        self.connected = true;
        self.applied = Some(applied);
        self.state_block = state_block;
        self.last_error = None;
    }

    /// Blocks of the log that Dgraph does not have yet; none before the cursor is known.
    pub fn lag(&self, log_height: BlockNumber) -> Option<u64> {
        self.applied
            .map(|applied| log_height.distance_from(applied.number))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn block(number: u64) -> BlockNumber {
        number.try_into().unwrap()
    }

    fn applied(number: u64) -> BlockReference {
        BlockReference {
            number: block(number),
            hash: ContentId::of(b"x"),
        }
    }

    #[test]
    fn an_error_is_told_without_the_address_and_forgotten_by_progress() {
        let mut status = ProjectionStatus::default();
        status.reached(applied(7), Some(block(5)));
        assert!(status.connected);
        status.failed(&DgraphError::Aborted);
        assert_eq!((status.connected, status.last_error.as_ref()), (true, None));
        let endpoint = || "http://alpha-7.internal:9080".parse().unwrap();
        let refused = DgraphError::Refused {
            endpoint: endpoint(),
            message: "no lease".into(),
        };
        let away = [
            DgraphError::Unavailable {
                endpoint: endpoint(),
                reason: "refused".into(),
            },
            DgraphError::TimedOut {
                endpoint: endpoint(),
                after: Duration::from_secs(1),
            },
            DgraphError::TooOld {
                endpoint: endpoint(),
                found: "v24.0.0".into(),
            },
            DgraphError::Unauthenticated {
                endpoint: endpoint(),
                reason: "no".into(),
            },
        ];
        status.failed(&refused);
        assert!(status.connected);
        for error in away.iter().chain([&refused]) {
            assert!(error.to_string().contains("alpha-7"));
            status.failed(error);
            let told = status.last_error.as_deref().unwrap();
            assert!(!told.contains("alpha-7") && !told.is_empty(), "{told}");
            assert_eq!(status.connected, *error == refused);
        }
        status.reached(applied(8), None);
        assert_eq!((status.connected, status.last_error), (true, None));
    }

    #[test]
    fn a_cursor_ahead_of_the_log_does_not_lag() {
        let mut status = ProjectionStatus::default();
        assert_eq!(status.lag(block(9)), None);
        status.reached(applied(7), Some(block(5)));
        assert_eq!(status.lag(block(9)), Some(2));
        assert_eq!(status.lag(block(3)), Some(0));
    }
}
