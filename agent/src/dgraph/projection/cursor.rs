//! How far a projection has come, and how that stands in Dgraph.

use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::{BlockNumber, ContentId, PathKey};

use super::cluster::{Expected, NetworkNode};
use super::error::ProjectionError;
use super::region::NETWORK_NODE;
use super::schema::predicate as p;
use crate::dgraph::client::{Mutation, Value};

/// How far a projection has come. Written in the transaction that writes what it tells of, and in no other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The last block that stands in Dgraph.
    pub applied: Option<BlockReference>,
    /// The lowest block from which every block up to the last stands there; none where that is not known.
    pub from: Option<BlockNumber>,
    /// Which state stands there.
    pub state: StateCursor,
}

/// Which state stands in Dgraph.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StateCursor {
    /// None.
    Nothing,
    /// The one after a block.
    At(BlockNumber),
    /// One that is being replaced by the one after a block.
    Replacing {
        /// The block.
        to: BlockNumber,
        /// What is replaced already: paths up to and with this one, in the order of their keys.
        after: Option<PathKey>,
    },
}

impl Cursor {
    /// Of a Dgraph with nothing in it.
    pub const NOTHING: Self = Self {
        applied: None,
        from: None,
        state: StateCursor::Nothing,
    };

    /// How many blocks stand there, as far as that is known.
    pub fn blocks(&self) -> u64 {
        match (self.from, self.applied) {
            (Some(from), Some(applied)) => applied.number.next().distance_from(from),
            _ => 0,
        }
    }

    /// Reads it out of the network node.
    pub fn read(node: &NetworkNode) -> Result<Self, ProjectionError> {
        let applied = match (node.applied_block, &node.applied_hash) {
            (None, None) => None,
            (Some(number), Some(hash)) => Some(BlockReference {
                number: block_number(p::APPLIED_BLOCK, number)?,
                hash: content_id(hash)?,
            }),
            _ => {
                return Err(ProjectionError::Damaged(
                    "it has one of appliedBlock and appliedHash without the other".to_owned(),
                ));
            }
        };
        let from = match (node.applied_from, &applied) {
            (None, _) => None,
            (Some(from), Some(applied)) if from <= applied.number.get().cast_signed() => {
                Some(block_number(p::APPLIED_FROM, from)?)
            }
            (Some(from), _) => {
                return Err(ProjectionError::Damaged(format!(
                    "its appliedFrom is {from}, above appliedBlock"
                )));
            }
        };
        let state = match (node.state_block, node.state_to, &node.state_after) {
            (None, None, None) => StateCursor::Nothing,
            (Some(block), None, None) => StateCursor::At(block_number(p::STATE_BLOCK, block)?),
            (None, Some(to), after) => StateCursor::Replacing {
                to: block_number(p::STATE_TO, to)?,
                after: after.as_deref().map(path_key).transpose()?,
            },
            _ => {
                return Err(ProjectionError::Damaged(
                    "its stateBlock, stateTo and stateAfter contradict each other".to_owned(),
                ));
            }
        };
        Ok(Self { applied, from, state })
    }

