//! When the network was last heard to go on.

use std::sync::{Mutex, PoisonError};

use honeygraph_chain::BlockNumber;

/// Remembers when the network head last changed, so that a node that hears nothing does not look in sync.
#[derive(Debug, Default)]
pub(super) struct HeadClock(Mutex<Option<(BlockNumber, u64)>>);

impl HeadClock {
    /// The Unix second at which the head was first seen to be `head`.
    pub(super) fn since(&self, head: BlockNumber, now_seconds: u64) -> u64 {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *seen {
            Some((known, since)) if known == head => since,
            _ => {
                *seen = Some((head, now_seconds));
                now_seconds
            }
        }
    }
}
