//! Random events: whatever happens, every block is in one state and every limit holds.

use proptest::prelude::*;

use super::*;
use crate::peer::{LocalFault, PeerFault};

/// An event whose request, if it names one, is chosen among those in flight when it happens.
#[derive(Debug, Clone)]
enum Move {
    Wait(i64),
    Wanted(Vec<(u64, u64)>, u64),
    Front(u64),
    Seen(usize, FetchKind, Option<BlockRange>),
    Gone(usize),
    Faulted(usize, PeerFault),
    Succeeded(usize, u64),
    Partly(usize, u64, Option<FetchFault>),
    Failed(usize, FetchFault),
    Verified(BlockRange),
    Committed(BlockRange),
    Rejected(BlockRange, Vec<usize>),
}

fn peer_fault() -> impl Strategy<Value = PeerFault> {
    prop::sample::select(vec![
        PeerFault::Unreachable,
        PeerFault::TimedOut,
        PeerFault::RateLimited {
            retry_after_seconds: u32::MAX,
        },
        PeerFault::NotFound,
        PeerFault::TooLarge,
        PeerFault::ShortAnswer,
        PeerFault::WrongHash,
    ])
}

fn fetch_fault() -> impl Strategy<Value = FetchFault> {
    prop_oneof![
        peer_fault().prop_map(FetchFault::Peer),
        prop::sample::select(vec![
            LocalFault::Cancelled,
            LocalFault::AddressRefused("::1".to_owned()),
            LocalFault::LimitTooLow { limit: 1 },
            LocalFault::Internal("bug".to_owned()),
        ])
        .prop_map(FetchFault::Local),
    ]
}

fn some_range() -> impl Strategy<Value = BlockRange> {
    (0_u64..3_000, 0_u64..600).prop_map(|(start, length)| range(start, start + length))
}