    /// What stands in the network node while this cursor does.
    fn facts(&self) -> [(&'static str, Option<Value>); 6] {
        let number = |number: BlockNumber| Value::Integer(number.get().cast_signed());
        let (block, to, after) = match &self.state {
            StateCursor::Nothing => (None, None, None),
            StateCursor::At(block) => (Some(*block), None, None),
            StateCursor::Replacing { to, after } => (None, Some(*to), after.as_ref()),
        };
        [
            (p::APPLIED_BLOCK, self.applied.map(|at| number(at.number))),
            (
                p::APPLIED_HASH,
                self.applied.map(|at| Value::Text(at.hash.to_string())),
            ),
            (p::APPLIED_FROM, self.from.map(number)),
            (p::STATE_BLOCK, block.map(number)),
            (p::STATE_TO, to.map(number)),
            (
                p::STATE_AFTER,
                after.map(|key| Value::Text(format!("0x{}", hex::encode(key.as_bytes())))),
            ),
        ]
    }

    /// Asks that this cursor stands there.
    pub(super) fn expect(&self, expected: &mut Expected) {
        for (predicate, value) in self.facts() {
            expected.push(predicate, value);
        }
    }

    /// Puts `self` where `before` stood.
    pub(super) fn replace(&self, before: &Self, mutation: &mut Mutation) {
        for ((predicate, value), (_, stood)) in self.facts().into_iter().zip(before.facts()) {
            match value {
                value if value == stood => {}
                Some(value) => mutation.set(NETWORK_NODE, predicate, value),
                None => mutation.clear(NETWORK_NODE, predicate),
            }
        }
    }
}

fn block_number(predicate: &str, number: i64) -> Result<BlockNumber, ProjectionError> {
    u64::try_from(number)
        .ok()
        .and_then(|number| BlockNumber::try_from(number).ok())
        .ok_or_else(|| ProjectionError::Damaged(format!("its {predicate} is {number}")))
}

fn content_id(text: &str) -> Result<ContentId, ProjectionError> {
    text.parse()
        .map_err(|error| ProjectionError::Damaged(format!("its appliedHash: {error}")))
}

fn path_key(text: &str) -> Result<PathKey, ProjectionError> {
    text.strip_prefix("0x")
        .and_then(|digits| hex::decode(digits).ok())
        .map(PathKey::from)
        .filter(|key| key.to_path().is_ok())
        .ok_or_else(|| ProjectionError::Damaged("its stateAfter is no key of a path".to_owned()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn cursors() -> impl Strategy<Value = Cursor> {
        let numbers = || (0..=BlockNumber::MAX.get()).prop_map(|number| number.try_into().unwrap());
        let keys = proptest::collection::vec(".{0,5}", 0..4).prop_map(|segments| {
            segments
                .iter()
                .fold(PathKey::root(), |key, segment| key.child(segment))
        });
        let state = prop_oneof![
            Just(StateCursor::Nothing),
            numbers().prop_map(StateCursor::At),
            (numbers(), proptest::option::of(keys))
                .prop_map(|(to, after)| StateCursor::Replacing { to, after }),
        ];
        let applied = (numbers(), any::<[u8; 32]>()).prop_map(|(number, digest)| BlockReference {
            number,
            hash: ContentId::from_digest(digest),
        });
        let below = proptest::option::of(0..=u64::MAX);
        (proptest::option::of(applied), below, state).prop_map(|(applied, below, state)| Cursor {
            applied,
            from: applied
                .zip(below)
                .map(|(applied, below)| applied.number.saturating_sub(below)),
            state,
        })
    }

    fn node_of(cursor: &Cursor) -> NetworkNode {
        let mut node = NetworkNode::default();
        for (predicate, value) in cursor.facts() {
            match (predicate, value) {
                (p::APPLIED_BLOCK, Some(Value::Integer(number))) => node.applied_block = Some(number),
                (p::APPLIED_HASH, Some(Value::Text(text))) => node.applied_hash = Some(text),
                (p::APPLIED_FROM, Some(Value::Integer(number))) => node.applied_from = Some(number),
                (p::STATE_BLOCK, Some(Value::Integer(number))) => node.state_block = Some(number),
                (p::STATE_TO, Some(Value::Integer(number))) => node.state_to = Some(number),
                (p::STATE_AFTER, Some(Value::Text(text))) => node.state_after = Some(text),
                (_, None) => {}
                other => panic!("{other:?}"),
            }
        }
        node
    }

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_is_written(cursor in cursors()) {
            prop_assert_eq!(Cursor::read(&node_of(&cursor)).unwrap(), cursor);
        }
    }

    #[test]
    fn what_no_writer_writes_is_damage() {
        let damaged = [
            NetworkNode {
                applied_block: Some(1),
                ..NetworkNode::default()
            },
            NetworkNode {
                applied_block: Some(-1),
                applied_hash: Some(ContentId::of(b"x").to_string()),
                ..NetworkNode::default()
            },
            NetworkNode {
                applied_block: Some(1),
                applied_hash: Some("Qm".to_owned()),
                ..NetworkNode::default()
            },
            NetworkNode {
                applied_from: Some(1),
                ..NetworkNode::default()
            },
            NetworkNode {
                applied_block: Some(1),
                applied_hash: Some(ContentId::of(b"x").to_string()),
                applied_from: Some(2),
                ..NetworkNode::default()
            },
            NetworkNode {
                state_block: Some(1),
                state_to: Some(1),
                ..NetworkNode::default()
            },
            NetworkNode {
                state_after: Some("0x".to_owned()),
                ..NetworkNode::default()
            },
            NetworkNode {
                state_to: Some(1),
                state_after: Some("0x61".to_owned()),
                ..NetworkNode::default()
            },
        ];
        for node in damaged {
            let error = Cursor::read(&node).unwrap_err();
            assert!(matches!(error, ProjectionError::Damaged(_)), "{node:?}");
        }
    }
}
