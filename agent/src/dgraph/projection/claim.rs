//! Claims: a writer says that it writes the next steps, so that others do not do the same work.
//!
//! They only save work. What keeps writers right is the cursor; a claim that is wrong, for instance because
//! of clocks that differ, costs time.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::cluster::{Expected, NetworkNode};
use super::cursor::Cursor;
use super::region::NETWORK_NODE;
use super::schema::predicate as p;
use crate::dgraph::client::{Mutation, Value};

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The next steps are this writer's.
    Granted,
    /// They are another writer's.
    Held {
        /// Its name.
        by: String,
        /// After this time it is worth asking again, even where the cursor did not move.
        wait: Duration,
    },
    /// The cursor stands elsewhere.
    Moved(Cursor),
}

/// A claim, as it stands in the network node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Claim {
    by: Option<String>,
    to: Option<i64>,
    until: Option<Timestamp>,
}

impl Claim {
    /// A writer's claim of so many blocks behind a cursor, until a time.
    pub(super) fn new(by: &str, before: &Cursor, blocks: u64, until: Timestamp) -> Self {
        let to = applied(before).saturating_add(i64::try_from(blocks).unwrap_or(i64::MAX));
        Self {
            by: Some(by.to_owned()),
            to: Some(to),
            // As Dgraph tells it again.
            until: Timestamp::from_millisecond(until.as_millisecond()).ok(),
        }
    }

    pub(super) fn read(node: &NetworkNode) -> Self {
        Self {
            by: node.claimed_by.clone(),
            to: node.claimed_to,
            until: node.claimed_until,
        }
    }

    fn facts(&self) -> [(&'static str, Option<Value>); 3] {
        [
            (p::CLAIMED_BY, self.by.clone().map(Value::Text)),
            (p::CLAIMED_TO, self.to.map(Value::Integer)),
            (p::CLAIMED_UNTIL, self.until.map(Value::Time)),
        ]
    }

    /// Asks that this claim stands there.
    pub(super) fn expect(&self, expected: &mut Expected) {
        for (predicate, value) in self.facts() {
            expected.push(predicate, value);
        }
    }

    /// Writes it.
    pub(super) fn write(&self, mutation: &mut Mutation) {
        for (predicate, value) in self.facts() {
            if let Some(value) = value {
                mutation.set(NETWORK_NODE, predicate, value);
            }
        }
    }

    /// Who keeps `writer` from the steps behind a cursor, and for how long at most; none where the claim is
    /// its own, was used up, has run out, or was watched for the longest time that a claim may last.
    pub(super) fn holder(
        &self,
        writer: &str,
        before: &Cursor,
        now: Timestamp,
        watched: Duration,
        longest: Duration,
    ) -> Option<(String, Duration)> {
        let (Some(by), Some(to), Some(until)) = (&self.by, self.to, self.until) else {
            return None;
        };
        let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        let wait = left.min(longest.saturating_sub(watched));
        let over = by == writer || applied(before) >= to || wait.is_zero();
        (!over).then(|| (by.clone(), wait))
    }
}

fn applied(cursor: &Cursor) -> i64 {
    cursor.applied.map_or(0, |at| at.number.get().cast_signed())
}

/// For how long a claim was seen to stand, by the own clock: another's may be wrong by any time.
#[derive(Debug, Default)]
pub(super) struct Watch(Option<(Claim, Instant)>);

impl Watch {
    /// For how long this claim was seen.
    pub(super) fn see(&mut self, claim: &Claim, now: Instant) -> Duration {
        match &self.0 {
            Some((seen, since)) if seen == claim => now.saturating_duration_since(*since),
            _ => {
                self.0 = Some((claim.clone(), now));
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use honeygraph_chain::ContentId;
    use honeygraph_chain::fork::BlockReference;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(10);

    fn at(block: u64) -> Cursor {
        Cursor {
            applied: Some(BlockReference {
                number: block.try_into().unwrap(),
                hash: ContentId::of(b"x"),
            }),
            ..Cursor::NOTHING
        }
    }

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// Of `one`, for the blocks up to 30, until second 110.
    fn claim() -> Claim {
        Claim::new("one", &at(10), 20, time(110))
    }

    fn holder(writer: &str, block: u64, now: i64, watched: u64) -> Option<Duration> {
        claim()
            .holder(
                writer,
                &at(block),
                time(now),
                Duration::from_secs(watched),
                LONGEST,
            )
            .map(|(by, wait)| {
                assert_eq!(by, "one");
                wait
            })
    }

    #[test]
    fn others_wait_until_it_is_used_up_or_runs_out() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(holder("two", 10, 104, 0), seconds(6));
        assert_eq!(holder("two", 29, 104, 0), seconds(6));
        assert_eq!(holder("two", 30, 104, 0), None, "used up");
        assert_eq!(holder("two", 10, 110, 0), None, "ran out");
        assert_eq!(holder("one", 10, 104, 0), None, "its own");
        assert_eq!(
            Claim::default().holder("two", &at(1), time(0), LONGEST, LONGEST),
            None
        );
    }

    #[test]
    fn a_clock_that_is_wrong_by_years_holds_no_one_for_longer_than_a_claim_lasts() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(holder("two", 10, -1_000_000, 0), seconds(10));
        assert_eq!(holder("two", 10, -1_000_000, 7), seconds(3));
        assert_eq!(holder("two", 10, -1_000_000, 10), None);
    }

    #[test]
    fn a_claim_is_watched_from_when_it_was_first_seen() {
        let mut watch = Watch::default();
        let began = Instant::now();
        let later = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(watch.see(&claim(), began), Duration::ZERO);
        assert_eq!(watch.see(&claim(), later(3)), Duration::from_secs(3));
        assert_eq!(watch.see(&Claim::default(), later(4)), Duration::ZERO);
        assert_eq!(watch.see(&claim(), later(5)), Duration::ZERO);
    }
}