fn available() -> impl Strategy<Value = Option<BlockRange>> {
    prop_oneof![
        Just(None),
        Just(Some(range(0, BlockNumber::MAX.get()))),
        Just(Some(range(BlockNumber::MAX.get(), BlockNumber::MAX.get()))),
        some_range().prop_map(Some),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    let kind = prop::sample::select(vec![FetchKind::Batch, FetchKind::Single]);
    prop_oneof![
        3 => (-5_000_i64..20_000).prop_map(Move::Wait),
        1 => (prop::collection::vec((0_u64..3_000, 0_u64..2_000), 0..6), 0_u64..3_000)
            .prop_map(|(runs, near)| Move::Wanted(runs, near)),
        1 => Just(Move::Wanted(vec![(0, BlockNumber::MAX.get())], 1_000)),
        1 => (0_u64..3_000).prop_map(Move::Front),
        4 => (0_usize..12, kind, available()).prop_map(|(peer, kind, range)| Move::Seen(peer, kind, range)),
        1 => (0_usize..12).prop_map(Move::Gone),
        1 => (0_usize..12, peer_fault()).prop_map(|(peer, fault)| Move::Faulted(peer, fault)),
        8 => (any::<usize>(), 0_u64..4_000_000).prop_map(|(pick, bytes)| Move::Succeeded(pick, bytes)),
        3 => (any::<usize>(), 0_u64..300, prop::option::of(fetch_fault()))
            .prop_map(|(pick, blocks, fault)| Move::Partly(pick, blocks, fault)),
        4 => (any::<usize>(), fetch_fault()).prop_map(|(pick, fault)| Move::Failed(pick, fault)),
        2 => some_range().prop_map(Move::Verified),
        2 => some_range().prop_map(Move::Committed),
        2 => (some_range(), prop::collection::vec(0_usize..12, 0..7))
            .prop_map(|(range, peers)| Move::Rejected(range, peers)),
    ]
}

fn event(planner: &Planner, a_move: Move, now: &mut Duration) -> Event {
    let pick = |pick: usize| {
        let known: Vec<RequestId> = planner.requests.keys().copied().collect();
        // Sometimes one that is not known.
        known
            .get(pick % (known.len() + 1))
            .copied()
            .unwrap_or(RequestId(u64::MAX))
    };
    let elapsed = Duration::from_millis(80);
    match a_move {
        Move::Wait(milliseconds) => {
            let wait = Duration::from_millis(milliseconds.unsigned_abs());
            *now = if milliseconds < 0 {
                now.saturating_sub(wait)
            } else {
                *now + wait
            };
            Event::Tick
        }
        Move::Wanted(runs, near) => Event::WantedChanged {
            missing: runs
                .into_iter()
                .map(|(start, length)| BlockRange::starting_at(number(start), length.max(1)))
                .collect(),
            near_from: number(near),
            head_first: (near % 2 == 0).then(|| BlockRange::starting_at(number(near + 30), 40)),
        },
        Move::Front(front) => Event::CommitFrontMoved { front: number(front) },
        Move::Seen(index, kind, available) => Event::PeerSeen {
            peer: peer(index),
            profile: PeerProfile { available, kind },
            score: PeerScore::new(),
        },
        Move::Gone(index) => Event::PeerRemoved { peer: peer(index) },
        Move::Faulted(index, fault) => Event::PeerFaulted {
            peer: peer(index),
            fault,
        },
        Move::Succeeded(index, bytes) => {
            let request = pick(index);
            // A fetcher stops at the byte limit.
            let limit = planner.requests.get(&request).map_or(0, |known| known.byte_limit);
            Event::FetchSucceeded {
                request,
                bytes: bytes.min(limit),
                elapsed,
            }
        }
        Move::Partly(index, blocks, fault) => Event::FetchPartly {
            request: pick(index),
            blocks,
            bytes: blocks * 1_000,
            elapsed,
            fault,
        },
        Move::Failed(index, fault) => Event::FetchFailed {
            request: pick(index),
            fault,
        },
        Move::Verified(range) => Event::RangeVerified { range },
        Move::Committed(range) => Event::RangeCommitted { range },
        Move::Rejected(range, peers) => Event::RangeRejected {
            range,
            blamed: peers.into_iter().map(peer).collect(),
            fault: PeerFault::BrokenLink,
        },
    }
}

/// Runs the moves and gives the trace, checking every step.
fn run(moves: Vec<Move>, settings: PlannerSettings, seed: u64) -> Result<Vec<Vec<Action>>, TestCaseError> {
    let mut planner = Planner::new(settings, CheckpointSchedule::default(), seed);
    let mut now = START;
    let mut trace = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    for a_move in moves {
        let event = event(&planner, a_move, &mut now);
        let actions = planner.step(event.clone(), now);
        check(&planner).map_err(|error| TestCaseError::fail(format!("after {event:?}: {error}")))?;
        for order in fetches(&actions) {
            prop_assert!(known.insert(order.request), "{} was used twice", order.request);
            prop_assert!(planner.wanted().contains_range(order.range));
            let schedule = CheckpointSchedule::default();
            let crosses = order.range.iter().any(|at| schedule.kind_at(at).is_some());
            prop_assert!(
                !crosses || schedule.kind_at(order.range.end()).is_some(),
                "{}",
                order.range
            );
        }
        if let Some(wake) = planner.next_wake(now) {
            prop_assert!(wake > now);
        }
        let queue = planner.retry_queue();
        prop_assert!(queue.len() <= planner.status().tracked_ranges);
        trace.push(actions);
    }
    Ok(trace)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// I14 and I10, on a clock that also jumps back, with peers that claim everything there can be.
    #[test]
    fn every_block_is_in_one_state(moves in prop::collection::vec(moves(), 0..120), seed in any::<u64>()) {
        run(moves, PlannerSettings::default(), seed)?;
    }

    /// The same where every limit is reached soon.
    #[test]
    fn narrow_limits_hold_too(moves in prop::collection::vec(moves(), 0..120), seed in any::<u64>()) {
        let settings = PlannerSettings {
            in_flight_max: 3,
            buffer_blocks_max: 600,
            buffer_bytes_max: 4 * 1_024 * 1_024,
            peers_max: 4,
            tracked_ranges_max: 8,
            quarantine_after_peers: 2,
            ..PlannerSettings::default()
        };
        run(moves, settings, seed)?;
    }

    /// I15: the same seed gives the same trace.
    #[test]
    fn the_same_seed_gives_the_same_trace(moves in prop::collection::vec(moves(), 0..60), seed in any::<u64>()) {
        prop_assert_eq!(
            run(moves.clone(), PlannerSettings::default(), seed)?,
            run(moves, PlannerSettings::default(), seed)?
        );
    }
}
