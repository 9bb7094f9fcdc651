//! Small simulated worlds: peers with a temper, and a commit that goes in order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::peer::PeerFault;

/// How a simulated peer answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Temper {
    Honest,
    /// Never.
    Stalling,
    /// With a fault that is seen at once.
    Failing(PeerFault),
    /// With blocks that verification rejects.
    Lying,
    /// With half of what it was asked for.
    Halving,
    /// With everything that it was asked for, but without an end.
    Unending,
}

const BLOCK_BYTES: u64 = 1_500;
const LATENCY: Duration = Duration::from_millis(100);

struct World {
    planner: Planner,
    tempers: Vec<Temper>,
    now: Duration,
    /// Answers on their way, by the time they arrive.
    arriving: BTreeMap<(Duration, RequestId), FetchOrder>,
    /// Who sent which buffered range.
    buffer: BTreeMap<BlockNumber, (BlockRange, usize)>,
    senders: BTreeMap<RequestId, usize>,
    front: BlockNumber,
    last: BlockNumber,
    front_since: Duration,
    longest_stand: Duration,
    trace: Vec<Action>,
}

impl World {
    fn new(tempers: &[Temper], kind: FetchKind, blocks: u64, seed: u64) -> Self {
        let mut world = Self {
            planner: Planner::new(PlannerSettings::default(), CheckpointSchedule::default(), seed),
            tempers: tempers.to_vec(),
            now: START,
            arriving: BTreeMap::new(),
            buffer: BTreeMap::new(),
            senders: BTreeMap::new(),
            front: number(1),
            last: number(blocks),
            front_since: START,
            longest_stand: Duration::ZERO,
            trace: Vec::new(),
        };
        for index in 0..tempers.len() {
            world.step(seen(index, kind, range(1, BlockNumber::MAX.get())));
        }
        world.step(wanted(range(1, blocks)));
        world
    }

    fn temper(&self, peer: &PeerId) -> (usize, Temper) {
        let index: usize = peer.as_str().trim_start_matches("peer-").parse().unwrap();
        (index, self.tempers[index])
    }

    fn step(&mut self, event: Event) {
        let actions = self.planner.step(event, self.now);
        check(&self.planner).unwrap();
        for action in &actions {
            match action {
                Action::Fetch(order) => {
                    let (index, temper) = self.temper(&order.peer);
                    self.senders.insert(order.request, index);
                    let elapsed = if temper == Temper::Stalling {
                        order.timeout
                    } else {
                        LATENCY
                    };
                    self.arriving
                        .insert((self.now + elapsed, order.request), order.clone());
                }
                Action::Cancel { request } => self.arriving.retain(|(_, id), _| id != request),
                Action::Keep { request, range } => {
                    self.buffer.insert(range.start(), (*range, self.senders[request]));
                }
                Action::Discard { range } => {
                    self.buffer.remove(&range.start());
                }
            }
        }
        self.trace.extend(actions);
    }

    /// Commits what is next in the buffer, or rejects it.
    fn commit(&mut self) {
        while let Some((range, sender)) = self.buffer.remove(&self.front) {
            self.step(Event::RangeVerified { range });
            if self.tempers[sender] == Temper::Lying {
                self.step(Event::RangeRejected {
                    range,
                    blamed: vec![peer(sender)],
                    fault: PeerFault::CheckpointMismatch,
                });
                continue;
            }
            self.front = range.end().next();
            self.longest_stand = self.longest_stand.max(self.now.saturating_sub(self.front_since));
            self.front_since = self.now;
            self.step(Event::CommitFrontMoved { front: range.end() });
        }
    }

    /// Goes on until everything is committed; fails when that takes longer than `limit`.
    fn run(&mut self, limit: Duration) -> Result<(), String> {
        while self.front <= self.last {
            let arrival = self.arriving.keys().next().map(|(at, _)| *at);
            let wake = self.planner.next_wake(self.now);
            let Some(next) = [arrival, wake].into_iter().flatten().min() else {
                return Err(format!(
                    "nothing more happens at {}: {:?}",
                    self.front,
                    self.planner.status()
                ));
            };
            self.now = next.max(self.now);
            if self.now > START + limit {
                return Err(format!("only at {}: {:?}", self.front, self.planner.status()));
            }
            if arrival.is_some_and(|at| at <= self.now)
                && let Some((_, order)) = self.arriving.pop_first()
            {
                self.arrive(&order);
            } else {
                self.step(Event::Tick);
            }
            self.commit();
        }
        Ok(())
    }

