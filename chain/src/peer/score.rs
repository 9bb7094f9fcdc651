//! How far a node trusts a peer's data: a score that forgets, bans that end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BanSettings, PeerFault};

/// Bounds of a score.
const BOUND: f64 = 100.0;

/// Time in which a score loses half of its distance to 0.
const HALF_LIFE: Duration = Duration::from_mins(10);

/// Points for a valid answer.
const SUCCESS: f64 = 1.0;

/// A score at or below this bans the peer.
const BAN_AT: f64 = -50.0;

/// The same for a peer on probation: any bad answer sends it back.
const PROBATION_BAN_AT: f64 = -10.0;

/// Faults of the way to a peer take its score no lower: being away is no offence, and after an outage of our
/// own network every peer would be banned.
const AWAY_FLOOR: f64 = -40.0;

/// A peer that was not banned for so long after its last ban starts again at the first.
const BANS_FORGOTTEN_AFTER: Duration = Duration::from_hours(24);

/// Valid answers that end a probation.
const PROBATION_SUCCESSES: u32 = 4;

/// Weight of the newest answer in [`PeerScore::reliability`].
const RELIABILITY_WEIGHT: f64 = 0.1;

/// Score, reliability and bans of one peer, as they are kept across restarts.
///
/// The score lies in [-100, 100] and halves every 600 s. At -50 the peer is banned, each time for twice as long
/// (by default 1 h, then 2, 4, 8 and 12 h), and comes back on probation. Times are Unix times, handed in. After the clock jumped back the score
/// decays, and a ban runs, from the new time on ([`PeerScore::observe`]).
///
/// There is no way to charge a peer for a [`LocalFault`](super::LocalFault).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredScore", into = "StoredScore")]
pub struct PeerScore {
    value: f64,
    at: Duration,
    reliability: f64,
    ban: Option<Ban>,
    bans: u32,
    probation: u32,
}

/// A ban: when it began and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Ban {
    since: Duration,
    length: Duration,
}

/// Whether a peer may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Good,
    /// Yes, with one request at a time: its ban has just ended.
    Probation,
    /// No.
    Banned {
        /// When the ban ends, Unix time.
        until: Duration,
    },
}

/// Points a fault costs.
///
/// A proven lie costs 50, an answer that is not what was asked for 10. What the way to the peer or its load
/// explains costs 3 (no answer) or 2 (an answer that says no). Being asked to slow down costs nothing: it is
/// obeyed instead.
const fn cost(fault: PeerFault) -> f64 {
    match fault {
        PeerFault::WrongHash | PeerFault::CheckpointMismatch => 50.0,
        PeerFault::ShortAnswer
        | PeerFault::BrokenLink
        | PeerFault::WrongNumber
        | PeerFault::BreaksState
        | PeerFault::Malformed
        | PeerFault::TooLarge => 10.0,
        PeerFault::Unreachable | PeerFault::TimedOut => 3.0,
        PeerFault::ServerError { .. } | PeerFault::UnexpectedStatus { .. } | PeerFault::NotFound => 2.0,
        PeerFault::RateLimited { .. } => 0.0,
    }
}

/// What a fault says about the answer that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// No answer came, or one that only says "not now" or "not here".
    Away,
    /// An answer came and was not what was asked for.
    BadAnswer,
    /// An answer came and a hash proves it false.
    ProvenLie,
}

impl From<PeerFault> for FaultKind {
    fn from(fault: PeerFault) -> Self {
        match fault {
            PeerFault::WrongHash | PeerFault::CheckpointMismatch => Self::ProvenLie,
            PeerFault::ShortAnswer
            | PeerFault::BrokenLink
            | PeerFault::WrongNumber
            | PeerFault::BreaksState
            | PeerFault::Malformed
            | PeerFault::TooLarge => Self::BadAnswer,
            PeerFault::Unreachable
            | PeerFault::TimedOut
            | PeerFault::ServerError { .. }
            | PeerFault::RateLimited { .. }
            | PeerFault::UnexpectedStatus { .. }
            | PeerFault::NotFound => Self::Away,
        }
    }
}

