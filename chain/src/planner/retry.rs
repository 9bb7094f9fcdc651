//! The retry queue across restarts.

use std::time::Duration;

use super::Planner;
use super::message::{AvoidedPeer, RetryEntry, RetryHold};
use super::ranges::{History, RangeState, Tracked};
use super::settings::PlannerSettings;
use crate::interval::IntervalSet;
use crate::network::CheckpointSchedule;

impl Planner {
    /// What to keep across a restart: every range that has failed before, lowest first. Blocks that are in
    /// flight or in memory would be lost, so they are to be tried again at once.
    pub fn retry_queue(&self) -> Vec<RetryEntry> {
        self.ranges
            .tracked()
            .filter(|tracked| tracked.history != History::default())
            .map(|tracked| {
                let (hold, not_before) = match tracked.state {
                    RangeState::Missing { not_before } => {
                        (RetryHold::BackOff, self.clock.to_wall(not_before))
                    }
                    RangeState::Quarantined { until } => (RetryHold::Quarantine, self.clock.to_wall(until)),
                    _ => (RetryHold::BackOff, Duration::ZERO),
                };
                let avoid = tracked.history.avoid.iter().map(|avoided| AvoidedPeer {
                    until: self.clock.to_wall(avoided.until),
                    ..avoided.clone()
                });
                RetryEntry {
                    range: tracked.range,
                    attempts: tracked.history.attempts,
                    not_before,
                    hold,
                    avoid: avoid.collect(),
                }
            })
            .collect()
    }

    /// A planner that goes on with a stored retry queue. It wants the blocks of the queue until
    /// [`WantedChanged`](super::Event::WantedChanged) says otherwise. All peers are new to it, so each may be asked
    /// once before a range's wait is over, except where the entry says not to. No wait is longer than the settings
    /// allow, whatever the queue and the clock say; where entries overlap the first one counts.
    pub fn restore(
        settings: PlannerSettings,
        schedule: CheckpointSchedule,
        seed: u64,
        queue: Vec<RetryEntry>,
        now: Duration,
    ) -> Self {
        let mut planner = Self::new(settings, schedule, seed);
        planner.clock.advance(now);
        let settings = &planner.settings;
        let no_later_than = |at: Duration, wait: Duration| at.min(now.saturating_add(wait));
        let mut covered = IntervalSet::new();
        for entry in queue.into_iter().take(settings.tracked_ranges_max) {
            let mut history = History {
                attempts: entry.attempts,
                failed_in: 0,
                avoid: Vec::new(),
            };
            for avoided in entry.avoid {
                let until = no_later_than(avoided.until, settings.quarantine_for);
                history.note(AvoidedPeer { until, ..avoided });
            }
            let state = match entry.hold {
                RetryHold::BackOff => RangeState::Missing {
                    not_before: no_later_than(entry.not_before, settings.back_off_max),
                },
                RetryHold::Quarantine => RangeState::Quarantined {
                    until: no_later_than(entry.not_before, settings.quarantine_for),
                },
            };
            let free: Vec<_> = covered.missing_in(entry.range).collect();
            covered.insert(entry.range);
            planner.ranges.want(entry.range);
            for range in free {
                planner.ranges.put(Tracked {
                    range,
                    state: state.clone(),
                    history: history.clone(),
                });
            }
        }
        planner
    }
}
