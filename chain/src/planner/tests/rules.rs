//! One rule a test.

use super::*;
use crate::peer::{CircuitState, LocalFault, PeerFault, Standing};

const BATCH: FetchKind = FetchKind::Batch;

fn all() -> BlockRange {
    range(0, BlockNumber::MAX.get())
}

fn succeed(planner: &mut Planner, order: &FetchOrder, now: Duration) -> Vec<Action> {
    let event = Event::FetchSucceeded {
        request: order.request,
        bytes: 1_000 * order.range.len(),
        elapsed: Duration::from_millis(50),
    };
    planner.step(event, now)
}

fn fail(planner: &mut Planner, order: &FetchOrder, fault: PeerFault, now: Duration) -> Vec<Action> {
    let event = Event::FetchFailed {
        request: order.request,
        fault: fault.into(),
    };
    planner.step(event, now)
}

/// Waits as the planner asks for until it sends something.
fn next_fetch(planner: &mut Planner, now: &mut Duration) -> FetchOrder {
    for _ in 0..100 {
        *now = planner.next_wake(*now).expect("something to wait for");
        if let Some(order) = fetches(&planner.step(Event::Tick, *now)).first() {
            return order.clone();
        }
    }
    panic!("nothing was sent: {:?}", planner.status());
}

/// The state of a wanted block; none while it has none of its own.
fn stage_of(planner: &Planner, block: BlockNumber) -> Option<RangeStage> {
    let mut tracked = planner.tracked_ranges();
    let found = tracked.find(|(range, _)| range.contains(block));
    found.map(|(_, stage)| stage)
}

#[test]
fn ranges_end_at_checkpoints() {
    let mut planner = planner();
    planner.step(wanted(range(102, 5_000)), START);
    let orders = fetches(&planner.step(seen(0, BATCH, all()), START));
    let ranges: Vec<BlockRange> = orders.iter().map(|order| order.range).collect();
    assert_eq!(ranges, [range(102, 301), range(302, 501)]);
}

#[test]
fn only_what_a_peer_has_is_asked_from_it() {
    let mut planner = planner();
    planner.step(wanted(range(1, 1_000)), START);
    let orders = fetches(&planner.step(seen(0, BATCH, range(500, 520)), START));
    let ranges: Vec<BlockRange> = orders.iter().map(|order| order.range).collect();
    assert_eq!(ranges, [range(500, 501), range(502, 520)]);
}

#[test]
fn near_the_head_comes_first() {
    let mut planner = planner();
    planner.step(
        Event::WantedChanged {
            missing: IntervalSet::from_iter([range(1, 5_000), range(9_950, 9_960)]),
            near_from: number(9_000),
            head_first: None,
        },
        START,
    );
    let orders = fetches(&planner.step(seen(0, BATCH, all()), START));
    let starts: Vec<u64> = orders.iter().map(|order| order.range.start().get()).collect();
    assert_eq!(starts, [9_950, 1]);
}

#[test]
fn what_is_wanted_at_the_head_at_once_comes_before_the_gap() {
    let mut planner = planner();
    planner.step(
        Event::WantedChanged {
            missing: IntervalSet::from_iter([range(1, 60), range(102, 9_960)]),
            near_from: number(102),
            head_first: Some(range(9_802, 9_960)),
        },
        START,
    );
    let mut waiting = fetches(&planner.step(seen(0, BATCH, all()), START));
    let mut starts = Vec::new();
    while starts.len() < 4 {
        let order = waiting.remove(0);
        starts.push(order.range.start().get());
        waiting.extend(fetches(&succeed(&mut planner, &order, START)));
        check(&planner).unwrap();
    }
    assert_eq!(starts, [9_802, 9_902, 102, 302]);
    // Above what comes first the rest follows, and the gaps below come last.
    planner.step(wanted(range(102, 9_960)), START);
    assert_eq!(planner.regions().count(), 1);
}

