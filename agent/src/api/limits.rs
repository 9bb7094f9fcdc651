//! What callers may ask of the public API at once: rate by address, requests under way, time.
//!
//! The address is that of the connection. A header that names another one, or names a peer, is the caller's
//! own claim and raises no limit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use super::Node;
use super::error::ApiError;

/// Addresses whose rate is remembered at most; more of them share one rate.
const MAX_ADDRESSES: usize = 65_536;

/// What stands for all addresses beyond [`MAX_ADDRESSES`].
const THE_REST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Requests a second, by address.
pub(crate) struct AddressRates {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
    clock: DefaultClock,
    started: Instant,
    /// Seconds after `started` at which idle addresses were last forgotten.
    swept: AtomicU64,
    most: usize,
}

impl AddressRates {
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        Self::with_most(per_second, MAX_ADDRESSES)
    }

    fn with_most(per_second: NonZeroU32, most: usize) -> Self {
        Self {
            limiter: RateLimiter::keyed(Quota::per_second(per_second)),
            clock: DefaultClock::default(),
            started: Instant::now(),
            swept: AtomicU64::new(0),
            most,
        }
    }

    /// Counts one request.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), ApiError> {
        let mut key = network_of(address);
        if self.limiter.len() >= self.most {
            self.sweep();
            if self.limiter.len() >= self.most {
                key = THE_REST;
            }
        }
        self.limiter.check_key(&key).map_err(|refused| {
            let wait = refused.wait_time_from(self.clock.now());
            ApiError::RateLimited {
                retry_after_seconds: wait.as_secs() + 1,
            }
        })
    }

    /// Forgets addresses that have been quiet, at most once a second.
    fn sweep(&self) {
        let now = self.started.elapsed().as_secs() + 1;
        if self.swept.swap(now, Ordering::Relaxed) != now {
            self.limiter.retain_recent();
        }
    }
}

/// What one person can hold many of counts as one: an IPv6 network of 64 bits.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let network = u128::from(v6) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Refuses an address that sends too many requests.
pub(super) async fn limit_rate(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let remote = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let address = remote.map_or(THE_REST, |ConnectInfo(remote)| remote.ip());
    match node.rates.check(address) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            node.metrics.count_rate_limited();
            error.into_response()
        }
    }
}

/// Refuses what is more than the places there are. A place is taken until the last byte of the answer.
pub(super) async fn limit_concurrency(
    State(places): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let Ok(place) = places.try_acquire_owned() else {
        return ApiError::Busy.into_response();
    };
    let (head, body) = next.run(request).await.into_parts();
    let body = body.map_frame(move |frame| {
        let _held = &place;
        frame
    });
    Response::from_parts(head, Body::new(body))
}

/// Ends a call that is not answered in time. What is streamed may go on after its head was sent.
pub(super) async fn limit_time(State(longest): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(longest, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::TimedOut {
            milliseconds: longest.as_millis(),
        }
        .into_response(),
    }
}

/// Counts an answer by its route, and logs it.
pub(super) async fn observe(
    State((node, listener)): State<(Arc<Node>, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let started = Instant::now();
    let response = next.run(request).await;
    let route = matched.as_ref().map_or("unknown", MatchedPath::as_str);
    let elapsed = started.elapsed();
    let status = response.status().as_u16();
    node.metrics.count_http(listener, route, status);
    node.metrics.observe_http(elapsed);
    let milliseconds = elapsed.as_millis();
    let method: &Method = &method;
    tracing::debug!(listener, %method, path, status, milliseconds, "answered");
    response
}

/// Answers instead of a handler that panicked.
#[allow(clippy::needless_pass_by_value, reason = "the signature that the layer calls")]
pub(super) fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let reason = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without text".to_owned());
    ApiError::Internal(reason).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(per_second: u32, most: usize) -> AddressRates {
        AddressRates::with_most(NonZeroU32::new(per_second).unwrap(), most)
    }

    #[test]
    fn one_address_does_not_use_up_the_rate_of_another() {
        let rates = rates(1, 8);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(rates.check(one).is_ok());
        assert!(matches!(rates.check(one), Err(ApiError::RateLimited { .. })));
        assert!(rates.check(other).is_ok());
    }

    #[test]
    fn an_ipv6_network_and_a_mapped_address_count_once() {
        let rates = rates(1, 8);
        assert!(rates.check("2001:db8::1".parse().unwrap()).is_ok());
        assert!(rates.check("2001:db8::2".parse().unwrap()).is_err());
        assert!(rates.check("192.0.2.1".parse().unwrap()).is_ok());
        assert!(rates.check("::ffff:192.0.2.1".parse().unwrap()).is_err());
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let rates = rates(1, 16);
        for host in 0..2_000_u32 {
            let _ = rates.check(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + host)));
        }
        assert!(rates.limiter.len() <= 17, "{}", rates.limiter.len());
    }
}