    fn arrive(&mut self, order: &FetchOrder) {
        let request = order.request;
        let blocks = order.range.len();
        let partly = |blocks: u64, fault: Option<FetchFault>| Event::FetchPartly {
            request,
            blocks,
            bytes: blocks * BLOCK_BYTES,
            elapsed: LATENCY,
            fault,
        };
        let event = match self.temper(&order.peer).1 {
            Temper::Honest | Temper::Lying => Event::FetchSucceeded {
                request,
                bytes: blocks * BLOCK_BYTES,
                elapsed: LATENCY,
            },
            Temper::Halving => partly(blocks / 2, Some(PeerFault::ShortAnswer.into())),
            Temper::Unending => partly(blocks, Some(PeerFault::ShortAnswer.into())),
            Temper::Stalling => Event::FetchFailed {
                request,
                fault: PeerFault::TimedOut.into(),
            },
            Temper::Failing(fault) => Event::FetchFailed {
                request,
                fault: fault.into(),
            },
        };
        self.step(event);
    }
}

/// I12: the front never stands still for longer than twice the hedge time.
#[test]
fn a_stalling_peer_delays_the_front_by_two_hedges_at_most() {
    for seed in 0..20 {
        let tempers = [Temper::Honest, Temper::Stalling, Temper::Honest];
        let mut world = World::new(&tempers, FetchKind::Batch, 100_000, seed);
        world.run(Duration::from_mins(10)).unwrap();
        let limit = 2 * world.planner.settings.hedge_after_min;
        assert!(
            world.longest_stand <= limit,
            "seed {seed}: {:?}",
            world.longest_stand
        );
        let asked: u64 = fetches(&world.trace)
            .iter()
            .filter(|order| order.peer != peer(1))
            .map(|order| order.range.len())
            .sum();
        assert!(asked <= 105_000, "seed {seed}: {asked} blocks were asked for");
        // Without one the same world needs about 3 s.
        assert!(
            world.now.saturating_sub(START) < Duration::from_secs(8),
            "seed {seed}: {:?}",
            world.now.saturating_sub(START)
        );
    }
}

#[test]
fn nothing_is_fetched_twice_without_need() {
    let mut world = World::new(&[Temper::Honest; 3], FetchKind::Batch, 50_000, 1);
    world.run(Duration::from_mins(1)).unwrap();
    let asked: u64 = fetches(&world.trace).iter().map(|order| order.range.len()).sum();
    assert_eq!(asked, 50_000);
    let mut periods = BTreeMap::new();
    for order in fetches(&world.trace) {
        for at in order.range.iter() {
            let period = CheckpointSchedule::default().period_of(at);
            periods
                .entry(period)
                .or_insert_with(std::collections::BTreeSet::new)
                .insert(order.peer.clone());
        }
    }
    assert!(periods.values().all(|peers| peers.len() == 1));
}

#[test]
fn five_liars_and_one_honest_peer_fill_everything() {
    let mut tempers = vec![Temper::Lying; 5];
    tempers.push(Temper::Honest);
    let mut world = World::new(&tempers, FetchKind::Batch, 20_000, 3);
    world.run(Duration::from_hours(2)).unwrap();
}

#[test]
fn an_outage_of_everybody_ends() {
    let mut world = World::new(
        &[Temper::Failing(PeerFault::Unreachable); 3],
        FetchKind::Batch,
        5_000,
        4,
    );
    world.run(Duration::from_hours(72)).unwrap_err();
    world.tempers = vec![Temper::Honest; 3];
    let back = world.now;
    world.run(4 * Duration::from_hours(24)).unwrap();
    assert!(
        world.now.saturating_sub(back) < Duration::from_secs(90),
        "{:?}",
        world.now.saturating_sub(back)
    );
}

fn temper() -> impl Strategy<Value = Temper> {
    prop_oneof![
        Just(Temper::Honest),
        Just(Temper::Stalling),
        Just(Temper::Lying),
        Just(Temper::Halving),
        Just(Temper::Unending),
        prop::sample::select(vec![
            PeerFault::Unreachable,
            PeerFault::NotFound,
            PeerFault::Malformed,
            PeerFault::WrongHash,
            PeerFault::ServerError { status: 500 },
            PeerFault::RateLimited {
                retry_after_seconds: 1
            },
        ])
        .prop_map(Temper::Failing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// With one honest peer among any others everything is fetched, and the same seed does it the same way.
    #[test]
    fn one_honest_peer_is_enough(
        others in prop::collection::vec(temper(), 0..7),
        single in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut tempers = others;
        tempers.push(Temper::Honest);
        let kind = if single { FetchKind::Single } else { FetchKind::Batch };
        let mut world = World::new(&tempers, kind, 3_000, seed);
        world.run(Duration::from_hours(24)).map_err(TestCaseError::fail)?;
        let mut again = World::new(&tempers, kind, 3_000, seed);
        again.run(Duration::from_hours(24)).map_err(TestCaseError::fail)?;
        prop_assert_eq!(world.trace, again.trace);
    }
}
