//! A clock that never goes back.

use std::time::Duration;

/// When a step happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Unix time, which may jump; for what is stored.
    pub(super) wall: Duration,
    /// Unix time until the clock first jumps back, and from then on the same with every jump taken out; for
    /// everything else.
    pub(super) steady: Duration,
    /// Counts steps, from 1 on: tells what came first where two things happened at one time.
    pub(super) step: u64,
}

/// Turns Unix times that may jump back into times that do not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SteadyClock {
    last: Duration,
    jumped_back: Duration,
    steps: u64,
}

impl SteadyClock {
    /// The times of a step that happens now.
    pub(super) fn advance(&mut self, wall: Duration) -> Now {
        self.steps += 1;
        let now = self.at(wall);
        self.jumped_back = now.steady.saturating_sub(wall);
        self.last = now.steady;
        now
    }

    /// The times at a moment, without a step.
    pub(super) fn at(&self, wall: Duration) -> Now {
        let steady = wall.saturating_add(self.jumped_back).max(self.last);
        let step = self.steps;
        Now { wall, steady, step }
    }

    /// The Unix time of a steady time.
    pub(super) fn to_wall(self, steady: Duration) -> Duration {
        steady.saturating_sub(self.jumped_back)
    }

    /// The steady time of a Unix time.
    pub(super) fn to_steady(self, wall: Duration) -> Duration {
        wall.saturating_add(self.jumped_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_back_are_taken_out() {
        let mut clock = SteadyClock::default();
        let steady: Vec<u64> = [100, 110, 50, 55, 40, 45, 200]
            .map(|wall| clock.advance(Duration::from_secs(wall)).steady.as_secs())
            .to_vec();
        assert_eq!(steady, [100, 110, 110, 115, 115, 120, 275]);
        assert_eq!(clock.to_wall(Duration::from_secs(275)).as_secs(), 200);
    }
}
