//! Routers on listeners.

mod shares;
mod stall;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Extension};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Node, admin, probes, public};
use shares::Shares;
use stall::StallGuard;

/// Pause after a failed accept: it fails when the process is out of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What connections may do.
#[derive(Debug, Clone)]
pub struct ServeLimits {
    /// Connections open at once.
    pub connections: usize,
    /// Those of one address; a /64 network of IPv6 counts as one.
    pub connections_per_address: usize,
    /// Networks whose addresses may have as many as there are.
    pub exempt: Vec<IpNet>,
    /// Time for the head of a request, counted from when it is waited for: also how long a connection may
    /// be idle.
    pub head_timeout: Duration,
    /// Longest time in which a caller may take no byte of an answer.
    pub stall_timeout: Duration,
    /// Time that answers under way have to end after the shutdown began.
    pub shutdown_timeout: Duration,
}

/// Connections of the admin listener, and of the one for probes and metrics.
const INTERNAL_CONNECTIONS: usize = 1_024;
/// Idle connections that the public listener holds for each request that it answers at once.
const CONNECTIONS_PER_REQUEST: usize = 4;
/// Addresses that it takes at least to have all of them.
const SHARES: usize = 8;

/// The listeners of a node besides ingest.
#[derive(Debug)]
pub struct Listeners {
    /// Public API.
    pub public: TcpListener,
    /// Admin API.
    pub admin: TcpListener,
    /// Probes and metrics.
    pub metrics: TcpListener,
}

/// Serves a node until `shutdown`, and returns when the last answer has ended, or its time is over. Probes and
/// metrics answer until then.
pub async fn serve_node(
    node: Arc<Node>,
    listeners: Listeners,
    shutdown_timeout: Duration,
    shutdown: CancellationToken,
) {
    let limit = node.settings.limits;
    let internal = ServeLimits {
        connections: INTERNAL_CONNECTIONS,
        connections_per_address: INTERNAL_CONNECTIONS,
        exempt: Vec::new(),
        head_timeout: limit.request_timeout,
        stall_timeout: limit.request_timeout,
        shutdown_timeout,
    };
    let connections = limit.concurrent_requests.saturating_mul(CONNECTIONS_PER_REQUEST);
    let open = ServeLimits {
        connections,
        connections_per_address: connections.div_ceil(SHARES),
        exempt: node.settings.trusted_proxies.clone(),
        ..internal.clone()
    };
    let others_ended = CancellationToken::new();
    let others = async {
        tokio::join!(
            serve(
                listeners.public,
                public::router(Arc::clone(&node)),
                open,
                shutdown.clone()
            ),
            serve(
                listeners.admin,
                admin::router(Arc::clone(&node)),
                internal.clone(),
                shutdown.clone()
            ),
        );
        others_ended.cancel();
    };
    let probes = serve(
        listeners.metrics,
        probes::router(Arc::clone(&node)),
        internal.clone(),
        others_ended.clone(),
    );
    tokio::join!(others, probes);
}

/// Serves until `shutdown`, and returns when the last answer has ended, or its time is over.
pub async fn serve(listener: TcpListener, router: Router, limits: ServeLimits, shutdown: CancellationToken) {
    let connections = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let shares = Shares::new(limits.connections_per_address, limits.exempt.clone());
    let tracker = TaskTracker::new();
    let cut_off = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(share) = shares.take(remote.ip()) else {
            tracing::debug!(%remote, "too many connections from this address");
            continue;
        };
        let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
            tracing::debug!(%remote, "too many connections");
            continue;
        };
        let router = router.clone().layer(Extension(ConnectInfo(remote)));
        let (shutdown, cut_off) = (shutdown.clone(), cut_off.clone());
        let timeouts = (limits.head_timeout, limits.stall_timeout);
        tracker.spawn(async move {
            tokio::select! {
                biased;
                () = cut_off.cancelled() => {}
                () = connection(stream, remote, router, timeouts, shutdown) => {}
            }
            drop((place, share));
        });
    }
    drop(listener);
    tracker.close();
    if tokio::time::timeout(limits.shutdown_timeout, tracker.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = tracker.len(),
            "answers are broken off: the time to end them is over"
        );
        cut_off.cancel();
        tracker.wait().await;
    }
}

/// Speaks HTTP/1 on one connection; once the shutdown begins it ends after the answer under way.
async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    router: Router,
    (head_timeout, stall_timeout): (Duration, Duration),
    shutdown: CancellationToken,
) {
    let stream = StallGuard::new(stream, stall_timeout);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%remote, %error, "connection ended");
    }
}
