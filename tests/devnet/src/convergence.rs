//! Whether a node is where it must be: the head, the state and every block.

use std::fmt;

use honeygraph_agent::wire::shapes::{AnchorAnswer, DgraphStatus, HashAnswer};
use honeygraph_chain::checkpoint::Anchor;
use honeygraph_chain::{BlockNumber, BlockRange};
use indicatif::HumanCount;

use crate::observation::{Condition, NodePicture};

/// What a node says about one block.
#[derive(Debug, Clone, Default)]
pub(crate) struct Testimony {
    /// Its hash of the block.
    pub hash: Option<HashAnswer>,
    /// Its anchor there.
    pub anchor: Option<AnchorAnswer>,
}

/// What a node still lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shortcoming {
    /// It is not running.
    Offline(&'static str),
    /// It does not answer.
    Silent,
    /// Its head is another one.
    Head(Option<BlockNumber>),
    /// Its state stands at another block.
    State(Option<BlockNumber>),
    /// Blocks are missing.
    Missing {
        /// How many.
        blocks: u64,
        /// The lowest gap.
        first: BlockRange,
    },
    /// No checkpoint that it recomputed covers the head.
    Unproven(Option<BlockNumber>),
    /// The head is not irreversible yet.
    NotFinal(Option<BlockNumber>),
    /// It has no anchor or hash for the head.
    NoAnchor,
    /// Its block hash is another one.
    BlockHash(String),
    /// The content id of its state is another one.
    StateHash(String),
    /// The digest of its state is another one.
    StateDigest(String),
    /// Its Dgraph is not there yet.
    Dgraph(String),
}

impl fmt::Display for Shortcoming {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline(reason) => write!(formatter, "is offline ({reason})"),
            Self::Silent => formatter.write_str("does not answer"),
            Self::Head(head) => write!(formatter, "has head {}", height(*head)),
            Self::State(state) => write!(formatter, "has the state of block {}", height(*state)),
            Self::Missing { blocks, first } => {
                let count = HumanCount(*blocks);
                write!(
                    formatter,
                    "is missing {count} blocks, the first of them {}..={}",
                    height(Some(first.start())),
                    height(Some(first.end()))
                )
            }
            Self::Unproven(to) => write!(formatter, "has proven its blocks to {} only", height(*to)),
            Self::NotFinal(lib) => write!(formatter, "has last irreversible block {}", height(*lib)),
            Self::NoAnchor => formatter.write_str("has no anchor at the head yet"),
            Self::BlockHash(hash) => write!(formatter, "has another block: {hash}"),
            Self::StateHash(hash) => write!(formatter, "has another state: {hash}"),
            Self::StateDigest(digest) => write!(formatter, "has another state digest: {digest}"),
            Self::Dgraph(reason) => write!(formatter, "has a Dgraph that {reason}"),
        }
    }
}

fn height(number: Option<BlockNumber>) -> String {
    number.map_or_else(
        || "none".to_owned(),
        |number| HumanCount(number.get()).to_string(),
    )
}

