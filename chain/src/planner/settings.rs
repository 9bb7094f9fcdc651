//! What an operator may tune.

use std::time::Duration;

use crate::peer::{BanSettings, CircuitSettings, TimeoutSettings};

const MEBIBYTE: u64 = 1_024 * 1_024;

/// Limits and first values of the planner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannerSettings {
    /// Blocks a request to a new peer asks for.
    pub range_blocks_first: u64,
    /// Fewest blocks that time-outs shrink a request to.
    pub range_blocks_min: u64,
    /// Most blocks a request asks for.
    pub range_blocks_max: u64,
    /// Bytes a request is cut to, by the size of recent blocks.
    pub range_bytes: u64,
    /// Most blocks of a request to a peer that is asked block by block.
    pub single_range_blocks: u64,
    /// Answers in a row after which a peer is asked for more at once.
    pub successes_to_grow: u32,
    /// Requests in flight to a new peer.
    pub peer_window_first: u32,
    /// Most requests in flight to one peer.
    pub peer_window_max: u32,
    /// Most requests in flight, hedges included. One in sixteen is kept free for the front and for hedges.
    pub in_flight_max: usize,
    /// Most bytes that are buffered or may still arrive. Only the front may exceed it, by one answer.
    pub buffer_bytes_max: u64,
    /// Most blocks in flight, buffered or handed over. Only the front may exceed it, by one range.
    pub buffer_blocks_max: u64,
    /// Smallest byte limit of an answer. Each failed attempt doubles it.
    pub answer_bytes_min: u64,
    /// Largest byte limit of an answer; must have room for any one block.
    pub answer_bytes_max: u64,
    /// Youngest age at which the front range is asked from a second peer.
    pub hedge_after_min: Duration,
    /// Share of all received bytes that hedges may cost, in percent.
    pub hedge_percent: u64,
    /// Bytes that hedges may cost before that share has grown to them.
    pub hedge_free_bytes: u64,
    /// Distinct peers whose bad answers quarantine a range.
    pub quarantine_after_peers: usize,
    /// How long a range stays quarantined, and how long a peer is not asked again for a range that it
    /// answered badly.
    pub quarantine_for: Duration,
    /// How long a peer is not asked again for a range that it did not have.
    pub not_found_for: Duration,
    /// First back-off of a range or peer; doubled by every further failure, with full jitter.
    pub back_off_first: Duration,
    /// Longest back-off.
    pub back_off_max: Duration,
    /// Longest pause that a peer can ask for by rate limiting.
    pub rate_limit_pause_max: Duration,
    /// How much later than its time-out a request is given up by the planner itself.
    pub timeout_grace: Duration,
    /// When a peer that cannot be reached is left alone.
    pub circuit: CircuitSettings,
    /// How long a peer that lied is banned.
    pub ban: BanSettings,
    /// How long an answer is waited for.
    pub timeout: TimeoutSettings,
    /// Most peers that are known at once.
    pub peers_max: usize,
    /// Most ranges with a state or a history of their own.
    pub tracked_ranges_max: usize,
}

impl Default for PlannerSettings {
    fn default() -> Self {
        Self {
            range_blocks_first: 256,
            range_blocks_min: 32,
            range_blocks_max: 512,
            range_bytes: 4 * MEBIBYTE,
            single_range_blocks: 20,
            successes_to_grow: 4,
            peer_window_first: 2,
            peer_window_max: 8,
            in_flight_max: 32,
            buffer_bytes_max: 64 * MEBIBYTE,
            buffer_blocks_max: 8_192,
            answer_bytes_min: MEBIBYTE,
            answer_bytes_max: 8 * MEBIBYTE,
            hedge_after_min: Duration::from_secs(1),
            hedge_percent: 5,
            hedge_free_bytes: MEBIBYTE,
            quarantine_after_peers: 5,
            quarantine_for: Duration::from_mins(10),
            not_found_for: Duration::from_secs(30),
            back_off_first: Duration::from_millis(500),
            back_off_max: Duration::from_mins(1),
            rate_limit_pause_max: Duration::from_mins(5),
            timeout_grace: Duration::from_secs(1),
            circuit: CircuitSettings::default(),
            ban: BanSettings::default(),
            timeout: TimeoutSettings::default(),
            peers_max: 256,
            tracked_ranges_max: 4_096,
        }
    }
}
