//! The tree of blocks above the last irreversible one, and which of its forks wins.
//!
//! `docs/protocol.md`, section 7: from the common ancestor, the fork that more weight of distinct sources
//! stands on; then the longer; then the lower hash of its first block.

use std::collections::{HashMap, HashSet};

use crate::block_number::BlockNumber;
use crate::content_id::ContentId;

/// A block's place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockReference {
    /// Its number.
    pub number: BlockNumber,
    /// Its hash.
    pub hash: ContentId,
}

/// Bounds of a tree: whatever strangers send, it stays this small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkLimits {
    /// Blocks in the tree, the root not counted.
    pub blocks: usize,
    /// Children of one block.
    pub siblings: usize,
}

/// A block that the tree does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    /// Its parent is not in the tree: it is too old, or something is missing in between.
    #[error("block {} links to a block that is not in the tree", .0.number)]
    UnknownParent(BlockReference),
    /// Its number does not follow its parent's.
    #[error("block {} does not follow its parent {parent}", .block.number)]
    WrongNumber {
        /// The block.
        block: BlockReference,
        /// Its parent's number.
        parent: BlockNumber,
    },
    /// The tree is full.
    #[error("the tree of forks is full at {0} blocks")]
    Full(usize),
    /// Its parent has too many children.
    #[error("block {} has {siblings} siblings already", .block.number)]
    TooManySiblings {
        /// The block.
        block: BlockReference,
        /// Children its parent has.
        siblings: usize,
    },
}

/// The way from one block of the tree to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reorganization {
    /// The common ancestor.
    pub ancestor: BlockReference,
    /// Blocks to undo, highest first.
    pub undo: Vec<BlockReference>,
    /// Blocks to apply then, lowest first.
    pub redo: Vec<BlockReference>,
}

/// A chain of blocks beside the one that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// Its highest block.
    pub tip: BlockReference,
    /// The last block that it has in common with the chain that is followed.
    pub ancestor: BlockReference,
}

#[derive(Debug, Clone)]
struct Node {
    number: BlockNumber,
    parent: Option<ContentId>,
    children: Vec<ContentId>,
}

/// Blocks above a root, by what they link to.
#[derive(Debug, Clone)]
pub struct ForkTree {
    root: BlockReference,
    nodes: HashMap<ContentId, Node>,
    limits: ForkLimits,
}

impl ForkTree {
    /// A tree of the root alone.
    pub fn new(root: BlockReference, limits: ForkLimits) -> Self {
        let node = Node {
            number: root.number,
            parent: None,
            children: Vec::new(),
        };
        Self {
            root,
            nodes: HashMap::from([(root.hash, node)]),
            limits,
        }
    }

    /// The root: nothing at or below it is reorganized by this tree.
    pub const fn root(&self) -> BlockReference {
        self.root
    }

    /// Blocks above the root.
    pub fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Whether there is nothing above the root.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a block is in the tree.
    pub fn contains(&self, hash: ContentId) -> bool {
        self.nodes.contains_key(&hash)
    }

    /// The number of a block of the tree.
    pub fn number(&self, hash: ContentId) -> Option<BlockNumber> {
        self.nodes.get(&hash).map(|node| node.number)
    }

    /// Adds a block; adding it again changes nothing. `parent` is the hash of the block before, also right
    /// after a checkpoint, where the block itself links to the checkpoint's content id.
    pub fn insert(&mut self, block: BlockReference, parent: ContentId) -> Result<(), ForkError> {
        if self.nodes.contains_key(&block.hash) {
            return Ok(());
        }
        if self.len() >= self.limits.blocks {
            return Err(ForkError::Full(self.limits.blocks));
        }
        let above = self
            .nodes
            .get_mut(&parent)
            .ok_or(ForkError::UnknownParent(block))?;
        if above.number.next() != block.number {
            return Err(ForkError::WrongNumber {
                block,
                parent: above.number,
            });
        }
        if above.children.len() >= self.limits.siblings {
            return Err(ForkError::TooManySiblings {
                block,
                siblings: above.children.len(),
            });
        }
        above.children.push(block.hash);
        self.nodes.insert(
            block.hash,
            Node {
                number: block.number,
                parent: Some(parent),
                children: Vec::new(),
            },
        );
        Ok(())
    }

