//! What people and other parts of the node ask the engine to do.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use honeygraph_chain::interval::IntervalSet;
use honeygraph_chain::peer::PeerId;
use honeygraph_chain::{BlockNumber, BlockRange};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::wanted::common;
use super::{Done, SyncEngine, unix_now};
use crate::peers::address_guard::AddressRefused;
use crate::peers::registry::NotAdded;
use crate::peers::{PeerSource, PeerUrl};
use crate::sync::buffer::Run;
use crate::sync::consensus;
use crate::sync::handle::{ConsensusFound, NoConsensus, NotAsked, RegisterError, SyncCommand};
use crate::wire::shapes::{SyncGapsAnswer, SyncResults};

/// A run without any block for this long is over.
const RUN_STUCK_AFTER: Duration = Duration::from_secs(20);

/// Honeycomb nodes of one question that are asked for the peers they know.
const NODES_ASKED: usize = 32;

/// Questions to the voters that are under way at most.
const QUESTIONS_MAX: usize = 8;

/// Questions to the voters in a second. Each is two calls to a voter at most: a small part of what it answers to one
/// peer, so that nobody can use them up.
const QUESTIONS_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// What bounds the questions that strangers have the voters asked.
#[derive(Debug)]
pub(super) struct Questions {
    places: Arc<Semaphore>,
    rate: DefaultDirectRateLimiter,
}

impl Questions {
    /// A place for one more, if there is one now.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.rate.check().is_ok().then_some(place)
    }
}

impl Default for Questions {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            rate: RateLimiter::direct(Quota::per_second(QUESTIONS_PER_SECOND)),
        }
    }
}

/// A run that somebody waits for.
#[derive(Debug)]
pub(super) struct GapRun {
    /// What it is to bring, and what of that is still missing.
    asked: IntervalSet,
    missing: IntervalSet,
    results: SyncResults,
    last_progress: Instant,
    reply: oneshot::Sender<SyncGapsAnswer>,
}

impl GapRun {
    /// What it is to bring.
    pub(super) const fn asked(&self) -> &IntervalSet {
        &self.asked
    }
}

/// A peer that somebody registers, and whether its address may be dialled.
#[derive(Debug)]
pub(super) struct Registration {
    id: Option<PeerId>,
    url: PeerUrl,
    checked: Result<(), AddressRefused>,
    reply: oneshot::Sender<Result<(), RegisterError>>,
}

impl SyncEngine {
    pub(super) fn on_command(&mut self, command: SyncCommand) {
        match command {
            SyncCommand::Register { id, url, reply } => {
                let client = self.client.clone();
                self.tasks.spawn(async move {
                    let checked = client.check_address(&url).await;
                    Done::Registration(Registration {
                        id,
                        url,
                        checked,
                        reply,
                    })
                });
            }
            SyncCommand::Discover { nodes, reply } => {
                let named = nodes.iter().filter_map(|node| node.url.parse().ok());
                let may_reach = |url: &PeerUrl| self.client.may_reach(url).is_ok();
                let named: Vec<_> = named.filter(may_reach).take(NODES_ASKED).collect();
                let waiting = Arc::new(reply);
                self.ask_honeycombs(named, PeerSource::Discovered, Some(&waiting));
                self.discover(Some(&waiting));
                self.tell_peers(waiting);
            }
            SyncCommand::SyncGaps { only, reply } => self.begin_run(only, reply),
            SyncCommand::Consensus { block, reply } => self.ask_about(block, reply),
        }
    }

