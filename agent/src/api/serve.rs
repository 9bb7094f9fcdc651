//! A router on a listener.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Extension};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pause after a failed accept: it fails when the process is out of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What connections may do.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    /// Connections open at once.
    pub connections: usize,
    /// Time for the head of a request, counted from when it is waited for: also how long a connection may
    /// be idle.
    pub head_timeout: Duration,
    /// Time that answers under way have to end after the shutdown began.
    pub shutdown_timeout: Duration,
}

/// Serves until `shutdown`, and returns when the last answer has ended, or its time is over.
pub async fn serve(listener: TcpListener, router: Router, limits: ServeLimits, shutdown: CancellationToken) {
    let connections = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
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
        let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
            tracing::debug!(%remote, "too many connections");
            continue;
        };
        let router = router.clone().layer(Extension(ConnectInfo(remote)));
        let (shutdown, cut_off) = (shutdown.clone(), cut_off.clone());
        tracker.spawn(async move {
            tokio::select! {
                biased;
                () = cut_off.cancelled() => {}
                () = connection(stream, remote, router, limits.head_timeout, shutdown) => {}
            }
            drop(place);
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
    head_timeout: Duration,
    shutdown: CancellationToken,
) {
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
