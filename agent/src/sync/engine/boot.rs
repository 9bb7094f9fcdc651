//! Starting with nothing: from the newest checkpoint that can be had, else from the genesis document.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use honeygraph_chain::checkpoint::{Anchor, DeltaDocument, PreviousRoot};
use honeygraph_chain::network::CheckpointSchedule;
use honeygraph_chain::peer::PeerId;
use honeygraph_chain::quorum::{Agreement, VoterId, Voters};
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};

use super::documents::read_delta;
use super::{Done, SyncEngine};
use crate::config::Start;
use crate::peers::client::{DocumentTarget, PeerClient};
use crate::peers::registry::KnownPeer;
use crate::peers::{PeerSource, PeerUrl};
use crate::replica::{DELTA_BYTES_MAX, ReplicaHandle, StartDocuments};

/// Longest wait for the configured peers to be heard before the first attempt.
const PATIENCE: Duration = Duration::from_secs(3);
/// First and longest wait after an attempt that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(30);
/// Peers whose newest checkpoint is looked at where nobody trusted reports one.
const PEERS_ASKED: usize = 5;
/// Checkpoints looked back for in a peer's list.
const CHECKPOINTS_BACK: u64 = 20;

/// Attempts to start.
#[derive(Debug, Default)]
pub(super) struct Boot {
    under_way: bool,
    /// It has succeeded. The replica's status may say so a little later than the replica itself.
    done: bool,
    attempts: u32,
    again_at: Option<Instant>,
}

/// What a start can be made from.
#[derive(Debug, Clone)]
struct Plan {
    trusted: Option<(BlockNumber, ContentId)>,
    anchor: Option<Anchor>,
    /// Peers that are believed where nobody is a voter.
    peers: Vec<PeerUrl>,
    /// Peers that are asked for documents, which their content ids prove: the configured ones first.
    givers: Vec<PeerUrl>,
    gateways: Vec<PeerUrl>,
    /// The voters that are peers.
    voters: Vec<(VoterId, u32, PeerUrl)>,
    genesis: Option<(PathBuf, Option<ContentId>)>,
    only_genesis: bool,
    /// Whether a checkpoint that only a peer vouches for will do.
    may_trust_peers: bool,
    /// Whether there is nobody who may have the documents of a checkpoint, now or later.
    genesis_will_do: bool,
    directory: PathBuf,
    document_bytes_max: u64,
    schedule: CheckpointSchedule,
}

impl SyncEngine {
    pub(super) fn boot_if_needed(&mut self) {
        let status = self.status.borrow().clone();
        if status.position.is_some() || self.boot.under_way || self.boot.done {
            return;
        }
        let now = Instant::now();
        if self.boot.again_at.is_some_and(|again| now < again) {
            return;
        }
        let only_genesis = matches!(self.settings.start, Start::NewChain { .. });
        let heard_all = self.registry.iter().all(|(key, _)| self.probed.contains_key(key));
        if !only_genesis && !heard_all && self.started.elapsed() < PATIENCE {
            return;
        }
        // What the voters say comes right after they have answered for the first time.
        let unheard = |key: &PeerId| !self.voted_once.contains(key);
        let awaited = self
            .registry
            .voters()
            .any(|(key, peer, _)| peer.is_alive && unheard(key));
        if !only_genesis && awaited && self.started.elapsed() < PATIENCE {
            return;
        }
        let trusted = match &self.settings.start {
            Start::TrustedCheckpoint(checkpoint) => Some((checkpoint.block, checkpoint.content_id)),
            Start::Join | Start::NewChain { .. } => status.newest_supported,
        };
        let genesis = match &self.settings.start {
            Start::NewChain { genesis_file } => {
                let id = self.settings.genesis.as_ref().and_then(|(_, id)| *id);
                Some((genesis_file.clone(), id))
            }
            _ => self.settings.genesis.clone(),
        };
        // Nodes that are as empty as this one have no document, and strangers do not decide where others can.
        let has_configured = self
            .registry
            .iter()
            .any(|(_, peer)| peer.source == PeerSource::Configured && peer.is_alive && peer.head().is_some());
        let has_voters = self.registry.voters().next().is_some();
        let mut givers: Vec<_> = self
            .registry
            .iter()
            .filter(|(_, peer)| peer.is_alive && peer.head().is_some())
            .map(|(_, peer)| (peer.source, peer.url.clone()))
            .collect();
        givers.sort_by_key(|(source, _)| std::cmp::Reverse(*source));
        let is_named = matches!(self.settings.start, Start::TrustedCheckpoint(_));
        let is_empty = |peer: &KnownPeer| peer.is_alive && peer.head().is_none();
        let genesis_will_do = !is_named
            && self.settings.ipfs_gateways.is_empty()
            && self.registry.iter().all(|(_, peer)| is_empty(peer));
        let plan = Plan {
            trusted,
            anchor: status.newest_agreed,
            peers: self
                .registry
                .iter()
                .filter(|(_, peer)| peer.is_alive && peer.head().is_some())
                .filter(|(_, peer)| !has_configured || peer.source == PeerSource::Configured)
                .map(|(_, peer)| peer.url.clone())
                .collect(),
            givers: givers.into_iter().map(|(_, url)| url).collect(),
            gateways: self.settings.ipfs_gateways.clone(),
            voters: self
                .registry
                .voters()
                .filter(|(_, peer, _)| peer.is_alive)
                .map(|(_, peer, voter)| {
                    let weight = self.settings.voters.weight(voter);
                    (
                        voter.clone(),
                        u32::try_from(weight).unwrap_or(u32::MAX),
                        peer.url.clone(),
                    )
                })
                .collect(),
            genesis,
            only_genesis,
            may_trust_peers: !has_voters && status.voters.is_single(),
            genesis_will_do,
            directory: self.settings.documents_directory.clone(),
            document_bytes_max: self.settings.document_bytes_max,
            schedule: self.schedule(),
        };
        self.boot.under_way = true;
        let (client, replica) = (self.client.clone(), self.replica.clone());
        self.tasks
            .spawn(async move { Done::Booted(start(&client, &replica, plan).await) });
    }

