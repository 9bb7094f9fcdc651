//! One running node: puts the parts together, and takes them apart in the right order.

mod settings;

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use honeygraph_chain::peer::PeerId;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{self, DgraphView, Node};
use crate::config::{Config, DgraphConfig, DgraphMode, ListenerConfig};
use crate::dgraph::job::Jobs;
use crate::dgraph::pass_through::PassThrough;
use crate::dgraph::projection::{ProjectionSettings, Writers};
use crate::dgraph::service::{ProjectionService, projection_client};
use crate::dgraph::status::ProjectionStatus;
use crate::ingest::{Ingest, IngestSettings, SourceAuthenticator, SourceCommand, SourceId};
use crate::metrics::{Metrics, NodeCollector};
use crate::peers::address_guard::AddressGuard;
use crate::peers::client::{ClientTimeouts, PeerClient};
use crate::replica::{Replica, ReplicaHandle, ReplicaStatus};
use crate::store::{Recovery, Store, StoreError, StoreSettings};
use crate::sync::{SyncEngine, SyncSettings};
use settings::{api_settings, replica_settings, sync_settings};

/// Runs a node until it is told to stop (SIGINT, SIGTERM) or its store fails.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let signals = tokio::spawn(wait_for_signals(shutdown.clone()));
    let result = run_until(config, shutdown).await;
    signals.abort();
    result
}

/// Runs a node until `shutdown` is cancelled or its store fails.
pub async fn run_until(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    RunningNode::start(config, shutdown).await?.ended().await
}

/// A node that runs.
#[derive(Debug)]
pub struct RunningNode {
    /// Where it listens.
    pub addresses: ListenerConfig,
    /// What it calls itself.
    pub peer_id: PeerId,
    shutdown: CancellationToken,
    shutdown_timeout: Duration,
    replica: ReplicaHandle,
    replica_ended: oneshot::Receiver<Result<(), StoreError>>,
    sync_task: JoinHandle<()>,
    ingest_task: JoinHandle<()>,
    outbox_task: JoinHandle<()>,
    api_task: JoinHandle<()>,
    projection_task: Option<JoinHandle<()>>,
}

impl RunningNode {
    /// Starts a node that runs until `shutdown` is cancelled or its store fails. Its listeners are bound and
    /// its store is open when this returns.
    pub async fn start(config: Config, shutdown: CancellationToken) -> anyhow::Result<Self> {
        let listeners = Listeners::bind(&config).await?;
        let addresses = listeners.addresses()?;
        let data_dir = config.node.data_dir.clone();
        let store_settings = StoreSettings {
            cache_bytes: config.store.cache_bytes,
            ..StoreSettings::default()
        };
        let (store, writer, recovery) = Store::open(&data_dir, &store_settings)?;
        if let Recovery::LostCommits { found, acknowledged } = recovery {
            tracing::error!(
                found,
                acknowledged,
                "the journal is damaged: commits are lost; they are fetched again"
            );
        }
        let peer_id = peer_id(&config, &data_dir)?;
        let metrics = Metrics::new();
        let replica = Replica::new(writer, replica_settings(&config, metrics.clone()))?;
        let (outbox, to_sources) = mpsc::unbounded_channel();
        let (replica, replica_ended) = ReplicaHandle::spawn(replica, outbox);

        let sync_settings = sync_settings(&config, peer_id.clone(), &data_dir);
        let client = peer_client(&peer_id, &sync_settings)?;
        let (sync, sync_task) = SyncEngine::spawn(
            sync_settings,
            replica.clone(),
            store.clone(),
            client,
            metrics.clone(),
            shutdown.child_token(),
        )?;

        let ingest = ingest(&config, &peer_id, &store, &replica)?;
        let ingest_task = tokio::spawn({
            let (ingest, shutdown) = (ingest.clone(), shutdown.child_token());
            async move { ingest.serve(listeners.ingest, shutdown).await }
        });
        let outbox_task = tokio::spawn(tell_sources(ingest, to_sources));
        let projection = projection(&config, &peer_id, &store, &replica, &metrics, &shutdown)?;
        let projection_status = projection.as_ref().map(|running| running.status.clone());
        let dgraph = dgraph_view(&config, projection.as_ref())?;
        metrics.collect(NodeCollector::new(
            store.clone(),
            replica.status(),
            sync.view(),
            projection_status,
        ));
        let settings = api_settings(&config, peer_id.clone());
        let api = Node::new(settings, store, replica.clone(), Arc::new(sync), metrics, dgraph);
        let http = api::Listeners {
            public: listeners.public,
            admin: listeners.admin,
            metrics: listeners.metrics,
        };
        let api_task = tokio::spawn(api::serve_node(
            api,
            http,
            config.shutdown_timeout / 2,
            shutdown.child_token(),
        ));
        tracing::info!(peer_id = %peer_id, network = %config.network.name, "node started");
        Ok(Self {
            addresses,
            peer_id,
            shutdown,
            shutdown_timeout: config.shutdown_timeout,
            replica,
            replica_ended,
            sync_task,
            ingest_task,
            outbox_task,
            api_task,
            projection_task: projection.map(|running| running.task),
        })
    }