#[test]
fn only_the_front_passes_a_full_buffer() {
    let mut planner = planner();
    planner.step(wanted(range(2, 1_000_000)), START);
    let mut waiting = fetches(&planner.step(seen(0, BATCH, all()), START));
    let front = waiting.remove(0);
    while let Some(order) = waiting.pop() {
        waiting.extend(fetches(&succeed(&mut planner, &order, START)));
        check(&planner).unwrap();
    }
    let full = planner.status();
    assert!(full.buffered_blocks + 512 > planner.settings.buffer_blocks_max - front.range.len());
    fail(&mut planner, &front, PeerFault::TimedOut, START);
    let mut now = START;
    let mut again = next_fetch(&mut planner, &mut now);
    while again.range.start() != front.range.start() {
        // The room that the front left may be used by what comes after it.
        succeed(&mut planner, &again, now);
        check(&planner).unwrap();
        again = next_fetch(&mut planner, &mut now);
    }
    let overfull = planner.status();
    assert!(overfull.buffered_blocks + overfull.in_flight_blocks + 200 > planner.settings.buffer_blocks_max);
    assert_eq!(overfull.requests_in_flight, 1);
}

#[test]
fn large_answers_are_bounded_in_bytes() {
    let mut planner = planner();
    planner.step(wanted(range(2, 1_000_000)), START);
    let mut waiting = Vec::new();
    for index in 0..8 {
        waiting.extend(fetches(&planner.step(seen(index, BATCH, all()), START)));
    }
    let front = waiting.remove(0);
    while let Some(order) = waiting.pop() {
        assert!(order.byte_limit <= planner.settings.answer_bytes_max);
        let event = Event::FetchSucceeded {
            request: order.request,
            bytes: order.byte_limit,
            elapsed: Duration::from_millis(50),
        };
        waiting.extend(fetches(&planner.step(event, START)));
        check(&planner).unwrap();
    }
    assert!(planner.status().held_bytes > planner.settings.buffer_bytes_max / 2);
    assert!(planner.status().buffered_blocks < planner.settings.buffer_blocks_max);
    assert_eq!(
        stage_of(&planner, front.range.start()),
        Some(RangeStage::InFlight)
    );
}

#[test]
fn a_timeout_halves_and_successes_double() {
    let mut planner = planner();
    planner.step(wanted(range(2, 1_000_000)), START);
    let mut orders = fetches(&planner.step(seen(0, BATCH, all()), START));
    let view = |planner: &Planner| {
        let view = planner.peers(START).next().unwrap();
        (view.range_blocks, view.window)
    };
    for (successes, expected) in [(3, (256, 2)), (1, (512, 3)), (60, (512, 8))] {
        for _ in 0..successes {
            let order = orders.remove(0);
            orders.extend(fetches(&succeed(&mut planner, &order, START)));
            let committed = Event::RangeCommitted { range: order.range };
            orders.extend(fetches(&planner.step(committed, START)));
        }
        assert_eq!(view(&planner), expected);
    }
    for expected in [(256, 4), (128, 2), (64, 1), (32, 1), (32, 1)] {
        let order = orders.remove(0);
        fail(&mut planner, &order, PeerFault::TimedOut, START);
        assert_eq!(view(&planner), expected);
    }
}

#[test]
fn a_valid_prefix_is_kept() {
    let mut planner = planner();
    planner.step(wanted(range(2, 201)), START);
    let order = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    let event = Event::FetchPartly {
        request: order.request,
        blocks: 30,
        bytes: 30_000,
        elapsed: Duration::from_millis(10),
        fault: Some(PeerFault::BrokenLink.into()),
    };
    let actions = planner.step(event, START);
    assert_eq!(
        actions,
        [Action::Keep {
            request: order.request,
            range: range(2, 31)
        }]
    );
    let queue = planner.retry_queue();
    assert_eq!((queue.len(), queue[0].range), (1, range(32, 201)));
    assert_eq!(queue[0].avoid[0].peer, peer(0));
    assert!(planner.peers(START).next().unwrap().score.value(START) < -9.0);
}

#[test]
fn a_whole_range_in_an_answer_without_an_end_is_kept_and_is_no_success() {
    let mut planner = planner();
    planner.step(wanted(range(2, 101)), START);
    let order = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    let event = Event::FetchPartly {
        request: order.request,
        blocks: order.range.len(),
        bytes: 100_000,
        elapsed: Duration::from_millis(10),
        fault: Some(PeerFault::ShortAnswer.into()),
    };
    let kept = Action::Keep {
        request: order.request,
        range: order.range,
    };
    assert_eq!(planner.step(event, START), [kept]);
    assert!(planner.retry_queue().is_empty());
    let view = planner.peers(START).next().unwrap();
    assert!((view.score.value(START) + 10.0).abs() < f64::EPSILON);
    assert!(view.score.reliability() < 0.5);
    assert_eq!(view.window, 1);
}

