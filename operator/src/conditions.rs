//! Conditions of a status, by the rules of the Kubernetes API: each says which generation of the spec it was observed
//! for, and its transition time moves only when its status flips.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Longest message that the API server takes.
const MAX_MESSAGE_BYTES: usize = 32_768;

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It cannot be said.
    Unknown,
}

impl ConditionStatus {
    const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition as one reconcile found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What it is about: `Ready`.
    pub kind: &'static str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word in upper camel case for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl Observed {
    /// A condition as found.
    pub fn new(
        kind: &'static str,
        status: impl Into<ConditionStatus>,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// The conditions to write: those observed now, with the times of the `former` ones where nothing flipped. Former
/// ones of other kinds are dropped.
pub fn merged(
    former: &[Condition],
    observed: impl IntoIterator<Item = Observed>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    observed
        .into_iter()
        .map(|observed| {
            let status = observed.status.as_str();
            let since = former
                .iter()
                .find(|former| former.type_ == observed.kind && former.status == status)
                .map_or(Time(now), |former| former.last_transition_time.clone());
            Condition {
                last_transition_time: since,
                message: shortened(observed.message),
                observed_generation: generation,
                reason: observed.reason,
                status: status.to_owned(),
                type_: observed.kind.to_owned(),
            }
        })
        .collect()
}

/// Whether the condition `kind` is among them and holds.
pub fn holds(conditions: &[Condition], kind: &str) -> bool {
    conditions
        .iter()
        .any(|condition| condition.type_ == kind && condition.status == ConditionStatus::True.as_str())
}

/// The conditions that flipped or give another reason.
pub fn changes<'a>(former: &'a [Condition], present: &'a [Condition]) -> impl Iterator<Item = &'a Condition> {
    present.iter().filter(|present| {
        !former.iter().any(|former| {
            (&former.type_, &former.status, &former.reason)
                == (&present.type_, &present.status, &present.reason)
        })
    })
}

/// Whether a condition is as one wishes: of `Stalled` that is that it does not hold.
pub fn is_good(condition: &Condition) -> bool {
    match condition.type_.as_str() {
        "Stalled" => condition.status != ConditionStatus::True.as_str(),
        "Reconciling" => true,
        _ => condition.status != ConditionStatus::False.as_str(),
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn ready(status: bool, message: &str) -> [Observed; 1] {
        [Observed::new("Ready", status, "Reason", message)]
    }

    #[test]
    fn the_time_moves_only_when_the_status_flips() {
        let first = merged(&[], ready(false, "starting"), Some(1), at(10));
        let still = merged(&first, ready(false, "still starting"), Some(2), at(20));
        assert_eq!(still[0].last_transition_time, Time(at(10)));
        assert_eq!(still[0].observed_generation, Some(2));
        assert_eq!(still[0].message, "still starting");
        let flipped = merged(&still, ready(true, "up"), Some(2), at(30));
        assert_eq!(flipped[0].last_transition_time, Time(at(30)));
        assert!(holds(&flipped, "Ready") && !holds(&still, "Ready"));
    }

    #[test]
    fn a_condition_that_is_observed_no_more_is_dropped() {
        let first = merged(&[], [Observed::new("Odd", true, "Reason", "")], None, at(1));
        assert_eq!(merged(&first, ready(true, ""), None, at(2)).len(), 1);
    }

    #[test]
    fn only_what_flipped_or_has_another_reason_is_a_change() {
        let first = merged(&[], ready(false, "starting"), Some(1), at(10));
        let still = merged(&first, ready(false, "still starting"), Some(1), at(20));
        let flipped = merged(&still, ready(true, "up"), Some(1), at(30));
        assert_eq!(changes(&[], &first).count(), 1);
        assert_eq!(changes(&first, &still).count(), 0);
        assert_eq!(changes(&still, &flipped).count(), 1);
        assert!(is_good(&flipped[0]) && !is_good(&still[0]));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let long = "ü".repeat(MAX_MESSAGE_BYTES);
        let written = merged(&[], ready(true, &long), None, at(1));
        assert!(written[0].message.len() <= MAX_MESSAGE_BYTES && !written[0].message.is_empty());
    }
}
