//! Names of networks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The prefix that names a honeycomb network (`dlux`, `spkcc`): 1 to 32 of `a-z`, `A-Z`, `0-9`, `-`, `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkName(String);

/// Text that cannot name a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network's name has 1 to 32 of a-z, A-Z, 0-9, `-` and `_`; this one has {length} bytes")]
pub struct NetworkNameError {
    /// Bytes of the refused text.
    pub length: usize,
}

impl NetworkName {
    /// Longest name, in bytes.
    pub const MAX_BYTES: usize = 32;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NetworkName {
    type Error = NetworkNameError;

    fn try_from(text: String) -> Result<Self, NetworkNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if (1..=Self::MAX_BYTES).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(NetworkNameError { length: text.len() })
        }
    }
}

impl FromStr for NetworkName {
    type Err = NetworkNameError;

    fn from_str(text: &str) -> Result<Self, NetworkNameError> {
        Self::try_from(text.to_owned())
    }
}

impl From<NetworkName> for String {
    fn from(name: NetworkName) -> Self {
        name.0
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