    /// Where the replica stands, after each change.
    pub fn status(&self) -> watch::Receiver<Arc<ReplicaStatus>> {
        self.replica.status()
    }

    /// Waits until the node is told to stop or its store fails, and takes it apart: the running commit and
    /// answers are finished.
    pub async fn ended(mut self) -> anyhow::Result<()> {
        let failed = tokio::select! {
            () = self.shutdown.cancelled() => None,
            ended = &mut self.replica_ended => Some(ended),
        };
        self.shutdown.cancel();
        tracing::info!("stopping: finishing the running commit and answers");
        // Everybody who could hand something to the replica goes first; with the last handle it ends.
        let stopped = tokio::time::timeout(self.shutdown_timeout, async {
            let tasks = [self.api_task, self.sync_task, self.ingest_task];
            for task in tasks.into_iter().chain(self.projection_task) {
                if let Err(error) = task.await {
                    tracing::error!(%error, "a part of the node failed");
                }
            }
            self.outbox_task.abort();
            drop(self.replica);
            match failed {
                Some(ended) => ended,
                None => self.replica_ended.await,
            }
        })
        .await;
        match stopped {
            Ok(Ok(result)) => result.context("the store failed"),
            Ok(Err(_)) => anyhow::bail!("the replica's thread ended without saying why"),
            Err(_) => anyhow::bail!("stopping took longer than {} s", self.shutdown_timeout.as_secs()),
        }
    }
}

/// A client that reaches strangers at global addresses only, and what our configuration names anywhere.
fn peer_client(peer_id: &PeerId, settings: &SyncSettings) -> anyhow::Result<PeerClient> {
    let voters = settings.peer_voters.iter().map(|(url, _)| url);
    let configured = settings
        .peers
        .iter()
        .chain(&settings.honeycomb_nodes)
        .chain(&settings.ipfs_gateways)
        .chain(voters);
    Ok(PeerClient::new(
        peer_id,
        AddressGuard::new(configured),
        ClientTimeouts::default(),
    )?)
}

struct Listeners {
    public: TcpListener,
    ingest: TcpListener,
    admin: TcpListener,
    metrics: TcpListener,
}

