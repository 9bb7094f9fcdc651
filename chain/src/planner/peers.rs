//! Whom to ask for a range, and for how much at once.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::clock::Now;
use super::message::{FetchKind, PeerProfile};
use super::random;
use super::ranges::{History, Tracked};
use super::settings::PlannerSettings;
use crate::block_number::{BlockNumber, BlockRange};
use crate::peer::{AdaptiveTimeout, CircuitBreaker, FaultKind, PeerFault, PeerId, PeerScore, Standing};

/// Score points that are worth half of the load or twice the speed.
const POINTS_PER_DOUBLING: f64 = 25.0;

/// What the planner knows of one peer; times are steady times.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) profile: PeerProfile,
    pub(super) score: PeerScore,
    pub(super) circuit: CircuitBreaker,
    pub(super) timeout: AdaptiveTimeout,
    pub(super) in_flight: u32,
    pub(super) window: u32,
    pub(super) range_blocks: u64,
    pub(super) paused_until: Duration,
    successes: u32,
    setbacks_in_a_row: u32,
    /// The step since which neither a ban nor its circuit shuts it out; none while one does.
    let_in: Option<u64>,
    /// The step in which it last said that it has more, and what it had before.
    grew_in: u64,
    had: Option<BlockRange>,
}

impl Peer {
    pub(super) fn new(profile: PeerProfile, mut score: PeerScore, settings: &PlannerSettings) -> Self {
        score.shorten_ban(&settings.ban);
        Self {
            profile,
            score,
            circuit: CircuitBreaker::new(settings.circuit),
            timeout: AdaptiveTimeout::new(settings.timeout),
            in_flight: 0,
            window: settings.peer_window_first.max(1),
            range_blocks: settings.range_blocks_first.max(1),
            paused_until: Duration::ZERO,
            successes: 0,
            setbacks_in_a_row: 0,
            let_in: None,
            grew_in: 0,
            had: None,
        }
    }

    /// What it says of itself now.
    pub(super) fn update(&mut self, profile: PeerProfile, now: Now) {
        let had = self.profile.available;
        let grew = profile.available.is_some_and(|available| {
            had.is_none_or(|had| available.start() < had.start() || had.end() < available.end())
        });
        if grew {
            self.grew_in = now.step;
            self.had = had;
        }
        self.profile = profile;
    }

    /// Notices when it is shut out and when it is back.
    fn notice_return(&mut self, now: Now) {
        let is_banned = matches!(self.score.standing(now.wall), Standing::Banned { .. });
        if is_banned || !self.circuit.allows(now.steady) {
            self.let_in = None;
        } else if self.let_in.is_none() {
            self.let_in = Some(now.step);
        }
    }

    /// The step in which it last came, came back, or got more blocks.
    fn newest_step(&self) -> u64 {
        self.let_in.unwrap_or_default().max(self.grew_in)
    }

    /// Whether it could not be asked for a block in a step, and can be since.
    fn is_new_for(&self, number: BlockNumber, failed_in: u64) -> bool {
        self.let_in.is_some_and(|step| step > failed_in)
            || (self.grew_in > failed_in && !self.had.is_some_and(|had| had.contains(number)))
    }

    /// Whether it may be sent one more request now.
    pub(super) fn is_ready(&self, now: Now) -> bool {
        let window = match self.score.standing(now.wall) {
            Standing::Good => self.window,
            Standing::Probation => 1,
            Standing::Banned { .. } => 0,
        };
        self.in_flight < window && self.paused_until <= now.steady && self.circuit.allows(now.steady)
    }

    /// Most blocks to ask it for at once.
    pub(super) fn request_blocks(&self, settings: &PlannerSettings) -> u64 {
        match self.profile.kind {
            FetchKind::Batch => self.range_blocks,
            FetchKind::Single => self.range_blocks.min(settings.single_range_blocks),
        }
    }

    /// Questions that a request for so many blocks takes.
    pub(super) fn round_trips(&self, blocks: u64) -> u32 {
        match self.profile.kind {
            FetchKind::Batch => 1,
            FetchKind::Single => u32::try_from(blocks).unwrap_or(u32::MAX),
        }
    }

