//! What peers claim to have, and how far that is believed (`docs/sync.md`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use honeygraph_chain::BlockNumber;
use honeygraph_chain::peer::PeerId;

/// How long a peer's head is doubted at first, and at most.
const DOUBT: Duration = Duration::from_secs(10);
const DOUBT_MAX: Duration = Duration::from_mins(10);
/// Blocks of history that are wanted at once, below what is here: a day.
const STEP_MAX: u64 = 28_800;
/// Answers that peers do not have what they claim, without any block in between, after which a step is given up:
/// one from each of those that claim it, at most so many.
const DENIED_MAX: usize = 3;

/// Grows with every time in a row.
fn growing(times: u32) -> Duration {
    DOUBT.saturating_mul(1 << times.min(6)).min(DOUBT_MAX)
}

/// Peers that did not have the block right above ours although they claim higher ones.
#[derive(Debug, Default)]
pub(super) struct HeadDoubts(BTreeMap<PeerId, (Instant, u32)>);

impl HeadDoubts {
    /// The peer did not have the next block.
    pub(super) fn on_denied(&mut self, peer: &PeerId, now: Instant) {
        let (until, times) = self.0.entry(peer.clone()).or_insert((now, 0));
        *until = now + growing(*times);
        *times = times.saturating_add(1);
    }

    /// The peer gave the next block.
    pub(super) fn on_served(&mut self, peer: &PeerId) {
        self.0.remove(peer);
    }

    /// Whether the peer's head is doubted.
    pub(super) fn holds(&self, peer: &PeerId, now: Instant) -> bool {
        self.0.get(peer).is_some_and(|(until, _)| now < *until)
    }

    /// Forgets peers that are gone.
    pub(super) fn retain(&mut self, is_known: impl Fn(&PeerId) -> bool) {
        self.0.retain(|peer, _| is_known(peer));
    }
}

/// The highest head of those that are claimed. Where everybody who claims more than `height` is doubted and at
/// least as many others stand at or below it, it is theirs that counts.
pub(super) fn believed_head(
    height: BlockNumber,
    claims: impl IntoIterator<Item = (BlockNumber, bool)>,
) -> Option<BlockNumber> {
    let (above, here): (Vec<_>, Vec<_>) = claims.into_iter().partition(|(head, _)| *head > height);
    let disproved = above.iter().all(|(_, doubted)| *doubted) && above.len() <= here.len();
    let counted = if disproved { here } else { [above, here].concat() };
    counted.into_iter().map(|(head, _)| head).max()
}

/// Where the stored history ends below.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bottom {
    /// First block that is wanted now.
    pub(super) start: BlockNumber,
    /// Lowest block that is stored, or the next one to be applied.
    pub(super) lowest: BlockNumber,
    /// First block that the setting keeps.
    pub(super) kept: BlockNumber,
    /// Missing blocks of the lowest step of what is wanted.
    pub(super) missing: u64,
    /// Peers that claim blocks below what is stored.
    pub(super) claimants: usize,
}

/// How far below the stored history blocks are wanted: one step at a time, smaller where the last one was not
/// to be had from anybody, larger again where it was.
#[derive(Debug)]
pub(super) struct HistoryReach {
    step: u64,
    denied: usize,
    /// Steps that were given up since the last whole one.
    given_up: u32,
    rests_until: Option<Instant>,
    lowest: Option<BlockNumber>,
}

impl Default for HistoryReach {
    fn default() -> Self {
        Self {
            step: STEP_MAX,
            denied: 0,
            given_up: 0,
            rests_until: None,
            lowest: None,
        }
    }
}

impl HistoryReach {
    /// Blocks of a step.
    pub(super) const fn step(&self) -> u64 {
        self.step
    }

    /// A peer did not have blocks below the stored history that it claims.
    pub(super) fn on_denied(&mut self) {
        self.denied = self.denied.saturating_add(1);
    }