    /// Whether some block has more than one child.
    pub fn has_forks(&self) -> bool {
        self.nodes.values().any(|node| node.children.len() > 1)
    }

    /// Every block without a child: the tips of the forks.
    pub fn tips(&self) -> impl Iterator<Item = BlockReference> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.children.is_empty())
            .map(|(hash, node)| BlockReference {
                number: node.number,
                hash: *hash,
            })
    }

    /// The forks beside the chain that ends at `tip`, none where that is not in the tree.
    pub fn forks_beside(&self, tip: ContentId) -> Vec<Fork> {
        let mut others = self.tips().filter(|other| other.hash != tip).peekable();
        if others.peek().is_none() {
            return Vec::new();
        }
        let followed: HashSet<ContentId> = self.chain_from(tip).map(|block| block.hash).collect();
        let with_ancestor = |tip: BlockReference| {
            let mut below = self.chain_from(tip.hash);
            let ancestor = below.find(|block| followed.contains(&block.hash))?;
            Some(Fork { tip, ancestor })
        };
        others.filter_map(with_ancestor).collect()
    }

    /// The tip of the winning fork, given where each source stands (its tip and its weight; tips outside the
    /// tree stand on nothing).
    pub fn best(&self, views: &[(ContentId, u64)]) -> BlockReference {
        let weights = self.subtree_weights(views);
        let heights = self.subtree_heights();
        let mut at = self.root.hash;
        loop {
            let Some(node) = self.nodes.get(&at) else {
                return self.root;
            };
            let winner = node.children.iter().copied().max_by(|left, right| {
                let weight = |hash: &ContentId| weights.get(hash).copied().unwrap_or_default();
                let height = |hash: &ContentId| heights.get(hash).copied().unwrap_or_default();
                weight(left)
                    .cmp(&weight(right))
                    .then_with(|| height(left).cmp(&height(right)))
                    .then_with(|| right.cmp(left))
            });
            match winner {
                Some(child) => at = child,
                None => {
                    return BlockReference {
                        number: node.number,
                        hash: at,
                    };
                }
            }
        }
    }

    /// Whether `ancestor` is `block` or above it in the same fork.
    pub fn is_on_chain_of(&self, ancestor: ContentId, block: ContentId) -> bool {
        self.chain_from(block).any(|at| at.hash == ancestor)
    }

    /// The block with this number on the chain that ends at `tip`.
    pub fn at_height(&self, tip: ContentId, number: BlockNumber) -> Option<BlockReference> {
        self.chain_from(tip).find(|block| block.number == number)
    }

    /// The way from one block of the tree to another.
    pub fn reorganization(&self, from: ContentId, to: ContentId) -> Option<Reorganization> {
        let undo_chain: Vec<_> = self.chain_from(from).collect();
        let mut redo = Vec::new();
        for block in self.chain_from(to) {
            if let Some(at) = undo_chain.iter().position(|undone| undone.hash == block.hash) {
                redo.reverse();
                return Some(Reorganization {
                    ancestor: block,
                    undo: undo_chain[..at].to_vec(),
                    redo,
                });
            }
            redo.push(block);
        }
        None
    }

    /// Makes a block of the tree the root. What does not descend from it leaves the tree and is returned,
    /// except the blocks between the old root and the new one.
    pub fn advance_root(&mut self, to: ContentId) -> Vec<BlockReference> {
        let Some(number) = self.number(to) else {
            return Vec::new();
        };
        let passed: Vec<_> = self.chain_from(to).map(|block| block.hash).collect();
        let mut kept = HashMap::new();
        let mut open = vec![to];
        while let Some(hash) = open.pop() {
            if let Some(node) = self.nodes.remove(&hash) {
                open.extend(&node.children);
                kept.insert(hash, node);
            }
        }
        if let Some(root) = kept.get_mut(&to) {
            root.parent = None;
        }
        let dropped = std::mem::replace(&mut self.nodes, kept);
        self.root = BlockReference { number, hash: to };
        dropped
            .into_iter()
            .filter(|(hash, _)| !passed.contains(hash))
            .map(|(hash, node)| BlockReference {
                number: node.number,
                hash,
            })
            .collect()
    }

    /// Takes a block and everything above it out of the tree, and returns them.
    pub fn remove_subtree(&mut self, hash: ContentId) -> Vec<BlockReference> {
        if hash == self.root.hash {
            return Vec::new();
        }
        if let Some(parent) = self.nodes.get(&hash).and_then(|node| node.parent)
            && let Some(parent) = self.nodes.get_mut(&parent)
        {
            parent.children.retain(|child| *child != hash);
        }
        let mut removed = Vec::new();
        let mut open = vec![hash];
        while let Some(hash) = open.pop() {
            if let Some(node) = self.nodes.remove(&hash) {
                open.extend(node.children);
                removed.push(BlockReference {
                    number: node.number,
                    hash,
                });
            }
        }
        removed
    }

    /// Every block of the tree with a number, in no order.
    pub fn at_number(&self, number: BlockNumber) -> impl Iterator<Item = BlockReference> {
        let with_number = self.nodes.iter().filter(move |(_, node)| node.number == number);
        with_number.map(move |(hash, _)| BlockReference { number, hash: *hash })
    }

    /// A block and those below it in its chain, down to the root; nothing where it is not in the tree.
    pub fn chain_from(&self, tip: ContentId) -> impl Iterator<Item = BlockReference> {
        let reference = |hash: ContentId| {
            self.nodes.get(&hash).map(|node| {
                (
                    BlockReference {
                        number: node.number,
                        hash,
                    },
                    node.parent,
                )
            })
        };
        std::iter::successors(reference(tip), move |(_, parent)| parent.and_then(reference))
            .map(|(block, _)| block)
    }

    fn subtree_weights(&self, views: &[(ContentId, u64)]) -> HashMap<ContentId, u64> {
        let mut weights: HashMap<ContentId, u64> = HashMap::new();
        for (tip, weight) in views {
            for block in self.chain_from(*tip) {
                *weights.entry(block.hash).or_default() += weight;
            }
        }
        weights
    }

    fn subtree_heights(&self) -> HashMap<ContentId, BlockNumber> {
        let mut by_height: Vec<_> = self.nodes.iter().collect();
        by_height.sort_by_key(|(_, node)| std::cmp::Reverse(node.number));
        let mut heights: HashMap<ContentId, BlockNumber> = HashMap::new();
        for (hash, node) in by_height {
            let own = *heights.entry(*hash).or_insert(node.number);
            if let Some(parent) = node.parent {
                let height = heights.entry(parent).or_insert(own);
                *height = own.max(*height);
            }
        }
        heights
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: ForkLimits = ForkLimits {
        blocks: 64,
        siblings: 4,
    };

    fn id(name: u64) -> ContentId {
        ContentId::of(&name.to_be_bytes())
    }

    fn reference(number: u64, name: u64) -> BlockReference {
        BlockReference {
            number: BlockNumber::try_from(number).unwrap(),
            hash: id(name),
        }
    }

    /// 0 - 1 - 2 - 3
    ///      \- 12 - 13 - 14
    fn tree() -> ForkTree {
        let mut tree = ForkTree::new(reference(0, 0), LIMITS);
        for (number, name, parent) in [
            (1, 1, 0),
            (2, 2, 1),
            (3, 3, 2),
            (2, 12, 1),
            (3, 13, 12),
            (4, 14, 13),
        ] {
            tree.insert(reference(number, name), id(parent)).unwrap();
        }
        tree
    }

    #[test]
    fn weight_beats_length_and_length_beats_nothing() {
        let tree = tree();
        assert_eq!(tree.best(&[]), reference(4, 14));
        assert_eq!(tree.best(&[(id(2), 1)]), reference(3, 3));
        assert_eq!(tree.best(&[(id(2), 1), (id(12), 1)]), reference(4, 14));
        assert_eq!(
            tree.best(&[(id(3), 2), (id(14), 1), (id(99), 9)]),
            reference(3, 3)
        );
    }

    #[test]
    fn the_lower_hash_breaks_a_tie() {
        let mut tree = ForkTree::new(reference(0, 0), LIMITS);
        tree.insert(reference(1, 1), id(0)).unwrap();
        tree.insert(reference(1, 2), id(0)).unwrap();
        assert_eq!(tree.best(&[]).hash, id(1).min(id(2)));
    }

    #[test]
    fn a_reorganization_goes_over_the_common_ancestor() {
        let way = tree().reorganization(id(3), id(14)).unwrap();
        assert_eq!(way.ancestor, reference(1, 1));
        assert_eq!(way.undo, [reference(3, 3), reference(2, 2)]);
        assert_eq!(way.redo, [reference(2, 12), reference(3, 13), reference(4, 14)]);
        let forward = tree().reorganization(id(1), id(3)).unwrap();
        assert!(forward.undo.is_empty());
    }

    #[test]
    fn a_fork_is_named_with_the_last_block_it_shares() {
        let fork = |tip, ancestor| Fork { tip, ancestor };
        let tree = tree();
        let shared = reference(1, 1);
        assert_eq!(tree.forks_beside(id(3)), [fork(reference(4, 14), shared)]);
        assert_eq!(tree.forks_beside(id(14)), [fork(reference(3, 3), shared)]);
        assert_eq!(tree.forks_beside(id(99)), []);
        let alone = ForkTree::new(reference(0, 0), LIMITS);
        assert_eq!(alone.forks_beside(id(0)), []);
    }

    #[test]
    fn a_new_root_drops_what_does_not_descend_from_it() {
        let mut tree = tree();
        let mut dropped = tree.advance_root(id(2));
        dropped.sort();
        let mut expected = vec![reference(2, 12), reference(3, 13), reference(4, 14)];
        expected.sort();
        assert_eq!(dropped, expected);
        assert_eq!(tree.root(), reference(2, 2));
        assert_eq!(tree.best(&[]), reference(3, 3));
        assert!(matches!(
            tree.insert(reference(2, 20), id(1)),
            Err(ForkError::UnknownParent(_))
        ));
    }

    #[test]
    fn a_tree_stays_under_its_limits() {
        let mut tree = ForkTree::new(reference(0, 0), LIMITS);
        for name in 1..=4 {
            tree.insert(reference(1, name), id(0)).unwrap();
        }
        assert!(matches!(
            tree.insert(reference(1, 5), id(0)),
            Err(ForkError::TooManySiblings { .. })
        ));
        assert!(matches!(
            tree.insert(reference(9, 6), id(1)),
            Err(ForkError::WrongNumber { .. })
        ));
        for depth in 2..=61 {
            tree.insert(
                reference(depth, 100 + depth),
                if depth == 2 { id(1) } else { id(99 + depth) },
            )
            .unwrap();
        }
        assert!(matches!(
            tree.insert(reference(62, 162), id(161)),
            Err(ForkError::Full(64))
        ));
    }

    proptest! {
        /// The winner does not depend on the order of arrival, and following it never crosses the root.
        #[test]
        fn the_winner_is_a_function_of_the_tree(parents in prop::collection::vec(any::<prop::sample::Index>(), 1..30), views in prop::collection::vec((any::<prop::sample::Index>(), 0_u64..3), 0..5)) {
            let mut blocks: Vec<(BlockReference, ContentId)> = Vec::new();
            for (name, parent) in parents.iter().enumerate() {
                let at = parent.index(blocks.len() + 1);
                let parent = if at == 0 { reference(0, 0) } else { blocks[at - 1].0 };
                blocks.push((reference(parent.number.get() + 1, name as u64 + 1), parent.hash));
            }
            let limits = ForkLimits { blocks: 64, siblings: 64 };
            let mut forward = ForkTree::new(reference(0, 0), limits);
            for (block, parent) in &blocks {
                forward.insert(*block, *parent).unwrap();
            }
            let mut other = ForkTree::new(reference(0, 0), limits);
            let mut by_height = blocks.clone();
            by_height.sort_by_key(|(block, _)| (block.number, std::cmp::Reverse(block.hash)));
            for (block, parent) in &by_height {
                other.insert(*block, *parent).unwrap();
            }
            let views: Vec<_> = views.iter().map(|(at, weight)| (blocks[at.index(blocks.len())].0.hash, *weight)).collect();
            let best = forward.best(&views);
            prop_assert_eq!(best, other.best(&views));
            prop_assert!(forward.is_on_chain_of(id(0), best.hash));
        }
    }
}