impl Default for PeerScore {
    fn default() -> Self {
        Self {
            value: 0.0,
            at: Duration::ZERO,
            reliability: 0.5,
            ban: None,
            bans: 0,
            probation: 0,
        }
    }
}

impl PeerScore {
    /// A peer that nothing is known of: score 0, reliability one half.
    pub fn new() -> Self {
        Self::default()
    }

    /// The score at a time, in [-100, 100].
    pub fn value(&self, now: Duration) -> f64 {
        let halvings = now.saturating_sub(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.value * 0.5_f64.powf(halvings)
    }

    /// The share of recent requests it answered well, 0 to 1 (a moving average).
    pub const fn reliability(&self) -> f64 {
        self.reliability
    }

    /// Whether it may be asked.
    pub fn standing(&self, now: Duration) -> Standing {
        match self.ban {
            Some(ban) if now.abs_diff(ban.since) < ban.length => Standing::Banned {
                until: ban.since.saturating_add(ban.length),
            },
            _ if self.probation > 0 => Standing::Probation,
            _ => Standing::Good,
        }
    }

    /// Brings the score up to a time. Recording does so by itself; call it now and then where nothing is
    /// recorded, so that a clock that jumped back is noticed.
    pub fn observe(&mut self, now: Duration) {
        self.value = self.value(now);
        self.at = now;
        if let Some(ban) = &mut self.ban {
            ban.since = ban.since.min(now);
        }
    }

    /// Until when a ban is held against it: while it lasts, and for a day after. None if nothing is by now.
    pub fn ban_remembered_until(&self, now: Duration) -> Option<Duration> {
        let ban = self.ban?;
        let until = ban
            .since
            .saturating_add(ban.length)
            .saturating_add(BANS_FORGOTTEN_AFTER);
        (now < until).then_some(until)
    }

    /// Whether another view of the peer knows of other bans.
    pub fn bans_differ(&self, other: &Self) -> bool {
        (self.ban, self.bans) != (other.ban, other.bans)
    }

    /// Shortens a ban that settings of before made longer than these allow.
    pub fn shorten_ban(&mut self, bans: &BanSettings) {
        if let Some(ban) = &mut self.ban {
            ban.length = ban.length.min(bans.longest());
        }
    }

    /// A valid answer.
    pub fn record_success(&mut self, now: Duration) {
        self.observe(now);
        self.value = (self.value + SUCCESS).min(BOUND);
        self.reliability += RELIABILITY_WEIGHT * (1.0 - self.reliability);
        if !matches!(self.standing(now), Standing::Banned { .. }) {
            self.probation = self.probation.saturating_sub(1);
        }
    }

    /// A fault. A proven lie also wipes out what earlier answers have earned, so that nobody saves up for it.
    pub fn record_fault(&mut self, fault: PeerFault, now: Duration, bans: &BanSettings) {
        self.observe(now);
        self.reliability -= RELIABILITY_WEIGHT * self.reliability;
        let kind = FaultKind::from(fault);
        let after = match kind {
            FaultKind::Away => (self.value - cost(fault)).max(AWAY_FLOOR.min(self.value)),
            FaultKind::BadAnswer => self.value - cost(fault),
            FaultKind::ProvenLie => self.value.min(0.0) - cost(fault),
        };
        self.value = after.max(-BOUND);
        let limit = match self.standing(now) {
            Standing::Good => BAN_AT,
            Standing::Probation => PROBATION_BAN_AT,
            Standing::Banned { .. } => return,
        };
        if kind != FaultKind::Away && self.value <= limit {
            self.begin_ban(now, bans);
        }
    }

    fn begin_ban(&mut self, now: Duration, bans: &BanSettings) {
        let is_old =
            |ban: Ban| now.saturating_sub(ban.since).saturating_sub(ban.length) >= BANS_FORGOTTEN_AFTER;
        if self.ban.is_some_and(is_old) {
            self.bans = 0;
        }
        let factor = 2_u32.saturating_pow(self.bans);
        self.ban = Some(Ban {
            since: now,
            length: bans.first.saturating_mul(factor).min(bans.longest()),
        });
        self.bans = self.bans.saturating_add(1);
        self.probation = PROBATION_SUCCESSES;
    }
}

/// The stored form; whatever it says is brought back into bounds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredScore {
    value: f64,
    at: Duration,
    reliability: f64,
    #[serde(default)]
    ban: Option<Ban>,
    #[serde(default)]
    bans: u32,
    #[serde(default)]
    probation: u32,
}