/// What keeps a node from having all of the chain from `first` to `target`, proven and irreversible.
pub(crate) fn shortcomings(
    node: &NodePicture,
    testimony: &Testimony,
    first: BlockNumber,
    target: &Anchor,
) -> Vec<Shortcoming> {
    let standing = match &node.condition {
        Condition::Offline { reason, .. } => return vec![Shortcoming::Offline(reason)],
        Condition::Silent => return vec![Shortcoming::Silent],
        Condition::Online(standing) => standing,
    };
    let mut found = Vec::new();
    let head = Some(target.block_num);
    if standing.status.head != head {
        found.push(Shortcoming::Head(standing.status.head));
    }
    if standing.status.state_height != head {
        found.push(Shortcoming::State(standing.status.state_height));
    }
    if let Ok(chain) = BlockRange::new(first, target.block_num) {
        let missing: Vec<_> = standing.missing.present_in(chain).collect();
        if let Some(first) = missing.first() {
            found.push(Shortcoming::Missing {
                blocks: missing.iter().copied().map(BlockRange::len).sum(),
                first: *first,
            });
        }
    }
    if standing.proven_to() < head {
        found.push(Shortcoming::Unproven(standing.proven_to()));
    }
    if standing.status.lib < head {
        found.push(Shortcoming::NotFinal(standing.status.lib));
    }
    found.extend(
        standing
            .status
            .dgraph
            .as_ref()
            .and_then(|dgraph| behind(dgraph, head)),
    );
    if !found.is_empty() {
        // What follows is only asked of a node that has everything.
        return found;
    }
    let (Some(hash), Some(anchor)) = (&testimony.hash, &testimony.anchor) else {
        return vec![Shortcoming::NoAnchor];
    };
    for block_hash in [hash.block_hash, anchor.block_hash] {
        if block_hash != target.block_hash {
            found.push(Shortcoming::BlockHash(block_hash.to_string()));
        }
    }
    if anchor.state_hash != target.state_hash {
        found.push(Shortcoming::StateHash(anchor.state_hash.to_string()));
    }
    if anchor.state_digest != target.state_digest {
        found.push(Shortcoming::StateDigest(anchor.state_digest.to_string()));
    }
    found
}

/// What keeps a Dgraph from standing where the log stands.
fn behind(dgraph: &DgraphStatus, head: Option<BlockNumber>) -> Option<Shortcoming> {
    let reason = if let Some(mismatch) = &dgraph.mismatch {
        format!(
            "holds another block {} than the log",
            height(Some(mismatch.block))
        )
    } else if !dgraph.connected {
        let error = dgraph.last_error.as_deref().unwrap_or("it was not reached yet");
        format!("does not answer: {error}")
    } else if dgraph.applied_block != head {
        format!("has the blocks up to {}", height(dgraph.applied_block))
    } else if dgraph.state_block != head {
        format!("has the state of block {}", height(dgraph.state_block))
    } else {
        return None;
    };
    Some(Shortcoming::Dgraph(reason))
}

#[cfg(test)]
mod tests {
    use honeygraph_agent::wire::shapes::{
        Agreement, DgraphMismatch, DgraphWriters, SyncStatus, VerificationStatus,
    };
    use honeygraph_chain::interval::IntervalSet;
    use honeygraph_chain::{ContentId, StateDigest};

    use super::*;
    use crate::observation::Standing;

    fn number(number: u64) -> BlockNumber {
        BlockNumber::try_from(number).unwrap()
    }

    fn target() -> Anchor {
        Anchor {
            block_num: number(300),
            block_hash: ContentId::of(b"block"),
            state_hash: ContentId::of(b"state"),
            state_digest: StateDigest::EMPTY,
        }
    }

    fn standing() -> Standing {
        let head = Some(target().block_num);
        Standing {
            status: SyncStatus {
                head,
                state_height: head,
                lib: head,
                verification: Some(VerificationStatus {
                    policy: honeygraph_agent::wire::shapes::VerificationPolicy::Strict,
                    verified_height: head,
                    unverified_blocks: 0,
                    agreement: Agreement::Agreed,
                }),
                ..SyncStatus::default()
            },
            missing: IntervalSet::default(),
        }
    }

    fn testimony(anchor: Anchor) -> Testimony {
        Testimony {
            hash: Some(HashAnswer {
                block_num: anchor.block_num,
                block_hash: anchor.block_hash,
                previous_hash: ContentId::of(b"before"),
                is_finalized: true,
            }),
            anchor: Some(AnchorAnswer::new(anchor, Agreement::Agreed)),
        }
    }

    fn found(condition: Condition, testimony: &Testimony) -> Vec<Shortcoming> {
        let node = NodePicture {
            name: "node-1".to_owned(),
            condition,
            rate: 0,
        };
        shortcomings(&node, testimony, number(101), &target())
    }

    fn online(change: impl FnOnce(&mut Standing)) -> Vec<Shortcoming> {
        let mut standing = standing();
        change(&mut standing);
        found(Condition::Online(Box::new(standing)), &testimony(target()))
    }