    /// A valid answer with so many blocks.
    pub(super) fn on_success(
        &mut self,
        blocks: u64,
        elapsed: Duration,
        now: Now,
        settings: &PlannerSettings,
    ) {
        self.score.record_success(now.wall);
        self.circuit.on_answer();
        self.timeout.on_answer(self.round_trips(blocks), elapsed);
        self.setbacks_in_a_row = 0;
        // Small answers say nothing about how large ones would fare.
        if blocks.saturating_mul(2) < self.request_blocks(settings) {
            return;
        }
        self.successes += 1;
        if self.successes >= settings.successes_to_grow {
            self.successes = 0;
            self.window = (self.window + 1).min(settings.peer_window_max).max(1);
            self.range_blocks = self
                .range_blocks
                .saturating_mul(2)
                .min(settings.range_blocks_max)
                .max(1);
        }
    }

    /// A fault of the peer. One that cannot be reached rests for a while, longer each time.
    pub(super) fn on_fault(
        &mut self,
        fault: PeerFault,
        now: Now,
        settings: &PlannerSettings,
        random: &mut ChaCha8Rng,
    ) {
        self.score.record_fault(fault, now.wall, &settings.ban);
        self.circuit.on_fault(fault, now.steady);
        self.successes = 0;
        match fault {
            PeerFault::RateLimited { retry_after_seconds } => {
                let asked = Duration::from_secs(u64::from(retry_after_seconds.max(1)));
                self.pause(
                    now.steady
                        .saturating_add(asked.min(settings.rate_limit_pause_max)),
                );
                self.window = 1;
            }
            PeerFault::NotFound => {}
            _ => {
                self.window = (self.window / 2).max(1);
                if fault == PeerFault::TimedOut {
                    self.timeout.on_timeout();
                    self.range_blocks = (self.range_blocks / 2).max(settings.range_blocks_min).max(1);
                }
                if FaultKind::from(fault) == FaultKind::Away {
                    self.rest(now, settings, random);
                }
            }
        }
    }

    /// Another peer was asked later and answered earlier. No fault, but it gets less to do for a while: else
    /// it would be given one range after the other to hold up.
    pub(super) fn on_overtaken(
        &mut self,
        blocks: u64,
        age: Duration,
        now: Now,
        settings: &PlannerSettings,
        random: &mut ChaCha8Rng,
    ) {
        let round_trips = self.round_trips(blocks);
        let known = self.timeout.round_trip().saturating_mul(round_trips);
        self.timeout.on_answer(round_trips, age.max(known));
        self.successes = 0;
        self.window = (self.window / 2).max(1);
        self.rest(now, settings, random);
    }

    /// Leaves it alone for a while, longer each time until it answers well.
    fn rest(&mut self, now: Now, settings: &PlannerSettings, random: &mut ChaCha8Rng) {
        let rest = random::back_off(random, settings, self.setbacks_in_a_row);
        self.pause(now.steady.saturating_add(rest));
        self.setbacks_in_a_row = self.setbacks_in_a_row.saturating_add(1);
    }

    /// Sends it nothing before a time.
    pub(super) fn pause(&mut self, until: Duration) {
        self.paused_until = self.paused_until.max(until);
    }

    /// How unwelcome one more request to it is: slow, busy and distrusted peers come last.
    fn cost(&self, now: Now) -> f64 {
        let wait = self.timeout.round_trip().as_secs_f64().max(0.001) * f64::from(self.in_flight + 1);
        wait * (-self.score.value(now.wall) / POINTS_PER_DOUBLING).exp2()
    }
}

/// The peers that can be asked.
#[derive(Debug, Clone, Default)]
pub(super) struct PeerTable {
    peers: BTreeMap<PeerId, Peer>,
}

