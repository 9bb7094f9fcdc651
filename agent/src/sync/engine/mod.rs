//! The engine's loop: one task that owns the planner, the registry of peers and the re-ordering buffer.
//!
//! Everything slow is a task of its own that comes back as a [`Done`]; what decides is the planner.

mod ahead;
mod boot;
mod claims;
mod commands;
mod discovery;
mod documents;
mod forks;
mod front;
mod history;
mod learn;
mod mode;
#[cfg(test)]
mod tests;
mod voters;
mod wanted;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::peer::{PeerFault, PeerId};
use honeygraph_chain::planner::{Action, BlameLedger, Event, FetchFault, FetchOrder, Planner, RequestId};
use honeygraph_chain::{BlockNumber, BlockRange, ContentId};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::buffer::{Buffer, Run};
use super::fetch::{Answer, fetch};
use super::handle::{SyncCommand, SyncHandle, SyncView};
use super::settings::SyncSettings;
use crate::metrics::{Metrics, PeerLabel, RequestOutcome};
use crate::peers::PeerSource;
use crate::peers::client::{PeerClient, Traffic};
use crate::peers::registry::PeerRegistry;
use crate::peers::scores::PeerScores;
use crate::replica::{ReplicaGone, ReplicaHandle, ReplicaStatus};
use crate::store::{Store, StoreError};
use crate::wire::shapes::SyncMode;
use ahead::AheadState;
use boot::Boot;
use claims::{HeadDoubts, HistoryReach};
use commands::{GapRun, Questions, Registration};
use discovery::{Heard, ListsAsked, Said};
use front::Handed;
use history::HistoryState;
use mode::Progress;
use voters::Voted;

/// Commands that wait for the engine at most.
const COMMANDS: usize = 32;
/// Answers of peers that are remembered until it is known which of them lied.
const LEDGER: usize = 4_096;
/// Longest sleep of the loop.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Time between two looks at the peers while blocks are missing, or no source is connected and brings anything.
const BUSY_PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// Time between two times that peers and the retry queue are stored.
const PERSIST_INTERVAL: Duration = Duration::from_secs(10);
/// Time between two updates of what others see of the engine.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);

/// A task of the engine's that has ended.
#[derive(Debug)]
enum Done {
    Fetched {
        order: FetchOrder,
        answer: Answer,
    },
    Handed(Handed),
    HistoryStored(history::Stored),
    AheadStored(ahead::Stored),
    Learned(learn::Learned),
    Said(Said),
    Heard(Heard),
    Registration(Registration),
    Voted(Voted),
    LookedAtForks(forks::Looked),
    Named {
        id: ContentId,
        learned: bool,
    },
    Booted(Result<(), String>),
    LookedAtFront {
        disputing: PeerId,
        /// Whether everybody who answered stands on our front.
        stands: bool,
    },
    Nothing,
    Gone(ReplicaGone),
}

/// The sync engine.
pub struct SyncEngine {
    settings: SyncSettings,
    replica: ReplicaHandle,
    store: Store,
    client: PeerClient,
    metrics: Metrics,
    status: watch::Receiver<Arc<ReplicaStatus>>,
    view: watch::Sender<Arc<SyncView>>,
    planner: Planner,
    registry: PeerRegistry,
    scores: PeerScores,
    tasks: JoinSet<Done>,
    requests: HashMap<RequestId, Request>,
    /// Answers whose blocks the planner has not placed yet.
    answers: HashMap<RequestId, Run>,
    buffer: Buffer,
    /// The next block to hand over to the replica, and hand-overs under way.
    front_next: BlockNumber,
    handing: usize,
    committed: BlockNumber,
    progress: Progress,
    history: HistoryState,
    ahead: AheadState,
    /// How far below the stored history blocks are wanted, and the lowest block that peers claim.
    reach: HistoryReach,
    claimed_base: Option<BlockNumber>,
    doubts: HeadDoubts,
    ledger: BlameLedger,
    /// Every block that is missing, and those of them that the planner was told to fetch.
    wanted: IntervalSet,
    fetching: IntervalSet,
    /// What of it is wanted at the head, before all else.
    head_first: Option<BlockRange>,
    boot: Boot,
    run: Option<GapRun>,
    questions: Questions,
    named: Option<ContentId>,
    naming: bool,
    looking_at_front: bool,
    /// Voters whose chains are looked at now, and when the forks that each holds were looked at last.
    looking: BTreeSet<PeerId>,
    looked_at_tips: BTreeMap<PeerId, Instant>,
    asking_voters: BTreeSet<PeerId>,
    voted_once: BTreeSet<PeerId>,
    probing: BTreeSet<PeerId>,
    /// When each peer was last asked what it has.
    probed: BTreeMap<PeerId, Instant>,
    lists_asked: ListsAsked,
    started: Instant,
    next_probe: Instant,
    next_discovery: Instant,
    next_persist: Instant,
    next_publish: Instant,
    gaps_detected: u64,
    /// What peers sent, needed or not.
    traffic: Arc<Traffic>,
    needed_bytes: u64,
}