    #[test]
    fn a_whole_node_lacks_nothing() {
        assert_eq!(online(|_| {}), []);
    }

    #[test]
    fn a_node_that_is_not_there_lacks_all() {
        let none = Testimony::default();
        let offline = Condition::Offline {
            reason: "killed",
            missing: IntervalSet::default(),
        };
        assert_eq!(found(offline, &none), [Shortcoming::Offline("killed")]);
        assert_eq!(found(Condition::Silent, &none), [Shortcoming::Silent]);
        let here = Condition::Online(Box::new(standing()));
        assert_eq!(found(here, &none), [Shortcoming::NoAnchor]);
    }

    #[test]
    fn each_difference_is_found() {
        let behind = Some(number(299));
        assert_eq!(
            online(|node| node.status.head = behind),
            [Shortcoming::Head(behind)]
        );
        assert_eq!(online(|node| node.status.head = Some(number(301))).len(), 1);
        assert_eq!(
            online(|node| node.status.state_height = behind),
            [Shortcoming::State(behind)]
        );
        assert_eq!(
            online(|node| node.status.verification = None),
            [Shortcoming::Unproven(None)]
        );
        assert_eq!(
            online(|node| node.status.lib = behind),
            [Shortcoming::NotFinal(behind)]
        );
        let gap = BlockRange::starting_at(number(150), 5);
        assert_eq!(
            online(|node| node.missing.insert(gap)),
            [Shortcoming::Missing {
                blocks: 5,
                first: gap
            }]
        );
        let outside = BlockRange::single(number(100));
        assert_eq!(online(|node| node.missing.insert(outside)), []);
    }

    #[test]
    fn a_dgraph_must_stand_where_the_log_stands() {
        let head = Some(target().block_num);
        let found = |change: fn(&mut DgraphStatus)| {
            online(|node| {
                let mut dgraph = DgraphStatus {
                    mode: DgraphWriters::Shared,
                    connected: true,
                    from_block: None,
                    applied_block: head,
                    applied_hash: None,
                    state_block: head,
                    lag_blocks: Some(0),
                    mismatch: None,
                    last_error: None,
                };
                change(&mut dgraph);
                node.status.dgraph = Some(dgraph);
            })
        };
        assert_eq!(found(|_| {}), []);
        let changes: [fn(&mut DgraphStatus); 4] = [
            |dgraph| dgraph.connected = false,
            |dgraph| dgraph.applied_block = Some(number(299)),
            |dgraph| dgraph.state_block = None,
            |dgraph| {
                dgraph.mismatch = Some(DgraphMismatch {
                    block: number(300),
                    log_hash: None,
                    dgraph_hash: None,
                });
            },
        ];
        for change in changes {
            assert!(matches!(found(change)[..], [Shortcoming::Dgraph(_)]));
        }
    }

    #[test]
    fn each_other_hash_is_found() {
        let other = ContentId::of(b"other");
        let whole = || Condition::Online(Box::new(standing()));
        let block = Anchor {
            block_hash: other,
            ..target()
        };
        assert_eq!(found(whole(), &testimony(block)).len(), 2);
        let state = Anchor {
            state_hash: other,
            ..target()
        };
        assert_eq!(
            found(whole(), &testimony(state)),
            [Shortcoming::StateHash(other.to_string())]
        );
        let digest = StateDigest::EMPTY.plus(StateDigest::of_leaf(
            &(&honeygraph_chain::Path::from_slashed("a")).into(),
            &honeygraph_chain::JsonValue::Null,
        ));
        let digest = Anchor {
            state_digest: digest,
            ..target()
        };
        assert_eq!(found(whole(), &testimony(digest)).len(), 1);
    }

    #[test]
    fn a_shortcoming_says_what_is_missing() {
        let missing = Shortcoming::Missing {
            blocks: 1_204,
            first: BlockRange::starting_at(number(28_559_301), 1_000),
        };
        assert_eq!(
            missing.to_string(),
            "is missing 1,204 blocks, the first of them 28,559,301..=28,560,300"
        );
    }
}
