//! When to ask a second peer, and what that may cost.

use std::collections::VecDeque;
use std::time::Duration;

use super::settings::PlannerSettings;

/// Answers the median is taken over.
const REMEMBERED: usize = 64;

/// How long recent answers took.
#[derive(Debug, Clone, Default)]
pub(super) struct Latencies {
    recent: VecDeque<Duration>,
}

impl Latencies {
    pub(super) fn record(&mut self, elapsed: Duration) {
        if self.recent.len() >= REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(elapsed);
    }

    /// The median; nothing before the first answer.
    pub(super) fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// The age at which the front range is asked from a second peer: twice the median, at least the setting.
    pub(super) fn hedge_after(&self, settings: &PlannerSettings) -> Duration {
        let twice = self.median().unwrap_or_default().saturating_mul(2);
        twice.max(settings.hedge_after_min)
    }
}

/// Bytes that were asked for twice, against all bytes received.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HedgeBudget {
    received: u64,
    hedged: u64,
}

impl HedgeBudget {
    pub(super) fn on_received(&mut self, bytes: u64) {
        self.received = self.received.saturating_add(bytes);
    }

    /// Spends `bytes` if they fit. The very first hedge always does.
    pub(super) fn spend(&mut self, bytes: u64, settings: &PlannerSettings) -> bool {
        let after = self.hedged.saturating_add(bytes);
        let earned = self.received.saturating_mul(settings.hedge_percent) / 100;
        let fits = (self.hedged == 0 && settings.hedge_percent > 0)
            || after <= earned.max(settings.hedge_free_bytes);
        if fits {
            self.hedged = after;
        }
        fits
    }

    /// Gives bytes back that turned out not to be extra, because the other request brought nothing.
    pub(super) fn refund(&mut self, bytes: u64) {
        self.hedged = self.hedged.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hedges_stay_within_their_share() {
        let settings = PlannerSettings::default();
        let mut budget = HedgeBudget::default();
        assert!(budget.spend(3_000_000, &settings));
        assert!(!budget.spend(1, &settings));
        budget.refund(3_000_000);
        assert!(budget.spend(1_000_000, &settings));
        assert!(!budget.spend(100_000, &settings));
        budget.on_received(100_000_000);
        assert!(budget.spend(4_000_000, &settings));
        assert!(!budget.spend(1, &settings));
    }

    #[test]
    fn the_median_is_of_recent_answers() {
        let settings = PlannerSettings::default();
        let mut latencies = Latencies::default();
        assert_eq!(latencies.hedge_after(&settings), Duration::from_secs(1));
        for seconds in 0..200 {
            latencies.record(Duration::from_secs(seconds));
        }
        assert_eq!(latencies.median(), Some(Duration::from_secs(168)));
        assert_eq!(latencies.hedge_after(&settings), Duration::from_secs(336));
    }
}
