//! What events change.

use std::collections::BTreeSet;
use std::time::Duration;

use super::clock::Now;
use super::message::{Action, AvoidReason, AvoidedPeer, Event, FetchFault, PeerProfile, RequestId};
use super::peers::Peer;
use super::ranges::{RangeState, Tracked, share};
use super::{Planner, Request, random};
use crate::block_number::BlockRange;
use crate::peer::{FaultKind, LocalFault, PeerFault, PeerId, PeerScore};

/// The newest answer's weight in the average block size is one in so many.
const SMOOTHING: u64 = 8;

impl Planner {
    pub(super) fn apply(&mut self, event: Event, now: Now) {
        match event {
            Event::Tick => self
                .peers
                .iter_mut()
                .for_each(|peer| peer.score.observe(now.wall)),
            Event::WantedChanged {
                missing,
                near_from,
                head_first,
            } => {
                self.near_from = near_from;
                self.head_first = head_first;
                let gone = self.ranges.replace_wanted(missing);
                self.discard(gone);
            }
            Event::CommitFrontMoved { front } => {
                if let Ok(committed) = BlockRange::new(self.near_from, front) {
                    let gone = self.ranges.forget(committed);
                    self.discard(gone);
                }
            }
            Event::PeerSeen { peer, profile, score } => self.see(peer, profile, score, now),
            Event::PeerRemoved { peer } => self.lose(&peer, now),
            Event::PeerFaulted { peer, fault } => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.on_fault(fault, now, &self.settings, &mut self.random);
                }
            }
            Event::FetchSucceeded {
                request,
                bytes,
                elapsed,
            } => self.on_answer(request, None, bytes, elapsed, None, now),
            Event::FetchPartly {
                request,
                blocks,
                bytes,
                elapsed,
                fault,
            } => self.on_answer(request, Some(blocks), bytes, elapsed, fault, now),
            Event::FetchFailed { request, fault } => self.on_failure(request, &fault, now),
            Event::RangeVerified { range } => {
                for tracked in self.ranges.inside(range) {
                    if let RangeState::Buffered { peer, bytes } = &tracked.state {
                        tracked.state = RangeState::Verified {
                            peer: peer.clone(),
                            bytes: *bytes,
                        };
                    }
                }
            }
            Event::RangeCommitted { range } => {
                let gone = self.ranges.forget(range);
                self.discard(gone);
            }
            Event::RangeRejected { range, blamed, fault } => self.reject(range, &blamed, fault, now),
        }
    }

    /// Says which buffered blocks are no longer needed.
    fn discard(&mut self, gone: Vec<Tracked>) {
        for tracked in gone {
            if matches!(tracked.state, RangeState::Buffered { .. }) {
                self.actions.push(Action::Discard { range: tracked.range });
            }
        }
    }

    fn see(&mut self, id: PeerId, profile: PeerProfile, score: PeerScore, now: Now) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.update(profile, now);
            return;
        }
        let peer = Peer::new(profile, score, &self.settings);
        self.peers.add(id, peer, self.settings.peers_max.max(1), now);
    }

    fn lose(&mut self, id: &PeerId, now: Now) {
        let requests: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, request)| request.peer == *id)
            .map(|(request, _)| *request)
            .collect();
        for request in requests {
            if let Some(ended) = self.end(request) {
                self.release(request, &ended, now);
                self.actions.push(Action::Cancel { request });
            }
        }
        self.peers.remove(id);
    }

    /// Takes a request out of flight.
    fn end(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        if let Some(peer) = self.peers.get_mut(&request.peer) {
            peer.in_flight = peer.in_flight.saturating_sub(1);
        }
        Some(request)
    }

    /// Blocks came: all that were asked for, or only the first `blocks`.
    ///
    /// They are kept whatever came after them. Only an answer without a fault is a success of the peer: one
    /// that breaks off behind the last block, without its end, is a fault like one that breaks off before.
    fn on_answer(
        &mut self,
        id: RequestId,
        blocks: Option<u64>,
        bytes: u64,
        elapsed: Duration,
        fault: Option<FetchFault>,
        now: Now,
    ) {
        let Some(asked) = self.requests.get(&id).map(|request| request.range) else {
            return;
        };
        let blocks = blocks.unwrap_or(asked.len()).min(asked.len());
        if blocks == 0 {
            let fault = fault.unwrap_or(FetchFault::Peer(PeerFault::ShortAnswer));
            return self.on_failure(id, &fault, now);
        }
        let Some(request) = self.end(id) else {
            return;
        };
        self.latencies.record(elapsed);
        self.hedges.on_received(bytes);
        self.block_bytes = (self
            .block_bytes
            .saturating_mul(SMOOTHING - 1)
            .saturating_add(bytes / blocks)
            / SMOOTHING)
            .max(1);
        self.keep(
            id,
            &request,
            BlockRange::starting_at(asked.start(), blocks),
            bytes,
            now,
        );
        if let Some(peer) = self.peers.get_mut(&request.peer)
            && fault.is_none()
        {
            peer.on_success(blocks, elapsed, now, &self.settings);
        }
        let left = self.release(id, &request, now);
        if let Some(fault) = fault {
            self.charge(&request.peer, &left, &fault, now);
        }
    }

    /// Nothing came.
    fn on_failure(&mut self, id: RequestId, fault: &FetchFault, now: Now) {
        if let Some(request) = self.end(id) {
            let left = self.release(id, &request, now);
            self.charge(&request.peer, &left, fault, now);
        }
    }

    /// Marks as buffered what an answer brings and nobody else has brought.
    fn keep(&mut self, id: RequestId, request: &Request, brought: BlockRange, bytes: u64, now: Now) {
        let mut overtaken = BTreeSet::new();
        for tracked in self.ranges.inside(brought) {
            if let RangeState::InFlight { first, hedge } = tracked.state
                && tracked.state.awaits(id)
            {
                if hedge == Some(id) {
                    overtaken.insert(first);
                }
                tracked.state = RangeState::Buffered {
                    peer: request.peer.clone(),
                    bytes: share(bytes, tracked.range.len(), brought.len()),
                };
                self.actions.push(Action::Keep {
                    request: id,
                    range: tracked.range,
                });
            }
        }
        for slow in overtaken {
            if let Some(slow) = self.requests.get(&slow)
                && let Some(peer) = self.peers.get_mut(&slow.peer)
            {
                let age = now.steady.saturating_sub(slow.sent);
                peer.on_overtaken(slow.range.len(), age, now, &self.settings, &mut self.random);
            }
        }
    }

    /// Makes missing again what a request has not brought and no other request is to bring; gives it back.
    fn release(&mut self, id: RequestId, request: &Request, now: Now) -> Vec<BlockRange> {
        let mut left = Vec::new();
        let mut survivor = None;
        for tracked in self.ranges.inside(request.range) {
            let other = match tracked.state {
                RangeState::InFlight { first, hedge } if first == id => hedge,
                RangeState::InFlight { first, hedge } if hedge == Some(id) => Some(first),
                _ => continue,
            };
            tracked.state = if let Some(first) = other {
                survivor = other;
                RangeState::InFlight { first, hedge: None }
            } else {
                left.push(tracked.range);
                RangeState::Missing {
                    not_before: now.steady,
                }
            };
        }
        // The second request was not extra after all.
        if let Some(survivor) = survivor {
            let paid = self
                .requests
                .get_mut(&survivor)
                .map_or(0, |request| std::mem::take(&mut request.hedged));
            self.hedges.refund(request.hedged.saturating_add(paid));
        }
        left
    }

    /// Books a failed fetch: on the peer if it is its doing, and on the blocks that are left to fetch.
    fn charge(&mut self, id: &PeerId, left: &[BlockRange], fault: &FetchFault, now: Now) {
        match fault {
            FetchFault::Peer(fault) => {
                if let Some(peer) = self.peers.get_mut(id) {
                    peer.on_fault(*fault, now, &self.settings, &mut self.random);
                }
                // Being told to wait says nothing about the blocks.
                if !matches!(fault, PeerFault::RateLimited { .. }) {
                    self.set_back(left, std::slice::from_ref(id), Some(*fault), now);
                }
            }
            FetchFault::Local(fault) => {
                if let Some(peer) = self.peers.get_mut(id) {
                    peer.circuit.on_cancel();
                    if matches!(fault, LocalFault::AddressRefused(_)) {
                        peer.pause(now.steady.saturating_add(self.settings.quarantine_for));
                    }
                }
                if matches!(fault, LocalFault::Internal(_) | LocalFault::LimitTooLow { .. }) {
                    self.set_back(left, &[], None, now);
                }
            }
        }
    }

    /// Counts a failed attempt on missing ranges: they wait, avoid the peers at fault, and are quarantined once
    /// enough peers have answered them badly.
    fn set_back(&mut self, ranges: &[BlockRange], at_fault: &[PeerId], fault: Option<PeerFault>, now: Now) {
        let settings = &self.settings;
        let avoid = fault.and_then(|fault| match FaultKind::from(fault) {
            FaultKind::BadAnswer | FaultKind::ProvenLie => {
                Some((AvoidReason::BadAnswer, settings.quarantine_for))
            }
            FaultKind::Away if fault == PeerFault::NotFound => {
                Some((AvoidReason::NotFound, settings.not_found_for))
            }
            FaultKind::Away => None,
        });
        for range in ranges {
            for tracked in self.ranges.inside(*range) {
                let history = &mut tracked.history;
                history.avoid.retain(|avoided| avoided.until > now.steady);
                let wait = random::back_off(&mut self.random, settings, history.attempts);
                history.attempts = history.attempts.saturating_add(1);
                history.failed_in = now.step;
                if let Some((reason, length)) = avoid {
                    for peer in at_fault {
                        history.note(AvoidedPeer {
                            peer: peer.clone(),
                            until: now.steady.saturating_add(length),
                            reason,
                        });
                    }
                }
                tracked.state = if history.bad_answers(now.steady) >= settings.quarantine_after_peers.max(1) {
                    RangeState::Quarantined {
                        until: now.steady.saturating_add(settings.quarantine_for),
                    }
                } else {
                    RangeState::Missing {
                        not_before: now.steady.saturating_add(wait),
                    }
                };
            }
        }
    }

    /// Blocks turned out wrong. What was tracked of them becomes one range again, so that the next answer comes
    /// from one peer as far as it fits.
    fn reject(&mut self, range: BlockRange, blamed: &[PeerId], fault: PeerFault, now: Now) {
        for id in blamed {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.on_fault(fault, now, &self.settings, &mut self.random);
            }
        }
        let mut joined: Vec<Tracked> = Vec::new();
        let is_here = |state: &RangeState| !matches!(state, RangeState::InFlight { .. });
        for tracked in self.ranges.take_inside(range, is_here) {
            match joined.last_mut() {
                Some(last) if last.range.end().next() == tracked.range.start() => {
                    last.range = super::ranges::span(last.range.start(), tracked.range.end());
                    last.history.merge(tracked.history);
                }
                _ => joined.push(Tracked {
                    state: RangeState::Missing {
                        not_before: now.steady,
                    },
                    ..tracked
                }),
            }
        }
        let again: Vec<BlockRange> = joined.iter().map(|tracked| tracked.range).collect();
        for tracked in joined {
            self.ranges.put(tracked);
        }
        self.set_back(&again, blamed, Some(fault), now);
    }

    /// Ends requests whose outcome should have been reported by now.
    pub(super) fn give_up_overdue(&mut self, now: Now) {
        let overdue: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, request)| request.deadline <= now.steady)
            .map(|(id, _)| *id)
            .collect();
        for request in overdue {
            self.on_failure(request, &FetchFault::Peer(PeerFault::TimedOut), now);
            self.actions.push(Action::Cancel { request });
        }
    }

    /// Lets ranges go whose quarantine is over, with a clean slate.
    pub(super) fn release_quarantined(&mut self, now: Now) {
        for tracked in self.ranges.tracked_mut() {
            if matches!(tracked.state, RangeState::Quarantined { until } if until <= now.steady) {
                tracked.state = RangeState::Missing {
                    not_before: now.steady,
                };
                tracked.history = super::ranges::History::default();
            }
        }
    }

    /// Cancels requests that nothing waits for any more: a hedge that lost, blocks no longer wanted.
    pub(super) fn cancel_unneeded(&mut self) {
        let needed: BTreeSet<RequestId> = self
            .ranges
            .tracked()
            .filter_map(|tracked| match tracked.state {
                RangeState::InFlight { first, hedge } => Some([Some(first), hedge]),
                _ => None,
            })
            .flatten()
            .flatten()
            .collect();
        let unneeded: Vec<RequestId> = self
            .requests
            .keys()
            .filter(|id| !needed.contains(id))
            .copied()
            .collect();
        for request in unneeded {
            if let Some(ended) = self.end(request) {
                if let Some(peer) = self.peers.get_mut(&ended.peer) {
                    peer.circuit.on_cancel();
                }
                self.actions.push(Action::Cancel { request });
            }
        }
    }
}