/// A request that is under way.
#[derive(Debug)]
struct Request {
    peer: PeerId,
    task: AbortHandle,
}

impl SyncEngine {
    /// Starts the engine; it ends when `shutdown` is cancelled.
    pub fn spawn(
        settings: SyncSettings,
        replica: ReplicaHandle,
        store: Store,
        client: PeerClient,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Result<(SyncHandle, JoinHandle<()>), StoreError> {
        let (commands, queue) = mpsc::channel(COMMANDS);
        let (view, seen) = watch::channel(Arc::new(SyncView {
            mode: Some(SyncMode::Boot),
            ..SyncView::default()
        }));
        let engine = Self::new(settings, replica, store, client, metrics, view)?;
        let task = tokio::spawn(engine.run(queue, shutdown));
        Ok((SyncHandle::new(commands, seen), task))
    }

    fn new(
        settings: SyncSettings,
        replica: ReplicaHandle,
        store: Store,
        client: PeerClient,
        metrics: Metrics,
        view: watch::Sender<Arc<SyncView>>,
    ) -> Result<Self, StoreError> {
        let status = replica.status();
        let schedule = status
            .borrow()
            .position
            .as_ref()
            .map_or(settings.schedule, |position| position.schedule);
        let stored = store.view();
        let queue = stored.retry_queue()?;
        let planner = Planner::restore(
            settings.planner.clone(),
            schedule,
            settings.seed,
            queue,
            unix_now(),
        );
        let mut registry = PeerRegistry::new(
            settings.own_id.clone(),
            settings.own_url.clone(),
            settings.peers_max,
        );
        for url in &settings.peers {
            // One that is named twice is still one.
            let _ = registry.add(url.clone(), None, PeerSource::Configured);
        }
        for (url, voter) in &settings.peer_voters {
            let _ = registry.add(url.clone(), None, PeerSource::Configured);
            registry.set_voter(&PeerRegistry::key_of(url), voter.clone());
        }
        let scores = PeerScores::restore(stored.peers()?, &mut registry);
        let now = Instant::now();
        Ok(Self {
            replica,
            store,
            client,
            metrics,
            status,
            view,
            planner,
            registry,
            scores,
            tasks: JoinSet::new(),
            requests: HashMap::new(),
            answers: HashMap::new(),
            buffer: Buffer::default(),
            front_next: BlockNumber::default(),
            handing: 0,
            committed: BlockNumber::default(),
            progress: Progress::new(now),
            history: HistoryState::default(),
            ahead: AheadState::default(),
            reach: HistoryReach::default(),
            claimed_base: None,
            doubts: HeadDoubts::default(),
            ledger: BlameLedger::new(LEDGER),
            wanted: IntervalSet::default(),
            fetching: IntervalSet::default(),
            head_first: None,
            boot: Boot::default(),
            run: None,
            questions: Questions::default(),
            named: None,
            naming: false,
            looking_at_front: false,
            looking: BTreeSet::new(),
            looked_at_tips: BTreeMap::new(),
            asking_voters: BTreeSet::new(),
            voted_once: BTreeSet::new(),
            probing: BTreeSet::new(),
            probed: BTreeMap::new(),
            lists_asked: ListsAsked::default(),
            started: now,
            next_probe: now,
            next_discovery: now,
            next_persist: now + PERSIST_INTERVAL,
            next_publish: now,
            gaps_detected: 0,
            traffic: Arc::default(),
            needed_bytes: 0,
            settings,
        })
    }

    async fn run(mut self, mut commands: mpsc::Receiver<SyncCommand>, shutdown: CancellationToken) {
        self.on_status();
        loop {
            let sleep = tokio::time::sleep(self.time_to_sleep());
            tokio::select! {
                () = shutdown.cancelled() => break,
                command = commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                Some(done) = self.tasks.join_next() => match done {
                    Ok(Done::Gone(error)) => {
                        tracing::error!(%error, "the sync engine stops");
                        break;
                    }
                    Ok(done) => self.on_done(done),
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => tracing::error!(%error, "a task of the sync engine failed"),
                },
                changed = self.status.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.on_status();
                },
                () = sleep => {}
            }
            self.on_time();
            self.hand_over();
            self.publish();
        }
        self.tasks.shutdown().await;
        // A hold would keep the last write waiting; nothing more is committed after it anyway.
        if self.replica.resume().await.is_err() {
            tracing::debug!("the replica stopped first");
        }
        self.persist_now().await;
    }

