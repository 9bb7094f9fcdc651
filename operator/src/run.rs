//! `honeygraph-operator run`: probes and metrics at once, reconciling while this operator leads.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube_lease_manager::{LeaseManagerBuilder, LeaseManagerError};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::agent::AgentError;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::{controller, probes};

/// Time for reconciles under way to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);

/// Why the operator ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// The Kubernetes API is not to be found or not to be used.
    #[error("no way to the Kubernetes API was found: run in a cluster, or set KUBECONFIG")]
    Client(#[source] kube::Error),
    /// The listener of probes and metrics could not be opened.
    #[error("METRICS_LISTEN={address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The Lease could not be had or kept.
    #[error("the Lease by which one operator leads cannot be used")]
    Lease(#[from] LeaseManagerError),
    /// Another operator leads now: this one must not go on as if it did.
    #[error("another operator leads now; this one ends, to be started as one that waits")]
    LeaseLost,
    /// The client for agents could not be made.
    #[error("agents cannot be asked")]
    Agents(#[from] AgentError),
    /// The watch of nodes ended, which it never should.
    #[error("nodes are no longer watched")]
    ControllerEnded,
    /// A part of the operator ended by itself.
    #[error("a part of the operator ended unexpectedly")]
    Ended(#[from] JoinError),
    /// Signals cannot be waited for.
    #[error("signals cannot be waited for")]
    Signals(#[source] io::Error),
}

/// Runs until SIGTERM or SIGINT, or until another operator leads.
///
/// # Errors
/// As [`RunError`] says.
pub async fn run(settings: Settings) -> Result<(), RunError> {
    let settings = Arc::new(settings);
    let metrics = Metrics::default();
    let shutdown = CancellationToken::new();
    watch_signals(shutdown.clone())?;
    let address = settings.metrics_listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen { address, source })?;
    let server = tokio::spawn(probes::serve(listener, metrics.clone(), shutdown.clone()));
    let ended = lead(&settings, &metrics, &shutdown).await;
    shutdown.cancel();
    server.await?;
    ended
}

/// Reconciles while this operator leads.
async fn lead(
    settings: &Arc<Settings>,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> Result<(), RunError> {
    let client = Client::try_default().await.map_err(RunError::Client)?;
    let identity = settings
        .pod_name
        .clone()
        .unwrap_or_else(|| Uuid::new_v4().to_string());
    let lease = LeaseManagerBuilder::new(client.clone(), &settings.lease_name)
        .with_namespace(&settings.operator_pods.namespace)
        .with_identity(&identity)
        .with_duration(settings.lease_seconds)
        .with_grace(settings.lease_seconds / 3)
        .build()
        .await?;
    let (mut leads, lease) = lease.watch().await;
    info!(%identity, "waiting to lead");
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        changed = leads.wait_for(|leads| *leads) => {
            if changed.is_err() {
                lease.await??;
                return Err(RunError::LeaseLost);
            }
        }
    }
    info!(%identity, "leads");
    metrics.set_leader(true);
    let stop = shutdown.child_token();
    let controller = tokio::spawn(controller::run(
        client,
        Arc::clone(settings),
        metrics.clone(),
        stop.clone(),
    ));
    tokio::pin!(controller);
    tokio::select! {
        () = shutdown.cancelled() => {}
        _ = leads.wait_for(|leads| !*leads) => {
            metrics.set_leader(false);
            // Nothing more is written in the name of a leader that is none.
            controller.abort();
            return Err(RunError::LeaseLost);
        }
        ended = &mut controller => {
            ended??;
            return Err(RunError::ControllerEnded);
        }
    }
    metrics.set_leader(false);
    stop.cancel();
    match tokio::time::timeout(SHUTDOWN_TIMEOUT, controller).await {
        Ok(ended) => ended??,
        Err(_) => warn!("reconciles under way did not end in time"),
    }
    // Without its receiver the Lease is given back, so that another leads at once.
    drop(leads);
    lease.await??;
    Ok(())
}

fn watch_signals(shutdown: CancellationToken) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: ending"),
            _ = interrupt.recv() => info!("SIGINT: ending"),
        }
        shutdown.cancel();
    });
    Ok(())
}