impl Listeners {
    /// Where they listen, with the ports that were free.
    fn addresses(&self) -> anyhow::Result<ListenerConfig> {
        Ok(ListenerConfig {
            public: self.public.local_addr()?,
            ingest: self.ingest.local_addr()?,
            admin: self.admin.local_addr()?,
            metrics: self.metrics.local_addr()?,
        })
    }

    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let bind = |name: &'static str, address| async move {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("{name} cannot listen on {address}: is the port in use?"))?;
            if let Ok(address) = listener.local_addr() {
                tracing::info!(listener = name, %address, "listening");
            }
            anyhow::Ok(listener)
        };
        Ok(Self {
            public: bind("PUBLIC_LISTEN", config.listeners.public).await?,
            ingest: bind("INGEST_LISTEN", config.listeners.ingest).await?,
            admin: bind("ADMIN_LISTEN", config.listeners.admin).await?,
            metrics: bind("METRICS_LISTEN", config.listeners.metrics).await?,
        })
    }
}

/// A projection that follows the log, and where it stands.
struct RunningProjection {
    task: JoinHandle<()>,
    status: watch::Receiver<ProjectionStatus>,
    jobs: Jobs,
}

/// Follows the log with Dgraph, where one is configured.
fn projection(
    config: &Config,
    peer_id: &PeerId,
    store: &Store,
    replica: &ReplicaHandle,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<RunningProjection>> {
    let Some(dgraph) = &config.dgraph else {
        return Ok(None);
    };
    let (status, seen) = ProjectionStatus::channel();
    let jobs = Jobs::default();
    let service = ProjectionService {
        client: projection_client(&dgraph.client)?,
        network: config.network.name.clone(),
        writer: peer_id.to_string().parse()?,
        log: store.clone(),
        jobs: jobs.clone(),
        settings: projection_settings(dgraph),
        status,
        metrics: metrics.clone(),
    };
    let task = tokio::spawn(service.run(replica.status(), shutdown.child_token()));
    Ok(Some(RunningProjection {
        task,
        status: seen,
        jobs,
    }))
}

/// How the log is projected, by configuration.
pub(crate) fn projection_settings(dgraph: &DgraphConfig) -> ProjectionSettings {
    ProjectionSettings {
        step_blocks: dgraph.step_blocks.get(),
        writers: match dgraph.mode {
            DgraphMode::Embedded | DgraphMode::Independent => Writers::One,
            DgraphMode::Shared | DgraphMode::Hybrid => Writers::Several,
        },
    }
}

/// The Dgraph that the node keeps in step, as the API reads it.
fn dgraph_view(config: &Config, running: Option<&RunningProjection>) -> anyhow::Result<Option<DgraphView>> {
    let (Some(dgraph), Some(running)) = (&config.dgraph, running) else {
        return Ok(None);
    };
    let status = running.status.clone();
    let pass_through = dgraph
        .query
        .map(|limits| PassThrough::new(dgraph.client.clone(), limits, status.clone()))
        .transpose()?;
    Ok(Some(DgraphView {
        mode: dgraph.mode,
        status,
        jobs: running.jobs.clone(),
        pass_through,
    }))
}

/// The configured name, or the one that was made at the first start.
pub(crate) fn peer_id(config: &Config, data_dir: &Path) -> anyhow::Result<PeerId> {
    if let Some(id) = &config.node.peer_id {
        return Ok(id.clone());
    }
    let path = data_dir.join("peer-id");
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.with_context(|| path.display().to_string())?,
    };
    // A crash can leave a file without its content.
    if text.trim().is_empty() {
        let id: PeerId = format!("honeygraph-{}", uuid::Uuid::new_v4()).parse()?;
        write_whole(&path, id.as_str()).with_context(|| path.display().to_string())?;
        return Ok(id);
    }
    text.trim().parse().with_context(|| {
        format!(
            "{} holds no peer id; remove it to have a new one made",
            path.display()
        )
    })
}