impl PeerTable {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.peers.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.peers.values_mut()
    }

    pub(super) fn get(&self, id: &PeerId) -> Option<&Peer> {
        self.peers.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(id)
    }

    pub(super) fn remove(&mut self, id: &PeerId) {
        self.peers.remove(id);
    }

    /// Adds a peer. When there are `most` already, it takes the place of the worst idle one that has a
    /// negative score, or is left out.
    pub(super) fn add(&mut self, id: PeerId, peer: Peer, most: usize, now: Now) {
        if self.peers.len() >= most {
            let worst = self
                .peers
                .iter()
                .filter(|(_, peer)| peer.in_flight == 0)
                .map(|(id, peer)| (id.clone(), peer.score.value(now.wall)))
                .min_by(|one, other| one.1.total_cmp(&other.1));
            match worst {
                Some((worst, score)) if score < peer.score.value(now.wall).min(0.0) => {
                    self.peers.remove(&worst);
                }
                _ => return,
            }
        }
        self.peers.insert(id, peer);
    }

    /// Notices which peers are shut out and which are back.
    pub(super) fn notice_returns(&mut self, now: Now) {
        for peer in self.peers.values_mut() {
            peer.notice_return(now);
        }
    }

    /// The step in which the newest of the peers that may be sent a request came, came back or got more blocks;
    /// nothing if there is no such peer.
    pub(super) fn newest_ready(&self, now: Now) -> Option<u64> {
        self.peers
            .values()
            .filter(|peer| peer.is_ready(now))
            .map(Peer::newest_step)
            .max()
    }

    /// The lowest block at or above `number` that a peer says it has which can be asked for the range.
    pub(super) fn next_served(&self, number: BlockNumber, past: Past<'_>, now: Now) -> Option<BlockNumber> {
        self.peers
            .iter()
            .filter_map(|(id, peer)| {
                let available = peer.profile.available?;
                let first = available.start().max(number);
                (first <= available.end() && past.allows(id, peer, first, now)).then_some(first)
            })
            .min()
    }

    /// The ready peer to ask for a block: `preferred` if it can be asked, else the best by speed, load and
    /// score, with a little chance so that equals share the work.
    pub(super) fn choose(
        &self,
        wish: &Wish<'_>,
        now: Now,
        random: &mut ChaCha8Rng,
    ) -> Option<(PeerId, BlockRange)> {
        let mut best: Option<(f64, &PeerId, BlockRange)> = None;
        for (id, peer) in &self.peers {
            let Some(available) = peer.profile.available else {
                continue;
            };
            let fits = available.contains(wish.number)
                && wish.except != Some(id)
                && wish.past.allows(id, peer, wish.number, now);
            if !fits {
                continue;
            }
            if wish.preferred == Some(id) {
                return Some((id.clone(), available));
            }
            let cost = peer.cost(now) * (1.0 + 0.1 * random::fraction(random));
            if best.as_ref().is_none_or(|(lowest, ..)| cost < *lowest) {
                best = Some((cost, id, available));
            }
        }
        best.map(|(_, id, available)| (id.clone(), available))
    }
}

/// What a range has gone through, as far as it matters for whom to ask.
#[derive(Debug, Clone, Copy)]
pub(super) enum Past<'a> {
    /// Nothing went wrong with it yet.
    Clean,
    /// It failed and may be fetched again.
    Over(&'a History),
    /// It failed and waits: only for a peer that was not there is it time already.
    Waiting(&'a History),
}

impl<'a> Past<'a> {
    pub(super) fn of(tracked: Option<&'a Tracked>, now: Now) -> Self {
        match tracked {
            None => Self::Clean,
            Some(tracked) if tracked.state.waits(now.steady) => Self::Waiting(&tracked.history),
            Some(tracked) => Self::Over(&tracked.history),
        }
    }

    /// Failed attempts so far.
    pub(super) fn attempts(self) -> u32 {
        match self {
            Self::Clean => 0,
            Self::Over(history) | Self::Waiting(history) => history.attempts,
        }
    }

    /// Whether a peer can be asked now for a block of the range.
    fn allows(self, id: &PeerId, peer: &Peer, number: BlockNumber, now: Now) -> bool {
        let avoids = |history: &History| history.avoids(id, now.steady);
        peer.is_ready(now)
            && match self {
                Self::Clean => true,
                Self::Over(history) => !avoids(history),
                Self::Waiting(history) => !avoids(history) && peer.is_new_for(number, history.failed_in),
            }
    }
}

/// What a peer is looked for.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    /// First block to ask it for.
    pub(super) number: BlockNumber,
    /// What the range has gone through.
    pub(super) past: Past<'a>,
    /// Who sends what comes just before in the same period.
    pub(super) preferred: Option<&'a PeerId>,
    /// Who is asked already.
    pub(super) except: Option<&'a PeerId>,
}
