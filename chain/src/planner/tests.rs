//! The planner against random events and against small simulated worlds.

mod events;
mod rules;
mod world;

use std::time::Duration;

use super::status::RangeStage;
use super::*;
use crate::interval::IntervalSet;
use crate::peer::{PeerId, PeerScore};

const START: Duration = Duration::from_hours(500_000);

fn number(number: u64) -> BlockNumber {
    BlockNumber::try_from(number).unwrap()
}

fn range(start: u64, end: u64) -> BlockRange {
    BlockRange::new(number(start), number(end)).unwrap()
}

fn peer(index: usize) -> PeerId {
    format!("peer-{index}").parse().unwrap()
}

fn seen(index: usize, kind: FetchKind, available: BlockRange) -> Event {
    Event::PeerSeen {
        peer: peer(index),
        profile: PeerProfile {
            available: Some(available),
            kind,
        },
        score: PeerScore::new(),
    }
}

fn wanted(range: BlockRange) -> Event {
    Event::WantedChanged {
        missing: IntervalSet::from(range),
        near_from: BlockNumber::default(),
        head_first: None,
    }
}

fn planner() -> Planner {
    Planner::new(PlannerSettings::default(), CheckpointSchedule::default(), 1)
}

fn fetches(actions: &[Action]) -> Vec<FetchOrder> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Fetch(order) => Some(order.clone()),
            _ => None,
        })
        .collect()
}

/// What must hold after every step: I14 and the bounds of I10.
fn check(planner: &Planner) -> Result<(), String> {
    let settings = &planner.settings;
    let mut end = None;
    for tracked in planner.ranges.tracked() {
        if end.is_some_and(|end| tracked.range.start() <= end) {
            return Err(format!("{} overlaps the range before", tracked.range));
        }
        end = Some(tracked.range.end());
        if !planner.wanted().contains_range(tracked.range) {
            return Err(format!("{} is tracked but not wanted", tracked.range));
        }
        if let ranges::RangeState::InFlight { first, hedge } = tracked.state {
            for request in [Some(first), hedge].into_iter().flatten() {
                let covers = planner
                    .requests
                    .get(&request)
                    .is_some_and(|request| request.range.intersection(tracked.range) == Some(tracked.range));
                if !covers || hedge == Some(first) {
                    return Err(format!("nobody fetches {}", tracked.range));
                }
            }
        }
    }
    for (id, request) in &planner.requests {
        if !planner.ranges.tracked().any(|tracked| tracked.state.awaits(*id)) {
            return Err(format!("request {id} for {} has no use", request.range));
        }
        if planner.peers.get(&request.peer).is_none() {
            return Err(format!("request {id} goes to a peer that is gone"));
        }
    }
    for (id, known) in planner.peers.iter() {
        let in_flight = planner
            .requests
            .values()
            .filter(|request| request.peer == *id)
            .count();
        if in_flight != known.in_flight as usize || known.window > settings.peer_window_max {
            return Err(format!("{id} has {in_flight} requests, not {}", known.in_flight));
        }
    }
    let status = planner.status();
    let waits = |(_, stage)| matches!(stage, RangeStage::Missing | RangeStage::Quarantined);
    if status.tracked_ranges > settings.tracked_ranges_max && planner.tracked_ranges().any(waits) {
        return Err(format!("{} ranges are tracked", status.tracked_ranges));
    }
    let blocks = status.in_flight_blocks + status.buffered_blocks + status.verified_blocks;
    let bytes = status.held_bytes + status.awaited_bytes_max;
    // The fronts of the regions (two more around what comes first at the head), each with a hedge, may exceed the
    // limits.
    let slack = 8;
    if status.requests_in_flight > settings.in_flight_max
        || planner.peers.iter().count() > settings.peers_max
        || blocks > settings.buffer_blocks_max + slack * settings.range_blocks_max
        || bytes > settings.buffer_bytes_max + slack * settings.answer_bytes_max
    {
        return Err(format!("over a limit: {status:?}"));
    }
    Ok(())
}
