//! Clocks of others, as far as their answers tell.

use http::HeaderMap;
use http::header::DATE;
use k8s_openapi::jiff::fmt::rfc2822;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How far a clock is at least ahead of ours, by the date of an answer; none where the answer has no date.
///
/// The date was read at some time between the question and the answer: within that it is right.
pub(super) fn ahead(
    headers: &HeaderMap,
    asked_at: Timestamp,
    answered_at: Timestamp,
) -> Option<SignedDuration> {
    let date = rfc2822::parse(headers.get(DATE)?.to_str().ok()?)
        .ok()?
        .timestamp();
    // It says whole seconds only.
    let latest = date.saturating_add(SignedDuration::from_secs(1)).ok()?;
    Some(if latest < asked_at {
        latest.duration_since(asked_at)
    } else if date > answered_at {
        date.duration_since(answered_at)
    } else {
        SignedDuration::ZERO
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_date_within_the_exchange_is_right() {
        let at = |time: &str| -> Timestamp { format!("2026-11-24T{time}Z").parse().expect("a time") };
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_static("Tue, 24 Nov 2026 12:00:00 GMT"));
        for (asked, answered, seconds) in [
            ("12:00:00.5", "12:00:00.6", 0),
            ("11:59:50", "12:00:10", 0),
            ("12:00:31", "12:00:32", -30),
            ("11:59:00", "11:59:30", 30),
        ] {
            let ahead = ahead(&headers, at(asked), at(answered)).expect("a date");
            assert_eq!(ahead.as_secs(), seconds, "{asked} to {answered}");
        }
    }

    #[test]
    fn what_is_no_date_says_nothing() {
        let now = Timestamp::now();
        let mut headers = HeaderMap::new();
        assert_eq!(ahead(&headers, now, now), None);
        headers.insert(DATE, HeaderValue::from_static("noon"));
        assert_eq!(ahead(&headers, now, now), None);
    }
}
