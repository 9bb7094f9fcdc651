//! Agreement: who votes, with what weight, and what the votes decide.
//!
//! `docs/protocol.md`, section 7. The denominator is the configured weight, never the weight of those that
//! happened to answer; discovered peers and the node's own view do not count.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Names one voter: a honeycomb source or a configured peer. One operator, one voter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct VoterId(pub String);

impl fmt::Display for VoterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The configured voters and their weights.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Voters(BTreeMap<VoterId, u32>);

/// What a set of votes on one question decides.
#[derive(Debug, Clone, PartialEq)]
pub enum Agreement<T> {
    /// More than half of the configured weight voted for this.
    Agreed {
        /// What was agreed.
        value: T,
        /// Those who voted for it.
        voters: Vec<VoterId>,
        /// Their weight as a part of the configured weight, above 0.5 and at most 1.
        confidence: f64,
    },
    /// Voters contradict each other so that no value can be agreed any more.
    Conflict,
    /// Not enough voters have answered.
    Undecided,
}

impl Voters {
    /// Voters with their weights; a weight of 0 takes a voter out.
    pub fn new(weights: impl IntoIterator<Item = (VoterId, u32)>) -> Self {
        Self(weights.into_iter().filter(|(_, weight)| *weight > 0).collect())
    }

    /// The configured weight.
    pub fn total(&self) -> u64 {
        self.0.values().map(|weight| u64::from(*weight)).sum()
    }

    /// The weight of one voter; 0 for everybody else.
    pub fn weight(&self, voter: &VoterId) -> u64 {
        self.0.get(voter).map_or(0, |weight| u64::from(*weight))
    }

    /// Every voter with its weight.
    pub fn iter(&self) -> impl Iterator<Item = (&VoterId, u32)> {
        self.0.iter().map(|(voter, weight)| (voter, *weight))
    }

    /// Whether a weight is more than half of the configured one.
    pub fn is_majority(&self, weight: u64) -> bool {
        weight * 2 > self.total()
    }

    /// Whether one voter alone decides: the node then says that it is unanchored.
    pub fn is_single(&self) -> bool {
        self.0.len() <= 1
    }

    /// Whether so much of the weight votes for something else that a value cannot be agreed any more.
    pub fn contradict<'a, T: PartialEq + 'a>(
        &self,
        value: &T,
        votes: impl IntoIterator<Item = (&'a VoterId, &'a T)>,
    ) -> bool {
        let against = votes.into_iter().filter(|(_, vote)| *vote != value);
        let against: u64 = against.map(|(voter, _)| self.weight(voter)).sum();
        against > 0 && !self.is_majority(self.total().saturating_sub(against))
    }

    /// Decides one question. Votes of those who are no voters are ignored; of several votes of one voter
    /// the last counts.
    pub fn decide<T: Ord + Clone>(&self, votes: impl IntoIterator<Item = (VoterId, T)>) -> Agreement<T> {
        let last: BTreeMap<VoterId, T> = votes
            .into_iter()
            .filter(|(voter, _)| self.0.contains_key(voter))
            .collect();
        let mut by_value: BTreeMap<T, Vec<VoterId>> = BTreeMap::new();
        for (voter, value) in last {
            by_value.entry(value).or_default().push(voter);
        }
        let weigh = |group: &[VoterId]| group.iter().map(|voter| self.weight(voter)).sum::<u64>();
        let answered: u64 = by_value.values().map(|voters| weigh(voters)).sum();
        let best = by_value.iter().max_by_key(|(_, voters)| weigh(voters));
        let Some((value, supporters)) = best else {
            return Agreement::Undecided;
        };
        let weight = weigh(supporters);
        if self.is_majority(weight) {
            #[allow(clippy::cast_precision_loss, reason = "weights are small")]
            let confidence = weight as f64 / self.total() as f64;
            return Agreement::Agreed {
                value: value.clone(),
                voters: supporters.clone(),
                confidence,
            };
        }
        let silent = self.total() - answered;
        if self.is_majority(weight + silent) {
            Agreement::Undecided
        } else {
            Agreement::Conflict
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn voters(weights: &[u32]) -> Voters {
        Voters::new(
            weights
                .iter()
                .enumerate()
                .map(|(at, weight)| (VoterId(at.to_string()), *weight)),
        )
    }

    fn votes<T: Clone>(values: &[(usize, T)]) -> Vec<(VoterId, T)> {
        values
            .iter()
            .map(|(voter, value)| (VoterId(voter.to_string()), value.clone()))
            .collect()
    }

    #[test]
    fn silence_is_not_consent() {
        assert_eq!(
            voters(&[1, 1, 1]).decide(votes(&[(0, "a")])),
            Agreement::Undecided
        );
        assert!(matches!(
            voters(&[1, 1, 1]).decide(votes(&[(0, "a"), (2, "a")])),
            Agreement::Agreed { value: "a", .. }
        ));
    }

    #[test]
    fn two_voters_must_both_agree_and_one_is_enough_alone() {
        assert_eq!(voters(&[1, 1]).decide(votes(&[(0, "a")])), Agreement::Undecided);
        assert_eq!(
            voters(&[1, 1]).decide(votes(&[(0, "a"), (1, "b")])),
            Agreement::Conflict
        );
        assert!(matches!(
            voters(&[1]).decide(votes(&[(0, "a")])),
            Agreement::Agreed { .. }
        ));
    }

    #[test]
    fn a_value_is_contradicted_once_the_rest_cannot_agree_on_it() {
        let contradict = |weights: &[u32], cast: &[(usize, &'static str)]| {
            let votes = votes(cast);
            voters(weights).contradict(&"a", votes.iter().map(|(voter, vote)| (voter, vote)))
        };
        assert!(contradict(&[1, 1], &[(0, "a"), (1, "b")]));
        assert!(!contradict(&[1, 1, 1], &[(0, "a"), (1, "b")]));
        assert!(contradict(&[1, 1, 1], &[(0, "a"), (1, "b"), (2, "c")]));
        assert!(contradict(&[1, 1, 2], &[(2, "b")]));
        // Neither strangers nor silence.
        assert!(!contradict(&[1], &[(7, "b")]));
        assert!(!contradict(&[1, 1], &[(0, "a")]));
        assert!(!contradict(&[], &[(0, "b")]));
    }

    #[test]
    fn strangers_do_not_count() {
        assert_eq!(
            voters(&[1]).decide(votes(&[(7, "a"), (8, "a")])),
            Agreement::Undecided
        );
        assert_eq!(voters(&[]).decide(votes(&[(0, "a")])), Agreement::Undecided);
    }

    proptest! {
        /// I8: no quorum, no admission; and never two values agreed by the same set.
        #[test]
        fn agreed_means_more_than_half(
            weights in prop::collection::vec(0_u32..5, 0..8),
            cast in prop::collection::vec((0_usize..10, 0_u8..3), 0..20),
        ) {
            let voters = voters(&weights);
            let mut last = BTreeMap::new();
            for (voter, value) in &cast {
                last.insert(*voter, *value);
            }
            let weight_of = |wanted: u8| -> u64 {
                last.iter().filter(|(_, value)| **value == wanted)
                    .map(|(voter, _)| weights.get(*voter).map_or(0, |weight| u64::from(*weight))).sum()
            };
            let winner = (0..3).find(|value| weight_of(*value) * 2 > voters.total());
            match voters.decide(votes(&cast)) {
                Agreement::Agreed { value, .. } => prop_assert_eq!(Some(value), winner),
                _ => prop_assert_eq!(winner, None),
            }
        }
    }
}
