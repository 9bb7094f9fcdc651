//! Paths of the state and their order-preserving keys.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::canonical_json::{utf16_rank, utf16_unrank, write_string};

/// Where a value stands in the state: the member names from the root down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Path(pub Vec<String>);

impl Path {
    /// The path that an older peer or a person writes as one string, split at `/` (section 4).
    pub fn from_slashed(text: &str) -> Self {
        Self(
            text.split('/')
                .filter(|segment| !segment.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    /// Appends the canonical JSON: an array of strings.
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (position, segment) in self.0.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            write_string(segment, out);
        }
        out.push(b']');
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("/"))
    }
}

/// End of a segment inside a key.
const TERMINATOR: [u8; 2] = [0x00, 0x01];
/// A U+0000 inside a segment.
const ESCAPED_ZERO: [u8; 2] = [0x00, 0xFF];

/// A path as bytes: keys sort as their leaves stand in the canonical state document, and the keys at or
/// below a path are exactly those that start with its key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PathKey(Vec<u8>);

/// Longest key that a state takes, in bytes: what an embedded store can index. A real path has some dozens.
pub const MAX_KEY_BYTES: usize = 65_535;

/// Most member names of a path that a state takes: every JSON reader reads the block and the full state document then, also
/// one that gives up at 128 levels.
pub const MAX_DEPTH: usize = 120;

/// Stored bytes that are no key of a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} bytes are not the key of a path", .0.len())]
pub struct PathKeyError(pub Vec<u8>);

impl PathKey {
    /// The key of the root, a prefix of every key.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The key of the member `segment` below this path.
    #[must_use]
    pub fn child(&self, segment: &str) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + segment.len() + TERMINATOR.len());
        bytes.extend_from_slice(&self.0);
        let mut child = Self(bytes);
        child.push(segment);
        child
    }

    /// Goes down to the member `segment`.
    pub fn push(&mut self, segment: &str) {
        self.0.reserve(segment.len() + TERMINATOR.len());
        if segment.bytes().all(|byte| byte != 0) {
            self.0.extend(segment.bytes().map(utf16_rank));
        } else {
            for byte in segment.bytes() {
                match byte {
                    0 => self.0.extend_from_slice(&ESCAPED_ZERO),
                    other => self.0.push(utf16_rank(other)),
                }
            }
        }
        self.0.extend_from_slice(&TERMINATOR);
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Keys of all paths above this one, the root first; not the key itself.
    pub fn ancestors(&self) -> impl Iterator<Item = PathKey> + '_ {
        std::iter::once(0)
            .chain(self.segment_ends())
            .filter(|end| *end < self.0.len())
            .map(|end| Self(self.0[..end].to_vec()))
    }

    /// The key of the path right above this one; none for the root.
    pub fn above(&self) -> Option<PathKey> {
        self.parent().map(|parent| Self(parent.to_vec()))
    }

    /// Number of member names in the path.
    pub fn depth(&self) -> usize {
        self.segment_ends().count()
    }

    /// Whether the path has more member names than a state takes.
    pub fn is_too_deep(&self) -> bool {
        // Each name takes a terminator at least.
        self.0.len() > MAX_DEPTH * TERMINATOR.len() && self.depth() > MAX_DEPTH
    }

    /// The first key after this one and everything below it; none for the root, after which nothing comes.
    pub fn after_subtree(&self) -> Option<PathKey> {
        let mut next = self.0.clone();
        // Every key ends with a terminator, whose last byte is not the highest.
        *next.last_mut()? += 1;
        Some(Self(next))
    }

    /// Whether this key stands at `other` or below it.
    pub fn is_at_or_below(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The bytes of the key of the path right above this one; none for the root.
    pub(crate) fn parent(&self) -> Option<&[u8]> {
        let before_last = self.0.len().checked_sub(TERMINATOR.len())?;
        let above = self.0.get(..before_last)?;
        let end = above.windows(2).rposition(|pair| pair == TERMINATOR);
        above.get(..end.map_or(0, |at| at + TERMINATOR.len()))
    }

    /// The key's bytes up to `depth` member names down, or as far as there are some, and the bytes after them.
    pub fn split_at_depth(&self, depth: usize) -> (&[u8], &[u8]) {
        let end = self.segment_ends().take(depth).last().unwrap_or_default();
        self.0.split_at(end)
    }

    /// Where each segment ends, in bytes.
    fn segment_ends(&self) -> impl Iterator<Item = usize> + '_ {
        // A zero byte only starts a terminator or an escaped zero.
        let pairs = self.0.windows(2).enumerate();
        let ends = pairs.filter(|(_, pair)| **pair == TERMINATOR);
        ends.map(|(at, _)| at + TERMINATOR.len())
    }

    /// The key's bytes up to each path above this one, the shortest first, without the root's.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.segment_ends().filter(|end| *end < self.0.len());
        ends.filter_map(|end| self.0.get(..end))
    }

    /// Appends the canonical JSON of the path: an array of strings.
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        let mut segment = Vec::with_capacity(self.0.len());
        // Each zero byte is followed by one that says whether it ends a segment or stands in it.
        let mut pieces = self.0.split(|byte| *byte == 0);
        let text = pieces.next().unwrap_or_default();
        segment.extend(text.iter().copied().map(utf16_unrank));
        let mut first = true;
        for piece in pieces {
            let (kind, text) = piece.split_first().unwrap_or((&TERMINATOR[1], piece));
            if *kind == ESCAPED_ZERO[1] {
                segment.push(0);
            } else {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                match std::str::from_utf8(&segment) {
                    Ok(text) => write_string(text, out),
                    Err(_) => write_string(&String::from_utf8_lossy(&segment), out),
                }
                segment.clear();
            }
            segment.extend(text.iter().copied().map(utf16_unrank));
        }
        out.push(b']');
    }

    /// The path the key stands for.
    pub fn to_path(&self) -> Result<Path, PathKeyError> {
        let error = || PathKeyError(self.0.clone());
        let mut segments = Vec::new();
        let mut segment = Vec::new();
        let mut bytes = self.0.iter().copied();
        while let Some(byte) = bytes.next() {
            if byte != 0 {
                segment.push(utf16_unrank(byte));
                continue;
            }
            match bytes.next() {
                Some(0xFF) => segment.push(0),
                Some(0x01) => {
                    segments.push(String::from_utf8(std::mem::take(&mut segment)).map_err(|_| error())?);
                }
                _ => return Err(error()),
            }
        }
        if segment.is_empty() {
            Ok(Path(segments))
        } else {
            Err(error())
        }
    }
}

