//! What a node thinks of its peers: identity, faults, score, circuit breaker.

mod circuit;
mod fault;
mod score;
mod settings;
mod timeout;

pub use circuit::{CircuitBreaker, CircuitState};
pub use fault::{LocalFault, PeerFault};
pub use score::{FaultKind, PeerScore, Standing};
pub use settings::{BanSettings, CircuitSettings, TimeoutSettings};
pub use timeout::AdaptiveTimeout;

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a peer, as it calls itself (`PEER_ID`): 1 to 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerId(String);

/// Text that cannot name a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a peer id has 1 to 128 visible ASCII characters, this one has {length} bytes")]
pub struct PeerIdError {
    /// Bytes of the refused text.
    pub length: usize,
}

impl PeerId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PeerId {
    type Error = PeerIdError;

    fn try_from(text: String) -> Result<Self, PeerIdError> {
        if (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text))
        } else {
            Err(PeerIdError { length: text.len() })
        }
    }
}

impl From<crate::ContentId> for PeerId {
    /// A content id is 46 visible ASCII characters.
    fn from(id: crate::ContentId) -> Self {
        Self(id.to_string())
    }
}

impl std::str::FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        Self::try_from(text.to_owned())
    }
}

impl From<PeerId> for String {
    fn from(id: PeerId) -> Self {
        id.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
