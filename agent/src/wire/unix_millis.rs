//! Points in time, as the JavaScript honeygraph writes them.

use serde::de::{Error, IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
///
/// Written as a number; read from a number or from RFC 3339 text. [`rfc3339`] writes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The time as RFC 3339 text, if it lies in the years that text can write.
    pub fn to_rfc3339(self) -> Option<String> {
        let millis = i64::try_from(self.0).ok()?;
        let timestamp = jiff::Timestamp::from_millisecond(millis).ok()?;
        Some(format!("{timestamp:.3}"))
    }

    /// Reads RFC 3339 text; times before 1970 are refused.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let timestamp: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(timestamp.as_millisecond()).ok().map(Self)
    }
}

impl<'de> Deserialize<'de> for UnixMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeVisitor;
        impl Visitor<'_> for TimeVisitor {
            type Value = UnixMillis;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("milliseconds since 1970 or RFC 3339 text")
            }

            fn visit_u64<E: Error>(self, millis: u64) -> Result<UnixMillis, E> {
                Ok(UnixMillis(millis))
            }

            fn visit_f64<E: Error>(self, millis: f64) -> Result<UnixMillis, E> {
                // Below 2^53 every whole double is exact.
                if (0.0..9_007_199_254_740_992.0).contains(&millis) {
                    #[allow(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "in range by the check above; parts of a millisecond are dropped"
                    )]
                    Ok(UnixMillis(millis as u64))
                } else {
                    Err(E::custom("a time outside 0..2^53 ms"))
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<UnixMillis, E> {
                UnixMillis::from_rfc3339(text)
                    .ok_or_else(|| E::custom("text that is no RFC 3339 time since 1970"))
            }
        }
        deserializer.deserialize_any(TimeVisitor)
    }
}

/// Reads an optional time that a peer may as well have left out: what is no time counts as none.
pub fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnixMillis>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum MaybeTime {
        Time(UnixMillis),
        Other(IgnoredAny),
    }
    Ok(match MaybeTime::deserialize(deserializer)? {
        MaybeTime::Time(time) => Some(time),
        MaybeTime::Other(_) => None,
    })
}

/// Writes an optional time as RFC 3339 text and reads it leniently, for `#[serde(with = ...)]`.
pub mod rfc3339 {
    use serde::{Deserializer, Serialize, Serializer};

    use super::UnixMillis;

    /// Writes the text, or null.
    #[allow(clippy::ref_option, reason = "the signature that serde calls")]
    pub fn serialize<S: Serializer>(time: &Option<UnixMillis>, serializer: S) -> Result<S::Ok, S::Error> {
        time.and_then(UnixMillis::to_rfc3339).serialize(serializer)
    }

    /// Reads text or a number; anything else is none.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnixMillis>, D::Error> {
        super::lenient(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_the_same_time() {
        let number: UnixMillis = serde_json::from_str("1458835500000").unwrap();
        let text: UnixMillis = serde_json::from_str("\"2016-03-24T16:05:00.000Z\"").unwrap();
        assert_eq!(number, text);
        assert_eq!(number.to_rfc3339().unwrap(), "2016-03-24T16:05:00.000Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in ["-1", "1e300", "\"yesterday\"", "[]", "\"1950-01-01T00:00:00Z\""] {
            assert!(serde_json::from_str::<UnixMillis>(bad).is_err(), "{bad}");
        }
        assert_eq!(UnixMillis(u64::MAX).to_rfc3339(), None);
    }
}