/// Writes a small file, all of it or nothing, so that a crash does not undo it.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = std::fs::File::create(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&next, path)?;
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn ingest(
    config: &Config,
    peer_id: &PeerId,
    store: &Store,
    replica: &ReplicaHandle,
) -> anyhow::Result<Ingest> {
    let sources = config
        .sources
        .honeycombs
        .iter()
        .map(|source| (source.name.clone(), source.token.clone()));
    let authenticator = SourceAuthenticator::new(sources, config.sources.certified.iter().cloned())?;
    let settings = IngestSettings {
        tls: config.access.ingest_tls.clone(),
        message_bytes: config.limits.ingest_message_bytes,
        connections: config.limits.ingest_connections,
        ..IngestSettings::new(peer_id.to_string(), config.network.name.to_string())
    };
    let store = store.clone();
    let cursor_of = move |source: &SourceId| match store.view().source_cursor(source.as_str()) {
        Ok(cursor) => cursor,
        Err(error) => {
            tracing::error!(%source, %error, "the source's cursor cannot be read");
            None
        }
    };
    Ok(Ingest::new(
        settings,
        authenticator,
        cursor_of,
        replica.source_events(),
    ))
}

/// Carries what the replica has to say to the sources.
async fn tell_sources(ingest: Ingest, mut outbox: mpsc::UnboundedReceiver<(SourceId, SourceCommand)>) {
    while let Some((source, command)) = outbox.recv().await {
        if let Err(error) = ingest.send(&source, command) {
            tracing::debug!(%source, %error, "source was not told");
        }
    }
}

async fn wait_for_signals(shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("signals cannot be taken");
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    shutdown.cancel();
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::settings::tests::config;
    use super::*;

    /// The status of the answer to somebody behind a proxy who wants to push blocks.
    async fn upgrade(address: SocketAddr, client: reqwest::ClientBuilder) -> u16 {
        let client = client.no_proxy().http1_only().build().unwrap();
        let asked = client
            .get(format!("https://{address}/"))
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("x-forwarded-for", "203.0.113.5");
        asked.send().await.unwrap().status().as_u16()
    }

    #[test]
    fn a_name_that_a_crash_took_is_made_anew_and_kept() {
        let home = tempfile::tempdir().unwrap();
        let name = || peer_id(&config(&[]), home.path());
        for lost in ["", "\n"] {
            std::fs::write(home.path().join("peer-id"), lost).unwrap();
            let made = name().unwrap();
            assert_eq!(name().unwrap(), made);
        }
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
        std::fs::write(home.path().join("peer-id"), "no name").unwrap();
        let error = format!("{:#}", name().unwrap_err());
        assert!(error.contains("holds no peer id"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_honeycomb_with_a_certificate_of_the_configured_files_gets_in() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        let self_signed = |name: &str| {
            let signed = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            (signed.cert.pem(), signed.signing_key.serialize_pem())
        };
        let (ours, source) = (self_signed("127.0.0.1"), self_signed("hive-1"));
        for (name, content) in [
            ("certificate", &ours.0),
            ("key", &ours.1),
            ("authority", &source.0),
        ] {
            std::fs::write(path(name), content).unwrap();
        }
        let mut flags = vec![
            format!("--data-dir={}", path("data")),
            format!("--ingest-tls-certificate-file={}", path("certificate")),
            format!("--ingest-tls-key-file={}", path("key")),
            format!("--ingest-tls-client-ca-file={}", path("authority")),
            "--honeycomb-certificates=hive-1".to_owned(),
        ];
        for listener in ["public", "ingest", "admin", "metrics"] {
            flags.push(format!("--{listener}-listen=127.0.0.1:0"));
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let shutdown = CancellationToken::new();
        let node = RunningNode::start(config(&flags), shutdown.clone())
            .await
            .unwrap();

        let root = reqwest::Certificate::from_pem(ours.0.as_bytes()).unwrap();
        let client = || reqwest::Client::builder().tls_certs_only([root.clone()]);
        let identity = reqwest::Identity::from_pem(format!("{}{}", source.0, source.1).as_bytes()).unwrap();
        assert_eq!(upgrade(node.addresses.ingest, client()).await, 401);
        assert_eq!(
            upgrade(node.addresses.ingest, client().identity(identity)).await,
            101
        );
        shutdown.cancel();
        node.ended().await.unwrap();
    }
}