impl From<&Path> for PathKey {
    fn from(path: &Path) -> Self {
        let bytes = path.0.iter().map(|segment| segment.len() + TERMINATOR.len());
        let mut key = Self(Vec::with_capacity(bytes.sum()));
        for segment in &path.0 {
            key.push(segment);
        }
        key
    }
}

impl From<Vec<u8>> for PathKey {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for PathKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_path() {
            Ok(path) => write!(formatter, "PathKey({path})"),
            Err(_) => write!(formatter, "PathKey({})", hex::encode(&self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical_json::utf16_order;
    use proptest::prelude::*;

    fn key(segments: &[&str]) -> PathKey {
        PathKey::from(&Path(
            segments.iter().map(|segment| (*segment).to_owned()).collect(),
        ))
    }

    #[test]
    fn what_comes_after_a_subtree_comes_after_all_of_it() {
        let key = |text: &str| PathKey::from(&Path::from_slashed(text));
        let after = key("a/b").after_subtree().unwrap();
        assert!(key("a/b") < after && key("a/b/\u{10ffff}") < after && after < key("a/b\u{0}"));
        assert!(after < key("a/c") && PathKey::root().after_subtree().is_none());
        assert_eq!(
            [
                key("a").depth(),
                key("a/b\u{0}c/d").depth(),
                PathKey::root().depth()
            ],
            [1, 3, 0]
        );
    }

    #[test]
    fn the_parent_is_the_last_ancestor() {
        for text in ["a", "a/b", "a/b\u{0}c/d", "a/\u{0}", "\u{1}/\u{0}\u{1}/x"] {
            let key = PathKey::from(&Path::from_slashed(text));
            let last = key.ancestors().last().unwrap();
            assert_eq!(key.parent(), Some(last.as_bytes()), "{text:?}");
        }
        assert_eq!(PathKey::root().parent(), None);
    }

    #[test]
    fn a_sibling_with_a_longer_name_is_not_below() {
        assert!(key(&["a", "b"]).is_at_or_below(&key(&["a"])));
        assert!(!key(&["ab"]).is_at_or_below(&key(&["a"])));
        assert!(!key(&["a\0"]).is_at_or_below(&key(&["a"])));
    }

    #[test]
    fn ancestors_start_at_the_root() {
        let ancestors: Vec<_> = key(&["a", "b\0", "c"]).ancestors().collect();
        assert_eq!(ancestors, vec![PathKey::root(), key(&["a"]), key(&["a", "b\0"])]);
        assert_eq!(PathKey::root().ancestors().count(), 0);
    }

    proptest! {
        #[test]
        fn a_key_gives_back_its_path(segments in prop::collection::vec(any::<String>(), 0..5)) {
            let path = Path(segments);
            let (mut of_key, mut of_path) = (Vec::new(), Vec::new());
            PathKey::from(&path).write_canonical(&mut of_key);
            path.write_canonical(&mut of_path);
            prop_assert_eq!(of_key, of_path);
            prop_assert_eq!(PathKey::from(&path).to_path().unwrap(), path);
        }

        #[test]
        fn keys_sort_as_the_canonical_document_does(
            left in prop::collection::vec("[\0\u{1}ab\u{e000}\u{ffff}\u{10000}]{0,3}", 0..4),
            right in prop::collection::vec("[\0\u{1}ab\u{e000}\u{ffff}\u{10000}]{0,3}", 0..4),
        ) {
            let by_segment = left
                .iter()
                .zip(&right)
                .map(|(one, other)| utf16_order(one, other))
                .find(|order| order.is_ne())
                .unwrap_or(left.len().cmp(&right.len()));
            prop_assert_eq!(PathKey::from(&Path(left)).cmp(&PathKey::from(&Path(right))), by_segment);
        }
    }
}
