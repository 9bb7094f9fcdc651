//! How a node came to know a peer, and how many of each kind it holds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a node came to know a peer. The later ones are trusted more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum PeerSource {
    /// It is on some peer's list.
    Discovered,
    /// It is on the list of a honeycomb node that configuration names.
    Honeycomb,
    /// It was registered with a key.
    Registered,
    /// Configuration names it.
    Configured,
}

impl PeerSource {
    /// Of `peers_max` places (`PEERS_MAX`), those that peers of this source and of less trusted ones may take
    /// together; none for what has a place anyhow. Strangers' lists are long: what is left is for others.
    pub(crate) const fn places(self, peers_max: usize) -> Option<usize> {
        match self {
            Self::Discovered => Some(peers_max.div_ceil(2)),
            Self::Honeycomb => Some(peers_max - peers_max / 4),
            Self::Registered => Some(peers_max),
            Self::Configured => None,
        }
    }
}
