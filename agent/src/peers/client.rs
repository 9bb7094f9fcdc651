//! Asks peers, honeycomb nodes and IPFS gateways over HTTP.
//!
//! Every answer has a bound on its time, on the bytes that arrive and on the bytes they decompress to; an
//! answer's content type is not looked at. No redirect is followed and no proxy used, also none that the
//! environment names.

mod batch;
mod body;
mod calls;
mod document;
mod traffic;
mod zstd_stream;

pub use batch::{BatchOutcome, BatchRequest, FetchedBatch};
pub use calls::{KnownPeer, PeerList};
pub use document::{DocumentTarget, FetchedDocument};
pub use traffic::Traffic;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use honeygraph_chain::peer::{PeerFault, PeerId};
use reqwest::dns::Resolve;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode};
use tokio::time::{Instant, timeout_at};
use tracing::warn;
use url::Url;

use super::PeerUrl;
use super::address_guard::{AddressGuard, AddressRefused, GuardedResolver, Route, SystemResolver};
use super::fault::{FetchError, status_fault};

/// Names the asking peer, as the JavaScript honeygraph does.
const PEER_HEADER: HeaderName = HeaderName::from_static("x-honeygraph-peer");

/// Idle connections kept to each peer.
const IDLE_CONNECTIONS: usize = 4;

/// Time limits of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// A whole call but a batch (which has its own, adaptive one) or a document.
    pub call: Duration,
    /// Between two pieces of a document.
    pub document_stall: Duration,
    /// A whole document.
    pub document: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            call: Duration::from_secs(10),
            document_stall: Duration::from_secs(30),
            document: Duration::from_hours(1),
        }
    }
}

/// What every client of a node has in common.
fn builder(timeouts: ClientTimeouts, resolver: Arc<dyn Resolve>) -> ClientBuilder {
    Client::builder()
        .user_agent(concat!("honeygraph/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(timeouts.connect)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .dns_resolver(resolver)
}

/// The HTTP client of a node. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct PeerClient {
    guard: AddressGuard,
    guarded: Client,
    configured: Client,
    resolver: GuardedResolver,
    timeouts: ClientTimeouts,
    own_id: HeaderValue,
}

impl PeerClient {
    /// A client that resolves names as the machine does.
    pub fn new(own_id: &PeerId, guard: AddressGuard, timeouts: ClientTimeouts) -> Result<Self, FetchError> {
        Self::with_resolver(own_id, guard, timeouts, Arc::new(SystemResolver))
    }

    /// A client that resolves names with `resolver`.
    pub fn with_resolver(
        own_id: &PeerId,
        guard: AddressGuard,
        timeouts: ClientTimeouts,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, FetchError> {
        let build = |resolver: Arc<dyn Resolve>| {
            let with_authorities = builder(timeouts, Arc::clone(&resolver)).build();
            with_authorities.or_else(|error| {
                // Peers inside a cluster are reached without TLS; a node is not to end for want of authorities.
                warn!(%error, "the machine's certificate authorities cannot be used: no https:// address will be reached; install ca-certificates");
                builder(timeouts, resolver).tls_certs_only([]).build()
            })
        };
        let guarded = GuardedResolver::new(Arc::clone(&resolver));
        Ok(Self {
            guard,
            guarded: build(Arc::new(guarded.clone()))?,
            configured: build(resolver)?,
            resolver: guarded,
            timeouts,
            own_id: HeaderValue::from_str(own_id.as_str()).map_err(FetchError::internal)?,
        })
    }

    /// Refuses a peer whose URL spells an address that is never dialled.
    pub fn may_reach(&self, peer: &PeerUrl) -> Result<(), AddressRefused> {
        self.guard.route(peer.as_url()).map(|_| ())
    }

    /// Refuses a peer that would never be dialled as things stand: because of its address, or because its name
    /// has no other address. A name that has none at all may get one.
    pub async fn check_address(&self, peer: &PeerUrl) -> Result<(), AddressRefused> {
        let url = peer.as_url();
        match (self.guard.route(url)?, url.domain()) {
            (Route::Guarded, Some(name)) => self.resolver.check(name, self.timeouts.connect).await,
            _ => Ok(()),
        }
    }

    /// Starts a request, through the guard.
    fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, FetchError> {
        let client = match self.guard.route(&url)? {
            Route::Guarded => &self.guarded,
            Route::Configured => &self.configured,
        };
        Ok(client.request(method, url).header(PEER_HEADER, &self.own_id))
    }
}

/// Sends a request and waits for the head of the answer.
async fn send(request: RequestBuilder, deadline: Instant) -> Result<Response, FetchError> {
    match timeout_at(deadline, request.send()).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(PeerFault::TimedOut.into()),
    }
}

/// Refuses every status but `expected`.
fn expect_status(response: Response, expected: &[StatusCode]) -> Result<Response, FetchError> {
    let status = response.status();
    if expected.contains(&status) {
        Ok(response)
    } else {
        Err(status_fault(status, response.headers(), SystemTime::now()).into())
    }
}

#[cfg(test)]
mod tests;
