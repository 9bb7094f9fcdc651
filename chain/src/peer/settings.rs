//! What an operator may tune about how peers are treated.

use std::time::Duration;

/// When a peer that cannot be reached is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitSettings {
    /// Transport faults in a row that open the circuit; 0 counts as 1.
    pub opens_after_faults: u32,
    /// How long it stays open before one request may try again.
    pub open_for: Duration,
}

impl Default for CircuitSettings {
    fn default() -> Self {
        Self {
            opens_after_faults: 5,
            open_for: Duration::from_secs(30),
        }
    }
}

/// How long a peer is banned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanSettings {
    /// First ban; each later one is twice as long.
    pub first: Duration,
    /// Longest ban, at most [`BanSettings::LIMIT`].
    pub longest: Duration,
}

impl BanSettings {
    /// No ban is longer, whatever settings and store say.
    pub const LIMIT: Duration = Duration::from_hours(30 * 24);

    /// The longest ban, within its limit.
    pub(super) fn longest(&self) -> Duration {
        self.longest.min(Self::LIMIT)
    }
}

impl Default for BanSettings {
    fn default() -> Self {
        Self {
            first: Duration::from_hours(1),
            longest: Duration::from_hours(12),
        }
    }
}

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutSettings {
    /// Shortest wait.
    pub shortest: Duration,
    /// Longest wait; counts where it is below the shortest.
    pub longest: Duration,
    /// Slowest transfer that is waited for, bytes per second; 0 counts as 1.
    pub slowest_bytes_per_second: u64,
}

impl Default for TimeoutSettings {
    fn default() -> Self {
        Self {
            shortest: Duration::from_secs(2),
            longest: Duration::from_secs(20),
            slowest_bytes_per_second: 128 * 1_024,
        }
    }
}