impl From<StoredScore> for PeerScore {
    fn from(stored: StoredScore) -> Self {
        Self {
            value: stored.value.clamp(-BOUND, BOUND),
            at: stored.at,
            reliability: stored.reliability.clamp(0.0, 1.0),
            ban: stored.ban.map(|ban| Ban {
                since: ban.since,
                length: ban.length.min(BanSettings::LIMIT),
            }),
            bans: stored.bans,
            probation: stored.probation.min(PROBATION_SUCCESSES),
        }
    }
}

impl From<PeerScore> for StoredScore {
    fn from(score: PeerScore) -> Self {
        Self {
            value: score.value,
            at: score.at,
            reliability: score.reliability,
            ban: score.ban,
            bans: score.bans,
            probation: score.probation,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_hours(500_000);

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 3_600)
    }

    fn banned_for(score: &PeerScore, now: Duration) -> Option<Duration> {
        match score.standing(now) {
            Standing::Banned { until } => Some(until.saturating_sub(now)),
            _ => None,
        }
    }

    #[test]
    fn a_lie_bans_whatever_was_earned_before() {
        let mut score = PeerScore::new();
        for _ in 0..500 {
            score.record_success(NOW);
        }
        assert!((score.value(NOW) - 100.0).abs() < f64::EPSILON);
        assert!(score.reliability() > 0.99);
        score.record_fault(PeerFault::CheckpointMismatch, NOW, &BanSettings::default());
        assert_eq!(banned_for(&score, NOW), Some(hours(1)));
    }

    #[test]
    fn bans_double_to_twelve_hours_and_are_forgotten() {
        let mut score = PeerScore::new();
        let mut now = NOW;
        for length in [1, 2, 4, 8, 12, 12] {
            score.record_fault(PeerFault::WrongHash, now, &BanSettings::default());
            assert_eq!(banned_for(&score, now), Some(hours(length)));
            now += hours(length);
            assert_eq!(score.standing(now), Standing::Probation);
        }
        now += hours(24);
        score.record_fault(PeerFault::WrongHash, now, &BanSettings::default());
        assert_eq!(banned_for(&score, now), Some(hours(1)));
    }

    #[test]
    fn how_long_a_ban_is_is_a_setting() {
        let bans = BanSettings {
            first: Duration::from_secs(10),
            longest: Duration::from_secs(15),
        };
        let mut score = PeerScore::new();
        let mut now = NOW;
        for length in [10, 15] {
            score.record_fault(PeerFault::WrongHash, now, &bans);
            assert_eq!(banned_for(&score, now), Some(Duration::from_secs(length)));
            now += Duration::from_secs(length);
        }
        let endless = BanSettings {
            first: Duration::MAX,
            longest: Duration::MAX,
        };
        score.record_fault(PeerFault::WrongHash, now, &endless);
        assert_eq!(banned_for(&score, now), Some(BanSettings::LIMIT));
        score.shorten_ban(&bans);
        assert_eq!(banned_for(&score, now), Some(bans.longest));
    }

    #[test]
    fn probation_ends_with_good_answers_and_a_bad_one_bans() {
        let mut score = PeerScore::new();
        score.record_fault(PeerFault::WrongHash, NOW, &BanSettings::default());
        let after = NOW + hours(1);
        let mut failing = score.clone();
        failing.record_fault(PeerFault::TimedOut, after, &BanSettings::default());
        assert_eq!(failing.standing(after), Standing::Probation);
        failing.record_fault(PeerFault::ShortAnswer, after, &BanSettings::default());
        assert_eq!(banned_for(&failing, after), Some(hours(2)));
        for _ in 0..PROBATION_SUCCESSES {
            assert_eq!(score.standing(after), Standing::Probation);
            score.record_success(after);
        }
        assert_eq!(score.standing(after), Standing::Good);
    }

