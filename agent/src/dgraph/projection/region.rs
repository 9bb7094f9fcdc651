//! Uids of the nodes that a projection writes.
//!
//! Every writer names the same node alike, without asking: a block by its number, an object of the state by
//! a keyed hash of its path. The region is the same in every cluster; it is leased once, so that Dgraph gives
//! none of its uids to anyone else.

use std::ops::RangeInclusive;

use honeygraph_chain::{BlockNumber, ContentId, PathKey};
use sha2::{Digest, Sha256};

use crate::dgraph::client::Uid;

/// First uid of the region.
const FIRST: u64 = 1 << 61;
/// Objects of the state: 2^60 places, by a hash.
const STATE: Part = Part {
    first: FIRST,
    bits: 60,
};
/// Blocks that lost against another of their number, and forks: 2^58 places, by a hash. Below the blocks, so that the
/// newest of those stay last in the order of uids, in which Dgraph answers.
const ORPHANS: Part = Part {
    first: FIRST + (1 << 60),
    bits: 58,
};
/// Blocks, by number.
const BLOCKS: Part = Part {
    first: FIRST + (1 << 60) + (1 << 58),
    bits: 53,
};
/// Checkpoints, by the number of their block.
const CHECKPOINTS: Part = Part {
    first: FIRST + (1 << 60) + (1 << 59),
    bits: 53,
};

/// The network node: the region's last uid, so that whoever writes it finds out whether all are leased.
pub const NETWORK_NODE: Uid = Uid((1 << 62) - 1);

/// All uids that are used, the network node last.
pub const USED: RangeInclusive<Uid> = Uid(FIRST)..=NETWORK_NODE;

/// A power of two of uids.
#[derive(Debug, Clone, Copy)]
struct Part {
    first: u64,
    bits: u32,
}

impl Part {
    const fn at(self, place: u64) -> Uid {
        Uid(self.first + (place & ((1 << self.bits) - 1)))
    }
}

/// Keeps strangers from making two paths meet in one node on purpose. Made by whoever writes first, and the
/// same for all writers of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UidKey([u8; 32]);

impl UidKey {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// As it stands in Dgraph: 64 hexadecimal digits.
    pub fn to_text(self) -> String {
        hex::encode(self.0)
    }

    /// Reads [`UidKey::to_text`].
    pub fn from_text(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

/// Names nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    key: UidKey,
}

impl Region {
    /// The region of a cluster with this key.
    pub const fn new(key: UidKey) -> Self {
        Self { key }
    }

    /// The cluster's key.
    pub const fn key(&self) -> UidKey {
        self.key
    }

    /// The canonical block of a number. Higher blocks have higher uids.
    #[allow(
        clippy::unused_self,
        reason = "a region names all nodes alike for its callers"
    )]
    pub const fn block(&self, number: BlockNumber) -> Uid {
        BLOCKS.at(number.get())
    }

    /// The checkpoint that covers everything up to a block.
    #[allow(
        clippy::unused_self,
        reason = "a region names all nodes alike for its callers"
    )]
    pub const fn checkpoint(&self, number: BlockNumber) -> Uid {
        CHECKPOINTS.at(number.get())
    }

    /// An object or leaf of the state. Of ten million paths two meet with a chance of 1 : 20,000.
    pub fn state(&self, path: &PathKey) -> Uid {
        STATE.at(self.hash(*b"state", path.as_bytes()))
    }

    /// A block that is not canonical.
    pub fn orphan(&self, hash: ContentId) -> Uid {
        ORPHANS.at(self.hash(*b"block", hash.digest()))
    }

    /// A fork, by the hash of its highest block.
    pub fn fork(&self, tip: ContentId) -> Uid {
        ORPHANS.at(self.hash(*b"forks", tip.digest()))
    }

    /// The first 64 bits of SHA-256 of key, kind and name. Key and kind have fixed lengths, and most of the
    /// digest is dropped: that is a keyed hash without more ado.
    fn hash(&self, kind: [u8; 5], name: &[u8]) -> u64 {
        let digest = Sha256::new()
            .chain_update(self.key.0)
            .chain_update(kind)
            .chain_update(name)
            .finalize();
        digest
            .iter()
            .take(8)
            .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeygraph_chain::Path;
    use proptest::prelude::*;

    fn region() -> Region {
        Region::new(UidKey([7; 32]))
    }

    #[test]
    fn names_stay_as_they_are() {
        // What stands in people's clusters is named so.
        let key = PathKey::from(&Path(vec!["balances".into(), "alice".into()]));
        assert_eq!(region().state(&key), Uid(STATE_OF_ALICE));
        assert_eq!(
            region().block(BlockNumber::try_from(5).unwrap()).0,
            0x3400_0000_0000_0005
        );
    }

    /// The low 60 bits of the first 8 bytes of SHA-256(key, "state", key of the path), added to 2^61.
    const STATE_OF_ALICE: u64 = 0x2f9a_b01d_4f1f_20cf;

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let key = UidKey::random();
        assert_eq!(UidKey::from_text(&key.to_text()), Some(key));
        assert_ne!(key, UidKey::random());
        for text in ["", "00", &"g".repeat(64), &"0".repeat(66)] {
            assert_eq!(UidKey::from_text(text), None);
        }
    }

    proptest! {
        #[test]
        fn parts_keep_apart_and_inside_the_region(number in 0..=BlockNumber::MAX.get(), name in ".{0,40}") {
            let number = BlockNumber::try_from(number).unwrap();
            let region = region();
            let uids = [
                region.state(&PathKey::root().child(&name)),
                region.orphan(ContentId::of(name.as_bytes())),
                region.block(number),
                region.checkpoint(number),
                NETWORK_NODE,
            ];
            prop_assert!(uids.is_sorted_by(|one, next| one < next), "{uids:?}");
            prop_assert!(uids.iter().all(|uid| USED.contains(uid)));
        }

        #[test]
        fn higher_blocks_have_higher_uids(number in 0..BlockNumber::MAX.get()) {
            let number = BlockNumber::try_from(number).unwrap();
            prop_assert!(region().block(number) < region().block(number.next()));
        }

        #[test]
        fn another_key_gives_other_names(name in ".{1,40}") {
            let other = Region::new(UidKey([8; 32]));
            let key = PathKey::root().child(&name);
            prop_assert_ne!(region().state(&key), other.state(&key));
        }
    }
}
