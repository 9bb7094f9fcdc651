//! What callers may ask of the public API at once: rate by address, requests under way, time.
//!
//! The address is that of the connection, or the one that a trusted proxy names; from anybody else a header that names
//! another one is the caller's own claim and raises no limit. One that names a peer (`X-Honeygraph-Peer`) puts a second, lower limit on that peer at
//! its address, so that of several nodes behind one address none takes everything.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use honeygraph_chain::peer::PeerId;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Node;
use super::client_address::client_address;
use super::error::ApiError;

/// Name of the public listener in metrics.
pub(super) const PUBLIC: &str = "public";
/// Name of the admin listener in metrics.
pub(super) const ADMIN: &str = "admin";

/// Names the asking peer.
const PEER_HEADER: &str = "x-honeygraph-peer";

/// Addresses whose rate is remembered at most; more of them share one rate.
const MAX_ADDRESSES: usize = 65_536;

/// What stands for all addresses beyond [`MAX_ADDRESSES`].
const THE_REST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Requests a second, by address.
pub(crate) type AddressRates = Rates<IpAddr>;

/// Requests a second, by what a peer calls itself at its address.
pub(crate) type PeerRates = Rates<(IpAddr, String)>;

/// Requests a second, by who sends them.
pub(crate) struct Rates<K: Clone + Eq + Hash> {
    limiter: DefaultKeyedRateLimiter<K>,
    /// What stands for everybody beyond `most`.
    rest: K,
    clock: DefaultClock,
    started: Instant,
    /// Seconds after `started` at which idle addresses were last forgotten.
    swept: AtomicU64,
    most: usize,
}

impl AddressRates {
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        Self::with_most(per_second, MAX_ADDRESSES, THE_REST)
    }
}

impl PeerRates {
    pub(crate) fn of_peers(per_second: NonZeroU32) -> Self {
        Self::with_most(per_second, MAX_ADDRESSES, (THE_REST, String::new()))
    }
}

impl<K: Clone + Eq + Hash> Rates<K> {
    fn with_most(per_second: NonZeroU32, most: usize, rest: K) -> Self {
        Self {
            rest,
            limiter: RateLimiter::keyed(Quota::per_second(per_second)),
            clock: DefaultClock::default(),
            started: Instant::now(),
            swept: AtomicU64::new(0),
            most,
        }
    }

    /// Counts one request.
    pub(crate) fn check(&self, mut key: K) -> Result<(), ApiError> {
        if self.limiter.len() >= self.most {
            self.sweep();
            if self.limiter.len() >= self.most {
                key = self.rest.clone();
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
pub(super) fn network_of(address: IpAddr) -> IpAddr {
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
    let proxies = &node.settings.trusted_proxies;
    let address = client_address(request.extensions(), request.headers(), proxies);
    let address = network_of(address.unwrap_or(THE_REST));
    let peer = request
        .headers()
        .get(PEER_HEADER)
        .and_then(|peer| peer.to_str().ok()?.parse::<PeerId>().ok());
    let checked = node.rates.check(address).and_then(|()| match peer {
        Some(peer) => node.peer_rates.check((address, peer.into())),
        None => Ok(()),
    });
    match checked {
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
    hold_place(next.run(request).await, place)
}

/// Keeps a place taken until the last byte of an answer.
pub(super) fn hold_place(response: Response, place: OwnedSemaphorePermit) -> Response {
    response.map(|body| Body::new(HeldBody { body, _place: place }))
}

/// A body that keeps its place until it is dropped.
struct HeldBody {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
    if listener == PUBLIC {
        node.metrics.observe_http(elapsed);
    }
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
        AddressRates::with_most(NonZeroU32::new(per_second).unwrap(), most, THE_REST)
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
        assert!(rates.check(network_of("2001:db8::1".parse().unwrap())).is_ok());
        assert!(rates.check(network_of("2001:db8::2".parse().unwrap())).is_err());
        assert!(rates.check(network_of("192.0.2.1".parse().unwrap())).is_ok());
        assert!(
            rates
                .check(network_of("::ffff:192.0.2.1".parse().unwrap()))
                .is_err()
        );
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