#[test]
fn a_fault_of_ours_after_the_last_block_is_neither_success_nor_fault() {
    let mut planner = planner();
    planner.step(wanted(range(2, 101)), START);
    let order = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    let event = Event::FetchPartly {
        request: order.request,
        blocks: order.range.len(),
        bytes: 100_000,
        elapsed: Duration::from_millis(10),
        fault: Some(LocalFault::Internal("out of memory".to_owned()).into()),
    };
    planner.step(event, START);
    assert_eq!(stage_of(&planner, number(50)), Some(RangeStage::Buffered));
    let view = planner.peers(START).next().unwrap();
    assert_eq!((view.score.value(START), view.window), (0.0, 2));
}

#[test]
fn an_answer_cut_at_the_byte_limit_is_a_success() {
    let mut planner = planner();
    planner.step(wanted(range(2, 101)), START);
    let order = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    let event = Event::FetchPartly {
        request: order.request,
        blocks: 60,
        bytes: 600,
        elapsed: Duration::from_millis(10),
        fault: None,
    };
    let rest = fetches(&planner.step(event, START));
    assert_eq!(rest[0].range, range(62, 101));
    assert!(planner.retry_queue().is_empty());
}

#[test]
fn a_slow_front_is_hedged_and_the_loser_cancelled_without_fault() {
    let mut planner = planner();
    planner.step(wanted(range(2, 201)), START);
    let slow = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    planner.step(seen(1, BATCH, all()), START);
    let due = planner.next_wake(START).unwrap();
    assert_eq!(due, START + Duration::from_secs(1));
    let second = fetches(&planner.step(Event::Tick, due)).remove(0);
    assert_eq!((&second.peer, second.range), (&peer(1), slow.range));
    let actions = succeed(&mut planner, &second, due);
    assert_eq!(
        actions,
        [
            Action::Keep {
                request: second.request,
                range: range(2, 201)
            },
            Action::Cancel {
                request: slow.request
            }
        ]
    );
    assert!(succeed(&mut planner, &slow, due).is_empty());
    let slow_view = planner.peers(due).next().unwrap();
    assert!(slow_view.score.value(due).abs() < f64::EPSILON);
    check(&planner).unwrap();
}

#[test]
fn local_faults_cost_no_peer_anything() {
    let mut planner = planner();
    planner.step(wanted(range(2, 201)), START);
    let mut order = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    let mut now = START;
    for _ in 0..20 {
        let event = Event::FetchFailed {
            request: order.request,
            fault: LocalFault::Internal("disk full".to_owned()).into(),
        };
        assert!(fetches(&planner.step(event, now)).is_empty());
        order = next_fetch(&mut planner, &mut now);
    }
    let view = planner.peers(now).next().unwrap();
    assert_eq!((view.score.value(now), view.window), (0.0, 2));
}

#[test]
fn a_block_that_a_request_has_no_room_for_is_asked_for_with_more_of_it_at_no_peers_cost() {
    let mut planner = planner();
    planner.step(wanted(range(2, 201)), START);
    let mut order = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    let mut now = START;
    while order.byte_limit < planner.settings.answer_bytes_max {
        let limit = order.byte_limit;
        let event = Event::FetchFailed {
            request: order.request,
            fault: LocalFault::LimitTooLow { limit }.into(),
        };
        assert!(fetches(&planner.step(event, now)).is_empty());
        order = next_fetch(&mut planner, &mut now);
        let more = (limit * 2).min(planner.settings.answer_bytes_max);
        assert_eq!((&order.peer, order.byte_limit), (&peer(0), more));
    }
    let view = planner.peers(now).next().unwrap();
    assert_eq!((view.score.value(now), view.window), (0.0, 2));
}

#[test]
fn five_bad_peers_quarantine_a_range_until_a_new_one_comes() {
    let mut planner = planner();
    planner.step(wanted(range(2, 101)), START);
    for index in 0..5 {
        planner.step(seen(index, BATCH, all()), START);
    }
    let mut now = START;
    let request = *planner.requests.keys().next().unwrap();
    let mut order = FetchOrder {
        request,
        peer: planner.requests[&request].peer.clone(),
        range: range(2, 101),
        kind: BATCH,
        timeout: Duration::ZERO,
        byte_limit: 0,
    };
    let mut asked = std::collections::BTreeSet::new();
    for count in 1..=5 {
        assert!(asked.insert(order.peer.clone()), "asked twice");
        fail(&mut planner, &order, PeerFault::ShortAnswer, now);
        if count < 5 {
            order = next_fetch(&mut planner, &mut now);
        }
    }
    assert_eq!(stage_of(&planner, number(50)), Some(RangeStage::Quarantined));
    let mut waiting = planner.clone();
    let released = next_fetch(&mut waiting, &mut { now });
    assert_eq!(released.range, range(2, 101));
    let actions = planner.step(seen(9, BATCH, all()), now);
    assert_eq!(fetches(&actions)[0].peer, peer(9));
}

