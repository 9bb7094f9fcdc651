//! Who sent what, until it is known what was right.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::block_number::BlockNumber;
use crate::content_id::ContentId;
use crate::peer::PeerId;

/// Remembers which peer sent which hash for blocks of a period that came from several peers and turned out
/// wrong as a whole. Once the period is proven, it names those who sent something else. Holds a bounded number
/// of answers and forgets the oldest first.
#[derive(Debug, Clone)]
pub struct BlameLedger {
    answers: VecDeque<Answer>,
    capacity: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    peer: PeerId,
    number: BlockNumber,
    hash: ContentId,
}

impl BlameLedger {
    /// A ledger for at most `capacity` answers.
    pub const fn new(capacity: usize) -> Self {
        Self {
            answers: VecDeque::new(),
            capacity,
        }
    }

    /// A peer sent a block with this hash, in a period that did not prove.
    pub fn remember(&mut self, peer: PeerId, number: BlockNumber, hash: ContentId) {
        let answer = Answer { peer, number, hash };
        if self.capacity == 0 || self.answers.contains(&answer) {
            return;
        }
        while self.answers.len() >= self.capacity {
            self.answers.pop_front();
        }
        self.answers.push_back(answer);
    }

    /// Names the peers that sent another hash than the proven one for any of these blocks, and forgets what
    /// was remembered of the blocks.
    pub fn settle(&mut self, proven: impl IntoIterator<Item = (BlockNumber, ContentId)>) -> BTreeSet<PeerId> {
        let proven: BTreeMap<BlockNumber, ContentId> = proven.into_iter().collect();
        let mut guilty = BTreeSet::new();
        self.answers.retain(|answer| match proven.get(&answer.number) {
            Some(hash) => {
                if *hash != answer.hash {
                    guilty.insert(answer.peer.clone());
                }
                false
            }
            None => true,
        });
        guilty
    }

    /// Number of answers it holds.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerId {
        name.parse().unwrap()
    }

    fn number(number: u64) -> BlockNumber {
        BlockNumber::try_from(number).unwrap()
    }

    #[test]
    fn it_names_those_who_sent_something_else() {
        let (right, wrong) = (ContentId::of(b"right"), ContentId::of(b"wrong"));
        let mut ledger = BlameLedger::new(100);
        ledger.remember(peer("honest"), number(1), right);
        ledger.remember(peer("liar"), number(2), wrong);
        ledger.remember(peer("liar"), number(3), right);
        ledger.remember(peer("later"), number(9), wrong);
        let guilty = ledger.settle((1..=3).map(|at| (number(at), right)));
        assert_eq!(guilty, BTreeSet::from([peer("liar")]));
        assert_eq!(ledger.len(), 1);
        assert!(ledger.settle([(number(1), wrong)]).is_empty());
    }

    #[test]
    fn it_is_bounded() {
        let mut ledger = BlameLedger::new(10);
        for at in 0..1_000 {
            ledger.remember(peer("a"), number(at), ContentId::of(b""));
            ledger.remember(peer("a"), number(at), ContentId::of(b""));
        }
        assert_eq!(ledger.len(), 10);
        assert!(ledger.settle([(number(989), ContentId::of(b"x"))]).is_empty());
        assert_eq!(ledger.settle([(number(990), ContentId::of(b"x"))]).len(), 1);
        let mut none = BlameLedger::new(0);
        none.remember(peer("a"), number(1), ContentId::of(b""));
        assert!(none.is_empty());
    }
}
