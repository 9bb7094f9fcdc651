//! Content ids: CIDv0 of a UnixFS file, as IPFS adds it by default.
//!
//! `docs/protocol.md`, section 3. Any user can check one with `ipfs add --only-hash`.

use std::fmt;
use std::str::FromStr;

use rust_unixfs::file::adder::FileAdder;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The bytes before the digest of every id: multihash code of sha2-256 and the digest's length.
const MULTIHASH_PREFIX: [u8; 2] = [0x12, 0x20];

/// The content id of a file: a block, a checkpoint document, a state document.
///
/// Written as base58btc text (`Qm...`), 46 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId([u8; 32]);

/// Text that is no content id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a content id (Qm..., base58, 46 characters)")]
pub struct ContentIdError {
    /// The text, cut to 64 characters.
    pub text: String,
}

impl ContentId {
    /// The content id of a whole file.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = ContentHasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The content id of what a reader gives to its end; holds no more than a [`ContentHasher`] does.
    pub fn of_reader(mut reader: impl std::io::Read) -> std::io::Result<Self> {
        let mut hasher = ContentHasher::new();
        let mut piece = vec![0; 1 << 16];
        loop {
            match reader.read(&mut piece)? {
                0 => return Ok(hasher.finish()),
                count => hasher.update(piece.get(..count).unwrap_or_default()),
            }
        }
    }

    /// The sha2-256 digest inside the id.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id with this sha2-256 digest inside.
    pub const fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

/// Computes the content id of a file that is handed over in pieces; holds one chunk (256 KiB) and the
/// links of the tree above it.
#[derive(Debug)]
pub struct ContentHasher {
    adder: FileAdder,
    last: Option<[u8; 32]>,
}

impl Default for ContentHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl ContentHasher {
    /// An empty file.
    pub fn new() -> Self {
        let adder = FileAdder::builder()
            .with_cid_version(ipld_core::cid::Version::V0)
            .build();
        Self { adder, last: None }
    }

    /// Appends to the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (blocks, taken) = self.adder.push(bytes);
            for (id, _) in blocks {
                self.last = Some(digest_of(id.hash().digest()));
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// The id of everything that was appended.
    pub fn finish(self) -> ContentId {
        // The root comes last.
        let root = self
            .adder
            .finish()
            .last()
            .map(|(id, _)| digest_of(id.hash().digest()));
        ContentId(root.or(self.last).unwrap_or_default())
    }
}

fn digest_of(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().unwrap_or_default()
}

impl fmt::Display for ContentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&MULTIHASH_PREFIX);
        bytes[2..].copy_from_slice(&self.0);
        formatter.write_str(&bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for ContentId {
    type Err = ContentIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 34];
        let valid = text.len() == 46
            && bs58::decode(text)
                .onto(&mut bytes)
                .is_ok_and(|length| length == 34)
            && bytes[..2] == MULTIHASH_PREFIX;
        match bytes[2..].try_into() {
            Ok(digest) if valid => Ok(Self(digest)),
            _ => Err(ContentIdError {
                text: text.chars().take(64).collect(),
            }),
        }
    }
}

impl Serialize for ContentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl serde::de::Visitor<'_> for TextVisitor {
            type Value = ContentId;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a content id (Qm...)")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ContentId, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_file_has_ipfs_own_id() {
        assert_eq!(
            ContentId::of(b"").to_string(),
            "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
        );
    }

    #[test]
    fn text_round_trips_and_bad_text_is_refused() {
        let id = ContentId::of(b"hello");
        assert_eq!(id.to_string().parse::<ContentId>().unwrap(), id);
        for bad in [
            "",
            "Qm",
            "bafybeidgoqoyg4yhalu6oks2gnsjbs74tnoepwkl77plj4i4rd6lhvt424",
            "0OIl",
        ] {
            assert!(bad.parse::<ContentId>().is_err(), "{bad}");
        }
        assert!("1".repeat(46).parse::<ContentId>().is_err());
    }

    #[test]
    fn pieces_give_the_id_of_the_whole() {
        let bytes: Vec<u8> = (0..700_000_usize)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        let mut hasher = ContentHasher::new();
        for piece in bytes.chunks(1_234) {
            hasher.update(piece);
        }
        assert_eq!(hasher.finish(), ContentId::of(&bytes));
    }
}