    pub(super) fn on_booted(&mut self, result: Result<(), String>) {
        self.boot.under_way = false;
        self.boot.done = result.is_ok();
        self.boot.attempts = self.boot.attempts.saturating_add(1);
        if result.is_ok() {
            // The store keeps what it was started from.
            let directory = self.settings.documents_directory.clone();
            self.tasks.spawn(async move {
                if let Err(error) = tokio::fs::remove_dir_all(&directory).await {
                    tracing::debug!(%error, directory = %directory.display(), "fetched documents stay");
                }
                Done::Nothing
            });
        }
        if let Err(reason) = result {
            let wait = AGAIN_AFTER
                .saturating_mul(1 << self.boot.attempts.min(5))
                .min(AGAIN_AFTER_MAX);
            tracing::warn!(reason, retry_seconds = wait.as_secs(), "cannot start yet");
            self.boot.again_at = Some(Instant::now() + wait);
        }
    }
}

async fn start(client: &PeerClient, replica: &ReplicaHandle, plan: Plan) -> Result<(), String> {
    if plan.only_genesis {
        return start_from_genesis(replica, &plan).await;
    }
    let checkpoint = match plan.trusted {
        Some(trusted) => Some(trusted),
        None if plan.may_trust_peers => newest_of_peers(client, &plan).await,
        None => None,
    };
    let Some((number, id)) = checkpoint else {
        if plan.genesis.is_some() {
            return start_from_genesis(replica, &plan).await;
        }
        return Err(
            "no checkpoint has more than half of the voters behind it yet, and there is no GENESIS_FILE"
                .to_owned(),
        );
    };
    match fetch_documents(client, &plan, number, id).await {
        Ok(documents) => replica
            .start_from(documents)
            .await
            .map_err(|gone| gone.to_string())?
            .map(|_| ())
            .map_err(|error| error.to_string()),
        Err(reason) if plan.genesis.is_some() && plan.genesis_will_do => {
            tracing::info!(
                reason,
                "nobody has the documents; starting from the genesis document"
            );
            start_from_genesis(replica, &plan).await
        }
        Err(reason) => Err(format!("checkpoint {id} of block {number}: {reason}")),
    }
}

