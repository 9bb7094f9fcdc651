//! A circuit breaker: a peer that cannot be reached is left alone for a while, then tried with one request.

use std::time::Duration;

use super::{CircuitSettings, PeerFault};

/// The circuit breaker of one peer. Closed until several transport faults in a row open it (by default 5); some
/// time later (by default 30 s) one probe is let through, whose outcome closes or reopens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CircuitBreaker {
    settings: CircuitSettings,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { faults: u32 },
    Open { since: Duration },
    Probing { since: Duration },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { faults: 0 }
    }
}

/// How a circuit breaker stands, for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Requests go through.
    Closed,
    /// None goes through.
    Open,
    /// One may, or is on its way.
    HalfOpen,
}

/// Whether a fault is one of the way to a peer rather than of its answer.
const fn is_transport(fault: PeerFault) -> bool {
    matches!(
        fault,
        PeerFault::Unreachable | PeerFault::TimedOut | PeerFault::ServerError { .. }
    )
}

impl CircuitBreaker {
    /// A closed circuit.
    pub fn new(settings: CircuitSettings) -> Self {
        Self {
            settings,
            state: State::default(),
        }
    }

    /// Whether a request may go out.
    pub fn allows(&self, now: Duration) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { since } => now.abs_diff(since) >= self.settings.open_for,
            State::Probing { .. } => false,
        }
    }

    /// How it stands.
    pub fn state(&self, now: Duration) -> CircuitState {
        match self.state {
            State::Closed { .. } => CircuitState::Closed,
            State::Open { .. } if !self.allows(now) => CircuitState::Open,
            State::Open { .. } | State::Probing { .. } => CircuitState::HalfOpen,
        }
    }

    /// When an open circuit lets its probe through.
    pub fn half_opens_at(&self) -> Option<Duration> {
        match self.state {
            State::Open { since } => Some(since.saturating_add(self.settings.open_for)),
            _ => None,
        }
    }

    /// A request goes out.
    pub fn on_request(&mut self) {
        if let State::Open { since } = self.state {
            self.state = State::Probing { since };
        }
    }

    /// An answer came, a good or a bad one: the way is open.
    pub fn on_answer(&mut self) {
        self.state = State::default();
    }

    /// A fault came back instead.
    pub fn on_fault(&mut self, fault: PeerFault, now: Duration) {
        if !is_transport(fault) {
            return self.on_answer();
        }
        self.state = match self.state {
            State::Closed { faults } if faults + 1 < self.settings.opens_after_faults => {
                State::Closed { faults: faults + 1 }
            }
            // Late answers to requests from before it opened do not keep it open.
            State::Open { since } => State::Open { since },
            State::Closed { .. } | State::Probing { .. } => State::Open { since: now },
        };
    }

    /// The request was taken back: it says nothing about the peer, and a probe may be sent again.
    pub fn on_cancel(&mut self) {
        if let State::Probing { since } = self.state {
            self.state = State::Open { since };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_000 + seconds)
    }

    fn open() -> CircuitBreaker {
        let mut circuit = CircuitBreaker::default();
        for _ in 0..5 {
            assert!(circuit.allows(at(0)));
            circuit.on_fault(PeerFault::TimedOut, at(0));
        }
        circuit
    }

    #[test]
    fn it_opens_and_lets_one_probe_through() {
        let mut circuit = open();
        assert!(!circuit.allows(at(29)));
        assert_eq!(circuit.state(at(29)), CircuitState::Open);
        assert!(circuit.allows(at(30)));
        circuit.on_request();
        assert!(!circuit.allows(at(31)));
        circuit.on_fault(PeerFault::Unreachable, at(32));
        assert!(!circuit.allows(at(61)));
        assert!(circuit.allows(at(62)));
        circuit.on_request();
        circuit.on_answer();
        assert_eq!(circuit.state(at(62)), CircuitState::Closed);
    }

    #[test]
    fn only_faults_in_a_row_count() {
        let mut circuit = CircuitBreaker::default();
        for _ in 0..20 {
            circuit.on_fault(PeerFault::TimedOut, at(0));
            circuit.on_fault(PeerFault::Unreachable, at(0));
            circuit.on_fault(PeerFault::ShortAnswer, at(0));
            assert!(circuit.allows(at(0)));
        }
    }

    #[test]
    fn when_it_opens_and_for_how_long_is_a_setting() {
        let settings = CircuitSettings {
            opens_after_faults: 2,
            open_for: Duration::from_secs(7),
        };
        let mut circuit = CircuitBreaker::new(settings);
        circuit.on_fault(PeerFault::TimedOut, at(0));
        assert!(circuit.allows(at(0)));
        circuit.on_fault(PeerFault::TimedOut, at(0));
        assert_eq!(circuit.half_opens_at(), Some(at(7)));
        assert!(!circuit.allows(at(6)) && circuit.allows(at(7)));
    }

    #[test]
    fn a_cancelled_probe_may_be_sent_again() {
        let mut circuit = open();
        circuit.on_request();
        assert!(!circuit.allows(at(40)));
        circuit.on_cancel();
        assert!(circuit.allows(at(40)));
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_keep_it_open() {
        assert!(open().allows(Duration::ZERO));
    }
}