/// A planner with a range that has failed often and waits for another minute.
fn waiting(range: BlockRange, hold: RetryHold) -> Planner {
    let entry = RetryEntry {
        range,
        attempts: 20,
        not_before: START + Duration::from_mins(1),
        hold,
        avoid: Vec::new(),
    };
    let settings = PlannerSettings::default();
    Planner::restore(settings, CheckpointSchedule::default(), 3, vec![entry], START)
}

#[test]
fn a_range_that_waits_is_asked_at_once_from_a_new_peer_and_from_no_other() {
    let mut planner = waiting(range(2, 101), RetryHold::BackOff);
    let order = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    assert_eq!(order.range, range(2, 101));
    assert!(fail(&mut planner, &order, PeerFault::NotFound, START).is_empty());
    planner.step(Event::PeerRemoved { peer: peer(0) }, START);
    let again = planner.step(seen(0, BATCH, all()), START);
    assert!(
        fetches(&again).is_empty(),
        "it said that it does not have the range"
    );
    let other = planner.step(seen(1, BATCH, range(102, 200)), START);
    assert!(fetches(&other).is_empty(), "it does not have the range");
    let order = fetches(&planner.step(seen(2, BATCH, all()), START)).remove(0);
    assert_eq!((&order.peer, order.range), (&peer(2), range(2, 101)));
    // Once each: now the range waits for everybody.
    assert!(
        fail(
            &mut planner,
            &order,
            PeerFault::ServerError { status: 500 },
            START
        )
        .is_empty()
    );
    assert!(fetches(&planner.step(seen(2, BATCH, all()), START)).is_empty());
    let queue = planner.retry_queue();
    assert_eq!((queue[0].attempts, queue[0].not_before > START), (22, true));
}

#[test]
fn a_peer_that_comes_back_from_a_ban_is_asked_at_once() {
    for hold in [RetryHold::BackOff, RetryHold::Quarantine] {
        let mut planner = waiting(range(2, 101), hold);
        let back = START + Duration::from_secs(20);
        let mut score = PeerScore::new();
        let settings = PlannerSettings::default();
        let lied = back.saturating_sub(Duration::from_hours(1));
        score.record_fault(PeerFault::WrongHash, lied, &settings.ban);
        let banned = Event::PeerSeen {
            peer: peer(0),
            profile: PeerProfile {
                available: Some(all()),
                kind: BATCH,
            },
            score,
        };
        assert!(planner.step(banned, START).is_empty());
        let mut quiet = planner.clone();
        // Also for what has failed while it was banned.
        let order = fetches(&planner.step(seen(1, BATCH, all()), START)).remove(0);
        fail(
            &mut planner,
            &order,
            PeerFault::ServerError { status: 500 },
            START,
        );
        planner.step(Event::PeerRemoved { peer: peer(1) }, START);
        assert!(
            planner.retry_queue()[0].not_before > back,
            "another seed waits longer"
        );
        for planner in [&mut planner, &mut quiet] {
            let mut now = START;
            assert_eq!(next_fetch(planner, &mut now).range, range(2, 101));
            assert_eq!(now, back);
        }
    }
}

#[test]
fn a_peer_that_comes_back_from_an_open_circuit_is_asked_at_once() {
    let mut planner = waiting(range(2, 101), RetryHold::BackOff);
    let order = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    fail(&mut planner, &order, PeerFault::Unreachable, START);
    for _ in 0..4 {
        let fault = PeerFault::Unreachable;
        planner.step(Event::PeerFaulted { peer: peer(0), fault }, START);
    }
    let back = START + Duration::from_secs(30);
    assert!(
        planner.retry_queue()[0].not_before > back,
        "another seed waits longer"
    );
    let mut now = START;
    let probe = next_fetch(&mut planner, &mut now);
    assert_eq!((probe.range, now), (range(2, 101), back));
    // Until the probe has come back it is not all there: what fails meanwhile is asked from it then.
    planner.step(seen(1, BATCH, range(102, 200)), now);
    let other = fetches(&planner.step(wanted(range(2, 150)), now)).remove(0);
    assert_eq!((&other.peer, other.range), (&peer(1), range(102, 150)));
    fail(&mut planner, &other, PeerFault::ServerError { status: 500 }, now);
    let orders = fetches(&succeed(&mut planner, &probe, now));
    assert_eq!((&orders[0].peer, orders[0].range), (&peer(0), range(102, 150)));
}

