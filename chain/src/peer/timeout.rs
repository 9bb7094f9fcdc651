//! How long to wait for a peer.

use std::time::Duration;

use super::TimeoutSettings;

/// Round trips a peer may take for one.
const PATIENCE: u32 = 3;

/// Assumed for a peer that has not answered yet.
const FIRST_ROUND_TRIP: Duration = Duration::from_secs(1);

/// The newest sample weighs one in so many (as in RFC 6298, section 2).
const SMOOTHING: u32 = 8;

/// The wait for one peer: three times its smoothed round trip, and the time for the bytes at the slowest speed
/// that is put up with (by default 128 KiB/s), within bounds (by default 2 to 20 s).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdaptiveTimeout {
    settings: TimeoutSettings,
    round_trip: Option<Duration>,
}

impl AdaptiveTimeout {
    /// For a peer that has not answered yet.
    pub fn new(settings: TimeoutSettings) -> Self {
        Self {
            settings,
            round_trip: None,
        }
    }

    /// The smoothed round trip; 1 s until there is a sample.
    pub fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or(FIRST_ROUND_TRIP)
    }

    /// How long to wait for an answer that takes `round_trips` questions and about `bytes` bytes.
    pub fn wait_for(&self, round_trips: u32, bytes: u64) -> Duration {
        let slowest = self.settings.slowest_bytes_per_second.max(1);
        let transfer = Duration::from_millis(bytes.saturating_mul(1_000) / slowest);
        self.round_trip()
            .saturating_mul(PATIENCE)
            .saturating_mul(round_trips.max(1))
            .saturating_add(transfer)
            .max(self.settings.shortest)
            .min(self.settings.longest)
    }

    /// An answer that took `elapsed` for `round_trips` questions. The transfer is counted in, so a slow line
    /// is given more time.
    pub fn on_answer(&mut self, round_trips: u32, elapsed: Duration) {
        let sample = (elapsed / round_trips.max(1)).min(self.settings.longest);
        self.round_trip = Some(match self.round_trip {
            None => sample,
            Some(smoothed) => (smoothed * (SMOOTHING - 1) + sample) / SMOOTHING,
        });
    }

    /// No answer in time: the next wait is twice as long (RFC 6298, section 5.5).
    pub fn on_timeout(&mut self) {
        let round_trip = self.round_trip().max(self.settings.shortest / PATIENCE);
        self.round_trip = Some(round_trip.saturating_mul(2).min(self.settings.longest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_the_peer_within_bounds() {
        let mut timeout = AdaptiveTimeout::default();
        assert_eq!(timeout.wait_for(1, 0), Duration::from_secs(3));
        assert_eq!(timeout.wait_for(1, 1_024 * 1_024), Duration::from_secs(11));
        for _ in 0..100 {
            timeout.on_answer(1, Duration::from_millis(10));
        }
        assert_eq!(timeout.wait_for(1, 0), Duration::from_secs(2));
        assert_eq!(timeout.wait_for(u32::MAX, u64::MAX), Duration::from_secs(20));
        for _ in 0..100 {
            timeout.on_answer(1, Duration::MAX);
        }
        assert_eq!(timeout.wait_for(1, 0), Duration::from_secs(20));
    }

    #[test]
    fn a_slow_peer_gets_more_time_after_each_timeout() {
        let mut timeout = AdaptiveTimeout::default();
        timeout.on_answer(1, Duration::from_millis(1));
        let waits: Vec<u64> = (0..5)
            .map(|_| {
                timeout.on_timeout();
                timeout.wait_for(1, 0).as_secs()
            })
            .collect();
        assert_eq!(waits, [3, 7, 15, 20, 20]);
    }

    #[test]
    fn the_bounds_and_the_speed_are_settings() {
        let timeout = AdaptiveTimeout::new(TimeoutSettings {
            shortest: Duration::from_secs(5),
            longest: Duration::from_mins(2),
            slowest_bytes_per_second: 1_000,
        });
        assert_eq!(timeout.wait_for(1, 0), Duration::from_secs(5));
        assert_eq!(timeout.wait_for(1, 30_000), Duration::from_secs(33));
        assert_eq!(timeout.wait_for(1, u64::MAX), Duration::from_mins(2));
        let mut nonsense = AdaptiveTimeout::new(TimeoutSettings {
            shortest: Duration::MAX,
            longest: Duration::ZERO,
            slowest_bytes_per_second: 0,
        });
        nonsense.on_timeout();
        assert_eq!(nonsense.wait_for(1, 1), Duration::ZERO);
    }

    #[test]
    fn many_questions_share_the_time_they_took() {
        let mut timeout = AdaptiveTimeout::default();
        timeout.on_answer(20, Duration::from_secs(10));
        assert_eq!(timeout.round_trip(), Duration::from_millis(500));
    }
}