    #[test]
    fn an_outage_bans_nobody() {
        let mut score = PeerScore::new();
        for _ in 0..1_000 {
            score.record_fault(PeerFault::Unreachable, NOW, &BanSettings::default());
        }
        assert_eq!(score.standing(NOW), Standing::Good);
        assert!((score.value(NOW) + 40.0).abs() < f64::EPSILON);
    }

    #[test]
    fn five_bad_answers_ban() {
        let mut score = PeerScore::new();
        for count in 1..=5 {
            assert_eq!(score.standing(NOW), Standing::Good, "{count}");
            score.record_fault(PeerFault::BrokenLink, NOW, &BanSettings::default());
        }
        assert!(matches!(score.standing(NOW), Standing::Banned { .. }));
    }

    #[test]
    fn half_is_forgotten_in_ten_minutes() {
        let mut score = PeerScore::new();
        score.record_fault(PeerFault::ShortAnswer, NOW, &BanSettings::default());
        assert!((score.value(NOW + HALF_LIFE) + 5.0).abs() < 1e-9);
    }

    #[test]
    fn a_ban_ends_though_the_clock_jumps_back() {
        let mut score = PeerScore::new();
        score.record_fault(PeerFault::WrongHash, NOW, &BanSettings::default());
        let back = NOW.saturating_sub(hours(24 * 365));
        assert_eq!(score.standing(back), Standing::Probation);
        score.observe(back);
        assert_eq!(score.standing(back + hours(1)), Standing::Probation);
        assert!(score.value(back + hours(24)).abs() < 1e-9);
    }

    #[test]
    fn stored_nonsense_is_brought_back_into_bounds() {
        let text = r#"{"value":1e300,"at":{"secs":1,"nanos":0},"reliability":-7.0,
            "ban":{"since":{"secs":1,"nanos":0},"length":{"secs":999999999,"nanos":0}},"probation":4000000000}"#;
        let score: PeerScore = serde_json::from_str(text).unwrap();
        let start = Duration::from_secs(1);
        assert!(score.value(start) <= 100.0 && score.reliability() >= 0.0);
        assert_eq!(score.standing(start + BanSettings::LIMIT), Standing::Probation);
    }

    fn fault() -> impl Strategy<Value = PeerFault> {
        prop::sample::select(vec![
            PeerFault::Unreachable,
            PeerFault::TimedOut,
            PeerFault::ServerError { status: 503 },
            PeerFault::RateLimited {
                retry_after_seconds: 5,
            },
            PeerFault::UnexpectedStatus { status: 418 },
            PeerFault::NotFound,
            PeerFault::Malformed,
            PeerFault::TooLarge,
            PeerFault::ShortAnswer,
            PeerFault::WrongNumber,
            PeerFault::BrokenLink,
            PeerFault::WrongHash,
            PeerFault::CheckpointMismatch,
        ])
    }

    proptest! {
        /// I9: bounded, tending to 0, and every ban ends, on a clock that also jumps back.
        #[test]
        fn scores_are_bounded_and_forgotten(
            events in prop::collection::vec((prop::option::of(fault()), -90_000_i64..90_000), 0..80)
        ) {
            let mut score = PeerScore::new();
            let mut now = NOW;
            for (event, step) in events {
                now = Duration::from_secs(now.as_secs().saturating_add_signed(step));
                match event {
                    Some(fault) => score.record_fault(fault, now, &BanSettings::default()),
                    None => score.record_success(now),
                }
                prop_assert!((-100.0..=100.0).contains(&score.value(now)));
                prop_assert!((0.0..=1.0).contains(&score.reliability()));
                let text = serde_json::to_string(&score).unwrap();
                prop_assert_eq!(&serde_json::from_str::<PeerScore>(&text).unwrap(), &score);
            }
            let mut before = score.value(now).abs();
            for minutes in 1_u64..=200 {
                let later = score.value(now + Duration::from_secs(60 * minutes)).abs();
                prop_assert!(later <= before);
                before = later;
            }
            prop_assert!(before < 0.001);
            score.observe(now);
            let end = now + BanSettings::default().longest;
            prop_assert!(!matches!(score.standing(end), Standing::Banned { .. }), "{:?}", score);
        }
    }
}