#[test]
fn a_peer_that_gets_the_blocks_later_is_asked_for_them_at_once() {
    let mut planner = planner();
    planner.step(seen(0, BATCH, range(1, 89)), START);
    planner.step(seen(1, BATCH, all()), START);
    let order = fetches(&planner.step(wanted(range(90, 99)), START)).remove(0);
    let fault = PeerFault::ServerError { status: 500 };
    assert!(fail(&mut planner, &order, fault, START).is_empty());
    assert!(fetches(&planner.step(seen(0, BATCH, range(1, 89)), START)).is_empty());
    let order = fetches(&planner.step(seen(0, BATCH, range(1, 95)), START)).remove(0);
    assert_eq!((&order.peer, order.range), (&peer(0), range(90, 95)));
}

#[test]
fn a_peer_is_not_asked_again_for_what_it_failed_because_it_got_more() {
    let mut planner = waiting(range(90, 99), RetryHold::BackOff);
    let order = fetches(&planner.step(seen(0, BATCH, range(1, 95)), START)).remove(0);
    assert_eq!(order.range, range(90, 95));
    fail(
        &mut planner,
        &order,
        PeerFault::ServerError { status: 500 },
        START,
    );
    let rested = START + Duration::from_secs(1);
    assert!(
        planner.retry_queue()[0].not_before > rested,
        "another seed waits longer"
    );
    let orders = fetches(&planner.step(seen(0, BATCH, range(1, 99)), rested));
    let asked: Vec<BlockRange> = orders.iter().map(|order| order.range).collect();
    assert_eq!(asked, [range(96, 99)]);
}

#[test]
fn rejected_blocks_are_fetched_again_from_somebody_else() {
    let mut planner = planner();
    planner.step(wanted(range(2, 101)), START);
    let order = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    succeed(&mut planner, &order, START);
    planner.step(seen(1, BATCH, all()), START);
    planner.step(Event::RangeVerified { range: order.range }, START);
    assert_eq!(stage_of(&planner, number(7)), Some(RangeStage::Verified));
    let mut now = START;
    planner.step(
        Event::RangeRejected {
            range: order.range,
            blamed: vec![peer(0)],
            fault: PeerFault::CheckpointMismatch,
        },
        now,
    );
    let liar = planner.peers(now).next().unwrap();
    assert!(matches!(liar.score.standing(now), Standing::Banned { .. }));
    let again = next_fetch(&mut planner, &mut now);
    assert_eq!((again.peer, again.range), (peer(1), range(2, 101)));
}

#[test]
fn pieces_of_a_rejected_period_become_one_again() {
    let mut planner = planner();
    planner.step(wanted(range(2, 101)), START);
    planner.step(seen(0, FetchKind::Single, all()), START);
    let mut waiting: Vec<FetchOrder> = Vec::new();
    for request in planner.requests.keys().copied().collect::<Vec<_>>() {
        waiting.extend(fetches(&planner.step(
            Event::FetchSucceeded {
                request,
                bytes: 20_000,
                elapsed: Duration::from_millis(50),
            },
            START,
        )));
    }
    while let Some(order) = waiting.pop() {
        waiting.extend(fetches(&succeed(&mut planner, &order, START)));
    }
    assert_eq!(planner.status().buffered_blocks, 100);
    assert_eq!(planner.status().tracked_ranges, 5);
    planner.step(
        Event::RangeRejected {
            range: range(2, 101),
            blamed: Vec::new(),
            fault: PeerFault::CheckpointMismatch,
        },
        START,
    );
    assert_eq!(planner.status().tracked_ranges, 1);
    planner.step(seen(1, BATCH, all()), START);
    planner.step(Event::PeerRemoved { peer: peer(0) }, START);
    let mut now = START;
    assert_eq!(next_fetch(&mut planner, &mut now).range, range(2, 101));
}

