//! Sending requests: what the limits allow, and second requests for what the commit waits for.

use std::time::Duration;

use super::clock::Now;
use super::cut::cut;
use super::message::{Action, FetchOrder, RequestId};
use super::peers::{Past, Wish};
use super::ranges::{RangeState, after, span};
use super::{Planner, Request};
use crate::block_number::{BlockNumber, BlockRange};
use crate::peer::{PeerId, Standing};

/// How much larger than expected an answer may be.
const ANSWER_SLACK: u64 = 4;

/// Requests of which one is kept free for the front and for hedges.
const REQUESTS_PER_RESERVED: usize = 16;

/// Blocks and bytes that are in memory or on their way.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    blocks: u64,
    bytes: u64,
}

impl Usage {
    fn add(&mut self, blocks: u64, bytes: u64) {
        self.blocks = self.blocks.saturating_add(blocks);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What is in use, in all and by the gaps below the region near the head.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    total: Usage,
    older: Usage,
}

impl Load {
    fn add(&mut self, is_older: bool, blocks: u64, bytes: u64) {
        self.total.add(blocks, bytes);
        if is_older {
            self.older.add(blocks, bytes);
        }
    }
}

/// A request that could be sent.
#[derive(Debug)]
struct Proposal {
    peer: PeerId,
    range: BlockRange,
    expected_bytes: u64,
    byte_limit: u64,
}

impl Planner {
    /// Sends what the limits allow.
    pub(super) fn fill(&mut self, now: Now) {
        let mut load = self.load();
        for region in self.regions() {
            self.fill_region(region, now, &mut load);
        }
    }

    fn fill_region(&mut self, region: BlockRange, now: Now, load: &mut Load) {
        let Some(front) = self.ranges.wanted().run_from(region.start()) else {
            return;
        };
        let is_older = region.start() < self.near_from;
        let mut rest = Some(region);
        while let Some(open) = rest {
            let Some(newest_peer) = self.peers.newest_ready(now) else {
                return;
            };
            let Some(piece) = self.ranges.next_missing(open, newest_peer, now.steady) else {
                return;
            };
            let past = Past::of(self.ranges.holding(piece.start()), now);
            let served = self.peers.next_served(piece.start(), past, now);
            let Some(start) = served.filter(|start| *start <= piece.end()) else {
                rest = match (past, served) {
                    // Nobody has it or anything above it.
                    (Past::Clean, None) => return,
                    (Past::Clean, Some(next)) if next > region.end() => return,
                    (Past::Clean, Some(next)) => Some(span(next, region.end())),
                    _ => after(piece, region.end()),
                };
                continue;
            };
            let is_front = start == front.start();
            if matches!(past, Past::Clean)
                && !is_front
                && self.ranges.tracked_len() >= self.settings.tracked_ranges_max
            {
                rest = after(piece, region.end());
                continue;
            }
            let Some(proposal) = self.propose(span(start, piece.end()), None, now) else {
                rest = after(piece, region.end());
                continue;
            };
            if !self.admits(&proposal, is_front, is_older, load) {
                return;
            }
            rest = after(proposal.range, region.end());
            load.add(is_older, proposal.range.len(), proposal.byte_limit);
            let range = proposal.range;
            let first = self.send(proposal, 0, now);
            self.ranges
                .set(range, RangeState::InFlight { first, hedge: None });
        }
    }

    /// Asks a second peer for what the commit waits for, if the first takes long.
    pub(super) fn hedge(&mut self, now: Now) {
        for region in self.regions() {
            let Some((request, range)) = self.hedge_candidate(region) else {
                continue;
            };
            let is_due = self
                .requests
                .get(&request)
                .is_some_and(|request| now.steady >= self.hedge_due(request));
            if !is_due || self.requests.len() >= self.settings.in_flight_max {
                continue;
            }
            let Some(proposal) = self.propose(range, Some(request), now) else {
                continue;
            };
            let cost = proposal.expected_bytes;
            if !self.hedges.spend(cost, &self.settings) {
                continue;
            }
            let hedged_range = proposal.range;
            let second = self.send(proposal, cost, now);
            for tracked in self.ranges.inside(hedged_range) {
                if let RangeState::InFlight { hedge, .. } = &mut tracked.state {
                    *hedge = Some(second);
                }
            }
        }
    }

    /// The request whose blocks the commit of a region waits for, if it is the only one for them.
    fn hedge_candidate(&self, region: BlockRange) -> Option<(RequestId, BlockRange)> {
        let tracked = self.ranges.awaited(region)?;
        match tracked.state {
            RangeState::InFlight { first, hedge: None } => Some((first, tracked.range.intersection(region)?)),
            _ => None,
        }
    }

    fn hedge_due(&self, request: &Request) -> Duration {
        request
            .sent
            .saturating_add(self.latencies.hedge_after(&self.settings))
    }