    fn time_to_sleep(&self) -> Duration {
        let now = Instant::now();
        let unix = unix_now();
        let planner = self.planner.next_wake(unix).map(|wake| wake.saturating_sub(unix));
        let mut sleep = planner.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
        for next in [self.next_probe, self.next_discovery, self.next_persist] {
            sleep = sleep.min(next.saturating_duration_since(now));
        }
        // Never spin: whatever is due was done once in this turn.
        sleep.max(Duration::from_millis(5))
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Fetched { order, answer } => self.on_fetched(&order, answer),
            Done::Handed(handed) => self.on_handed(handed),
            Done::HistoryStored(stored) => self.on_history_stored(stored),
            Done::AheadStored(stored) => self.on_ahead_stored(stored),
            Done::Learned(learned) => self.on_learned(learned),
            Done::Said(said) => self.on_said(said),
            Done::Heard(heard) => self.on_heard(heard),
            Done::Registration(registration) => self.on_registration(registration),
            Done::Voted(voted) => self.on_voted(&voted),
            Done::LookedAtForks(looked) => self.on_looked(&looked),
            Done::Named { id, learned } => {
                self.naming = false;
                if learned {
                    self.named = Some(id);
                }
            }
            Done::Booted(result) => self.on_booted(result),
            Done::LookedAtFront { disputing, stands } => {
                self.looking_at_front = false;
                if stands {
                    self.step(Event::PeerFaulted {
                        peer: disputing,
                        fault: PeerFault::BrokenLink,
                    });
                }
            }
            Done::Gone(_) | Done::Nothing => {}
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if now >= self.next_probe {
            self.next_probe = now + self.probe_interval();
            self.probe_peers();
            self.ask_voters();
            self.learn_named_checkpoints();
            self.keep_history();
        }
        if now >= self.next_discovery {
            self.next_discovery = now + self.settings.discovery_interval;
            self.discover(None);
        }
        if now >= self.next_persist {
            self.next_persist = now + PERSIST_INTERVAL;
            self.persist();
        }
        self.boot_if_needed();
        self.check_run();
        self.step(Event::Tick);
    }

    fn probe_interval(&self) -> Duration {
        let status = Arc::clone(&self.status.borrow());
        let live = status.sources.iter().any(|source| source.connected) && self.progress.is_recent();
        let busy = status.position.is_none() || !self.wanted.is_empty() || !live;
        if busy {
            BUSY_PROBE_INTERVAL.min(self.settings.interval)
        } else {
            self.settings.interval
        }
    }

    /// Tells the planner and does what it says.
    fn step(&mut self, event: Event) {
        let may_ban = matches!(
            event,
            Event::FetchPartly { .. }
                | Event::FetchFailed { .. }
                | Event::RangeRejected { .. }
                | Event::PeerFaulted { .. }
        );
        let actions = self.planner.step(event, unix_now());
        if may_ban && self.note_scores() {
            // No kill undoes a ban.
            self.next_persist = Instant::now();
        }
        for action in actions {
            match action {
                Action::Fetch(order) => self.send(order),
                Action::Cancel { request } => {
                    if let Some(request) = self.requests.remove(&request) {
                        request.task.abort();
                        self.count_request(&request.peer, RequestOutcome::Cancelled);
                    }
                }
                Action::Keep { request, range } => {
                    if let Some(run) = self.answers.get(&request) {
                        self.buffer.put(run.part(range));
                    }
                }
                Action::Discard { range } => self.buffer.discard(range),
            }
        }
    }

    fn send(&mut self, order: FetchOrder) {
        let Some(peer) = self.registry.get(&order.peer) else {
            self.step(Event::PeerRemoved { peer: order.peer });
            return;
        };
        let (client, url, network) = (
            self.client.clone(),
            peer.url.clone(),
            self.settings.network.clone(),
        );
        let schedule = self.schedule();
        let (request, peer) = (order.request, order.peer.clone());
        let traffic = Arc::clone(&self.traffic);
        let task = self.tasks.spawn(async move {
            let answer = fetch(&client, &url, &network, schedule, &order, &traffic).await;
            Done::Fetched { order, answer }
        });
        self.requests.insert(request, Request { peer, task });
    }

