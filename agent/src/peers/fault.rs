//! Why a request failed, and whose fault that is.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use honeygraph_chain::peer::{LocalFault, PeerFault};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::address_guard::AddressRefused;
use crate::wire::batch::WireError;

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The peer's doing.
    #[error("peer: {0}")]
    Peer(#[from] PeerFault),
    /// Ours.
    #[error(transparent)]
    Local(#[from] LocalFault),
}

/// Longest wait that a peer can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// The wait where a peer does not say how long.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(5);

/// `errno` of a process, or a machine, without free file descriptors (Linux and the BSDs).
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

impl FetchError {
    /// A failure of this node.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self::Local(LocalFault::Internal(error.to_string()))
    }
}

impl From<WireError> for FetchError {
    fn from(error: WireError) -> Self {
        Self::Peer(error.fault())
    }
}

impl From<AddressRefused> for FetchError {
    fn from(refused: AddressRefused) -> Self {
        Self::Local(LocalFault::AddressRefused(refused.to_string()))
    }
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        if let Some(local) = local_cause(&error) {
            return Self::Local(local);
        }
        if error.is_builder() {
            return Self::internal(error);
        }
        if error.is_timeout() {
            return Self::Peer(PeerFault::TimedOut);
        }
        Self::Peer(PeerFault::Unreachable)
    }
}

/// Looks below a transport error for what only this machine can be blamed for.
fn local_cause(error: &(dyn Error + 'static)) -> Option<LocalFault> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref::<AddressRefused>() {
            return Some(LocalFault::AddressRefused(refused.to_string()));
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let ours = matches!(
                error.kind(),
                io::ErrorKind::NetworkDown
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::AddrNotAvailable
                    | io::ErrorKind::OutOfMemory
            ) || matches!(error.raw_os_error(), Some(EMFILE | ENFILE));
            if ours {
                return Some(LocalFault::Internal(error.to_string()));
            }
            // An io::Error hides the error inside it from `source`.
            if let Some(local) = error.get_ref().and_then(|inner| local_cause(inner)) {
                return Some(local);
            }
        }
        next = error.source();
    }
    None
}

/// What an answer that is not the expected one means.
pub(crate) fn status_fault(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> PeerFault {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => PeerFault::NotFound,
        // One that is busy says when to come again: that is not a fault that it has.
        StatusCode::SERVICE_UNAVAILABLE if headers.contains_key(RETRY_AFTER) => PeerFault::RateLimited {
            retry_after_seconds: retry_after_seconds(headers, now),
        },
        StatusCode::TOO_MANY_REQUESTS => PeerFault::RateLimited {
            retry_after_seconds: retry_after_seconds(headers, now),
        },
        status if status.is_server_error() => PeerFault::ServerError {
            status: status.as_u16(),
        },
        status => PeerFault::UnexpectedStatus {
            status: status.as_u16(),
        },
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds or a date.
fn retry_after_seconds(headers: &HeaderMap, now: SystemTime) -> u32 {
    let wait = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| read_retry_after(text.trim(), now))
        .unwrap_or(DEFAULT_RETRY_AFTER)
        .min(MAX_RETRY_AFTER);
    u32::try_from(wait.as_secs()).unwrap_or(u32::MAX)
}

fn read_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs));
    }
    let until = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()?;
    Some(
        SystemTime::from(until)
            .duration_since(now)
            .unwrap_or(Duration::ZERO),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(value: &str) -> u32 {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        // 1994-11-06T08:49:37Z
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        retry_after_seconds(&headers, now)
    }

    #[test]
    fn who_is_busy_and_says_when_to_come_again_has_no_fault() {
        let mut headers = HeaderMap::new();
        let fault = |headers: &HeaderMap| {
            status_fault(StatusCode::SERVICE_UNAVAILABLE, headers, SystemTime::UNIX_EPOCH)
        };
        assert_eq!(fault(&headers), PeerFault::ServerError { status: 503 });
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        let busy = PeerFault::RateLimited {
            retry_after_seconds: 7,
        };
        assert_eq!(fault(&headers), busy);
    }

    #[test]
    fn the_wait_is_read_from_seconds_and_dates_and_capped() {
        assert_eq!(wait("7"), 7);
        assert_eq!(wait("99999999999999999999999"), 3_600);
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:37 GMT"), 60);
        assert_eq!(wait("Sun, 06 Nov 1994 08:48:37 GMT"), 0);
        assert_eq!(wait("soon"), 5);
        assert_eq!(wait("-1"), 5);
        assert_eq!(retry_after_seconds(&HeaderMap::new(), SystemTime::now()), 5);
    }

    #[test]
    fn what_only_this_machine_can_cause_costs_no_peer() {
        let full = io::Error::from_raw_os_error(EMFILE);
        assert!(matches!(local_cause(&full), Some(LocalFault::Internal(_))));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(local_cause(&reset), None);
        let wrapped = io::Error::other(AddressRefused::new("10.0.0.1"));
        assert!(matches!(
            local_cause(&wrapped),
            Some(LocalFault::AddressRefused(_))
        ));
    }
}