    /// The request to send for the beginning of `range`, if a peer can be asked.
    fn propose(&mut self, range: BlockRange, besides: Option<RequestId>, now: Now) -> Option<Proposal> {
        let preferred = self.sender_before(range.start()).cloned();
        let past = Past::of(self.ranges.holding(range.start()), now);
        let wish = Wish {
            number: range.start(),
            past,
            preferred: preferred.as_ref(),
            except: besides
                .and_then(|request| self.requests.get(&request))
                .map(|request| &request.peer),
        };
        let (id, available) = self.peers.choose(&wish, now, &mut self.random)?;
        let peer = self.peers.get(&id)?;
        let blocks = peer
            .request_blocks(&self.settings)
            .min(self.settings.range_bytes / self.block_bytes.max(1));
        let limit = range.end().min(available.end());
        let cut = cut(&self.schedule, range.start(), blocks, limit);
        let expected_bytes = self.block_bytes.saturating_mul(cut.len());
        let attempts = past.attempts().min(16);
        let byte_limit = expected_bytes
            .saturating_mul(ANSWER_SLACK)
            .max(self.settings.answer_bytes_min)
            .saturating_mul(1 << attempts)
            .min(self.settings.answer_bytes_max);
        Some(Proposal {
            peer: id,
            range: cut,
            expected_bytes,
            byte_limit,
        })
    }

    /// Who sends, or has sent, the block before `number` in the same period.
    fn sender_before(&self, number: BlockNumber) -> Option<&PeerId> {
        let before = number.previous()?;
        if self.schedule.kind_at(before).is_some() {
            return None;
        }
        match &self.ranges.holding(before)?.state {
            RangeState::InFlight { first, .. } => self.requests.get(first).map(|request| &request.peer),
            RangeState::Buffered { peer, .. } | RangeState::Verified { peer, .. } => Some(peer),
            RangeState::Missing { .. } | RangeState::Quarantined { .. } => None,
        }
    }

    /// Whether the limits allow a request. The front of a region is only bound by the number of requests: were
    /// it held back by what is buffered behind it, nothing would ever move.
    fn admits(&self, proposal: &Proposal, is_front: bool, is_older: bool, load: &Load) -> bool {
        let settings = &self.settings;
        let most = settings.in_flight_max.max(1);
        if is_front {
            return self.requests.len() < most;
        }
        let fits = |usage: Usage, part: u64| {
            usage.blocks.saturating_add(proposal.range.len()) <= settings.buffer_blocks_max / part
                && usage.bytes.saturating_add(proposal.byte_limit) <= settings.buffer_bytes_max / part
        };
        // The gaps below get half, so that a gap nobody can fill does not hold up the head.
        self.requests.len() < most - most / REQUESTS_PER_RESERVED
            && fits(load.total, 1)
            && (!is_older || fits(load.older, 2))
    }

    fn load(&self) -> Load {
        let mut load = Load::default();
        for tracked in self.ranges.tracked() {
            let blocks = match tracked.state {
                RangeState::Missing { .. } | RangeState::Quarantined { .. } => 0,
                _ => tracked.range.len(),
            };
            let is_older = tracked.range.start() < self.near_from;
            load.add(is_older, blocks, tracked.state.bytes());
        }
        for request in self.requests.values() {
            load.add(request.range.start() < self.near_from, 0, request.byte_limit);
        }
        load
    }

    fn send(&mut self, proposal: Proposal, hedged: u64, now: Now) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let Proposal {
            peer: id,
            range,
            expected_bytes,
            byte_limit,
        } = proposal;
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.in_flight += 1;
            peer.circuit.on_request();
            let timeout = peer
                .timeout
                .wait_for(peer.round_trips(range.len()), expected_bytes);
            self.actions.push(Action::Fetch(FetchOrder {
                request,
                peer: id.clone(),
                range,
                kind: peer.profile.kind,
                timeout,
                byte_limit,
            }));
            let deadline = now
                .steady
                .saturating_add(timeout)
                .saturating_add(self.settings.timeout_grace);
            self.requests.insert(
                request,
                Request {
                    peer: id,
                    range,
                    sent: now.steady,
                    deadline,
                    byte_limit,
                    hedged,
                },
            );
        }
        request
    }

    /// When to send [`Event::Tick`](super::Event::Tick) if nothing else happens before, as Unix time, always
    /// after `now`; nothing if only an event can change anything.
    pub fn next_wake(&self, now: Duration) -> Option<Duration> {
        let now = self.clock.at(now);
        let mut next: Option<Duration> = None;
        let mut consider = |at: Duration| {
            if at > now.steady && next.is_none_or(|next| at < next) {
                next = Some(at);
            }
        };
        for tracked in self.ranges.tracked() {
            match tracked.state {
                RangeState::Missing { not_before } => consider(not_before),
                RangeState::Quarantined { until } => consider(until),
                _ => {}
            }
            for avoided in &tracked.history.avoid {
                consider(avoided.until);
            }
        }
        for request in self.requests.values() {
            consider(request.deadline);
        }
        for region in self.regions() {
            if let Some((request, _)) = self.hedge_candidate(region)
                && let Some(request) = self.requests.get(&request)
            {
                consider(self.hedge_due(request));
            }
        }
        for (_, peer) in self.peers.iter() {
            consider(peer.paused_until);
            if let Some(at) = peer.circuit.half_opens_at() {
                consider(at);
            }
            if let Standing::Banned { until } = peer.score.standing(now.wall) {
                consider(self.clock.to_steady(until));
            }
        }
        next.map(|steady| {
            self.clock
                .to_wall(steady)
                .max(now.wall.saturating_add(Duration::from_millis(1)))
        })
    }
}
