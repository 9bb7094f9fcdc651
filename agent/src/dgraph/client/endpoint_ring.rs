//! Which alpha is asked next.

use std::time::{Duration, Instant};

/// First rest of an alpha that failed.
const FIRST_REST: Duration = Duration::from_millis(500);
/// Longest rest.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Alphas in turn; those that failed rest, longer with every failure. Time is handed in.
#[derive(Debug)]
pub(super) struct EndpointRing {
    next: usize,
    alphas: Vec<Standing>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Standing {
    failures: u32,
    rests_until: Option<Instant>,
}

impl EndpointRing {
    /// All of `count` alphas are taken to be well; at least one.
    pub(super) fn new(count: usize) -> Self {
        Self {
            next: 0,
            alphas: vec![Standing::default(); count.max(1)],
        }
    }

    /// The next in turn that does not rest, or else the one whose rest ends first.
    pub(super) fn choose(&mut self, now: Instant) -> usize {
        let count = self.alphas.len();
        let in_turn = (0..count).map(|step| (self.next + step) % count);
        let chosen = in_turn
            .min_by_key(|&index| {
                self.alphas
                    .get(index)
                    .and_then(|standing| standing.rests_until)
                    .filter(|&until| until > now)
            })
            .unwrap_or_default();
        self.next = (chosen + 1) % count;
        chosen
    }

    /// The alpha answered.
    pub(super) fn succeeded(&mut self, index: usize) {
        if let Some(standing) = self.alphas.get_mut(index) {
            *standing = Standing::default();
        }
    }

    /// The alpha did not answer.
    pub(super) fn failed(&mut self, index: usize, now: Instant) {
        if let Some(standing) = self.alphas.get_mut(index) {
            let rest = FIRST_REST
                .saturating_mul(2_u32.saturating_pow(standing.failures))
                .min(LONGEST_REST);
            standing.failures = standing.failures.saturating_add(1);
            standing.rests_until = now.checked_add(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn alphas_take_turns() {
        let mut ring = EndpointRing::new(3);
        let now = Instant::now();
        let chosen: Vec<usize> = (0..6).map(|_| ring.choose(now)).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn one_that_failed_rests_and_comes_back() {
        let mut ring = EndpointRing::new(2);
        let now = Instant::now();
        ring.failed(1, now);
        assert_eq!([ring.choose(now), ring.choose(now)], [0, 0]);
        let later = now + FIRST_REST;
        assert_eq!([ring.choose(later), ring.choose(later)], [1, 0]);
        ring.failed(1, later);
        assert_eq!(ring.choose(later + FIRST_REST), 0, "the second rest is longer");
        ring.succeeded(1);
        assert_eq!(ring.choose(later), 1);
    }

    #[test]
    fn when_all_rest_the_first_to_be_back_is_asked() {
        let mut ring = EndpointRing::new(2);
        let now = Instant::now();
        ring.failed(0, now);
        ring.failed(0, now);
        ring.failed(1, now);
        assert_eq!([ring.choose(now), ring.choose(now)], [1, 1]);
    }

    proptest! {
        #[test]
        fn whatever_fails_an_alpha_is_chosen_and_none_rests_longer_than_the_longest(
            count in 0..5_usize,
            steps in prop::collection::vec((0..6_usize, any::<bool>(), 0..40_u64), 0..80),
        ) {
            let mut ring = EndpointRing::new(count);
            let mut now = Instant::now();
            for (index, answers, seconds) in steps {
                if answers { ring.succeeded(index) } else { ring.failed(index, now) }
                prop_assert!(ring.choose(now) < count.max(1));
                now += Duration::from_secs(seconds);
            }
            let rested = now + LONGEST_REST;
            let chosen: std::collections::BTreeSet<usize> = (0..count).map(|_| ring.choose(rested)).collect();
            prop_assert_eq!(chosen.len(), count);
        }
    }
}