async fn start_from_genesis(replica: &ReplicaHandle, plan: &Plan) -> Result<(), String> {
    let Some((path, wanted)) = &plan.genesis else {
        return Err("there is no GENESIS_FILE".to_owned());
    };
    let found = content_id_of_file(path.clone())
        .await
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if wanted.is_some_and(|wanted| wanted != found) {
        return Err(format!(
            "{} has content id {found}, not GENESIS_ID",
            path.display()
        ));
    }
    let documents = StartDocuments {
        state: path.clone(),
        state_id: found,
        prev_root: PreviousRoot::None,
        deltas: Vec::new(),
        anchor: None,
    };
    replica
        .start_from(documents)
        .await
        .map_err(|gone| gone.to_string())?
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// The newest checkpoint that most of a few peers have: all that is left where nobody is a voter.
async fn newest_of_peers(client: &PeerClient, plan: &Plan) -> Option<(BlockNumber, ContentId)> {
    let mut told: std::collections::BTreeMap<(BlockNumber, ContentId), usize> =
        std::collections::BTreeMap::new();
    let mut answered = 0;
    for url in plan.peers.iter().take(PEERS_ASKED) {
        let Ok(Some(said)) = client.capabilities(url).await else {
            continue;
        };
        let Some(head) = said.head else { continue };
        let from = head.saturating_sub(plan.schedule.delta_interval.saturating_mul(CHECKPOINTS_BACK));
        let Ok(range) = BlockRange::new(from, head) else {
            continue;
        };
        let Ok(entries) = client.checkpoints(url, range).await else {
            continue;
        };
        answered += 1;
        for entry in entries {
            *told.entry((entry.block_num, entry.state_hash)).or_default() += 1;
        }
    }
    told.into_iter()
        .rev()
        .find(|(_, peers)| peers * 2 > answered)
        .map(|(checkpoint, _)| checkpoint)
}

/// Fetches a checkpoint's document and the ones that it builds on, each by its content id.
async fn fetch_documents(
    client: &PeerClient,
    plan: &Plan,
    number: BlockNumber,
    id: ContentId,
) -> Result<StartDocuments, String> {
    tokio::fs::create_dir_all(&plan.directory)
        .await
        .map_err(|error| format!("{}: {error}", plan.directory.display()))?;
    let newest = fetch_document(client, plan, id, plan.document_bytes_max).await?;
    let bytes = read_delta(&newest, DELTA_BYTES_MAX).await?;
    let Some(bytes) = bytes.filter(|bytes| DeltaDocument::is_delta(bytes)) else {
        let documents = StartDocuments {
            state: newest,
            state_id: id,
            prev_root: previous_root(client, plan, number, id).await,
            deltas: Vec::new(),
            anchor: plan.anchor,
        };
        return Ok(documents);
    };
    let document = DeltaDocument::parse(&bytes).map_err(|error| error.to_string())?;
    let mut left = plan.document_bytes_max.saturating_sub(bytes.len() as u64);
    drop(bytes);
    let (count, most) = (document.chain.len() as u64, plan.schedule.deltas_max());
    if count >= most {
        return Err(format!(
            "it names {count} deltas; the checkpoint schedule has at most {most} since a full state"
        ));
    }
    let state = fetch_document(client, plan, document.root, plan.document_bytes_max).await?;
    let mut deltas = Vec::with_capacity(document.chain.len() + 1);
    for delta in &document.chain {
        let path = fetch_document(client, plan, delta.hash, DELTA_BYTES_MAX.min(left)).await?;
        let size = tokio::fs::metadata(&path).await;
        let size = size
            .map_err(|error| format!("{}: {error}", path.display()))?
            .len();
        left = left.saturating_sub(size);
        deltas.push((delta.hash, path));
    }
    deltas.push((id, newest));
    Ok(StartDocuments {
        state,
        state_id: document.root,
        prev_root: document.prev_root,
        deltas,
        anchor: plan.anchor,
    })
}

/// The full state before a full state, as far as those that decide where to start say the same of it: more than half
/// of the weight of the voters that are peers, or where nobody is a voter of the peers that are asked. The document
/// itself does not name it.
async fn previous_root(client: &PeerClient, plan: &Plan, number: BlockNumber, id: ContentId) -> PreviousRoot {
    if plan
        .genesis
        .as_ref()
        .is_some_and(|(_, genesis)| *genesis == Some(id))
    {
        return PreviousRoot::None;
    }
    let strangers = || {
        let named = plan.peers.iter().take(PEERS_ASKED);
        named
            .map(|url| (VoterId(url.to_string()), 1, url.clone()))
            .collect()
    };
    let asked: Vec<_> = if plan.voters.is_empty() && plan.may_trust_peers {
        strangers()
    } else {
        plan.voters.clone()
    };
    let mut cast = Vec::new();
    for (voter, _, url) in &asked {
        let told = client
            .checkpoints(url, BlockRange::single(number))
            .await
            .unwrap_or_default();
        let entry = told.into_iter().find(|entry| entry.state_hash == id);
        cast.extend(entry.and_then(|entry| Some((voter.clone(), entry.root?))));
    }
    let voters = Voters::new(asked.into_iter().map(|(voter, weight, _)| (voter, weight)));
    match voters.decide(cast) {
        Agreement::Agreed { value, .. } if value == id => PreviousRoot::None,
        Agreement::Agreed { value, .. } => PreviousRoot::Known(value),
        Agreement::Conflict | Agreement::Undecided => {
            tracing::info!(%number, %id, "the full state before the start is not known; a later checkpoint names it");
            PreviousRoot::Unknown
        }
    }
}

/// Fetches one document from whoever has it: it is verified by content alone.
async fn fetch_document(
    client: &PeerClient,
    plan: &Plan,
    id: ContentId,
    max_bytes: u64,
) -> Result<PathBuf, String> {
    let target = DocumentTarget {
        path: plan.directory.join(format!("{id}.json")),
        max_bytes,
    };
    if content_id_of_file(target.path.clone())
        .await
        .is_ok_and(|found| found == id)
    {
        return Ok(target.path);
    }
    let mut last = "no peer and no gateway is known".to_owned();
    for url in &plan.givers {
        match client.document(url, id, &target).await {
            Ok(_) => return Ok(target.path),
            Err(error) => last = format!("{url}: {error}"),
        }
    }
    for url in &plan.gateways {
        match client.ipfs_file(url, id, &target).await {
            Ok(_) => return Ok(target.path),
            Err(error) => last = format!("{url}: {error}"),
        }
    }
    Err(format!("document {id} cannot be had: {last}"))
}

async fn content_id_of_file(path: PathBuf) -> std::io::Result<ContentId> {
    let task = tokio::task::spawn_blocking(move || ContentId::of_reader(std::fs::File::open(path)?));
    task.await.map_err(std::io::Error::other)?
}