    fn ask_about(
        &mut self,
        block: BlockNumber,
        mut reply: oneshot::Sender<Result<Result<ConsensusFound, NoConsensus>, NotAsked>>,
    ) {
        if block > BlockNumber::highest_at(unix_now().as_secs()) {
            let _ = reply.send(Ok(Err(NoConsensus::Undecided)));
            return;
        }
        let Some(place) = self.questions.place() else {
            let _ = reply.send(Err(NotAsked::Busy));
            return;
        };
        let voters = self.settings.voters.clone();
        let peers = self
            .registry
            .voters()
            .map(|(_, peer, voter)| (voter.clone(), peer.url.clone()))
            .collect();
        let (client, store) = (self.client.clone(), self.store.clone());
        let status = self.status.borrow().clone();
        self.tasks.spawn(async move {
            let found = tokio::select! {
                found = consensus::ask(&client, &store, &status, &voters, peers, block) => found,
                // Nobody waits for it any more.
                () = reply.closed() => return Done::Nothing,
            };
            let _ = reply.send(Ok(found));
            drop(place);
            Done::Nothing
        });
    }

    pub(super) fn on_registration(&mut self, registration: Registration) {
        let Registration {
            id,
            url,
            checked,
            reply,
        } = registration;
        let answer = checked.map_err(RegisterError::Refused).and_then(|()| {
            match self.registry.add(url.clone(), id, PeerSource::Registered) {
                Ok(_) | Err(NotAdded::Known) => Ok(()),
                Err(NotAdded::Itself) => Err(RegisterError::Itself),
                Err(NotAdded::Full) => Err(RegisterError::Full(self.settings.peers_max)),
            }
        });
        match &answer {
            Ok(()) => {
                tracing::info!(peer = %url, "peer registered");
                self.next_probe = Instant::now();
                self.next_persist = Instant::now();
            }
            Err(error) => tracing::info!(peer = %url, %error, "peer not registered"),
        }
        let _ = reply.send(answer);
    }

    fn begin_run(&mut self, only: Option<Vec<BlockRange>>, reply: oneshot::Sender<SyncGapsAnswer>) {
        if self.run.is_some() {
            let _ = reply.send(SyncGapsAnswer::in_progress());
            return;
        }
        let missing = match only {
            None => self.wanted.clone(),
            Some(ranges) => common(&self.wanted, &ranges.into_iter().collect()),
        };
        if missing.is_empty() {
            let _ = reply.send(SyncGapsAnswer::done(SyncResults::default()));
            return;
        }
        let results = SyncResults {
            total_gaps: missing.run_count() as u64,
            ..SyncResults::default()
        };
        self.run = Some(GapRun {
            asked: missing.clone(),
            missing,
            results,
            last_progress: Instant::now(),
            reply,
        });
        self.next_probe = Instant::now();
        self.fetch_missing(false);
    }

    /// Counts blocks that came from a peer for the run that is on.
    pub(super) fn count_synced(&mut self, run: &Run) {
        let name = self
            .registry
            .get(&run.peer)
            .map_or_else(|| run.peer.clone(), |peer| peer.name(&run.peer));
        if let (Some(gap_run), Some(range)) = (&mut self.run, run.range()) {
            let counted: u64 = gap_run.missing.present_in(range).map(BlockRange::len).sum();
            gap_run.missing.remove(range);
            gap_run.results.synced_blocks += counted;
            *gap_run.results.peers.entry(name.to_string()).or_default() += counted;
            gap_run.last_progress = Instant::now();
        }
    }

    /// Ends the run that is on, once everything is there or nothing comes any more.
    pub(super) fn check_run(&mut self) {
        let Some(run) = &mut self.run else { return };
        let still = common(&run.missing, &self.wanted);
        let elsewhere = run.missing.block_count().saturating_sub(still.block_count());
        if elsewhere > 0 {
            // Sources brought these.
            run.results.synced_blocks += elsewhere;
            run.missing = still;
        }
        let stuck = run.last_progress.elapsed() > RUN_STUCK_AFTER || run.reply.is_closed();
        if (run.missing.is_empty() || stuck)
            && let Some(mut run) = self.run.take()
        {
            run.results.failed_blocks = run.missing.block_count();
            let peers: BTreeMap<_, _> = std::mem::take(&mut run.results.peers);
            run.results.peers = peers.into_iter().filter(|(_, blocks)| *blocks > 0).collect();
            let _ = run.reply.send(SyncGapsAnswer::done(run.results));
            self.fetch_missing(false);
        }
    }
}