    /// The first block to want, where the lowest that peers claim is `claimed`.
    pub(super) fn start(&mut self, at: Bottom, claimed: Option<BlockNumber>, now: Instant) -> BlockNumber {
        let Bottom { start, lowest, .. } = at;
        if self.lowest.is_some_and(|before| lowest < before) {
            self.denied = 0;
            if self.step == STEP_MAX {
                self.given_up = 0;
            }
            self.step = self.step.saturating_mul(2).min(STEP_MAX);
        }
        self.lowest = Some(lowest);
        if start < lowest && self.denied >= at.claimants.clamp(1, DENIED_MAX) {
            self.rests_until = Some(now + growing(self.given_up));
            self.given_up = self.given_up.saturating_add(1);
            self.step = (self.step / 4).max(1);
            self.denied = 0;
        }
        let rests = self.rests_until.is_some_and(|until| now < until);
        let wanted = match claimed {
            None => start,
            Some(_) if rests => lowest,
            Some(claimed) if claimed >= lowest => lowest,
            // The step before is not whole yet.
            Some(claimed) if at.missing > self.step / 2 => start.max(claimed),
            Some(claimed) => lowest.saturating_sub(self.step).min(start).max(claimed),
        };
        wanted.max(at.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u64) -> BlockNumber {
        BlockNumber::try_from(number).unwrap()
    }

    #[test]
    fn a_head_that_nobody_can_serve_does_not_count_where_others_stand_here() {
        let head = |claims: &[(u64, bool)]| {
            let claims = claims.iter().map(|(head, doubted)| (number(*head), *doubted));
            believed_head(number(100), claims).map(BlockNumber::get)
        };
        assert_eq!(head(&[]), None);
        assert_eq!(head(&[(9_000, false), (100, false)]), Some(9_000));
        assert_eq!(head(&[(9_000, true), (100, false)]), Some(100));
        // Nobody else, or fewer, say otherwise: then blocks are missing that nobody has.
        assert_eq!(head(&[(9_000, true)]), Some(9_000));
        assert_eq!(head(&[(9_000, true), (8_000, true), (100, false)]), Some(9_000));
        assert_eq!(head(&[(9_000, true), (120, false), (100, false)]), Some(9_000));
    }

    #[test]
    fn a_doubt_ends_grows_and_is_forgotten_where_the_peer_serves() {
        let peer: PeerId = "a".parse().unwrap();
        let mut doubts = HeadDoubts::default();
        let now = Instant::now();
        doubts.on_denied(&peer, now);
        assert!(doubts.holds(&peer, now + DOUBT / 2));
        assert!(!doubts.holds(&peer, now + DOUBT));
        doubts.on_denied(&peer, now);
        assert!(doubts.holds(&peer, now + DOUBT));
        for _ in 0..40 {
            doubts.on_denied(&peer, now);
        }
        assert!(!doubts.holds(&peer, now + DOUBT_MAX));
        doubts.on_served(&peer);
        assert!(!doubts.holds(&peer, now));
    }

    /// Backfills from peers that claim everything from `claimed` on and have it from `real` on.
    fn backfill(claimed: u64, real: u64, head: u64) -> (u64, u64, u32) {
        let mut reach = HistoryReach::default();
        let (mut start, mut lowest) = (head, head);
        let mut now = Instant::now();
        let mut steps_given_up = 0;
        for _ in 0..1_000 {
            let at = |start| Bottom {
                start: number(start),
                lowest: number(lowest),
                kept: number(0),
                missing: lowest - start,
                claimants: 2,
            };
            let given_up = reach.given_up;
            start = reach.start(at(start), Some(number(claimed)), now).get();
            steps_given_up += u32::from(reach.given_up > given_up);
            assert!(start <= lowest);
            assert!(lowest - start <= STEP_MAX, "more than a step is wanted");
            if start < lowest {
                if start >= real {
                    lowest = start;
                } else {
                    reach.on_denied();
                    assert_eq!(reach.start(at(start), Some(number(claimed)), now).get(), start);
                    reach.on_denied();
                }
            }
            now += Duration::from_secs(2);
        }
        (start, lowest, steps_given_up)
    }

    #[test]
    fn history_is_filled_down_to_what_peers_have_whatever_they_claim() {
        assert_eq!(backfill(1_000, 1_000, 200_000), (1_000, 1_000, 0));
        let (start, lowest, given_up) = backfill(1, 150_000, 200_000);
        assert!(lowest - 150_000 < STEP_MAX / 64, "{lowest}");
        assert!(given_up < 24, "asked for what nobody has {given_up} times");
        assert!(lowest - start < STEP_MAX);
        // Nobody has anything below: most of the time nothing is wanted.
        let (start, lowest, given_up) = backfill(1, 200_000, 200_000);
        assert_eq!((start, lowest), (200_000, 200_000));
        assert!(given_up < 16, "{given_up}");
    }

    #[test]
    fn what_the_setting_does_not_keep_is_not_wanted() {
        let mut reach = HistoryReach::default();
        let at = Bottom {
            start: number(5_000),
            lowest: number(5_000),
            kept: number(4_000),
            missing: 0,
            claimants: 1,
        };
        assert_eq!(reach.start(at, Some(number(1)), Instant::now()), number(4_000));
        assert_eq!(reach.start(at, None, Instant::now()), number(5_000));
    }
}
