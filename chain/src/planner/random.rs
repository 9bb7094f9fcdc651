//! Chance, from a seed: the same seed gives the same plan.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::settings::PlannerSettings;

/// A number in [0, 1).
pub(super) fn fraction(random: &mut ChaCha8Rng) -> f64 {
    f64::from(random.next_u32()) / (f64::from(u32::MAX) + 1.0)
}

/// A back-off with full jitter after `earlier` failures: between nothing and the doubled first value.
pub(super) fn back_off(random: &mut ChaCha8Rng, settings: &PlannerSettings, earlier: u32) -> Duration {
    let factor = 2_u32.saturating_pow(earlier.min(31));
    let longest = settings
        .back_off_first
        .saturating_mul(factor)
        .min(settings.back_off_max);
    longest.mul_f64(fraction(random))
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn back_off_grows_to_its_cap_and_spreads() {
        let settings = PlannerSettings::default();
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for earlier in [0, 1, 2, 6, 7, 40, u32::MAX] {
            let cap = Duration::from_millis(500 << earlier.min(7)).min(Duration::from_mins(1));
            let waits: Vec<Duration> = (0..200)
                .map(|_| back_off(&mut random, &settings, earlier))
                .collect();
            assert!(waits.iter().all(|wait| *wait < cap));
            assert!(waits.iter().any(|wait| *wait > cap / 2) && waits.iter().any(|wait| *wait < cap / 2));
        }
    }
}
