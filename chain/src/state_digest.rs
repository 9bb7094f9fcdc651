//! The state digest: a sum over all leaves that is kept incrementally.

use std::fmt;
use std::str::FromStr;

use ruint::aliases::U256;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::canonical_json::JsonValue;
use crate::path::PathKey;

/// Sum over all leaves of sha256(canonical JSON of `[path, value]`) modulo 2^256.
///
/// Written as 64 hex digits. It finds damage and proves a restored store cheaply; against an adversary
/// the content ids are the proof (`docs/protocol.md`, section 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StateDigest(U256);

impl StateDigest {
    /// The digest of a state without leaves.
    pub const EMPTY: Self = Self(U256::ZERO);

    /// The digest of one leaf.
    pub fn of_leaf(key: &PathKey, value: &JsonValue) -> Self {
        LeafDigest::at(key).of(value)
    }

    /// With a leaf added.
    #[must_use]
    pub fn plus(self, leaf: Self) -> Self {
        Self(self.0.wrapping_add(leaf.0))
    }

    /// With a leaf removed.
    #[must_use]
    pub fn minus(self, leaf: Self) -> Self {
        Self(self.0.wrapping_sub(leaf.0))
    }

    /// The sum, big-endian.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_be_bytes()
    }

    /// The digest with these big-endian bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(U256::from_be_bytes(bytes))
    }
}

/// Computes the digests of the values that stand at one path.
#[derive(Debug)]
pub struct LeafDigest {
    /// Canonical JSON of `[path,`, and room for a value.
    text: Vec<u8>,
    prefix_bytes: usize,
}

impl LeafDigest {
    /// For the leaf at a path.
    pub fn at(key: &PathKey) -> Self {
        let mut text = Vec::with_capacity(key.as_bytes().len() * 2 + 64);
        text.push(b'[');
        key.write_canonical(&mut text);
        text.push(b',');
        let prefix_bytes = text.len();
        Self { text, prefix_bytes }
    }

    /// The digest with this value there.
    pub fn of(&mut self, value: &JsonValue) -> StateDigest {
        self.text.truncate(self.prefix_bytes);
        value.write_canonical(&mut self.text);
        self.text.push(b']');
        StateDigest(U256::from_be_slice(&Sha256::digest(&self.text)))
    }
}

impl fmt::Display for StateDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.to_bytes()))
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for StateDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| "a state digest has 64 hex digits".to_owned())?;
        Ok(Self::from_bytes(bytes))
    }
}

impl TryFrom<String> for StateDigest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<StateDigest> for String {
    fn from(digest: StateDigest) -> Self {
        digest.to_string()
    }
}