    fn on_fetched(&mut self, order: &FetchOrder, mut answer: Answer) {
        if self.requests.remove(&order.request).is_none() {
            return;
        }
        tracing::debug!(peer = %order.peer, range = %order.range, blocks = answer.blocks.len(), fault = ?answer.fault, "fetched");
        let outcome = match &answer.fault {
            None => RequestOutcome::Success,
            Some(FetchFault::Peer(fault)) => RequestOutcome::Fault(*fault),
            Some(FetchFault::Local(_)) => RequestOutcome::LocalFault,
        };
        self.count_request(&order.peer, outcome);
        let event = answer.event(order);
        let blocks = std::mem::take(&mut answer.blocks);
        let served = blocks.len();
        self.answers.insert(
            order.request,
            Run {
                peer: order.peer.clone(),
                blocks,
            },
        );
        self.step(event);
        self.answers.remove(&order.request);
        self.weigh_claim(order, served, answer.fault.as_ref());
    }

    fn count_request(&self, peer: &PeerId, outcome: RequestOutcome) {
        let peer = self
            .registry
            .get(peer)
            .filter(|peer| peer.source == PeerSource::Configured);
        let name = peer.map(|peer| peer.url.to_string());
        let label = name
            .as_deref()
            .map_or(PeerLabel::Discovered, PeerLabel::Configured);
        self.metrics.count_peer_request(label, outcome);
    }

    fn schedule(&self) -> honeygraph_chain::network::CheckpointSchedule {
        let status = Arc::clone(&self.status.borrow());
        status
            .position
            .as_ref()
            .map_or(self.settings.schedule, |position| position.schedule)
    }

    fn persist(&mut self) {
        let (replica, job) = (self.replica.clone(), self.persist_job());
        self.tasks.spawn(async move {
            match replica.write(job).await {
                Ok(()) => Done::Nothing,
                Err(gone) => Done::Gone(gone),
            }
        });
    }

    async fn persist_now(&mut self) {
        let job = self.persist_job();
        if self.replica.write(job).await.is_err() {
            tracing::debug!("the replica stopped first: peers and retry queue stay as they were stored last");
        }
    }

    /// Stores the peers with their scores, and the retry queue.
    fn persist_job(
        &mut self,
    ) -> impl FnOnce(&mut crate::store::Transaction<'_>) -> Result<(), StoreError> + Send + 'static {
        self.note_scores();
        let registry = &self.registry;
        self.scores.tidy(registry, unix_now());
        self.lists_asked.retain(|key| registry.get(key).is_some());
        self.probed.retain(|key, _| registry.get(key).is_some());
        self.doubts.retain(|key| registry.get(key).is_some());
        self.voted_once.retain(|key| registry.get(key).is_some());
        let records = self.scores.records(registry);
        let queue = self.planner.retry_queue();
        move |transaction| {
            transaction.set_peers(&records)?;
            transaction.set_retry_queue(queue.into_iter().map(|entry| (entry.range.start(), entry)))
        }
    }

    /// Takes over what the planner thinks of its peers. True where a ban is news.
    fn note_scores(&mut self) -> bool {
        let mut is_news = false;
        for view in self.planner.peers(unix_now()) {
            if let Some(peer) = self.registry.get(view.id) {
                is_news |= self.scores.note(view.id, &peer.url, view.score);
            }
        }
        is_news
    }

    fn publish(&mut self) {
        let now = Instant::now();
        let mode = Some(self.mode());
        // Another state is told at once: what is skipped now may stay unsaid until something else happens.
        let is_news = self.view.borrow().mode != mode;
        if now < self.next_publish && !is_news && self.view.receiver_count() > 0 {
            return;
        }
        self.next_publish = now + PUBLISH_INTERVAL;
        let peers = self.summaries();
        let view = SyncView {
            mode,
            network_head: self.network_head(),
            is_syncing: !self.wanted.is_empty() && self.registry.iter().any(|(_, peer)| peer.is_alive),
            peers,
            planner: self.planner.status(),
            gaps_detected: self.gaps_detected,
            fetched_bytes: self.traffic.blocks(),
            received_bytes: self.traffic.received(),
            needed_bytes: self.needed_bytes,
        };
        self.view.send_replace(Arc::new(view));
    }
}

impl std::fmt::Debug for SyncEngine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SyncEngine")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// The wall clock, since the Unix epoch.
fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The wall clock, in milliseconds since the Unix epoch.
fn unix_now_ms() -> u64 {
    u64::try_from(unix_now().as_millis()).unwrap_or(u64::MAX)
}