#[test]
fn what_was_committed_from_elsewhere_is_cancelled_or_discarded() {
    let mut planner = planner();
    planner.step(wanted(range(2, 401)), START);
    let orders = fetches(&planner.step(seen(0, BATCH, all()), START));
    succeed(&mut planner, &orders[1], START);
    let actions = planner.step(Event::CommitFrontMoved { front: number(300) }, START);
    assert_eq!(
        actions,
        [
            Action::Discard {
                range: range(202, 300)
            },
            Action::Cancel {
                request: orders[0].request
            }
        ]
    );
    check(&planner).unwrap();
}

#[test]
fn the_retry_queue_survives_a_restart() {
    let mut planner = planner();
    planner.step(wanted(range(2, 101)), START);
    let order = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    fail(&mut planner, &order, PeerFault::WrongNumber, START);
    let text = serde_json::to_string(&planner.retry_queue()).unwrap();
    let restore = |now: Duration| {
        Planner::restore(
            PlannerSettings::default(),
            CheckpointSchedule::default(),
            2,
            serde_json::from_str(&text).unwrap(),
            now,
        )
    };
    assert_eq!(restore(START).retry_queue(), planner.retry_queue());
    let mut again = restore(START);
    again.step(wanted(range(50, 101)), START);
    let queue = again.retry_queue();
    assert_eq!(
        (queue[0].range, queue[0].attempts, queue.len()),
        (range(50, 101), 1, 1)
    );
    // A clock that was years ahead when the queue was stored holds nothing up.
    let early = START.saturating_sub(Duration::from_secs(100_000_000));
    assert!(restore(early).retry_queue()[0].not_before <= early + Duration::from_mins(1));
}

#[test]
fn a_rate_limit_is_obeyed_and_costs_nothing() {
    let mut planner = planner();
    planner.step(wanted(range(2, 101)), START);
    let order = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    let fault = PeerFault::RateLimited {
        retry_after_seconds: 7,
    };
    assert!(fail(&mut planner, &order, fault, START).is_empty());
    let mut now = START;
    assert_eq!(next_fetch(&mut planner, &mut now).range, order.range);
    assert_eq!(now, START + Duration::from_secs(7));
    assert!(planner.retry_queue().is_empty());
}

#[test]
fn how_peers_are_treated_is_a_setting() {
    let seconds = Duration::from_secs;
    let mut settings = PlannerSettings::default();
    settings.timeout.shortest = seconds(9);
    settings.circuit.opens_after_faults = 1;
    settings.circuit.open_for = seconds(77);
    settings.ban.first = seconds(99);
    settings.ban.longest = seconds(99);
    let mut stored = PeerScore::new();
    stored.record_fault(PeerFault::WrongHash, START, &PlannerSettings::default().ban);
    let mut planner = Planner::new(settings, CheckpointSchedule::default(), 1);
    planner.step(wanted(range(2, 101)), START);
    let order = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    assert_eq!(order.timeout, seconds(9));
    fail(&mut planner, &order, PeerFault::Unreachable, START);
    let circuit = |planner: &Planner, now| planner.peers(now).next().unwrap().circuit;
    assert_eq!(circuit(&planner, START + seconds(76)), CircuitState::Open);
    assert_eq!(circuit(&planner, START + seconds(77)), CircuitState::HalfOpen);
    let fault = PeerFault::WrongHash;
    planner.step(Event::PeerFaulted { peer: peer(0), fault }, START);
    let until = START + seconds(99);
    let profile = PeerProfile {
        available: Some(all()),
        kind: BATCH,
    };
    let score = stored;
    planner.step(
        Event::PeerSeen {
            peer: peer(1),
            profile,
            score,
        },
        START,
    );
    for view in planner.peers(START) {
        assert_eq!(
            view.score.standing(START),
            Standing::Banned { until },
            "{}",
            view.id
        );
    }
}

#[test]
fn a_lost_report_frees_the_request_in_time() {
    let mut planner = planner();
    planner.step(wanted(range(2, 101)), START);
    let order = fetches(&planner.step(seen(0, BATCH, all()), START)).remove(0);
    let end = START + order.timeout + planner.settings.timeout_grace;
    let actions = planner.step(Event::Tick, end);
    assert_eq!(
        actions,
        [Action::Cancel {
            request: order.request
        }]
    );
    assert_eq!(planner.status().requests_in_flight, 0);
}
